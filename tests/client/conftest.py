"""One handler and one executor for all tests of the client, and receivers of their own."""

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from onthedot import AsyncOnthedot, Onthedot
from tests.acceptance.test_timers_contract import fresh_database
from tests.client.commands import Commands
from tests.processes import Services
from tests.servers import Servers

_numbers = count(1)


class Server(NamedTuple):
    """Where the handler is, and whose database it has."""

    url: str
    database_url: str


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(
    running_servers: Servers,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
) -> AsyncIterator[Server]:
    directory = tmp_path_factory.mktemp("client")
    with fresh_database(running_servers, template) as database_url:
        # From the end: what other tests empty between them is counted from the beginning.
        number = 15 if worker_id == "master" else 15 - int(worker_id.removeprefix("gw"))
        redis_url = f"{running_servers.redis_url.rsplit('/', 1)[0]}/{number}"
        services = Services(database_url, redis_url, directory)
        handler = await services.handler()
        await services.executor()
        yield Server(handler.url, database_url)
        await services.stop()


@pytest.fixture
def onthedot(server: Server) -> Iterator[Onthedot]:
    with Onthedot(server.url) as onthedot:
        yield onthedot


@pytest.fixture
async def async_onthedot(server: Server) -> AsyncIterator[AsyncOnthedot]:
    async with AsyncOnthedot(server.url) as onthedot:
        yield onthedot


@pytest.fixture
def name(worker_id: str) -> str:
    """A name that no other test has: for a key, a user or a label."""
    return f"{worker_id}-{next(_numbers)}"


@pytest.fixture
def commands(server: Server, tmp_path: Path) -> Commands:
    """The command line, with settings of its own."""
    return Commands({"ONTHEDOT_URL": server.url, "XDG_CONFIG_HOME": str(tmp_path / "settings")})
