"""State × move: every move from every state, on real rows. LIFE, CHECKs and SQL must agree."""

import asyncio
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest

from shared.database import Pool
from shared.runs import moves
from shared.runs.lifecycle import LIFE, OUTSTANDING, Delivery, Move, RunState
from shared.runs.model import metadata
from shared.runs.moves import (
    Attempt,
    Claim,
    DeadLetters,
    Edit,
    Head,
    Occurrence,
    PassedOver,
    Run,
)
from shared.runs.policy import NO_RETRY, STANDARD_POLICY
from tests.claims import a_claim
from tests.conftest import MakeExecutor, MakeRun
from tests.eventually import eventually

FENCE = 6
OTHER = str(UUID(int=2))  # an executor that rescues


class Situation(NamedTuple):
    """Where a run stands when a move is tried under a claim with FENCE."""

    name: str
    state: RunState | None
    fence: int = FENCE


SITUATIONS = (
    Situation("pending", RunState.PENDING),
    Situation("executing under this claim", RunState.EXECUTING),
    Situation("executing under a later claim", RunState.EXECUTING, FENCE + 1),
    Situation("executing under an earlier claim", RunState.EXECUTING, FENCE - 1),
    *[Situation(f"ended {state}", state) for state in RunState if state not in OUTSTANDING],
    Situation("unknown", None),
)
FENCED = {"mark", "deliver", "retry", "bury", "doubt", "skip", "release"}
DAILY = '{"every_seconds": 86400}'


class Prepared(NamedTuple):
    """The run that a move is meant for."""

    due_in: float = 0.0
    attempt: int = 1
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    is_marked: bool = False
    is_next: bool = False
    is_held: bool = False
    job_state: str = "active"


NEXT = Prepared(attempt=0, is_next=True)
# What lies longer back than its executor's last heartbeat may have been sent.
PREPARED = {
    "edit": Prepared(attempt=0),
    "hold": Prepared(job_state="paused"),
    "resume": Prepared(is_held=True),
    "occur": NEXT,
    "wait": NEXT,
    "pass_over": NEXT,
    "mark": Prepared(delivery=Delivery.AT_MOST_ONCE),
    "doubt": Prepared(delivery=Delivery.AT_MOST_ONCE, is_marked=True),
    "rescue": Prepared(due_in=-60),
    "rescue_unsent": Prepared(due_in=0),
    "doubt_abandoned": Prepared(due_in=-60, delivery=Delivery.AT_MOST_ONCE, is_marked=True),
    "bury_abandoned": Prepared(due_in=-60, attempt=5),
}


def may_move(move: Move, situation: Situation) -> bool:
    """What LIFE says, and the fence for the moves that are made under a claim."""
    holds_claim = move.name not in FENCED or situation.fence == FENCE
    return situation.state in move.sources and holds_claim


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
@pytest.mark.parametrize("move", [move for move in LIFE if move.sources], ids=lambda m: m.name)
async def test_a_move_moves_a_run_from_its_source_and_from_nowhere_else(
    move: Move,
    situation: Situation,
    pool: Pool,
    make_run: MakeRun,
    make_executor: MakeExecutor,
) -> None:
    prepared = PREPARED.get(move.name, Prepared())
    holder = await make_executor(silent_seconds=30.0 if move.name in moves.RESCUES else 0.0)
    is_executing = situation.state == RunState.EXECUTING
    job_id = await make_run(
        due_in=prepared.due_in,
        state="executing" if is_executing else "pending",
        executor_id=holder if is_executing else None,
        fence=situation.fence,
        attempt=prepared.attempt,
        delivery=prepared.delivery,
    )
    if not is_executing and prepared.is_next:
        await run_sql(pool, f"update jobs set recurrence = '{DAILY}'")
        await run_sql(pool, "update schedules set is_next = true")
    if prepared.is_held:
        await run_sql(pool, "update schedules set due_at = 'infinity'")
    await run_sql(pool, f"update jobs set state = '{prepared.job_state}'")
    if is_executing and prepared.is_marked:
        await run_sql(pool, "update schedules set marked_at = now()")
    if situation.state not in OUTSTANDING:
        await run_sql(pool, "delete from schedules")
        if situation.state is not None:
            await run_sql(
                pool,
                "insert into executions (job_id, scheduled_for, finished_at, attempt, state) "
                f"select id, run_at, now(), 1, '{situation.state}' from jobs",
            )
    before = await snapshot(pool)

    moved = await make(move, pool, await claim_of(pool, job_id, holder))

    after = await snapshot(pool)
    if not may_move(move, situation):
        assert not moved
        assert after == before
        return
    assert moved
    if move.target in OUTSTANDING:
        assert [row["state"] for row in after["schedules"]] == [move.target.value]
        assert (after["schedules"][0]["executor_id"] is None) == (move.target == RunState.PENDING)
        assert (after["schedules"][0]["marked_at"] is None) == (move.name != "mark")
    else:
        assert after["schedules"] == []
        assert [row["state"] for row in after["executions"]] == [move.target.value]
        assert (
            move.name in {"cancel", "pass_over"}
            or after["executions"][0]["fence"] == situation.fence
        )


