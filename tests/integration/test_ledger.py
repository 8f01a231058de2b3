"""After every move the ledger adds up: what it plans is accepted, what it moves is not lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from handler_service.ledger import ledger
from shared.database import Connection, Pool
from shared.runs import moves
from shared.runs.lifecycle import LIFE, Delivery
from shared.runs.moves import Claim, DeadLetters, Edit, Head, NewJob, Occurrence, PassedOver
from tests.conftest import MakeExecutor
from tests.eventually import eventually
from tests.integration.test_moves import OTHER, attempt_of, claim_on, is_waiting, run_sql

HOUR = 3_600_000_000
RULE = '{"every_seconds": 3600, "anchor": "2026-01-01T00:00:00+00:00"}'


def a_job(*, recurs: bool = False, delivery: Delivery = Delivery.AT_LEAST_ONCE) -> NewJob:
    plain = NewJob(1, "http://x/", "POST", None, None, 5.0, 0.0, None, delivery)
    return plain._replace(recurrence=RULE) if recurs else plain


async def counted(connection: Connection) -> dict[str, Any]:
    found = await ledger(connection, application_id=1)
    assert found.pop("adds_up"), found
    return {place: runs for place, runs in found.items() if runs}


async def create(connection: Connection, job: NewJob) -> tuple[int, int]:
    [(job_id, instant)] = await moves.create(connection, [job])
    return job_id, instant


async def claimed(connection: Connection, make_executor: MakeExecutor, job: NewJob) -> Claim:
    await create(connection, job)
    [claim] = await claim_on(connection, await make_executor())
    return claim


async def test_what_is_created_triggered_and_armed_again_is_accepted(pool: Pool) -> None:
    async with pool.connection() as connection:
        job_id, _ = await create(connection, a_job())
        assert await counted(connection) == {"accepted": 1, "pending": 1}
        await moves.trigger(connection, job_id=job_id, application_id=1)
        assert await counted(connection) == {"accepted": 2, "pending": 2}
        again = Edit(["delay_seconds"], delay_seconds=5.0)
        named = {"job_id": job_id, "application_id": 1}
        assert not await moves.rearm(connection, **named, edit=again)
        assert await counted(connection) == {"accepted": 2, "pending": 2}
        await connection.execute(
            "with gone as (delete from schedules returning *) "
            "insert into executions (job_id, scheduled_for, attempt, state, finished_at) "
            "select job_id, scheduled_for, 1, 'done', now() from gone"
        )
        assert await moves.rearm(connection, **named, edit=again)
        assert await counted(connection) == {"accepted": 3, "pending": 1, "done": 2}


async def test_an_edit_a_pause_and_a_cancel_accept_nothing(pool: Pool) -> None:
    async with pool.connection() as connection:
        job_id, _ = await create(connection, a_job())
        edit = Edit(["delay_seconds"], delay_seconds=5.0)
        assert await moves.edit(connection, job_id=job_id, application_id=1, edit=edit)
        assert await counted(connection) == {"accepted": 1, "pending": 1}
        await connection.execute("update jobs set state = 'paused'")
        assert await moves.hold(connection, [job_id])
        assert await counted(connection) == {"accepted": 1, "pending": 1}
        await connection.execute("update jobs set state = 'active'")
        assert await moves.resume(connection, job_id=job_id)
        assert await counted(connection) == {"accepted": 1, "pending": 1}
        assert await moves.cancel(connection, job_id=job_id, application_id=1)
        assert await counted(connection) == {"accepted": 1, "cancelled": 1}


async def test_an_occurrence_accepts_the_one_after_it(pool: Pool) -> None:
    async with pool.connection() as connection:
        job_id, first = await create(connection, a_job(recurs=True))
        assert await counted(connection) == {"accepted": 1, "pending": 1}
        second = first + HOUR
        assert await moves.occur(connection, [Occurrence(job_id, first, second, 0.0)])
        assert await counted(connection) == {"accepted": 2, "pending": 2}
        assert not await moves.occur(connection, [Occurrence(job_id, first, second, 0.0)])
        head = Head(job_id, second, 0, 0, "active", {}, 0, True, 1)
        assert await moves.wait(connection, [head], seconds=1.0)
        assert await counted(connection) == {"accepted": 2, "pending": 2}
        assert await moves.occur(connection, [Occurrence(job_id, second, None, 0.0)])
        assert await counted(connection) == {"accepted": 2, "pending": 2}


@pytest.mark.parametrize("goes_on", [True, False])
async def test_what_is_passed_over_is_accepted_and_skipped(pool: Pool, *, goes_on: bool) -> None:
    async with pool.connection() as connection:
        job_id, first = await create(connection, a_job(recurs=True))
        passed = [first + number * HOUR for number in range(5)]
        following = first + 5 * HOUR if goes_on else None
        over = PassedOver(job_id, first, passed, following, 0.0, "missed")
        assert await moves.pass_over(connection, over)
        pending = {"pending": 1} if goes_on else {}
        assert await counted(connection) == {"accepted": 5 + goes_on, "skipped": 5, **pending}
        assert not await moves.pass_over(connection, over)
        assert (await counted(connection))["accepted"] == 5 + goes_on


async def test_of_a_job_that_is_ended_meanwhile_no_next_occurrence_is_accepted(
    pool: Pool,
) -> None:
    """A cancel may end the job between the look at its next occurrence and the move."""
    async with pool.connection() as connection, pool.connection() as ending:
        job_id, first = await create(connection, a_job(recurs=True))
        over = PassedOver(job_id, first, [first], first + HOUR, 0.0, "missed")
        async with ending.transaction():
            await ending.execute("update jobs set state = 'ended'")
            passing = asyncio.create_task(moves.pass_over(connection, over))
            await eventually(lambda: is_waiting(ending))
        assert await passing
        assert await counted(connection) == {"accepted": 1, "skipped": 1}


@pytest.mark.parametrize(
    ("move", "place"),
    [
        (moves.deliver, "done"),
        (moves.retry, "pending"),
        (moves.bury, "failed"),
        (moves.doubt, "uncertain"),
        (moves.skip, "skipped"),
        (moves.release, "pending"),
    ],
)
async def test_what_comes_of_a_claim_puts_the_run_in_one_place(
    pool: Pool, make_executor: MakeExecutor, move: Callable[..., Awaitable[Any]], place: str
) -> None:
    async with pool.connection() as connection:
        claim = await claimed(connection, make_executor, a_job())
        assert await counted(connection) == {"accepted": 1, "executing": 1}
        attempt = attempt_of(claim)._replace(error="it said so", retry_in_seconds=5.0)
        assert await move(connection, [claim if move is moves.release else attempt])
        assert await counted(connection) == {"accepted": 1, place: 1}
        if place in {"failed", "uncertain"}:
            assert await moves.replay(connection, DeadLetters(1), most=1)
            assert await counted(connection) == {"accepted": 1, "pending": 1}
            assert await moves.cancel(connection, job_id=claim.job_id, application_id=1)
            assert await counted(connection) == {"accepted": 1, "cancelled": 1}


@pytest.mark.parametrize(
    ("delivery", "spent", "due_ago", "is_marked", "place"),
    [
        (Delivery.AT_LEAST_ONCE, 0, 60, False, "pending"),
        (Delivery.AT_LEAST_ONCE, 5, 60, False, "failed"),
        (Delivery.AT_MOST_ONCE, 0, 60, False, "pending"),
        (Delivery.AT_MOST_ONCE, 0, 60, True, "uncertain"),
    ],
)
async def test_a_rescue_loses_no_run(
    pool: Pool,
    make_executor: MakeExecutor,
    delivery: Delivery,
    spent: int,
    due_ago: int,
    is_marked: bool,
    place: str,
) -> None:
    async with pool.connection() as connection:
        claim = await claimed(connection, make_executor, a_job(delivery=delivery))
        await run_sql(
            pool,
            f"update schedules set attempt = {spent}, fence = {spent + 1}, "
            f"due_at = due_at - interval '{due_ago} s', "
            f"marked_at = case when {is_marked} then now() end",
        )
        await run_sql(
            pool, "update executors set heartbeat_at = heartbeat_at - interval '30 seconds'"
        )
        assert await counted(connection) == {"accepted": 1, "executing": 1}
        assert any((await moves.rescue(connection, executor_id=OTHER)).values())
        assert await counted(connection) == {"accepted": 1, place: 1}
        assert claim.job_id


def test_every_move_is_tried_here() -> None:
    tried = {"create", "trigger", "rearm", "edit", "hold", "resume", "cancel", "occur", "wait"}
    tried |= {"pass_over", "claim", "deliver", "retry", "bury", "doubt", "skip", "release"}
    tried |= {*moves.RESCUES, "replay"}
    assert {move.name for move in LIFE} - tried == {"mark"}, "which moves a run nowhere"
