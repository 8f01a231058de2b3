"""A handler for a whole module, and what it says to the executors."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.acceptance.test_timers_contract import Handler, running_handler
from tests.acceptance.test_timers_contract_refusals import Refuse
from tests.proxy import Proxy
from tests.servers import Servers


class WakeUps(Proxy):
    """Stands before Redis and hears what one handler publishes."""

    SAID = re.compile(rb"onthedot:wake-up\r\n\$\d+\r\n(\d+)\r\n")

    def __init__(self, redis_url: str) -> None:
        found = re.fullmatch(r"(redis://(?:[^@/]*@)?)([^:/@]+):(\d+)(/\d+)?", redis_url)
        assert found is not None, redis_url
        self._head, host, port, self._tail = found.groups(default="")
        super().__init__(int(port), host=host)
        self.heard: list[int] = []

    @property
    def url(self) -> str:
        return f"{self._head}127.0.0.1:{self.port}{self._tail}"

    def hear(self, asked: bytes) -> None:
        self.heard += [int(said) for said in self.SAID.findall(asked)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wake_ups(running_servers: Servers) -> AsyncIterator[WakeUps]:
    async with WakeUps(running_servers.redis_url) as wake_ups:
        yield wake_ups


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def handler(
    running_servers: Servers,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
    wake_ups: WakeUps,
) -> AsyncIterator[Handler]:
    directory = tmp_path_factory.mktemp("handler")
    async with running_handler(
        running_servers, template, directory, REDIS_URL=wake_ups.url
    ) as handler:
        yield handler


@pytest.fixture
def refuse(handler: Handler) -> Refuse:
    return Refuse(handler)
