"""What the benchmarks run on: real servers, a handler, executors and a sink, as processes."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
import psycopg

from local_stack.postgres import Postgres
from local_stack.valkey import Valkey
from migrations.__main__ import migrate
from tests.eventually import eventually
from tests.processes import Services, free_port

ROOT = Path(__file__).parent.parent


class Note(NamedTuple):
    """One webhook that came in: its run, and how late it was, in milliseconds."""

    webhook_id: str
    arrived_at: float

    @property
    def late_ms(self) -> float:
        """From the planned instant, which the webhook-id holds, to the arrival."""
        return (self.arrived_at - int(self.webhook_id.split("_")[2]) / 1e6) * 1000


class Stack:
    """Servers and services of one benchmark run."""

    def __init__(self, postgres: Postgres, services: Services, sink_port: int) -> None:
        self.postgres = postgres
        self.services = services
        self.sink_url = f"http://127.0.0.1:{sink_port}/hook"
        self._report_url = f"http://127.0.0.1:{sink_port}/report"

    async def report(self) -> list[Note]:
        """What the sink has received since the last report."""
        async with httpx.AsyncClient() as http:
            text = (await http.get(self._report_url)).text
        return [Note(*json.loads(line)) for line in text.splitlines()]

    async def plan(self, count: int, *, due_in_seconds: float, url: str | None = None) -> None:
        """Write timers that are all due at one instant, straight into the tables."""
        statement = """
            with asked as materialized (
                select nextval(pg_get_serial_sequence('jobs', 'id')) as id,
                    now() + %s * interval '1 second' as run_at
                from generate_series(1, %s)
            ), job as (
                insert into jobs (id, application_id, url, method, timeout_seconds, run_at)
                overriding system value select id, 1, %s, 'POST', 15, run_at from asked
            )
            insert into schedules (job_id, scheduled_for, due_at)
            select id, run_at, run_at from asked
        """
        async with await psycopg.AsyncConnection.connect(self.postgres.url) as connection:
            await connection.execute(statement, (due_in_seconds, count, url or self.sink_url))

    async def forget_all(self) -> None:
        """Take every outstanding run away: what is in flight finds that it is not its own."""
        async with await psycopg.AsyncConnection.connect(self.postgres.url) as connection:
            await connection.execute("delete from schedules")

    async def all_recorded(self, *, within: float) -> None:
        """Wait until no run is outstanding."""

        async def empty() -> None:
            async with await psycopg.AsyncConnection.connect(self.postgres.url) as connection:
                cursor = await connection.execute("select exists (select from schedules)")
                assert await cursor.fetchone() == (False,)

        await eventually(empty, within=within, every=0.1)

    async def vacuum(self) -> None:
        """Begin each measurement with clean tables."""
        url = self.postgres.url
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("vacuum analyze")
            await connection.execute("checkpoint")


@asynccontextmanager
async def running() -> AsyncIterator[Stack]:
    """Start servers and sink; handlers and executors are up to each benchmark."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="onthedot-bench-")))
        postgres = Postgres(directory / "postgres", settings={"max_wal_size": "4GB"})
        valkey = Valkey(directory / "redis", durable=False)
        for server in (postgres, valkey):
            server.start()
            stack.callback(server.stop)
        migrate(postgres.url)
        services = Services(postgres.url, valkey.url, directory)
        stack.push_async_callback(services.stop)
        sink_port = free_port()
        await process(stack, "benchmarks.sink", sink_port)
        yield Stack(postgres, services, sink_port)


async def process(stack: AsyncExitStack, module: str, port: int) -> None:
    """Run a module with a port as its argument until the stack unwinds."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, str(port)),
        cwd=ROOT,
        env=dict(os.environ),  # noqa: TID251  # a child's environment
    )
    stack.callback(child.kill)

    async def listens() -> None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            raise AssertionError(str(error)) from None
        writer.close()

    await eventually(listens)
