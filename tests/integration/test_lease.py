"""The lease: it ends here before it ends for others, and is not left behind while it is needed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest

from executor_service.clock import DatabaseClock
from executor_service.lease import Lease
from executor_service.rescue import rescue
from shared import database, events
from shared.database import Pool
from shared.events import Teller
from tests.conftest import MakeExecutor, MakeRun
from tests.eventually import eventually
from tests.integration.test_moves import claim_on, is_waiting

LEASE_SECONDS = 5.0
MARGIN_SECONDS = 0.5


@pytest.fixture
async def lease(pool: Pool) -> Lease:
    lease = Lease(
        pool,
        DatabaseClock(),
        lease_seconds=LEASE_SECONDS,
        margin_seconds=MARGIN_SECONDS,
        claim_ahead_seconds=1.2,
    )
    await lease.renew()
    return lease


@pytest.fixture
async def teller(redis_url: str) -> AsyncIterator[Teller]:
    redis = events.connect(redis_url)
    teller = Teller(redis)
    yield teller
    await teller.close()
    await redis.aclose()


async def test_it_ends_here_a_margin_before_others_may_rescue(lease: Lease) -> None:
    assert 0 < lease.seconds_left <= LEASE_SECONDS - MARGIN_SECONDS


async def test_it_counts_from_the_moment_of_asking_and_not_from_the_answer(
    lease: Lease, pool: Pool
) -> None:
    """The database may have written the heartbeat down long before we hear of it."""
    waited = 0.4
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("select from executors for update")
        renewing = asyncio.create_task(lease.renew())
        async with pool.connection() as watching:
            await eventually(lambda: is_waiting(watching))
        await asyncio.sleep(waited)  # the answer's own time, not a wait for something
    await renewing
    assert lease.seconds_left <= LEASE_SECONDS - MARGIN_SECONDS - waited


async def test_nobody_rescues_before_having_been_connected_for_a_full_lease(lease: Lease) -> None:
    assert lease.is_held
    assert not lease.may_rescue()


async def test_who_was_cut_off_waits_anew_before_it_rescues(pool: Pool) -> None:
    """Stalled rather than disconnected: the others may have been stalled by the same cause."""
    clock = DatabaseClock()
    lease = Lease(pool, clock, lease_seconds=1, margin_seconds=0.1, claim_ahead_seconds=1.2)

    async def may_rescue() -> None:
        await lease.renew()
        assert lease.may_rescue()

    def has_lapsed() -> None:
        assert not lease.is_held

    await eventually(may_rescue, every=0.1)
    await eventually(has_lapsed)
    await lease.renew()
    assert lease.is_held
    assert not lease.may_rescue()
    await eventually(may_rescue, every=0.1)


async def test_who_loses_its_lease_while_a_rescue_waits_for_a_connection_rescues_nobody(
    pool: Pool,
    database_url: str,
    make_run: MakeRun,
    make_executor: MakeExecutor,
    teller: Teller,
) -> None:
    """What made it wait may have kept the others silent."""
    lapsed = await make_executor(silent_seconds=10)
    job_id = await make_run(due_in=-8, state="executing", executor_id=lapsed)
    one = database.open_pool(database_url, name="one", connections=1, pin_plans=True)
    lease = Lease(pool, DatabaseClock(), lease_seconds=1, margin_seconds=0.1, claim_ahead_seconds=1)

    async def may_rescue() -> None:
        await lease.renew()
        assert lease.may_rescue()

    def has_lapsed() -> None:
        assert not lease.is_held

    await eventually(may_rescue, every=0.1)
    async with one:
        async with one.connection():
            rescuing = asyncio.create_task(rescue(one, lease, teller))
            await eventually(lambda: is_waited_for(one))
            await eventually(has_lapsed)
        assert not await rescuing
    [(holder,)] = await rows(pool, f"select executor_id from schedules where job_id = {job_id}")
    assert holder == lapsed


def is_waited_for(pool: Pool) -> None:
    assert pool.get_stats()["requests_waiting"] == 1


async def test_a_heartbeat_that_failed_within_the_lease_delays_a_rescue_and_no_more(
    pool: Pool,
) -> None:
    lease = Lease(
        pool, DatabaseClock(), lease_seconds=1, margin_seconds=0.1, claim_ahead_seconds=1.2
    )

    async def may_rescue() -> None:
        await lease.renew()
        assert lease.may_rescue()

    await eventually(may_rescue, every=0.1)
    await rows(pool, "alter table executors rename to elsewhere")
    await lease.renew()
    assert lease.is_held
    assert not lease.may_rescue()
    await rows(pool, "alter table elsewhere rename to executors")
    await eventually(may_rescue, every=0.1)


async def test_who_finds_itself_forgotten_goes_on_under_a_new_id(lease: Lease, pool: Pool) -> None:
    before = lease.executor_id
    await rows(pool, "delete from executors returning id")
    await lease.renew()
    assert lease.is_held
    assert lease.executor_id != before
    assert not lease.holds(before)
    assert lease.holds(lease.executor_id)


async def test_who_leaves_something_behind_stays_on_the_list_to_be_rescued(
    lease: Lease, pool: Pool, make_run: MakeRun
) -> None:
    await make_run(state="executing", executor_id=lease.executor_id)
    await lease.leave()
    assert len(await rows(pool, "select id from executors")) == 1
    await rows(pool, "delete from schedules returning job_id")
    await lease.leave()
    assert await rows(pool, "select id from executors") == []


async def test_who_leaves_while_a_claim_of_its_own_commits_stays_on_the_list(
    lease: Lease, pool: Pool, make_run: MakeRun
) -> None:
    """Else its runs would execute under nobody, for ever."""
    await make_run()
    async with pool.connection() as claiming, pool.connection() as watching:
        async with claiming.transaction():
            assert await claim_on(claiming, lease.executor_id)
            leaving = asyncio.create_task(lease.leave())
            await eventually(lambda: is_waiting(watching))
        await leaving
    assert len(await rows(pool, "select id from executors")) == 1


async def test_a_database_clock_that_was_set_forward_makes_nobody_rescue_the_living(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor, teller: Teller
) -> None:
    """All the others seem silent then: they get a lease's time to say otherwise."""
    clock = DatabaseClock()
    lease = Lease(pool, clock, lease_seconds=1, margin_seconds=0.1, claim_ahead_seconds=1.2)

    async def may_rescue() -> None:
        await lease.renew()
        assert lease.may_rescue()

    async def rescues() -> None:
        await lease.renew()
        assert await rescue(pool, lease, teller)

    await eventually(may_rescue, every=0.1)
    silent = await make_executor(silent_seconds=10)
    await make_run(due_in=-8, state="executing", executor_id=silent)
    set_forward(clock, by=timedelta(seconds=10))
    assert lease.may_rescue()
    assert not await rescue(pool, lease, teller)
    assert not await rescue(pool, lease, teller)
    assert await rows(pool, "select state from schedules") == [("executing",)]
    await eventually(rescues, every=0.1)

    await eventually(may_rescue, every=0.1)
    set_forward(clock, by=timedelta(seconds=10))
    await lease.renew()
    assert lease.is_held
    assert not lease.may_rescue()


def set_forward(clock: DatabaseClock, *, by: timedelta) -> None:
    """Let the database's clock be ahead of where it was when it was last read."""
    moment = monotonic()
    clock.observe(datetime.now(UTC) - by, asked_at=moment, heard_at=moment)


async def rows(pool: Pool, statement: str) -> list[Any]:
    async with pool.connection() as connection:
        cursor = await connection.execute(statement.encode())
        return await cursor.fetchall() if cursor.description else []
