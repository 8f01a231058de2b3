"""`make guards`: take out each guard of the code, one at a time, and see a test go red.

A guard that can go without a test noticing is a promise that nobody keeps. Each entry says what is
taken out of which file and which tests must notice; the work is done on a copy.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic

from tests.guard_list import GUARDS, Guard

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".data", "*_cache", ".hypothesis", "__pycache__", "node_modules"
)
GUARD_SECONDS_MAX = 240


async def main() -> int:
    """Try every guard, or those whose name holds a word; 0 when each has a test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only guards whose file or name holds one")
    parser.add_argument("--at-once", type=int, default=2)
    options = parser.parse_args()
    chosen = [
        guard
        for guard in GUARDS
        if not options.words or any(word in f"{guard.file} {guard.name}" for word in options.words)
    ]
    with tempfile.TemporaryDirectory(prefix="guards-") as directory:
        places: asyncio.Queue[Path] = asyncio.Queue()
        for number in range(options.at_once):
            place = Path(directory) / str(number)
            shutil.copytree(ROOT, place, ignore=LEFT_OUT, symlinks=True)
            places.put_nowait(place)
        held = await asyncio.gather(*(_try(guard, places) for guard in chosen))
    print(f"{sum(held)} of {len(chosen)} guards are held by a test")
    return 0 if all(held) else 1


async def _try(guard: Guard, places: asyncio.Queue[Path]) -> bool:
    place = await places.get()
    started = monotonic()
    try:
        path = place / guard.file
        whole = path.read_text()
        if whole.count(guard.code) < 1:
            print(f"GONE     {guard.file}: {guard.name}: its code is not there", flush=True)
            return False
        path.write_text(whole.replace(guard.code, guard.without, 1))
        try:
            code, last = await _pytest(place, guard)
        finally:
            path.write_text(whole)
    finally:
        places.put_nowait(place)
    verdict = {0: "SURVIVES", 1: "red     "}.get(code, f"error {code} ")
    seconds = monotonic() - started
    print(f"{verdict} {guard.file}: {guard.name} ({seconds:.0f} s) {last}", flush=True)
    return code == 1


async def _pytest(place: Path, guard: Guard) -> tuple[int, str]:
    """Run the tests that must notice; answer the exit code and the first failure."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *guard.tests),
        cwd=place,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},  # noqa: TID251  # a child's environment
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(GUARD_SECONDS_MAX):
            output = (await process.stdout.read()).decode(errors="replace")
    except TimeoutError:
        os.killpg(process.pid, 9)
        await process.wait()
        return 1, "(hangs)"
    await process.wait()
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert process.returncode is not None
    return process.returncode, failed[0].partition(" - ")[0] if failed else output[-200:]


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
