"""State × move: every move from every state, on real rows. LIFE, CHECKs and SQL must agree."""

from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest

from shared.database import Pool
from shared.runs import moves
from shared.runs.lifecycle import LIFE, Move, RunState
from shared.runs.moves import Attempt, Claim
from tests.conftest import MakeExecutor, MakeRun

FENCE = 3
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
    Situation("gone", None),
)
FENCED = {"deliver", "retry", "bury", "release"}
RESCUES = {"rescue", "rescue_unsent", "bury_abandoned"}


def may_move(move: Move, situation: Situation) -> bool:
    """What LIFE says, and the fence for the moves that are made under a claim."""
    holds_claim = move.name not in FENCED or situation.fence == FENCE
    return situation.state == move.source and holds_claim


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
@pytest.mark.parametrize("move", [move for move in LIFE if move.source], ids=lambda m: m.name)
async def test_a_move_moves_a_run_from_its_source_and_from_nowhere_else(
    move: Move,
    situation: Situation,
    pool: Pool,
    make_run: MakeRun,
    make_executor: MakeExecutor,
) -> None:
    # A run that a lapsed executor never sent is one that was due after its lease had ended.
    due_in = {"rescue_unsent": 0.0, "rescue": -60.0, "bury_abandoned": -60.0}.get(move.name, 0.0)
    attempt = 4 if move.name == "bury_abandoned" else 1
    holder = await make_executor(silent_seconds=30.0 if move.name in RESCUES else 0.0)
    job_id = await make_run(
        due_in=due_in,
        state=(situation.state or RunState.PENDING).value,
        executor_id=holder if situation.state == RunState.EXECUTING else None,
        fence=max(situation.fence, attempt),
        attempt=attempt if situation.fence >= attempt else 0,
    )
    if situation.state is None:
        await run_sql(pool, "delete from schedules")
    elif attempt == 4:
        await run_sql(pool, "update schedules set fence = 4, attempt = 4")
    before = await snapshot(pool)

    moved = await make(move, pool, await claim_of(pool, job_id, holder))

    after = await snapshot(pool)
    if not may_move(move, situation):
        assert not moved
        assert after == before
        return
    assert moved
    if move.target in {RunState.PENDING, RunState.EXECUTING}:
        assert [row["state"] for row in after["schedules"]] == [move.target.value]
        assert (after["schedules"][0]["executor_id"] is None) == (move.target == RunState.PENDING)
    else:
        assert after["schedules"] == []
        assert [row["state"] for row in after["executions"]] == [move.target.value]


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
    kept = await make_run(state="executing", executor_id=living)
    sent = await make_run(due_in=-8, state="executing", executor_id=lapsed)
    unsent = await make_run(due_in=0, state="executing", executor_id=lapsed)
    last = await make_run(due_in=-8, state="executing", executor_id=lapsed, attempt=4)

    async with pool.connection() as connection:
        moved = await moves.rescue(connection, executor_id=str(living), attempts_max=5)
        again = await moves.rescue(connection, executor_id=str(living), attempts_max=5)
    assert moved == {"rescue_unsent": 1, "bury_abandoned": 1, "rescue": 1}
    assert again == {}
    after = await snapshot(pool)
    runs = {row["job_id"]: (row["state"], row["attempt"]) for row in after["schedules"]}
    assert runs == {kept: ("executing", 0), sent: ("pending", 1), unsent: ("pending", 0)}
    history = {row["job_id"]: (row["state"], row["attempt"]) for row in after["executions"]}
    assert history == {sent: ("abandoned", 1), last: ("failed", 5)}
    assert await executors(pool) == {living}


async def test_an_executor_never_rescues_itself(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    lapsed = await make_executor(silent_seconds=10)
    await make_run(due_in=-8, state="executing", executor_id=lapsed)
    async with pool.connection() as connection:
        moved = await moves.rescue(connection, executor_id=str(lapsed), attempts_max=5)
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
        moved = await moves.rescue(connection, executor_id=OTHER, attempts_max=5)
    assert moved == {"rescue_unsent": 1, "bury_abandoned": 0, "rescue": 0}
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
            assert await moves.rescue(other, executor_id=OTHER, attempts_max=5) == {}
        moved = await moves.rescue(other, executor_id=OTHER, attempts_max=5)
        assert sum(moved.values()) == 1


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
        await moves.rescue(rescuer, executor_id=OTHER, attempts_max=5)
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


async def make(move: Move, pool: Pool, claim: Claim) -> bool:  # noqa: PLR0911  # one per move
    """Try a move under a claim; answer whether it moved anything."""
    async with pool.connection() as connection:
        match move.name:
            case "claim":
                return bool(await claim_on(connection, claim.executor_id))
            case "cancel":
                return await moves.cancel(connection, job_id=claim.job_id, application_id=1)
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
                return bool(
                    (await moves.rescue(connection, executor_id=OTHER, attempts_max=5)).get(
                        move.name
                    )
                )


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
    return Claim(
        job_id=job_id,
        scheduled_for=row[0],
        due_at=row[0],
        fence=FENCE,
        attempt=2,
        url="",
        method="POST",
        headers=None,
        payload=None,
        timeout_seconds=1,
        signing_secret=b"",
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
                await cursor.execute(f"select * from {table} order by job_id, attempt")
                tables[table] = await cursor.fetchall()
    return tables


async def executors(pool: Pool) -> set[UUID]:
    async with pool.connection() as connection:
        cursor = await connection.execute("select id from executors")
        return {row[0] for row in await cursor.fetchall()}


async def run_sql(pool: Pool, statement: str) -> None:
    async with pool.connection() as connection:
        await connection.execute(statement.encode())
