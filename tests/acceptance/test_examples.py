"""Every example runs as it is."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.processes import Services

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
async def test_an_example_does_what_it_says(example: Path, services: Services) -> None:
    handler = await services.handler()
    await services.executor()
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(example), handler.url, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(20):
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert b"fired" in output
