"""A shell such as a reader has, which runs one block after the other."""

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

import pytest

# A machine may have none of them; the pages tell readers that they need them.
needs_programs = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "make"))), reason="needs bash, curl and make"
)

MARK = "what-came-before-is-over"


class Ran(NamedTuple):
    """What came of a block: its output, and the status of each answer that curl got."""

    output: str
    statuses: list[int]


class Shell:
    """One bash. It ends where a command fails, as `set -e` has it."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.directory = directory
        self.environment = dict(environment)
        # The statuses of answers, beside what they say.
        (directory / ".curlrc").write_text('write-out = "%{stderr}status %{http_code}\\n"\n')
        self.environment["CURL_HOME"] = str(directory)
        self._said = directory / ".stderr"
        self._beside: list[tuple[asyncio.subprocess.Process, Path]] = []
        self._bash: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self._said.open("wb") as said:
            self._bash = await asyncio.create_subprocess_exec(
                *("bash", "--noprofile", "--norc", "-e", "-o", "pipefail"),
                cwd=self.directory,
                env=self.environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=said,
                start_new_session=True,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._bash is not None
        for process in [self._bash, *(process for process, _ in self._beside)]:
            await _end(process)

    async def run(self, text: str, *, within: float = 30.0) -> Ran:
        """Run a block to its end; fail with what it said if one of its commands fails."""
        assert self._bash is not None
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        before = self._said.stat().st_size
        self._bash.stdin.write(f"{text}\nprintf '%s\\n' {MARK}\n".encode())
        lines = []
        async with asyncio.timeout(within):
            while line := (await self._bash.stdout.readline()).decode():
                if line.rstrip().endswith(MARK):
                    lines.append(line.replace(MARK, "").rstrip("\n"))
                    break
                lines.append(line)
        complaints = self._said.read_text(errors="replace")[before:]
        output = "".join(lines)
        assert line, f"it ended: {output}{complaints}"
        return Ran(output, [int(status) for status in re.findall(r"status (\d+)", complaints)])

    async def run_beside(self, text: str) -> Path:
        """Start what does not end by itself; answer the file that it writes to."""
        output = self.directory / f".beside-{len(self._beside)}"
        with output.open("wb") as said:
            process = await asyncio.create_subprocess_exec(
                *("bash", "--noprofile", "--norc", "-c", text),
                cwd=self.directory,
                env={**self.environment, "PYTHONUNBUFFERED": "1"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=said,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        self._beside.append((process, output))
        return output

    async def interrupt(self) -> list[int | None]:
        """Press Ctrl-C in each terminal that was opened beside, and wait; answer how they ended."""
        for process, _ in self._beside:
            os.killpg(process.pid, signal.SIGINT)
        async with asyncio.timeout(30):
            return [await process.wait() for process, _ in self._beside]


async def _end(process: asyncio.subprocess.Process) -> None:
    """Stop it, and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            async with asyncio.timeout(10):
                await process.wait()
        except ProcessLookupError:
            break
        except TimeoutError:
            continue
    await process.wait()
    if process.stdin is not None:
        process.stdin.close()