@pytest.mark.parametrize(
    ("name", "spoiled"),
    [
        ("hold", "update jobs set state = 'active'"),
        ("resume", "update schedules set due_at = now() + interval '1 hour'"),
        ("occur", "update jobs set state = 'paused'"),
        ("occur", "update schedules set is_next = false"),
        ("wait", "update schedules set is_next = false"),
        ("pass_over", "update schedules set is_next = false"),
        ("trigger", "update jobs set state = 'ended'"),
        ("trigger", "update jobs set application_id = 2"),
        ("rearm", "update jobs set state = 'ended'; delete from schedules"),
        ("rearm", "update jobs set application_id = 2; delete from schedules"),
        ("rearm", "update jobs set state = 'active'"),
    ],
)
async def test_a_job_that_a_move_is_not_meant_for_is_left_alone(
    name: str, spoiled: str, pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    job_id = await make_run(due_in=60)
    prepared = PREPARED.get(name, Prepared())
    await run_sql(pool, f"update jobs set state = '{prepared.job_state}', recurrence = '{DAILY}'")
    await run_sql(pool, f"update schedules set is_next = {prepared.is_next}")
    if prepared.is_held:
        await run_sql(pool, "update schedules set due_at = 'infinity'")
    await run_sql(
        pool,
        "insert into applications (id, name, signing_secret) overriding system value "
        "values (2, 'other', sha256(''))",
    )
    for statement in spoiled.split(";"):
        await run_sql(pool, statement)
    before = await snapshot(pool)
    claim = await claim_of(pool, job_id, await make_executor())
    assert not await make(Move(name, (), RunState.PENDING), pool, claim)
    assert await snapshot(pool) == before


async def test_what_an_at_most_once_run_may_have_been_sent_is_never_sent_again(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    """Marked, it is uncertain, though it were due after the lease; unmarked, it is unsent."""
    lapsed = await make_executor(silent_seconds=10)
    held = {"state": "executing", "executor_id": lapsed, "delivery": Delivery.AT_MOST_ONCE}
    marked = [await make_run(due_in=due_in, **held) for due_in in (-8, 0)]
    await run_sql(pool, "update schedules set marked_at = now()")
    unmarked = [await make_run(due_in=due_in, **held) for due_in in (-8, 0)]
    spent = await make_run(due_in=-8, attempt=4, **held)
    async with pool.connection() as connection:
        moved = await moves.rescue(connection, executor_id=OTHER)
    assert counts(moved) == {
        "rescue_unsent": 3,
        "doubt_abandoned": 2,
        "bury_abandoned": 0,
        "rescue": 0,
    }
    after = await snapshot(pool)
    attempts = {row["job_id"]: row["attempt"] for row in after["schedules"]}
    assert attempts == dict.fromkeys(unmarked, 0) | {spent: 4}
    ended = {row["job_id"]: (row["state"], row["attempt"]) for row in after["executions"]}
    assert ended == dict.fromkeys(marked, ("uncertain", 1))


async def test_a_run_that_is_marked_while_it_is_rescued_is_in_doubt_and_not_stranded(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    """An executor that comes to life marks a run at the very moment when others give it up."""
    lapsed = await make_executor(silent_seconds=10)
    job_id = await make_run(
        state="executing", executor_id=lapsed, fence=FENCE, delivery=Delivery.AT_MOST_ONCE
    )
    claim = await claim_of(pool, job_id, lapsed)
    async with pool.connection() as marking, pool.connection() as rescuing:
        async with marking.transaction():
            assert await moves.mark(marking, [claim])
            rescue = asyncio.create_task(moves.rescue(rescuing, executor_id=OTHER))
            await eventually(lambda: is_waiting(marking))
        assert len((await rescue)["doubt_abandoned"]) == 1
    assert [row["state"] for row in (await snapshot(pool))["executions"]] == ["uncertain"]


async def test_a_policy_says_how_often_an_abandoned_run_is_tried(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    lapsed = await make_executor(silent_seconds=10)
    held = {"state": "executing", "executor_id": lapsed, "due_in": -8}
    once = await make_run(retry=NO_RETRY.document(), **held)
    twice = await make_run(retry=NO_RETRY.document(), attempt=1, **held)
    often = await make_run(retry=STANDARD_POLICY.document(), attempt=9, **held)
    last = await make_run(retry=STANDARD_POLICY.document(), attempt=10, **held)
    forgiven = await make_run(attempt=6, **held)
    await run_sql(pool, f"update schedules set attempts_forgiven = 5 where job_id = {forgiven}")
    async with pool.connection() as connection:
        await moves.rescue(connection, executor_id=OTHER)
    after = await snapshot(pool)
    # An abandoned last attempt may never have been sent: at least once owes it one more.
    goes_on = {once, often, forgiven}
    assert {row["job_id"] for row in after["schedules"]} == goes_on
    ended = {row["job_id"]: row["state"] for row in after["executions"]}
    assert ended == dict.fromkeys(goes_on, "abandoned") | {twice: "failed", last: "failed"}


async def test_a_replay_goes_on_where_the_dead_letter_ended(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    """Its attempts are counted on, its policy starts anew, and no earlier claim fits it."""
    first = await make_executor()
    job_id = await make_run(attempt=4, fence=7)
    [stale] = await claim_all(pool, first)
    async with pool.connection() as connection:
        assert await moves.bury(connection, [attempt_of(stale)]) == [job_id]
        letters = DeadLetters(application_id=1)
        assert len(await moves.replay(connection, letters, most=10)) == 1
        assert len(await moves.replay(connection, letters, most=10)) == 0
    [fresh] = await claim_all(pool, first)
    assert (fresh.scheduled_for, fresh.attempt, fresh.fence) == (stale.scheduled_for, 6, 9)
    assert (fresh.attempts_forgiven, fresh.age_from > stale.age_from) == (5, True)
    async with pool.connection() as connection:
        assert await moves.bury(connection, [attempt_of(stale)]) == []
        assert await moves.deliver(connection, [attempt_of(fresh)]) == [job_id]
    assert [row["state"] for row in (await snapshot(pool))["executions"]] == ["failed", "done"]


async def test_of_replays_at_once_one_takes_the_letter_and_the_other_waits_for_nothing(
    pool: Pool, make_run: MakeRun
) -> None:
    await make_run()
    await run_sql(pool, "delete from schedules")
    await run_sql(
        pool,
        "insert into executions (job_id, scheduled_for, finished_at, attempt, state) "
        "select id, run_at, now(), 1, 'failed' from jobs",
    )
    async with pool.connection() as one, pool.connection() as other:
        await other.execute("set lock_timeout = '1s'")
        async with one.transaction():
            assert len(await moves.replay(one, DeadLetters(1), most=5)) == 1
            assert len(await moves.replay(other, DeadLetters(1), most=5)) == 0
        await other.execute("reset lock_timeout")
    assert len((await snapshot(pool))["schedules"]) == 1


async def test_a_replay_takes_what_fits_and_leaves_the_rest(pool: Pool, make_run: MakeRun) -> None:
    urls = (
        "http://One.example/a",
        "https://one.example:8443/b",
        "http://[2606::1]:80/c",
        "http://two/",
    )
    ids = [await make_run(url=url) for url in urls]
    await run_sql(pool, "delete from schedules")
    await run_sql(
        pool,
        "insert into executions (job_id, scheduled_for, finished_at, attempt, state) "
        "select id, run_at, to_timestamp(id), 1, "
        f"case when id = {ids[3]} then 'uncertain' else 'failed' end from jobs",
    )
    fits = {
        DeadLetters(2): [],
        DeadLetters(1, host="one.example"): ids[:2],
        DeadLetters(1, host="[2606::1]"): [ids[2]],
        DeadLetters(1, state="uncertain"): [ids[3]],
        DeadLetters(1, job_id=ids[0]): [ids[0]],
        DeadLetters(1, scheduled_for_us=1): [],
        DeadLetters(1, finished_from=float(ids[1]), finished_to=float(ids[3])): ids[1:3],
        DeadLetters(1): ids,
    }
    for letters, expected in fits.items():
        async with pool.connection() as connection, connection.transaction(force_rollback=True):
            assert len(await moves.replay(connection, letters, most=10)) == len(expected)
            cursor = await connection.execute("select job_id from schedules order by 1")
            assert [row[0] for row in await cursor.fetchall()] == expected, letters
    await run_sql(pool, f"update jobs set state = 'ended' where id = {ids[0]}")
    async with pool.connection() as connection:
        assert len(await moves.replay(connection, DeadLetters(1), most=2)) == 2
        assert len(await moves.replay(connection, DeadLetters(1), most=2)) == 1


async def test_an_edit_without_a_new_delay_keeps_the_instant_and_changes_only_what_it_names(
    pool: Pool, make_run: MakeRun
) -> None:
    job_id = await make_run(due_in=60, payload=b"kept", delivery=Delivery.AT_MOST_ONCE)
    [before] = (await snapshot(pool))["schedules"]
    async with pool.connection() as connection:
        edit = Edit(["url", "payload"], url="http://new/", payload=None)
        assert await moves.edit(connection, job_id=job_id, application_id=1, edit=edit)
        assert not await moves.edit(connection, job_id=job_id, application_id=2, edit=edit)
        cursor = await connection.execute("select url, payload, delivery, method from jobs")
        assert await cursor.fetchone() == ("http://new/", None, "at_most_once", "POST")
    assert (await snapshot(pool))["schedules"] == [before]


async def test_an_edit_with_a_delay_counts_from_now(pool: Pool, make_run: MakeRun) -> None:
    job_id = await make_run(due_in=60)
    async with pool.connection() as connection:
        edit = Edit(["delay_seconds"], delay_seconds=600.0)
        assert await moves.edit(connection, job_id=job_id, application_id=1, edit=edit)
        cursor = await connection.execute(
            "select due_at = scheduled_for and due_at = run_at, "
            "extract(epoch from due_at - now())::float8 from schedules join jobs on id = job_id"
        )
        row = await cursor.fetchone()
    assert row is not None
    assert row[0]
    assert 590 < row[1] <= 600


async def test_a_run_of_another_application_cannot_be_cancelled(
    pool: Pool, make_run: MakeRun
) -> None:
    job_id = await make_run(due_in=60)
    async with pool.connection() as connection:
        assert not await moves.cancel(connection, job_id=job_id, application_id=2)
        assert await moves.cancel(connection, job_id=job_id, application_id=1)


async def test_what_was_tried_cannot_be_edited(pool: Pool, make_run: MakeRun) -> None:
    job_id = await make_run(attempt=1, fence=1)
    async with pool.connection() as connection:
        edit = Edit(["url"], url="http://new/")
        assert not await moves.edit(connection, job_id=job_id, application_id=1, edit=edit)


@pytest.mark.parametrize("change", ["edit", "cancel"])
async def test_a_claim_that_began_before_a_change_does_not_fire_what_was_before(
    change: str, pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    """Its snapshot is older than the change, and it gets to the row when the change is made."""
    job_id = await make_run(url="http://old/")
    executor_id = await make_executor()
    async with pool.connection() as changing, pool.connection() as claiming:
        async with pool.connection() as holder, holder.transaction():
            await holder.execute("select from executors for update")
            claim = asyncio.create_task(claim_on(claiming, executor_id))
            await eventually(lambda: is_waiting(changing))
            if change == "edit":
                edit = Edit(["url"], url="http://new/")
                assert await moves.edit(changing, job_id=job_id, application_id=1, edit=edit)
            else:
                assert await moves.cancel(changing, job_id=job_id, application_id=1)
        assert await claim == []
        claimed = [claim.url for claim in await claim_on(claiming, executor_id)]
    assert claimed == (["http://new/"] if change == "edit" else [])


async def test_what_is_pending_of_an_active_job_is_not_held(pool: Pool, make_run: MakeRun) -> None:
    job_id = await make_run()
    before = await snapshot(pool)
    async with pool.connection() as connection:
        assert not await moves.hold(connection, [job_id])
    assert await snapshot(pool) == before


async def test_what_is_not_held_is_not_resumed(pool: Pool, make_run: MakeRun) -> None:
    """A run that waits for its next attempt keeps waiting."""
    job_id = await make_run(due_in=60, attempt=1, fence=1)
    before = await snapshot(pool)
    async with pool.connection() as connection:
        assert not await moves.resume(connection, job_id=job_id)
    assert await snapshot(pool) == before


async def is_waiting(connection: psycopg.AsyncConnection[Any]) -> None:
    cursor = await connection.execute(
        "select from pg_stat_activity where wait_event_type = 'Lock' "
        "and datname = current_database()"
    )
    assert cursor.rowcount == 1


async def test_a_claim_grows_the_fence_so_that_late_results_are_refused(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    first, second = await make_executor(), await make_executor()
    job_id = await make_run()
    [stale] = await claim_all(pool, first)
    async with pool.connection() as connection:
        await moves.release(connection, [stale])
    [fresh] = await claim_all(pool, second)
    assert (stale.job_id, fresh.job_id) == (job_id, job_id)
    assert fresh.fence == stale.fence + 1

    async with pool.connection() as connection:
        assert await moves.deliver(connection, [attempt_of(stale)]) == []
        assert await moves.deliver(connection, [attempt_of(fresh)]) == [job_id]
        assert await moves.deliver(connection, [attempt_of(fresh)]) == []
    assert len((await snapshot(pool))["executions"]) == 1


async def test_an_executor_without_a_living_lease_claims_nothing(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    await make_run()
    lapsed = await make_executor(silent_seconds=6)
    assert await claim_all(pool, lapsed) == []
    assert await claim_all(pool, UUID(int=1)) == []
    assert len(await claim_all(pool, await make_executor())) == 1


async def test_a_claim_takes_the_earliest_first_and_no_more_than_asked(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    late, early, _later = [await make_run(due_in=seconds) for seconds in (0.5, -1.0, 3600.0)]
    executor_id = await make_executor()
    assert [claim.job_id for claim in await claim_all(pool, executor_id, most=1)] == [early]
    assert [claim.job_id for claim in await claim_all(pool, executor_id, most=5)] == [late]
    assert await claim_all(pool, executor_id) == []


async def test_two_claims_at_once_share_the_runs_and_take_none_twice(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    ids = [await make_run() for _ in range(20)]
    first, second = await make_executor(), await make_executor()
    async with pool.connection() as one, pool.connection() as other, one.transaction():
        taken = await claim_on(one, first, most=10)
        rest = await claim_on(other, second, most=20)  # does not wait for the open transaction
    assert sorted(claim.job_id for claim in taken + rest) == sorted(ids)


async def test_rescue_takes_from_the_lapsed_and_leaves_the_living_alone(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    living, lapsed = await make_executor(), await make_executor(silent_seconds=10)
    kinds: dict[str, dict[str, Any]] = {
        "sent": {"due_in": -8},
        "unsent": {"due_in": 0},
        "last": {"due_in": -8, "attempt": 5},
        "marked": {"due_in": -8, "delivery": Delivery.AT_MOST_ONCE},
        "unmarked": {"due_in": -8, "delivery": Delivery.AT_MOST_ONCE},
    }
    kept, taken = [
        {
            kind: await make_run(state="executing", executor_id=holder, **options)
            for kind, options in kinds.items()
        }
        for holder in (living, lapsed)
    ]
    marked = (kept["marked"], taken["marked"])
    await run_sql(pool, f"update schedules set marked_at = now() where job_id in {marked}")
    before = (await snapshot(pool))["schedules"]

    async with pool.connection() as connection:
        moved = await moves.rescue(connection, executor_id=OTHER)
        again = await moves.rescue(connection, executor_id=OTHER)
    assert counts(moved) == {
        "rescue_unsent": 2,
        "doubt_abandoned": 1,
        "bury_abandoned": 1,
        "rescue": 1,
    }
    assert again == {}
    after = await snapshot(pool)
    held = [row for row in after["schedules"] if row["job_id"] in kept.values()]
    assert held == [row for row in before if row["job_id"] in kept.values()]
    names = {job_id: kind for kind, job_id in taken.items()}
    runs = {
        names[row["job_id"]]: (row["state"], row["attempt"])
        for row in after["schedules"]
        if row["job_id"] in names
    }
    assert runs == {"sent": ("pending", 1), "unsent": ("pending", 0), "unmarked": ("pending", 0)}
    history = {names[row["job_id"]]: (row["state"], row["attempt"]) for row in after["executions"]}
    assert history == {"sent": ("abandoned", 1), "last": ("failed", 6), "marked": ("uncertain", 1)}
    assert await executors(pool) == {living}


async def test_what_executes_under_nobody_is_rescued_when_it_is_due_and_never_as_unsent(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    """No executor of that name is on the list: when its lease ended, nobody knows."""
    living = await make_executor()
    orphan = {"state": "executing", "executor_id": UUID(int=9)}
    ahead = await make_run(due_in=60, **orphan)
    kept = await make_run(due_in=-1, state="executing", executor_id=living)
    async with pool.connection() as connection:
        assert await moves.list_orphans(connection) == 0
        sent = await make_run(due_in=-1, **orphan)
        marked = await make_run(due_in=-1, delivery=Delivery.AT_MOST_ONCE, **orphan)
        await run_sql(pool, f"update schedules set marked_at = now() where job_id = {marked}")
        before = (await snapshot(pool))["schedules"]
        assert await moves.list_orphans(connection) == 1
        assert await moves.list_orphans(connection) == 0
        moved = await moves.rescue(connection, executor_id=OTHER)
        assert counts(moved) == dict.fromkeys(moves.RESCUES, 0) | {
            "doubt_abandoned": 1,
            "rescue": 1,
        }
        assert await moves.list_orphans(connection) == 0
    assert await executors(pool) == {living}
    after = await snapshot(pool)
    untouched = [row for row in before if row["job_id"] in {ahead, kept}]
    assert [row for row in after["schedules"] if row["job_id"] != sent] == untouched
    [retried] = [row for row in after["schedules"] if row["job_id"] == sent]
    assert (retried["state"], retried["attempt"]) == ("pending", 1)
    ended = {row["job_id"]: row["state"] for row in after["executions"]}
    assert ended == {sent: "abandoned", marked: "uncertain"}


async def test_an_executor_never_rescues_itself(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    lapsed = await make_executor(silent_seconds=10)
    await make_run(due_in=-8, state="executing", executor_id=lapsed)
    async with pool.connection() as connection:
        moved = await moves.rescue(connection, executor_id=str(lapsed))
    assert moved == {}


async def test_a_rescue_goes_by_the_settings_of_the_lapsed_and_not_by_our_own(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    """One that claimed far ahead leaves nothing behind; one with a longer lease is still alive."""
    far = await make_executor(silent_seconds=10, claim_ahead_seconds=60)
    patient = await make_executor(silent_seconds=10, lease_seconds=30)
    ahead = await make_run(due_in=40, state="executing", executor_id=far)
    kept = await make_run(due_in=-5, state="executing", executor_id=patient)
    async with pool.connection() as connection:
        moved = await moves.rescue(connection, executor_id=OTHER)
    assert counts(moved) == dict.fromkeys(moves.RESCUES, 0) | {"rescue_unsent": 1}
    states = {row["job_id"]: row["state"] for row in (await snapshot(pool))["schedules"]}
    assert states == {ahead: "pending", kept: "executing"}
    assert await executors(pool) == {patient}


async def test_a_claim_waits_for_nobody_but_a_rescue_waits_for_a_claim(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    """A claim under way holds its executor's row, so that a rescue cannot forget the claimer."""
    executor_id = await make_executor()
    await make_run()
    async with pool.connection() as claiming, pool.connection() as other:
        async with claiming.transaction():
            assert await claim_on(claiming, executor_id)
            await other.execute("update executors set heartbeat_at = now() - interval '1 hour'")
            assert await moves.rescue(other, executor_id=OTHER) == {}
        moved = await moves.rescue(other, executor_id=OTHER)
        assert sum(counts(moved).values()) == 1


async def test_an_executor_that_renews_while_it_is_rescued_finds_itself_forgotten(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    """Either it renews first and keeps all, or it is rescued and its heartbeat finds no row."""
    lapsed = await make_executor(silent_seconds=10)
    await make_run(due_in=-8, state="executing", executor_id=lapsed)
    async with pool.connection() as rescuer, pool.connection() as other:
        async with rescuer.transaction():
            await rescuer.execute(moves.SQL["lapsed"], {"executor_id": OTHER})
            await other.execute("set lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await other.execute("update executors set heartbeat_at = now()")
        await moves.rescue(rescuer, executor_id=OTHER)
        cursor = await other.execute("update executors set heartbeat_at = now()")
        assert cursor.rowcount == 0


@pytest.mark.parametrize(
    "row",
    [
        "state = 'running'",
        "state = 'executing'",  # held by nobody
        "executor_id = gen_random_uuid()",  # held, yet pending
        "attempt = 1",  # an attempt without a claim
        "attempt = -1",
        "marked_at = now()",  # about to be sent, by nobody
        "attempts_forgiven = 1",  # more than were made
    ],
)
async def test_the_table_refuses_a_run_that_cannot_be(
    row: str, pool: Pool, make_run: MakeRun
) -> None:
    await make_run()
    with pytest.raises(psycopg.errors.CheckViolation):
        await run_sql(pool, f"update schedules set {row}")


async def test_a_run_is_planned_once_for_an_instant(pool: Pool, make_run: MakeRun) -> None:
    await make_run()
    with pytest.raises(psycopg.errors.UniqueViolation):
        await run_sql(
            pool,
            "insert into schedules (job_id, scheduled_for, due_at) "
            "select job_id, scheduled_for, now() from schedules",
        )


async def make(  # noqa: C901, PLR0911, PLR0912  # one per move
    move: Move, pool: Pool, claim: Claim
) -> bool:
    """Try a move under a claim; answer whether it moved anything."""
    async with pool.connection() as connection:
        match move.name:
            case "claim":
                return bool(await claim_on(connection, claim.executor_id))
            case "cancel":
                return bool(await moves.cancel(connection, job_id=claim.job_id, application_id=1))
            case "edit":
                edit = Edit(["url"], url="http://new/")
                return bool(
                    await moves.edit(connection, job_id=claim.job_id, application_id=1, edit=edit)
                )
            case "hold":
                return bool(await moves.hold(connection, [claim.job_id]))
            case "resume":
                return await moves.resume(connection, job_id=claim.job_id)
            case "occur":
                occurrence = Occurrence(claim.job_id, claim.scheduled_for, None, 0.0)
                return bool(await moves.occur(connection, [occurrence]))
            case "wait":
                head = Head(claim.job_id, claim.scheduled_for, 0, 0, "active", {}, 0, True, 1)
                return bool(await moves.wait(connection, [head], seconds=1.0))
            case "pass_over":
                passed = [claim.scheduled_for]
                over = PassedOver(claim.job_id, claim.scheduled_for, passed, None, 0.0, "missed")
                return await moves.pass_over(connection, over)
            case "trigger":
                return bool(await moves.trigger(connection, job_id=claim.job_id, application_id=1))
            case "rearm":
                edit = Edit(["delay_seconds"], delay_seconds=60.0)
                return await moves.rearm(
                    connection, job_id=claim.job_id, application_id=1, edit=edit
                )
            case "skip":
                return bool(await moves.skip(connection, [attempt_of(claim)]))
            case "replay":
                return bool(await moves.replay(connection, DeadLetters(1), most=10))
            case "mark":
                return (claim.job_id, claim.scheduled_for) in await moves.mark(connection, [claim])
            case "doubt":
                return bool(await moves.doubt(connection, [attempt_of(claim)]))
            case "release":
                return bool(await moves.release(connection, [claim]))
            case "deliver":
                return bool(await moves.deliver(connection, [attempt_of(claim)]))
            case "bury":
                return bool(await moves.bury(connection, [attempt_of(claim)]))
            case "retry":
                attempt = attempt_of(claim)._replace(error="status", retry_in_seconds=5.0)
                return bool(await moves.retry(connection, [attempt]))
            case _:
                return bool((await moves.rescue(connection, executor_id=OTHER)).get(move.name))


def counts(moved: dict[str, list[Run]]) -> dict[str, int]:
    return {name: len(runs) for name, runs in moved.items()}


async def claim_on(
    connection: psycopg.AsyncConnection[Any], executor_id: UUID | str, *, most: int = 100
) -> list[Claim]:
    return await moves.claim(
        connection,
        executor_id=str(executor_id),
        late_seconds=3600,
        ahead_seconds=1.2,
        most=most,
    )


async def claim_all(pool: Pool, executor_id: UUID, *, most: int = 100) -> list[Claim]:
    async with pool.connection() as connection:
        return await claim_on(connection, executor_id, most=most)


async def claim_of(pool: Pool, job_id: int, executor_id: UUID) -> Claim:
    """The claim with FENCE that an executor believes to hold on a job's run."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "select (extract(epoch from run_at) * 1000000)::bigint from jobs where id = %s",
            (job_id,),
        )
        row = await cursor.fetchone()
    assert row is not None
    return a_claim(
        job_id,
        scheduled_for=row[0],
        due_at=row[0],
        fence=FENCE,
        attempt=2,
        executor_id=str(executor_id),
    )


def attempt_of(claim: Claim) -> Attempt:
    moment = claim.due_at / 1e6
    return Attempt(claim, moment, moment, lateness_ms=1.0, http_status=204)


async def snapshot(pool: Pool) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {}
    async with pool.connection() as connection:
        for table in ("schedules", "executions"):
            async with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
                columns = [
                    # Infinity, where a run is held, is no instant to Python.
                    f"{column.name}::text" if column.name == "due_at" else column.name
                    for column in metadata.tables[table].columns
                ]
                await cursor.execute(
                    f"select {', '.join(columns)} from {table} order by job_id, attempt"
                )
                tables[table] = await cursor.fetchall()
    return tables


async def executors(pool: Pool) -> set[UUID]:
    async with pool.connection() as connection:
        cursor = await connection.execute("select id from executors")
        return {row[0] for row in await cursor.fetchall()}


async def run_sql(pool: Pool, statement: str) -> None:
    async with pool.connection() as connection:
        await connection.execute(statement.encode())
