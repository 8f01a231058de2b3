"""The gate: what keeps a claim from being sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import monotonic

import pytest

from executor_service.breaker import Breakers
from executor_service.clock import DatabaseClock
from executor_service.fire import PutOff
from executor_service.gate import NOT_OURS, TOO_OLD, Gate
from executor_service.mark import Marker
from shared import wakeup
from shared.database import Pool
from shared.runs.lifecycle import Delivery
from shared.runs.moves import Claim
from shared.runs.policy import RetryPolicy
from tests.claims import a_claim
from tests.conftest import MakeExecutor, MakeRun
from tests.eventually import eventually
from tests.integration.test_moves import claim_all, snapshot

HERE = "http://127.0.0.1:9"
AGED = {"max_attempts": 5, "max_age": 60.0}


@asynccontextmanager
async def a_gate(pool: Pool, redis_url: str, *, open_seconds: float) -> AsyncIterator[Gate]:
    clock = DatabaseClock()
    clock.observe(datetime.now(UTC), asked_at=monotonic(), heard_at=monotonic())
    redis = wakeup.connect(redis_url)
    breakers = Breakers(
        redis, clock, failures_max=2, open_seconds=open_seconds, open_seconds_max=60
    )
    marker = Marker(pool)
    marking = asyncio.create_task(marker.run())
    yield Gate(clock, breakers, marker, put_off_seconds_max=100)
    marking.cancel()
    await asyncio.wait([marking])
    await redis.aclose()


@pytest.fixture
async def gate(pool: Pool, redis_url: str) -> AsyncIterator[Gate]:
    async with a_gate(pool, redis_url, open_seconds=30) as gate:
        yield gate


def aged(gate: Gate, seconds: float, **changes: object) -> Claim:
    """A claim whose run was planned so long ago."""
    since = int((gate.clock.now() - seconds) * 1e6)
    return a_claim(instant=since, **changes)


async def open_breaker(gate: Gate) -> None:
    for _ in range(2):
        await gate.breakers.learn(HERE, answered=False)


async def test_a_first_attempt_goes_however_late_and_another_one_within_the_greatest_age(
    gate: Gate,
) -> None:
    assert await gate.hindrance(aged(gate, 61, retry=AGED), HERE) is None
    assert await gate.hindrance(aged(gate, 59, retry=AGED, attempt=2), HERE) is None
    assert await gate.hindrance(aged(gate, 61, retry=AGED, attempt=2), HERE) == TOO_OLD
    replayed = aged(gate, 61, retry=AGED, attempt=2, attempts_forgiven=1)
    assert await gate.hindrance(replayed, HERE) is None


async def test_an_open_breaker_puts_off_until_the_greatest_age_or_the_longest_time(
    gate: Gate,
) -> None:
    await open_breaker(gate)
    assert isinstance(await gate.hindrance(aged(gate, 0), HERE), PutOff)
    assert isinstance(await gate.hindrance(aged(gate, 99), HERE), PutOff)
    assert await gate.hindrance(aged(gate, 101), HERE) is None
    assert isinstance(await gate.hindrance(aged(gate, 59, retry=AGED), HERE), PutOff)
    assert await gate.hindrance(aged(gate, 61, retry=AGED), HERE) == TOO_OLD
    assert await gate.hindrance(aged(gate, 0), "http://127.0.0.1:10") is None


async def test_an_at_most_once_run_is_marked_or_not_sent(
    gate: Gate, pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    retry = RetryPolicy(max_attempts=2).document()
    await make_run(delivery=Delivery.AT_MOST_ONCE, retry=retry)
    [claim] = await claim_all(pool, await make_executor())
    assert await gate.hindrance(claim._replace(fence=claim.fence - 1), HERE) == NOT_OURS
    assert (await snapshot(pool))["schedules"][0]["marked_at"] is None
    assert await gate.hindrance(claim, HERE) is None
    assert (await snapshot(pool))["schedules"][0]["marked_at"] is not None


async def test_a_probe_that_could_not_be_marked_gives_up_its_place(
    pool: Pool, redis_url: str, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    await make_run(delivery=Delivery.AT_MOST_ONCE)
    [claim] = await claim_all(pool, await make_executor())
    stale = claim._replace(fence=claim.fence - 1)
    async with a_gate(pool, redis_url, open_seconds=0.05) as gate:
        await open_breaker(gate)

        async def is_probe() -> None:
            assert await gate.hindrance(stale, HERE) == NOT_OURS

        await eventually(is_probe)
        assert await gate.hindrance(claim, HERE) is None
