"""What a timer costs: bytes of each table, WAL, Postgres's processor time, memory of the services.

`python -m benchmarks.size`. Timers without payload, in batches of a thousand: some that stay
outstanding, then as many that are called and recorded. Linux alone: it reads /proc.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psycopg

from benchmarks.stack import Stack, running

TIMERS = 100_000
BATCH = 1_000
SIZES = """
select pg_total_relation_size('jobs'), pg_total_relation_size('schedules'),
    (select sum(pg_total_relation_size(inhrelid)) from pg_inherits
     where inhparent = 'executions'::regclass)::bigint,
    pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint
"""
NAMES = ("jobs", "schedules", "executions", "WAL")


async def measure(stack: Stack) -> AsyncIterator[str]:
    """Tell of outstanding timers, of those that are done, and of the processes."""
    handler, executor = await stack.services.handler(), await stack.services.executor()
    async with httpx.AsyncClient(base_url=handler.url, timeout=60) as http:
        yield f"outstanding   {await _cost(stack, http, hours=400)}"
        await stack.forget_all()
        yield f"done          {await _cost(stack, http, seconds=1)}"
    for service in (handler, executor):
        yield f"{service.module:13} {_resident_bytes(service.pid) / 2**20:.0f} MiB resident"


async def _cost(stack: Stack, http: httpx.AsyncClient, **delay: int) -> str:
    """Create the timers, wait until they are done unless they wait, and say what each one cost."""
    await stack.vacuum()
    before, spent = await _sizes(stack), _processor_seconds(stack)
    timer = {**delay, "url": stack.sink_url}
    for _ in range(TIMERS // BATCH):
        (await http.post("/timers/batch", json={"timers": [timer] * BATCH})).raise_for_status()
    if "seconds" in delay:
        await stack.all_recorded(within=300)
    spent = _processor_seconds(stack) - spent
    written = await _sizes(stack)
    await stack.vacuum()
    after = [*(await _sizes(stack))[:-1], written[-1]]
    each = (
        f"{name} {(now - then) / TIMERS:,.0f}"
        for name, then, now in zip(NAMES, before, after, strict=True)
    )
    return f"bytes of each: {', '.join(each)}; Postgres {spent / TIMERS * 1e6:.0f} µs"


async def _sizes(stack: Stack) -> list[int]:
    async with await psycopg.AsyncConnection.connect(stack.postgres.url) as connection:
        row = await (await connection.execute(SIZES)).fetchone()
    assert row is not None
    return list(row)


def _processor_seconds(stack: Stack) -> float:
    """User and system time of all of Postgres's processes, those that have ended included."""
    assert stack.postgres.process is not None
    server = stack.postgres.process.pid
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if server in {int(path.parent.name), int(fields[1])}:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def main() -> None:
    """Measure, and print each figure as it comes."""
    async with running() as stack:
        async for line in measure(stack):
            print(line, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
