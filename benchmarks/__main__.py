"""`make bench`: lateness, fire and create, in peace; then lateness in trouble.

SECONDS=60 sets how long the steady stream lasts.
"""

import os
import platform

import uvloop

from benchmarks import create, fire, lateness, trouble
from benchmarks.stack import running


async def main() -> None:
    """Measure one after another, each on servers that were just started."""
    seconds = int(os.environ.get("SECONDS", "60"))  # noqa: TID251  # this program's own setting
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    async with running() as stack:
        print(f"Postgres {stack.postgres.version}, fsync on", flush=True)
        for line in await lateness.measure(stack, seconds=seconds):
            print(line, flush=True)
        for line in await fire.measure(stack):
            print(line, flush=True)
        print(await create.measure(stack), flush=True)
        for line in await trouble.measure(stack):
            print(line, flush=True)


if __name__ == "__main__":
    uvloop.run(main())
