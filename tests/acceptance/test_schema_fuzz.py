"""The published document and the handler agree, whatever is sent: Schemathesis makes it up.

Every check of it, by the document's own examples, at the bounds of each schema, at random, and
along the links between operations that it infers. Briefly here and the same each time; for ten
minutes, and another way each time, by `make fuzz`.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import Services

SECONDS = 600
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
BRIEFLY = {
    # The bounds of bodies are thousands: left to the long run.
    "at the bounds": ("--phases", "coverage", "--exclude-by", "/requestBody/required==true"),
    "at random": ("--phases", "examples,fuzzing,stateful", "--max-examples", "5"),
}


async def fuzz(services: Services, directory: Path, *options: str) -> None:
    """Hold a handler against its own document; a failure tells each request that found it."""
    handler = await services.handler()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
        *("run", f"{handler.url}/openapi.json", "--no-color", "--warnings", "off"),
        *("--continue-on-failure", "--request-timeout", "20", "--output-truncate", "false"),
        *options,
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    report = told.decode(errors="replace")
    assert process.returncode == 0, report
    assert "generated, " in report, "nothing was sent"
    assert '"event": "request.failed"' not in handler.log.read_text()


@pytest.mark.parametrize("options", BRIEFLY.values(), ids=BRIEFLY.keys())
async def test_the_document_and_the_handler_agree(
    options: tuple[str, ...], services: Services, tmp_path: Path
) -> None:
    await fuzz(services, tmp_path, "--generation-deterministic", *options)


@pytest.mark.fuzz
@pytest.mark.timeout(2 * SECONDS)
async def test_the_document_and_the_handler_agree_for_long(
    services: Services, tmp_path: Path
) -> None:
    await fuzz(services, tmp_path, *("--max-time", str(SECONDS), "--max-examples", "200"))
