"""The version before and this one, side by side: on the old schema, the new one, and in between."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from handler_service.health import SCHEMA_REVISION
from migrations.__main__ import migrate
from tests.balancer import Balancer
from tests.earlier import check_out
from tests.processes import Services
from tests.receiver import Receiver
from tests.traffic import Traffic


class Earlier(NamedTuple):
    """The version before, and the schema it was written for."""

    source: Path
    revision: str


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Earlier:
    source = tmp_path_factory.mktemp("earlier")
    return Earlier(source, check_out(source))


@asynccontextmanager
async def both(
    earlier: Earlier, database_url: str, redis_url: str, directory: Path
) -> AsyncIterator[tuple[Services, Services]]:
    """Both versions on one database and one Redis: the version before, and this one."""
    (directory / "old").mkdir()
    old = Services(database_url, redis_url, directory / "old", source=earlier.source)
    new = Services(database_url, redis_url, directory)
    try:
        yield old, new
    finally:
        await old.stop()
        await new.stop()


async def test_an_upgrade_in_the_order_of_the_manual_refuses_loses_and_doubles_nothing(
    earlier: Earlier, empty_database_url: str, redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    url = empty_database_url
    await migrate_as_it_did(earlier, url)
    async with both(earlier, url, redis_url, tmp_path) as (old, new), Balancer() as balancer:
        old_handler, *old_executors = await asyncio.gather(
            old.handler(), old.executor(), old.executor()
        )
        await balancer.add(old_handler)
        traffic = Traffic(url, receiver, port=balancer.port)
        async with traffic.flows():
            assert await asyncio.to_thread(migrate, url) == (earlier.revision, SCHEMA_REVISION)
            await traffic.goes_on()
            for old_executor in old_executors:
                await new.executor()
                assert await old_executor.stop() == 0
                await traffic.goes_on()
            await balancer.add(await new.handler())
            await traffic.goes_on(60)  # by both handlers
        await traffic.was_served_well()


async def migrate_as_it_did(earlier: Earlier, database_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "migrations"),
        cwd=earlier.source,
        env={"DATABASE_URL": database_url},
    )
    assert await process.wait() == 0


async def test_executors_of_both_versions_share_the_work_of_either_handler(
    earlier: Earlier, database_url: str, redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    """Also the wrong way round: what the version before knows goes on all the same."""
    async with (
        both(earlier, database_url, redis_url, tmp_path) as (old, new),
        Balancer() as both_handlers,
    ):
        handler, old_handler, _ = await asyncio.gather(new.handler(), old.handler(), old.executor())
        await both_handlers.add(handler)
        await both_handlers.add(old_handler)
        traffic = Traffic(database_url, receiver, port=both_handlers.port)
        async with traffic.flows():
            await traffic.goes_on(60)  # with nobody but the old executor
            await new.executor()
            await traffic.goes_on(60)
        await traffic.was_served_well()
