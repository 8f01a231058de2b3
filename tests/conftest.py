"""The servers, a database of its own for each test, and rows to start from."""

import base64
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import redis

from migrations.__main__ import migrate
from shared import database
from shared.database import Pool
from tests import servers
from tests.processes import Services
from tests.receiver import Receiver
from tests.servers import Servers

_numbers = itertools.count(1)


def url_of(server_url: str, name: str) -> str:
    """The URL of another database on the same server."""
    base, _, query = server_url.partition("?")
    return f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")


@pytest.fixture(scope="session")
def running_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with servers.start(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.fixture(scope="session")
def database_prefix(worker_id: str) -> str:
    """What the names of this test process's databases begin with: several may share a server."""
    return f"onthedot_{worker_id}"


@pytest.fixture(scope="session")
def template(running_servers: Servers, database_prefix: str) -> str:
    """A database migrated by alembic, to be copied for each test."""
    name = f"{database_prefix}_template"
    with psycopg.connect(running_servers.database_url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name}")
    migrate(url_of(running_servers.database_url, name))
    return name


@pytest.fixture
def empty_database_url(running_servers: Servers, database_prefix: str) -> Iterator[str]:
    """A database that no migration has seen."""
    name = f"{database_prefix}_empty"
    with psycopg.connect(running_servers.database_url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name}")
        yield url_of(running_servers.database_url, name)
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture
def database_url(running_servers: Servers, template: str, database_prefix: str) -> Iterator[str]:
    """A fresh, migrated database of this test's own."""
    name = f"{database_prefix}_{next(_numbers)}"
    with psycopg.connect(running_servers.database_url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name} template {template} strategy file_copy")
        yield url_of(running_servers.database_url, name)
        connection.execute(f"drop database if exists {name} with (force)")


@pytest.fixture
def redis_url(running_servers: Servers, worker_id: str) -> str:
    """A Redis database of this test process's own, emptied."""
    number = 0 if worker_id == "master" else int(worker_id.removeprefix("gw"))
    url = f"{running_servers.redis_url.rsplit('/', 1)[0]}/{number}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Connections as an executor has them."""
    pool = database.open_pool(database_url, name="test", connections=4, pin_plans=True)
    async with pool:
        yield pool


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def services(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Services]:
    services = Services(database_url, redis_url, tmp_path)
    yield services
    await services.stop()


@pytest.fixture
async def api(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running handler."""
    handler = await services.handler()
    limits = httpx.Limits(max_connections=50, max_keepalive_connections=50)
    async with httpx.AsyncClient(base_url=handler.url, timeout=30, limits=limits) as client:
        yield client


@pytest.fixture
def signing_secret(database_url: str) -> str:
    """The default application's secret, in the form that receivers keep."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("select signing_secret from applications").fetchone()
    assert row is not None
    return "whsec_" + base64.b64encode(row[0]).decode()


MakeExecutor = Callable[..., Awaitable[UUID]]
MakeRun = Callable[..., Awaitable[int]]


@pytest.fixture
def make_executor(pool: Pool) -> MakeExecutor:
    """Register an executor whose last heartbeat was so long ago."""

    async def make(
        *, silent_seconds: float = 0.0, lease_seconds: float = 5.0, claim_ahead_seconds: float = 1.2
    ) -> UUID:
        executor_id = uuid4()
        async with pool.connection() as connection:
            await connection.execute(
                "insert into executors "
                "(id, heartbeat_at, lease_seconds, claim_ahead_seconds, host, version) values "
                "(%s, now() - %s * interval '1 second', %s, %s, 'test', '0')",
                (executor_id, silent_seconds, lease_seconds, claim_ahead_seconds),
            )
        return executor_id

    return make


@pytest.fixture
def make_run(pool: Pool) -> MakeRun:
    """Make a job and its run, due so many seconds from now; fill what its state requires."""

    async def make(
        *,
        due_in: float = 0.0,
        state: str = "pending",
        executor_id: UUID | None = None,
        fence: int | None = None,
        attempt: int = 0,
        **job: Any,
    ) -> int:
        values = {"url": "http://127.0.0.1:9/", "method": "POST", "timeout_seconds": 5.0, **job}
        names = ", ".join(values)
        places = ", ".join(f"%({name})s" for name in values)
        if fence is None:
            fence = attempt + (1 if state == "executing" else 0)
        async with pool.connection() as connection, connection.transaction():
            cursor = await connection.execute(
                f"insert into jobs (application_id, run_at, {names}) values "
                f"(1, now() + %(due_in)s * interval '1 second', {places}) returning id, run_at",
                {**values, "due_in": due_in},
            )
            row = await cursor.fetchone()
            assert row is not None
            job_id, run_at = row
            await connection.execute(
                "insert into schedules "
                "(job_id, scheduled_for, due_at, state, executor_id, fence, attempt) "
                "values (%s, %s, %s, %s, %s, %s, %s)",
                (job_id, run_at, run_at, state, executor_id, fence, attempt),
            )
        return int(job_id)

    return make
