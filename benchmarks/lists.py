"""How long a page of each list takes, at a million jobs and forty days of history.

`python -m benchmarks.lists`. Database time: the best of a few, planned anew each time as the
handler does; the whole: its statements, their planning and the way to Postgres and back.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from handler_service import history_reads, job_list_reads, job_reads
from local_stack.postgres import Postgres
from migrations.__main__ import migrate
from shared import database
from shared.database import Connection
from tests import list_cases, million
from tests.explained import Explained
from tests.list_cases import MOST

TIMES = 5
Page = Callable[[Connection], Awaitable[object]]


def pages() -> dict[str, Page]:
    """A page of every list, from its beginning and from its middle."""
    found: dict[str, Page] = {}
    for name, jobs in list_cases.JOBS.items():
        for depth, wanted in (("", jobs), (" (middle)", list_cases.at_depth(jobs))):
            found[name + depth] = _page_of_jobs(replace(wanted, most=MOST))
    for name, history in list_cases.HISTORY.items():
        for depth, asked in (("", history), (" (middle)", list_cases.history_at_depth(history))):
            found[name + depth] = _page_of_history(replace(asked, most=MOST))
    return found


async def measure(url: str) -> AsyncIterator[str]:
    """Tell of each page."""
    pool = database.open_pool(url, name="bench", connections=1, pin_plans=True)
    explained = await Explained.to(url)
    async with pool, explained, pool.connection() as connection:
        for name, page in pages().items():
            spent, whole = [], []
            for _ in range(TIMES):
                explained.plans.clear()
                await page(explained)
                spent.append(sum(plan.milliseconds for plan in explained.plans))
            for _ in range(TIMES):
                started = perf_counter()
                await page(connection)
                whole.append((perf_counter() - started) * 1000)
            statements = len(explained.plans)
            yield (
                f"{name:36} {statements:2} statements   database {min(spent):7.2f} ms   "
                f"whole {min(whole):7.2f} ms"
            )


def _page_of_jobs(wanted: job_list_reads.Wanted) -> Page:
    async def page(connection: Connection) -> object:
        places = await job_list_reads.places(connection, wanted)
        job_ids = [place.job_id for place in places[: wanted.most - 1]]
        return await job_reads.jobs_of(connection, job_ids, application_id=1)

    return page


def _page_of_history(wanted: history_reads.Wanted) -> Page:
    async def page(connection: Connection) -> object:
        return await history_reads.by_end(connection, wanted)

    return page


async def main() -> None:
    with TemporaryDirectory(prefix="onthedot-bench-") as directory:
        postgres = Postgres(Path(directory) / "postgres", settings={"max_wal_size": "4GB"})
        postgres.start()
        try:
            migrate(postgres.url)
            started = perf_counter()
            million.fill(postgres.url)
            print(f"filled in {perf_counter() - started:.0f} s", flush=True)
            async for line in measure(postgres.url):
                print(line, flush=True)
        finally:
            postgres.stop()


if __name__ == "__main__":
    asyncio.run(main())
