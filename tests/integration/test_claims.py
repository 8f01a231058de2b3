"""How much a poll claims, of what is on time and of backlog."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import pytest

from executor_service.claim import Claimer
from executor_service.clock import DatabaseClock
from executor_service.lease import Lease
from shared import wakeup
from shared.database import Pool
from shared.events import Event
from shared.runs.moves import Claim, Held
from shared.settings import ExecutorSettings
from tests.conftest import MakeRun
from tests.eventually import eventually
from tests.integration.test_moves import claim_on, is_waiting

ROOM = 200
BATCH = 40


class Desk:
    """What one executor holds; it has room for so much, and nothing is ever done with it."""

    def __init__(self) -> None:
        self.claims: list[Claim] = []
        self.batches: list[int] = []

    def take(self, claims: list[Claim], told: list[Event]) -> None:
        del told
        self.claims += claims
        if claims:
            self.batches.append(len(claims))

    def room(self) -> int:
        return ROOM - len(self.claims)

    def holds(self, held: Held) -> bool:
        return held.job_id in {claim.job_id for claim in self.claims}

    def ages(self) -> list[float]:
        latest = max(claim.due_at for claim in self.claims)
        return [(latest - claim.due_at) / 1e6 for claim in self.claims]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@asynccontextmanager
async def claiming(pool: Pool, redis_url: str, desk: Desk) -> AsyncIterator[Claimer]:
    settings = ExecutorSettings(room=ROOM, claim_batch=BATCH)
    lease = Lease(
        pool, DatabaseClock(), lease_seconds=5, margin_seconds=0.5, claim_ahead_seconds=1.2
    )
    await lease.renew()
    redis = wakeup.connect(redis_url)
    claimer = Claimer(
        settings,
        pool,
        redis,
        lease,
        room=desk.room,
        take=desk.take,
        holds=desk.holds,
    )
    running = asyncio.create_task(claimer.run())
    try:
        yield claimer
    finally:
        claimer.stop()
        await running
        await redis.aclose()


async def test_backlog_takes_half_the_room_and_then_little_by_little_all_but_an_eighth(
    pool: Pool, redis_url: str, desk: Desk, make_run: MakeRun
) -> None:
    for _ in range(ROOM + BATCH):
        await make_run(due_in=-3_600)
    async with claiming(pool, redis_url, desk) as claimer:
        await eventually(lambda: is_nearly_full(desk))
        on_time = [await make_run() for _ in range(5)]
        claimer.poll_within(0.0)
        await eventually(lambda: has(desk, on_time))
    backlog = len(desk.claims) - len(on_time)
    assert ROOM - ROOM // 8 <= backlog < ROOM - ROOM // 8 + BATCH // 10
    assert desk.batches[:3] == [BATCH, BATCH, ROOM // 2 - 2 * BATCH]
    assert max(desk.batches[3:-1]) <= BATCH // 10


def is_nearly_full(desk: Desk) -> None:
    assert desk.room() <= ROOM // 8


def has(desk: Desk, ids: list[int]) -> None:
    assert set(ids) <= {claim.job_id for claim in desk.claims}


async def test_what_is_on_time_leaves_a_share_of_each_batch_to_backlog(
    pool: Pool, redis_url: str, desk: Desk, make_run: MakeRun
) -> None:
    for _ in range(ROOM):
        await make_run(due_in=-3_600)
        await make_run()
    async with pool.connection() as connection:  # they took their time to make
        await connection.execute(
            "update schedules set due_at = now() where due_at > now() - interval '30 minutes'"
        )
    async with claiming(pool, redis_url, desk):
        await eventually(lambda: is_full(desk))
    first = desk.ages()[:BATCH]
    assert sum(age > 3_000 for age in first) == BATCH // 10


def is_full(desk: Desk) -> None:
    assert desk.room() == 0


async def test_a_claim_of_ours_that_is_still_under_way_is_waited_for_and_given_back(
    pool: Pool, redis_url: str, desk: Desk, make_run: MakeRun
) -> None:
    async with having_lost_a_claim(pool, redis_url, desk) as claimer:
        job_id = await make_run()
        executor_id = await claimer_of(pool)
        async with (
            pool.connection() as watching,
            pool.connection() as connection,
            connection.transaction(),
        ):
            assert await claim_on(connection, executor_id)
            claimer.poll_within(0.0)
            await eventually(lambda: is_waiting(watching))
        await eventually(lambda: has(desk, [job_id]))


async def test_a_claim_of_ours_that_begins_when_we_have_looked_already_is_given_back_too(
    pool: Pool, redis_url: str, desk: Desk, make_run: MakeRun
) -> None:
    """A broken connection may bring Postgres a statement long after we have given it up."""
    async with having_lost_a_claim(pool, redis_url, desk) as claimer:
        before = await make_run()
        claimer.poll_within(0.0)
        await eventually(lambda: has(desk, [before]))
        job_id = await make_run()
        executor_id = await claimer_of(pool)
        async with pool.connection() as connection:
            assert await claim_on(connection, executor_id)
        claimer.poll_within(0.0)
        await eventually(lambda: has(desk, [job_id]))


@asynccontextmanager
async def having_lost_a_claim(pool: Pool, redis_url: str, desk: Desk) -> AsyncIterator[Claimer]:
    """A claimer that polls when it is told to; the connection of its first claim broke."""
    async with AsyncExitStack() as stack:
        async with (
            pool.connection() as watching,
            pool.connection() as connection,
            connection.transaction(),
        ):
            await connection.execute("lock table schedules")
            claimer = await stack.enter_async_context(claiming(pool, redis_url, desk))
            await eventually(lambda: is_waiting(watching))
            await watching.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where wait_event_type = 'Lock' and datname = current_database()"
            )
        yield claimer


async def claimer_of(pool: Pool) -> UUID:
    async with pool.connection() as connection:
        cursor = await connection.execute("select id from executors")
        [(executor_id,)] = await cursor.fetchall()
    assert isinstance(executor_id, UUID)
    return executor_id
