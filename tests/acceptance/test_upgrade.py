"""The version before and this one, side by side: on the old schema, the new one, and in between."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest

from handler_service.health import SCHEMA_REVISION
from migrations.__main__ import migrate
from tests.acceptance.test_health import value_of
from tests.balancer import Balancer
from tests.earlier import check_out
from tests.eventually import eventually
from tests.processes import Service, Services, free_port
from tests.receiver import Receiver
from tests.traffic import Traffic

pytestmark = pytest.mark.timeout(240)  # on a busy machine, two versions' processes start slowly


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
            async with await psycopg.AsyncConnection.connect(url) as reader:
                # Someone reads jobs for longer than a create may wait.
                await reader.execute("select from jobs limit 1")
                migration = asyncio.create_task(asyncio.to_thread(migrate, url))
                await traffic.goes_on(400)
                assert not migration.done()
            assert await migration == (earlier.revision, SCHEMA_REVISION)
            await traffic.goes_on()
            _, _, new_handler = await asyncio.gather(new.executor(), new.executor(), new.handler())
            await traffic.goes_on()  # by executors of both versions
            for old_executor in old_executors:
                assert await old_executor.stop() == 0
            await balancer.add(new_handler)
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


@pytest.mark.parametrize("creator", ["new", "old"])
async def test_versions_agree_on_wake_ups_and_breakers(
    creator: str,
    earlier: Earlier,
    database_url: str,
    redis_url: str,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    async with both(earlier, database_url, redis_url, tmp_path) as (old, new):
        creates, fires = (new, old) if creator == "new" else (old, new)
        handler, executor = await asyncio.gather(
            creates.handler(), fires.executor(**RARELY, BREAKER_OPEN_SECONDS="60")
        )
        async with httpx.AsyncClient(base_url=handler.url, timeout=30) as http:
            await create(http, url=receiver.url(), seconds=1)
            await eventually(lambda: called(receiver, 1))
            nobody = f"http://127.0.0.1:{free_port()}/"
            for _ in range(12):
                await create(http, url=nobody, seconds=1, retry="none")
        await eventually(lambda: knows_a_breaker(executor))
        other = await creates.executor()
        await eventually(lambda: knows_a_breaker(other))


# So rarely that what is due soon must have been woken for.
RARELY = {"POLL_SECONDS": "30", "CLAIM_AHEAD_SECONDS": "31", "LEASE_SECONDS": "100"}


async def test_an_executor_that_knows_no_recurrence_disturbs_none(
    earlier: Earlier, database_url: str, redis_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    async with both(earlier, database_url, redis_url, tmp_path) as (old, new):
        handler, _, executor = await asyncio.gather(new.handler(), old.executor(), new.executor())
        async with httpx.AsyncClient(base_url=handler.url, timeout=30) as http:
            job_id = await create(http, "/jobs", url=receiver.url("/ok/recurs"), every=1)
            for _ in range(10):
                await create(http, url=receiver.url(), seconds=1)
            await eventually(lambda: called(receiver, 15))
            assert (await http.post(f"/jobs/{job_id}/pause")).status_code == 200
            assert set(receiver.runs.values()) == {1}
            # Back to the version before: what is paused does not keep it from the rest.
            assert await executor.stop() == 0
            timer_id = await create(http, url=receiver.url("/ok/afterwards"), seconds=1)
            await eventually(lambda: called(receiver, 1, timer_id))


async def create(http: httpx.AsyncClient, to: str = "/timers", **body: object) -> int:
    answer = await http.post(to, json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def called(receiver: Receiver, times: int, job_id: int | None = None) -> None:
    calls = receiver.calls if job_id is None else receiver.calls_of(job_id)
    assert len(calls) >= times, len(calls)


async def knows_a_breaker(executor: Service) -> None:
    async with httpx.AsyncClient() as http:
        metrics = (await http.get(f"{executor.url}/metrics")).text
    assert value_of(metrics, "onthedot_breakers_open") == 1
