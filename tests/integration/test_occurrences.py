"""What becomes of the next occurrence of a job that recurs, and which one comes after it."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from executor_service.occur import (
    MISSED,
    OVERLAPS,
    PASSED_MAX,
    Early,
    NotActive,
    Waiting,
    decide,
    let_occur,
)
from shared.database import Pool
from shared.recurrence import CatchUp, Overlap, Recurrence
from shared.runs import moves
from shared.runs.lifecycle import Delivery
from shared.runs.moves import Attempt, Edit, Head, NewJob, Occurrence, PassedOver
from tests.conftest import MakeExecutor, MakeRun
from tests.integration.test_moves import claim_all, run_sql, snapshot

NOON = 1_795_608_000_000_000  # 2026-11-25T12:00:00Z
MINUTE = 60_000_000
PATIENCE = 30.0
MINUTELY = Recurrence(cron="* * * * *")


def a_head(
    rule: Recurrence = MINUTELY, *, overdue: float = 0.0, at: int = NOON, **changes: Any
) -> Head:
    """The occurrence of noon, looked at so many seconds after it."""
    plain = Head(
        1, at, at, at + int(overdue * 1e6), "active", json.loads(rule.document()), 0, False, 1
    )
    return plain._replace(**changes)


def test_an_occurrence_on_time_occurs_and_the_next_takes_its_place() -> None:
    for overdue in (-1.2, 0.0, 29.0):
        decision = decide(a_head(overdue=overdue), missed_after_seconds=PATIENCE)
        assert decision == Occurrence(1, NOON, NOON + MINUTE, 0.0)


@pytest.mark.parametrize(
    ("catch_up", "minutes", "passed", "next_minute"),
    [
        # Five minutes and a half late: those of noon to 12:05 are due.
        (CatchUp.ONE, 5.5, 5, 5),
        (CatchUp.NONE, 5.6, 6, 6),
        (CatchUp.NONE, 5.4, 5, 5),  # that of 12:05 is late, not missed
        (CatchUp.ALL, 99.5, 0, None),
        (CatchUp.ALL, 105.5, 6, 6),
        (CatchUp.ONE, 0.9, 0, None),  # there is no later one yet
        (CatchUp.NONE, 0.9, 1, 1),
    ],
)
def test_of_what_was_missed_as_much_is_passed_over_as_the_job_says(
    catch_up: CatchUp, minutes: float, passed: int, next_minute: int | None
) -> None:
    rule = Recurrence(cron="* * * * *", catch_up=catch_up)
    decision = decide(a_head(rule, overdue=minutes * 60), missed_after_seconds=PATIENCE)
    if next_minute is None:
        assert decision == Occurrence(1, NOON, NOON + MINUTE, 0.0)
        return
    instants = [NOON + n * MINUTE for n in range(passed)]
    assert decision == PassedOver(1, NOON, instants, NOON + next_minute * MINUTE, 0.0, MISSED)


def test_what_was_missed_for_long_is_passed_over_in_steps() -> None:
    decision = decide(a_head(overdue=86_400), missed_after_seconds=PATIENCE)
    assert isinstance(decision, PassedOver)
    assert len(decision.passed) == PASSED_MAX
    assert decision.next_for == NOON + PASSED_MAX * MINUTE


def test_the_last_of_what_was_missed_is_not_passed_over_when_nothing_comes_after_it() -> None:
    ends = datetime.fromtimestamp(NOON / 1e6, UTC) + timedelta(minutes=2)
    rule = Recurrence(cron="* * * * *", ends_at=ends)
    decision = decide(a_head(rule, overdue=3_600), missed_after_seconds=PATIENCE)
    assert decision == PassedOver(1, NOON, [NOON, NOON + MINUTE], NOON + 2 * MINUTE, 0.0, MISSED)
    last = a_head(rule, overdue=3_600, at=NOON + 2 * MINUTE)
    assert decide(last, missed_after_seconds=PATIENCE) == Occurrence(1, last.scheduled_for, None, 0)


def test_while_the_run_before_is_outstanding_an_occurrence_does_as_its_job_says() -> None:
    def decided(overlap: Overlap, *, is_busy: bool) -> object:
        rule = Recurrence(cron="* * * * *", overlap=overlap)
        return decide(a_head(rule, is_busy=is_busy), missed_after_seconds=PATIENCE)

    occurs = Occurrence(1, NOON, NOON + MINUTE, 0.0)
    assert decided(Overlap.ALLOW, is_busy=True) == occurs
    assert decided(Overlap.SKIP, is_busy=False) == occurs
    assert decided(Overlap.QUEUE, is_busy=False) == occurs._replace(queues=True)
    skipped = PassedOver(1, NOON, [NOON], NOON + MINUTE, 0.0, OVERLAPS)
    assert decided(Overlap.SKIP, is_busy=True) == skipped
    assert isinstance(decided(Overlap.QUEUE, is_busy=True), Waiting)


def test_whether_the_run_before_is_still_at_it_is_asked_when_the_occurrence_is_due() -> None:
    for overlap in (Overlap.SKIP, Overlap.QUEUE):
        rule = Recurrence(cron="* * * * *", overlap=overlap)
        ahead = a_head(rule, overdue=-0.5, is_busy=True)
        assert decide(ahead, missed_after_seconds=PATIENCE) == Early(ahead)


def test_an_occurrence_that_waited_for_a_run_was_not_missed() -> None:
    rule = Recurrence(cron="* * * * *", overlap=Overlap.QUEUE, catch_up=CatchUp.NONE)
    waits = a_head(rule, overdue=300, is_busy=True)
    assert decide(waits, missed_after_seconds=PATIENCE) == Waiting(waits)
    waited = a_head(rule, overdue=300, due_at=NOON + 299_000_000)
    occurs = Occurrence(1, NOON, NOON + MINUTE, 0.0, queues=True)
    assert decide(waited, missed_after_seconds=PATIENCE) == occurs
    left_alone = a_head(rule, overdue=300, due_at=NOON + 200_000_000)
    assert isinstance(decide(left_alone, missed_after_seconds=PATIENCE), PassedOver)


def test_a_job_that_has_run_as_often_as_it_may_has_no_next_occurrence() -> None:
    rule = Recurrence(cron="* * * * *", max_runs=3)

    def next_for(runs_begun: int) -> int | None:
        decision = decide(a_head(rule, runs_begun=runs_begun), missed_after_seconds=PATIENCE)
        assert isinstance(decision, Occurrence)
        return decision.next_for

    assert [next_for(begun) for begun in range(3)] == [NOON + MINUTE, NOON + MINUTE, None]


def test_jitter_is_counted_before_an_occurrence_is_missed() -> None:
    rule = Recurrence(cron="* * * * *", jitter_seconds=3_600)
    spread = rule.spread_seconds(1)
    assert spread > 120, "this test needs a job that is spread"
    for overdue, kind in ((spread + 29, Occurrence), (spread + 61, PassedOver)):
        decision = decide(a_head(rule, overdue=overdue), missed_after_seconds=PATIENCE)
        assert isinstance(decision, kind)
        assert decision.spread_seconds == spread


@pytest.mark.parametrize("state", ["paused", "ended"])
def test_what_its_owner_stopped_does_not_occur(state: str) -> None:
    decision = decide(a_head(job_state=state), missed_after_seconds=PATIENCE)
    assert isinstance(decision, NotActive)
    assert not decision.is_broken


@pytest.mark.parametrize("document", [{}, {"cron": "* * *"}, {"cron": 5}, {"rrule": "FREQ=NEVER"}])
def test_a_recurrence_that_cannot_be_reckoned_stops_its_job_and_no_other(
    document: dict[str, Any],
) -> None:
    decision = decide(a_head(recurrence=document), missed_after_seconds=PATIENCE)
    assert isinstance(decision, NotActive)
    assert decision.is_broken


MakeJob = Callable[..., Awaitable[int]]


@pytest.fixture
def make_recurring(pool: Pool) -> MakeJob:
    """Make a job whose next occurrence was so many seconds ago."""

    async def make(rule: Recurrence, *, overdue: float = 0.0) -> int:
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "select (extract(epoch from date_trunc('milliseconds', now())) * 1000000)::bigint"
            )
            row = await cursor.fetchone()
            assert row is not None
            job = NewJob(
                1, "http://127.0.0.1:9/", "POST", None, None, 5.0, 0.0, None,
                Delivery.AT_LEAST_ONCE,
                run_at=row[0] - int(overdue * 1e6),
                recurrence=rule.document(),
                jitter_seconds=rule.jitter_seconds or None,
                labels='{"a": "b"}',
            )  # fmt: skip
            [created] = await moves.create(connection, [job])
        return created.job_id

    return make


async def occur(pool: Pool) -> int:
    async with pool.connection() as connection, connection.transaction():
        occurred = await let_occur(
            connection, late_seconds=1e9, ahead_seconds=1.2, missed_after_seconds=30.0, most=100
        )
        return occurred.dealt_with


EVERY_HOUR = Recurrence(every_seconds=3_600, anchor=datetime(2026, 1, 1, tzinfo=UTC))


async def test_a_next_occurrence_is_not_claimed_before_the_one_after_it_is_made(
    pool: Pool, make_recurring: MakeJob, make_executor: MakeExecutor
) -> None:
    job_id = await make_recurring(EVERY_HOUR)
    executor_id = await make_executor()
    assert await claim_all(pool, executor_id) == []
    assert await occur(pool) == 1
    [claim] = await claim_all(pool, executor_id)
    assert (claim.job_id, claim.recurs, claim.instant) == (job_id, True, claim.scheduled_for)
    rows = (await snapshot(pool))["schedules"]
    assert sorted((row["is_next"], row["state"]) for row in rows) == [
        (False, "executing"),
        (True, "pending"),
    ]
    assert await occur(pool) == 0


async def test_a_crash_between_occurrence_and_commit_leaves_all_as_it_was(
    pool: Pool, make_recurring: MakeJob
) -> None:
    await make_recurring(EVERY_HOUR)
    before = await snapshot(pool)
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        occurred = await let_occur(
            connection, late_seconds=1e9, ahead_seconds=1.2, missed_after_seconds=30.0, most=100
        )
        assert occurred.dealt_with == 1
    assert await snapshot(pool) == before


async def test_two_executors_at_once_make_one_next_occurrence(
    pool: Pool, make_recurring: MakeJob
) -> None:
    await make_recurring(EVERY_HOUR)
    window = {
        "late_seconds": 1e9,
        "ahead_seconds": 1.2,
        "missed_after_seconds": 30.0,
        "most": 100,
    }
    async with pool.connection() as one, pool.connection() as other, one.transaction():
        assert (await let_occur(one, **window)).dealt_with == 1
        async with other.transaction():
            assert (await let_occur(other, **window)).dealt_with == 0
    assert len((await snapshot(pool))["schedules"]) == 2


async def test_an_occurrence_that_waits_is_not_looked_at_again_in_the_same_poll(
    pool: Pool, make_recurring: MakeJob, make_executor: MakeExecutor
) -> None:
    """A poll goes on until nothing is due about now: else it would go on for ever."""
    rule = Recurrence(
        every_seconds=3_600, anchor=datetime(2026, 1, 1, tzinfo=UTC), overlap=Overlap.QUEUE
    )
    job_id = await make_recurring(rule)
    async with pool.connection() as connection:
        assert await moves.trigger(connection, job_id=job_id, application_id=1)
    assert len(await claim_all(pool, await make_executor())) == 1
    assert await occur(pool) == 1
    assert await occur(pool) == 0
    [waiting] = [row for row in (await snapshot(pool))["schedules"] if row["is_next"]]
    assert waiting["state"] == "pending"


async def test_a_jittered_occurrence_is_late_from_its_own_place_on(
    pool: Pool, make_recurring: MakeJob, make_executor: MakeExecutor
) -> None:
    rule = Recurrence(
        every_seconds=3_600, anchor=datetime(2026, 1, 1, tzinfo=UTC), jitter_seconds=600
    )
    spread = rule.spread_seconds(1)
    assert await make_recurring(rule, overdue=spread) == 1, "its place in the jitter is now"
    assert await occur(pool) == 1
    [claim] = await claim_all(pool, await make_executor())
    assert claim.instant == pytest.approx(claim.scheduled_for + spread * 1e6, abs=1)
    [following] = [row for row in (await snapshot(pool))["schedules"] if row["is_next"]]
    due_at = datetime.fromisoformat(following["due_at"])
    assert due_at == following["scheduled_for"] + timedelta(seconds=spread)


async def test_a_paused_job_is_held_and_an_ended_one_is_cancelled_whatever_came_between(
    pool: Pool, make_recurring: MakeJob
) -> None:
    """A handler that dies between two steps leaves an occurrence of a job that is not active."""
    paused, ended = [await make_recurring(EVERY_HOUR) for _ in range(2)]
    await run_sql(pool, f"update jobs set state = 'paused' where id = {paused}")
    await run_sql(pool, f"update jobs set state = 'ended' where id = {ended}")
    assert await occur(pool) == 2
    after = await snapshot(pool)
    assert [(row["job_id"], row["due_at"]) for row in after["schedules"]] == [(paused, "infinity")]
    assert [(row["job_id"], row["state"]) for row in after["executions"]] == [(ended, "cancelled")]
    assert await occur(pool) == 0


async def test_a_job_that_was_paused_after_it_was_looked_at_does_not_occur(
    pool: Pool, make_recurring: MakeJob
) -> None:
    job_id = await make_recurring(EVERY_HOUR)
    [row] = (await snapshot(pool))["schedules"]
    instant = int(row["scheduled_for"].timestamp() * 1e6)
    await run_sql(pool, "update jobs set state = 'paused'")
    async with pool.connection() as connection:
        late = Occurrence(job_id, instant, instant + 1, 0.0)
        assert await moves.occur(connection, [late]) == []
    assert (await snapshot(pool))["schedules"] == [row]


async def test_what_was_missed_is_in_history_and_the_ledger_adds_up(
    pool: Pool, make_recurring: MakeJob, make_executor: MakeExecutor
) -> None:
    rule = Recurrence(every_seconds=60, anchor=datetime(2026, 1, 1, tzinfo=UTC))
    await make_recurring(rule, overdue=3_600)
    assert await occur(pool) == 1
    assert await occur(pool) == 1
    assert len(await claim_all(pool, await make_executor())) == 1
    after = await snapshot(pool)
    skipped = [row for row in after["executions"] if row["state"] == "skipped"]
    assert len(skipped) in {59, 60}
    assert {row["error"] for row in skipped} == {MISSED}
    async with pool.connection() as connection:
        cursor = await connection.execute("select runs_made from jobs")
        assert await cursor.fetchone() == (len(skipped) + 2,)
        labels = await connection.execute(
            "select run_at = (select run_at from jobs) from job_labels"
        )
        assert await labels.fetchone() == (True,)


async def test_a_broken_recurrence_pauses_its_job_and_others_go_on(
    pool: Pool, make_recurring: MakeJob
) -> None:
    broken, sound = [await make_recurring(EVERY_HOUR) for _ in range(2)]
    await run_sql(pool, f"update jobs set recurrence = '{{}}' where id = {broken}")
    assert await occur(pool) == 2
    after = await snapshot(pool)
    held = {row["job_id"] for row in after["schedules"] if row["due_at"] == "infinity"}
    assert held == {broken}
    assert len([row for row in after["schedules"] if row["job_id"] == sound]) == 2


async def test_an_occurrence_that_was_made_is_not_made_again_by_a_change(
    pool: Pool, make_recurring: MakeJob
) -> None:
    job_id = await make_recurring(EVERY_HOUR)
    [before] = (await snapshot(pool))["schedules"]
    made_at = round(before["scheduled_for"].timestamp() * 1e6)
    assert await occur(pool) == 1
    async with pool.connection() as connection:
        await connection.execute("delete from schedules where not is_next")  # it has ended
        for instant, expected in ((made_at, None), (made_at + 1_000, made_at + 1_000)):
            edit = Edit(["run_at", "recurrence"], run_at=instant, recurrence=EVERY_HOUR.document())
            changed = await moves.edit(connection, job_id=job_id, application_id=1, edit=edit)
            assert changed == expected


@pytest.mark.parametrize("move", ["retry", "release", "rescue", "rescue_unsent"])
async def test_a_run_of_a_paused_job_goes_back_to_wait_until_it_is_resumed(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor, move: str
) -> None:
    """In the rescue of what is certainly unsent, the run was due after the lease's end."""
    job_id = await make_run(due_in=100.0 if move == "rescue_unsent" else -120.0)
    executor_id = await make_executor(claim_ahead_seconds=200.0)
    async with pool.connection() as connection:
        claims = await moves.claim(
            connection,
            executor_id=str(executor_id),
            late_seconds=1e9,
            ahead_seconds=200.0,
            most=9,
        )
        await connection.execute("update jobs set state = 'paused'")
        await connection.execute("update executors set heartbeat_at = now() - interval '1 minute'")
        if move == "retry":
            failed = Attempt(claims[0], 0.0, 0.0, 0.0, error="x", retry_in_seconds=1.0)
            assert await moves.retry(connection, [failed]) == [job_id]
        elif move == "release":
            assert await moves.release(connection, claims) == [job_id]
        else:
            moved = await moves.rescue(connection, executor_id=str(await make_executor()))
            assert [run.job_id for run in moved[move]] == [job_id]
        cursor = await connection.execute("select due_at::text from schedules")
        assert await cursor.fetchall() == [("infinity",)]
        assert not await moves.resume(connection, job_id=job_id), "it is paused"
        await connection.execute("update jobs set state = 'active'")
        assert await moves.resume(connection, job_id=job_id)
