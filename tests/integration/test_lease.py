"""The lease: it ends here before it ends for others, and is not left behind while it is needed."""

import asyncio
from typing import Any

import pytest

from executor_service.clock import DatabaseClock
from executor_service.lease import Lease
from shared.database import Pool
from tests.conftest import MakeRun
from tests.eventually import eventually

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


async def rows(pool: Pool, statement: str) -> list[Any]:
    async with pool.connection() as connection:
        cursor = await connection.execute(statement.encode())
        return await cursor.fetchall() if cursor.description else []
