"""The tutorial, from beginning to end, on a stack of its own: each command as it is printed."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from local_stack import ports
from tests.docs.blocks import ROOT, Block, blocks_of
from tests.docs.elsewhere import runs_elsewhere
from tests.docs.shape import mask, unlike
from tests.docs.shell import Shell, needs_programs
from tests.eventually import eventually

TUTORIAL = ROOT / "docs/tutorial.md"
# A directory of our own is the reader's clone; what he installs is what these tests run on.
NOT_CLONED = {".venv", ".data", ".git", "build", ".pytest_cache", ".ruff_cache", ".mypy_cache"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The repository as if cloned here, and installed by a first `make up`."""
    directory = tmp_path / "onthedot"
    directory.mkdir()
    for path in ROOT.iterdir():
        if path.name not in NOT_CLONED:
            (directory / path.name).symlink_to(path)
    installed = directory / ".venv"
    installed.mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.suffix != ".stamp":
            (installed / path.name).symlink_to(path)
    (installed / "local.stamp").touch()
    return directory


class Reader:
    """Somebody with several terminals, and ports that nobody else has."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.terminals: dict[str, Path] = {}
        self.instead = {
            "localhost:8080": f"localhost:{shell.environment['PORT']}",
            "127.0.0.1:9000": f"127.0.0.1:{shell.environment['RECEIVER_PORT']}",
            "127.0.0.1:9001": f"127.0.0.1:{(other := ports.choose())}",
            "RECEIVER_PORT=9001": f"RECEIVER_PORT={other}",
        }
        self.answer = ""
        self.command = ""

    async def follow(self, block: Block) -> None:
        text = block.text
        for said, here in self.instead.items():
            text = text.replace(said, here)
        match block.language:
            case "sh" if block.title:
                self.terminals[block.title] = await self.shell.run_beside(f"exec {text.strip()}")
            case "sh":
                self.command = text
                self.answer = (await self.shell.run(text)).output
            case "json":
                await eventually(lambda: self._compare(json.loads(block.text)), every=0.3)
            case "text":
                await eventually(lambda: self._look(block), within=60)

    async def _compare(self, shown: object) -> None:
        differences = list(unlike(shown, json.loads(self.answer)))
        if differences and " -d" not in self.command and " -X" not in self.command:
            self.answer = (await self.shell.run(self.command)).output
        assert not differences, (differences, self.answer)

    def _look(self, block: Block) -> None:
        said = self.terminals[block.title].read_text(errors="replace")
        for line in block.text.splitlines():
            found = [each for each in said.splitlines() if mask(line) in mask(each)]
            wanted = re.search(r"webhook-id: run_(\d+)_", line)
            if wanted:
                found = [each for each in found if f"webhook-id: run_{wanted[1]}_" in each]
            assert found, f"{line!r} is not in {said}"
            process = re.search(r"\(process (\d+)\)", line)
            if process:
                here = re.search(r"\(process (\d+)\)", found[-1])
                assert here is not None
                self.instead[f"-KILL {process[1]}"] = f"-KILL {here[1]}"


@pytest.fixture
async def reader(clone: Path) -> AsyncIterator[Reader]:
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(clone.parent),
        "LC_ALL": "C.UTF-8",
        "NO_PROXY": "*",
        "PORT": str(ports.choose()),
        "RECEIVER_PORT": str(ports.choose()),
    }
    async with Shell(clone, environment) as shell:
        yield Reader(shell)


@needs_programs
@pytest.mark.timeout(300)
async def test_the_tutorial_does_what_it_says(reader: Reader) -> None:
    blocks = [block for block in blocks_of(TUTORIAL) if not runs_elsewhere(block)]
    assert len(blocks) > 20
    *blocks, last = blocks
    for block in blocks:
        try:
            await reader.follow(block)
        except Exception as error:
            raise AssertionError(f"{block}\n{error}") from error
    codes = await reader.shell.interrupt()
    assert set(codes) <= {0, 130, -signal.SIGINT}, codes
    await reader.follow(last)
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
