"""The recorder: one outcome that cannot be stored as it is holds up no other, nor its own run."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from executor_service.fire import Delivered, Failed, Refused
from executor_service.record import Recorder
from shared import events
from shared.database import Pool
from shared.events import Teller
from shared.runs.moves import Claim
from tests.conftest import MakeExecutor, MakeRun
from tests.eventually import eventually
from tests.integration.test_moves import claim_all, snapshot


class Settled(list[Claim]):
    """The claims that take up no room any more."""


@pytest.fixture
async def settled() -> Settled:
    return Settled()


@pytest.fixture
async def recorder(pool: Pool, settled: Settled, redis_url: str) -> AsyncIterator[Recorder]:
    redis = events.connect(redis_url)
    teller = Teller(redis)
    recorder = Recorder(pool, teller, settled=settled.extend)
    running = asyncio.create_task(recorder.run())
    yield recorder
    running.cancel()
    await asyncio.wait([running])
    await teller.close()
    await redis.aclose()


async def test_an_outcome_that_cannot_be_stored_is_stored_without_its_words(
    recorder: Recorder, settled: Settled, pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    ids = [await make_run() for _ in range(4)]
    claims = await claim_all(pool, await make_executor())
    outcomes = [Refused("no"), Refused("a \0 in it", 404, b"kept"), Refused("no"), Failed("\0")]
    for claim, outcome in zip(claims, outcomes, strict=True):
        recorder.put(claim, outcome, started_at=1.0, finished_at=1.0)
    await eventually(lambda: all_settled(settled, 4))
    found = {row["job_id"]: row for row in (await snapshot(pool))["executions"]}
    assert [found[job_id]["state"] for job_id in ids] == ["failed"] * 3 + ["retrying"]
    assert [found[job_id]["error"] for job_id in ids[:3:2]] == ["no", "no"]
    assert found[ids[1]]["error"] == "unknown: it cannot be stored"
    assert found[ids[1]]["http_status"] == 404


async def test_what_was_never_sent_has_no_start_and_no_lateness(
    recorder: Recorder, settled: Settled, pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    await make_run()
    [claim] = await claim_all(pool, await make_executor())
    recorder.put(claim, Refused("max_age: too old"), started_at=None, finished_at=1.0)
    await eventually(lambda: all_settled(settled, 1))
    [row] = (await snapshot(pool))["executions"]
    assert (row["state"], row["started_at"], row["lateness_ms"]) == ("failed", None, None)


async def test_the_result_of_a_claim_that_is_not_ours_any_more_is_dropped(
    recorder: Recorder, settled: Settled, pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    await make_run()
    [claim] = await claim_all(pool, await make_executor())
    recorder.give_back([claim])
    await eventually(lambda: all_settled(settled, 1))
    [fresh] = await claim_all(pool, await make_executor())
    recorder.put(claim, Delivered(200, b""), started_at=1.0, finished_at=1.0)
    await eventually(lambda: all_settled(settled, 2))
    after = await snapshot(pool)
    assert [(row["state"], row["fence"]) for row in after["schedules"]] == [
        ("executing", fresh.fence)
    ]
    assert after["executions"] == []


def all_settled(settled: Settled, count: int) -> None:
    assert len(settled) == count
