"""The stack: everything that one scenario runs, for faults to break."""

import asyncio
import itertools
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import time

import psycopg

from local_stack.postgres import Postgres
from local_stack.valkey import Valkey
from migrations.__main__ import migrate
from tests.chaos.checker import Casualty
from tests.chaos.load import Load, Mix
from tests.conftest import url_of
from tests.eventually import eventually
from tests.processes import Service, Services
from tests.receiver import Receiver

TEMPLATE = "template_of_scenarios"
# How long a request and the record of its answer may take together when nothing holds them up:
# with an executor that falls, what it sent in so many seconds may be sent again.
UNRECORDED_SECONDS = 3.0
# How much later than it was sent a call may be noticed on a busy machine.
NOTICED_SECONDS = 2.0
# What an executor may hold, in terms of `schedules`.
NOT_YET_DUE = "due_at > now() + interval '0.1 second'"
SENT = "due_at < now() - interval '0.05 second'"

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large a scenario is: the same faults are tried for long and, in `make test`, briefly."""

    per_second: float
    delay_seconds_max: int
    executors: int
    lease_seconds: float
    outage_seconds: float
    long_outage_seconds: float
    calls_before: int  # calls that arrive before the fault
    accepted_after: int  # timers accepted after it
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnServers:
    """A Postgres that loses nothing it committed, and a Redis: both may be killed."""

    postgres: Postgres
    valkey: Valkey

    def start(self) -> None:
        """Start what does not run."""
        self.postgres.start()
        self.valkey.start()

    def new_database(self) -> str:
        """Answer the URL of a fresh, migrated database."""
        name = f"scenario_{next(_numbers)}"
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            connection.execute(f"create database {name} template {TEMPLATE}")
        return url_of(self.postgres.url, name)


@contextmanager
def own_servers(directory: Path) -> Iterator[OwnServers]:
    """Run servers that nobody else uses."""
    # Few connections, so that running out of them is quick.
    postgres = Postgres(directory / "postgres", settings={"max_connections": "60"})
    servers = OwnServers(postgres, Valkey(directory / "redis", durable=False))
    try:
        servers.start()
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(f"create database {TEMPLATE}")
        migrate(url_of(postgres.url, TEMPLATE))
        yield servers
    finally:
        postgres.stop()
        servers.valkey.stop()


class Stack:
    """A handler, executors, a receiver and a load, and who among them fell."""

    def __init__(
        self, servers: OwnServers, services: Services, receiver: Receiver, scale: Scale
    ) -> None:
        self.postgres = servers.postgres
        self.valkey = servers.valkey
        self.services = services
        self.database_url = services.environment["DATABASE_URL"]
        self.receiver = receiver
        self.scale = scale
        self.executors: list[Service] = []
        self.casualties: list[Casualty] = []
        self.handler: Service
        self.load: Load

    async def start(self, *, slow_share: float) -> None:
        """Start the services; the load is described, and run by the scenario."""
        self.handler, *self.executors = await asyncio.gather(
            self.services.handler(),
            *(self.services.executor(**self.scale.settings) for _ in range(self.scale.executors)),
        )
        mix = Mix(
            per_second=self.scale.per_second,
            delay_seconds_max=self.scale.delay_seconds_max,
            slow_share=slow_share,
        )
        self.load = Load(self.handler.port, mix, self.receiver.url)

    async def new_executor(self) -> Service:
        """Start one more."""
        executor = await self.services.executor(**self.scale.settings)
        self.executors.append(executor)
        return executor

    async def replace(self, executor: Service) -> None:
        """Stop an executor as a deployment does, and start one in its place."""
        assert await executor.stop() == 0
        self.executors.remove(executor)
        await self.new_executor()

    async def kill(self, executor: Service, *, unrecorded_since: float | None = None) -> None:
        """SIGKILL an executor; what it sent lately, or since that moment, may be sent again."""
        self.executors.remove(executor)
        await executor.kill()
        self.falls(executor, unrecorded_since=unrecorded_since)

    def falls(self, executor: Service, *, unrecorded_since: float | None = None) -> None:
        """Note that an executor was killed, or begins to stall beyond its lease, at this moment."""
        now = time()
        since = (unrecorded_since or now) - UNRECORDED_SECONDS
        self.casualties.append(Casualty(_executor_id(executor), since, now + NOTICED_SECONDS))

    @contextmanager
    def stalled(self, executor: Service) -> Iterator[None]:
        """SIGSTOP an executor for this block."""
        executor.send(signal.SIGSTOP)
        try:
            yield
        finally:
            executor.send(signal.SIGCONT)

    async def is_rescued(self, executor: Service) -> None:
        """Wait until the others have taken back what it held, and forgotten it."""
        whose = (_executor_id(executor),)

        async def is_forgotten() -> None:
            async with self.sql() as connection:
                cursor = await connection.execute("select from executors where id = %s", whose)
                assert not cursor.rowcount

        await eventually(is_forgotten)

    async def holder(self, which: str) -> Service:
        """Wait until somebody holds runs `which` SQL describes; answer who holds most of them."""
        executors = {_executor_id(executor): executor for executor in self.executors}
        most = (
            "select executor_id::text from schedules "
            f"where executor_id = any(%s::uuid[]) and {which} "
            "group by executor_id order by count(*) desc limit 1"
        )

        async def found() -> Service:
            async with self.sql() as connection:
                cursor = await connection.execute(most.encode(), (list(executors),))
                row = await cursor.fetchone()
            assert row is not None, f"nobody holds anything {which}"
            return executors[row[0]]

        return await eventually(found)

    @asynccontextmanager
    async def sql(self, **parameters: str) -> AsyncIterator[psycopg.AsyncConnection]:
        """Connect to the scenario's database, each statement a transaction of its own."""
        connection = await psycopg.AsyncConnection.connect(
            self.database_url, autocommit=True, **parameters
        )
        async with connection:
            yield connection

    async def gets_calls(self, calls: int) -> None:
        """Wait until so many more calls have arrived."""
        wanted = len(self.receiver.calls) + calls

        def have_arrived() -> None:
            assert len(self.receiver.calls) >= wanted, f"{len(self.receiver.calls)} of {wanted}"

        await eventually(have_arrived, within=40)

    async def accepts(self, timers: int) -> None:
        """Wait until so many more timers were accepted."""
        wanted = len(self.load.accepted) + timers

        def were_accepted() -> None:
            assert len(self.load.accepted) >= wanted, f"{len(self.load.accepted)} of {wanted}"

        await eventually(were_accepted, within=40)

    async def is_drained(self) -> None:
        """Raise AssertionError while runs are outstanding."""
        try:
            async with self.sql() as connection:
                cursor = await connection.execute("select count(*) from schedules")
                assert await cursor.fetchone() == (0,)
        except psycopg.OperationalError as error:
            raise AssertionError(str(error)) from None


@asynccontextmanager
async def running(
    servers: OwnServers, scale: Scale, directory: Path, *, slow_share: float
) -> AsyncIterator[Stack]:
    """Run a stack on a database of its own; whatever becomes of it, nothing is left running."""
    await asyncio.to_thread(servers.start)
    database_url = await asyncio.to_thread(servers.new_database)
    services = Services(database_url, servers.valkey.url, directory)
    async with Receiver() as receiver:
        stack = Stack(servers, services, receiver, scale)
        try:
            await stack.start(slow_share=slow_share)
            yield stack
        finally:
            for service in services.started:
                if service.process is not None and service.process.returncode is None:
                    await service.kill()


def _executor_id(executor: Service) -> str:
    """The id under which an executor holds its claims now, as it told its log."""
    told = [line for line in executor.log.read_text().splitlines() if '"lease.taken"' in line]
    return str(json.loads(told[-1])["executor_id"])
