"""What is over leaves after its retention, what lives stays, and the ledger goes on adding up."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier, Literal

from executor_service import prune as pruning
from executor_service import prune_history
from executor_service.partitions import STATEMENTS
from executor_service.prune import prune
from executor_service.turn import LOCK, row
from handler_service.ledger import ledger
from shared.database import Pool
from shared.runs import moves
from shared.runs.moves import DeadLetters, Edit
from tests.conftest import MakeExecutor, MakeRun
from tests.eventually import eventually
from tests.integration.test_moves import is_waiting, run_sql

RETENTION_DAYS = 30
ENDS = ("done", "failed", "uncertain", "cancelled", "skipped")


async def one(pool: Pool, statement: str, *values: Any) -> Any:
    async with pool.connection() as connection:
        cursor = await connection.execute(statement.encode(), values)
        row = await cursor.fetchone()
    assert row is not None
    return row[0]


async def jobs(pool: Pool) -> set[int]:
    return set(await one(pool, "select coalesce(array_agg(id), '{}') from jobs"))


async def adds_up(pool: Pool) -> dict[str, Any]:
    async with pool.connection() as connection:
        found = await ledger(connection, application_id=1)
    assert found["adds_up"], found
    return found


async def age(pool: Pool, job_id: int, *, days: float, updated_days: float | None = None) -> None:
    """Let a job have been made, and its run planned, so many days ago."""
    updated_days = days if updated_days is None else updated_days
    async with pool.connection() as connection:
        await connection.execute(
            "update jobs set run_at = now() - %s * interval '1 day', "
            "updated_at = now() - %s * interval '1 day' where id = %s",
            (days, updated_days, job_id),
        )
        await connection.execute(
            "update schedules set scheduled_for = scheduled_for - %(days)s * interval '1 day', "
            "due_at = due_at - %(days)s * interval '1 day' where job_id = %(id)s",
            {"days": days, "id": job_id},
        )


async def end(pool: Pool, job_id: int, *, days: float, state: str = "done", runs: int = 1) -> None:
    """Let runs of a job have ended so many days ago; the one it was made with is one of them."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("delete from schedules where job_id = %s", (job_id,))
        await add_ends(pool, job_id, days=days, state=state, runs=runs, made=runs - 1)


async def add_ends(
    pool: Pool, job_id: int, *, days: float, state: str = "done", runs: int = 1, made: int = 1
) -> None:
    """Let runs of a job, made beside those it has, have ended so many days ago."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(
            "insert into executions (job_id, scheduled_for, finished_at, attempt, state) "
            "select %(id)s, now() - %(days)s * interval '1 day' - n * interval '1 second', "
            "now() - %(days)s * interval '1 day', 1, %(state)s from generate_series(1, %(runs)s) n",
            {"id": job_id, "days": days, "state": state, "runs": runs},
        )
        await connection.execute(
            "update jobs set runs_made = runs_made + %s where id = %s", (made, job_id)
        )


async def make_day(pool: Pool, days_ago: int) -> str:
    """Give a past day its partition."""
    day: date = datetime.now(UTC).date() - timedelta(days=days_ago)
    name = f"executions_{day:%Y_%m_%d}"
    values = {
        "name": Identifier(name),
        "start": Literal(f"{day} 00:00:00+00"),
        "end": Literal(f"{day + timedelta(days=1)} 00:00:00+00"),
    }
    async with pool.connection() as connection, connection.transaction():
        for statement in STATEMENTS:
            await connection.execute(SQL(statement).format(**values))
    return name


async def exists(pool: Pool, name: str) -> bool:
    return bool(await one(pool, "select to_regclass(%s) is not null", name))


@pytest.mark.parametrize("state", ENDS)
async def test_a_job_that_is_over_is_forgotten_after_its_retention_and_not_before(
    pool: Pool, make_run: MakeRun, state: str
) -> None:
    old, young = await make_run(), await make_run()
    for job_id, days in ((old, 30.1), (young, 29.9)):
        await age(pool, job_id, days=days)
        await end(pool, job_id, days=days, state=state)
    assert (await adds_up(pool))["accepted"] == 2
    await prune(pool, retention_days=RETENTION_DAYS)
    assert await jobs(pool) == {young}
    assert (await adds_up(pool))["accepted"] == 1
    await prune(pool, retention_days=29)
    assert await jobs(pool) == set()
    assert (await adds_up(pool))["accepted"] == 0


async def test_its_labels_are_forgotten_with_it(pool: Pool, make_run: MakeRun) -> None:
    old, young = await make_run(), await make_run()
    for job_id, days in ((old, 40), (young, 1)):
        await end(pool, job_id, days=days)
        await age(pool, job_id, days=days)
        await run_sql(
            pool,
            "insert into job_labels (application_id, name, value, run_at, job_id) "
            f"select 1, name, '', now(), {job_id} from unnest('{{a,b}}'::text[]) as name",
        )
    await prune(pool, retention_days=RETENTION_DAYS)
    assert await one(pool, "select array_agg(distinct job_id) from job_labels") == [young]


@pytest.mark.parametrize(
    "outstanding",
    ["pending", "held", "retrying", "executing", "next"],
)
async def test_a_job_of_which_anything_is_outstanding_stays_however_old(
    pool: Pool, make_run: MakeRun, make_executor: MakeExecutor, outstanding: str
) -> None:
    holder = await make_executor() if outstanding == "executing" else None
    job_id = await make_run(
        state="executing" if holder else "pending",
        executor_id=holder,
        attempt=2 if outstanding == "retrying" else 0,
    )
    await age(pool, job_id, days=400)
    if outstanding == "held":
        await run_sql(pool, "update schedules set due_at = 'infinity'")
        await run_sql(pool, "update jobs set state = 'paused'")
    if outstanding == "next":
        await run_sql(pool, "update schedules set is_next = true")
        await run_sql(pool, "update jobs set recurrence = '{\"every_seconds\": 86400}'")
    await add_ends(pool, job_id, days=399)
    await prune(pool, retention_days=1)
    assert await jobs(pool) == {job_id}
    assert await one(pool, "select count(*) from schedules") == 1
    assert (await adds_up(pool))["accepted"] == 1


async def test_a_job_that_was_changed_lately_stays(pool: Pool, make_run: MakeRun) -> None:
    job_id = await make_run()
    await end(pool, job_id, days=40)
    await age(pool, job_id, days=40, updated_days=1)
    await prune(pool, retention_days=RETENTION_DAYS)
    assert await jobs(pool) == {job_id}
    assert (await adds_up(pool))["accepted"] == 0


async def test_a_job_whose_instant_is_not_long_ago_stays(pool: Pool, make_run: MakeRun) -> None:
    job_id = await make_run()
    await end(pool, job_id, days=40)
    await age(pool, job_id, days=1, updated_days=40)
    await prune(pool, retention_days=RETENTION_DAYS)
    assert await jobs(pool) == {job_id}


async def test_a_job_whose_run_ended_lately_stays_with_its_whole_history(
    pool: Pool, make_run: MakeRun
) -> None:
    """Retried for days on end, or replayed."""
    job_id = await make_run()
    await age(pool, job_id, days=40)
    await end(pool, job_id, days=29)
    await prune(pool, retention_days=RETENTION_DAYS)
    assert await jobs(pool) == {job_id}
    assert (await adds_up(pool))["done"] == 1


async def test_many_jobs_are_forgotten_in_steps_past_those_that_stay(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, make_run: MakeRun
) -> None:
    monkeypatch.setattr(pruning, "BATCH_MAX", 3)
    made = [await make_run() for _ in range(20)]
    for job_id in made:
        await age(pool, job_id, days=40)
        if job_id % 2:
            await end(pool, job_id, days=40)
    await run_sql(pool, "update jobs set application_id = 7 where mod(id, 3) = 0")
    await prune(pool, retention_days=RETENTION_DAYS)
    assert await jobs(pool) == {job_id for job_id in made if job_id % 2 == 0}


async def test_a_day_is_dropped_when_all_of_it_is_older_than_the_retention(pool: Pool) -> None:
    days = {ago: await make_day(pool, ago) for ago in (32, 31, 30, 29)}
    await prune(pool, retention_days=RETENTION_DAYS)
    assert {ago for ago, name in days.items() if await exists(pool, name)} == {30, 29}
    assert await exists(pool, "executions_default")


async def test_the_ledger_adds_up_while_a_job_outlives_its_history(
    pool: Pool, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a day that is dropped, and of what the default partition holds."""
    monkeypatch.setattr(prune_history, "ROWS_MAX", 7)
    day = await make_day(pool, 35)
    job_id, other, gone = await make_run(), await make_run(), await make_run()
    for each in (job_id, other):
        await add_ends(pool, each, days=35, runs=20, made=20)
        await add_ends(pool, each, days=33, runs=20, made=20)
        await add_ends(pool, each, days=34, state="retrying", runs=3, made=0)
        await add_ends(pool, each, days=2, runs=4, made=4)
    await age(pool, gone, days=35)
    await end(pool, gone, days=35, runs=10)
    assert (await adds_up(pool))["done"] == 98
    await prune(pool, retention_days=RETENTION_DAYS)
    assert not await exists(pool, day)
    found = await adds_up(pool)
    assert (found["accepted"], found["done"], found["pending"]) == (10, 8, 2)
    assert await jobs(pool) == {job_id, other}
    assert await one(pool, "select count(*) from executions") == 8


async def test_what_the_steps_left_is_settled_when_its_day_is_dropped(
    pool: Pool, make_run: MakeRun
) -> None:
    """A job's row that somebody holds is passed by; the day waits for it, or for the next hour."""
    day = await make_day(pool, 35)
    job_id = await make_run()
    await add_ends(pool, job_id, days=35, runs=5, made=5)
    async with pool.connection() as holding, holding.transaction():
        await holding.execute("select from jobs for update")
        await prune(pool, retention_days=RETENTION_DAYS)
        assert await exists(pool, day)
        assert (await adds_up(pool))["done"] == 5
        turn = pruning.Turn(pool)
        assert not await prune_history._drop(turn, day)
    assert await prune_history._drop(turn, day)
    assert not await exists(pool, day)
    assert (await adds_up(pool))["accepted"] == 1


async def test_a_dead_letter_that_is_replayed_just_then_is_not_settled_twice(
    pool: Pool, make_run: MakeRun
) -> None:
    job_id = await make_run()
    await end(pool, job_id, days=35, state="failed")
    async with pool.connection() as replaying:
        async with replaying.transaction():
            assert await moves.replay(replaying, DeadLetters(1, job_id), most=1)
            pruned = asyncio.create_task(prune(pool, retention_days=RETENTION_DAYS))
            await eventually(lambda: is_waiting(replaying), every=0.005, within=3)
        await pruned
    found = await adds_up(pool)
    assert (found["accepted"], found["pending"]) == (1, 1)


@pytest.mark.parametrize("how", ["trigger", "rearm", "replay"])
@pytest.mark.parametrize("first", ["prune", "revival"])
async def test_a_job_that_comes_to_life_just_then_stays_or_is_not_found(
    pool: Pool, make_run: MakeRun, how: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await make_run()
    await age(pool, job_id, days=40)
    await end(pool, job_id, days=40, state="failed")

    async def revive(connection: Any) -> bool:
        match how:
            case "trigger":
                made = await moves.trigger(connection, job_id=job_id, application_id=1)
                return made is not None
            case "rearm":
                edit = Edit(["delay_seconds"], delay_seconds=60.0)
                return await moves.rearm(connection, job_id=job_id, application_id=1, edit=edit)
            case _:
                return bool(await moves.replay(connection, DeadLetters(1, job_id), most=1))

    if first == "revival":
        async with pool.connection() as connection, connection.transaction():
            assert await revive(connection)
            await pruning.prune_jobs(pruning.Turn(pool), await cut_off(pool))
        assert await jobs(pool) == {job_id}
    else:
        assert not await revived_between(pool, monkeypatch, revive)
        assert await jobs(pool) == set()
    await prune(pool, retention_days=RETENTION_DAYS)
    found = await adds_up(pool)
    assert found["pending"] == await one(pool, "select count(*) from schedules")


async def cut_off(pool: Pool) -> datetime:
    found = await one(pool, "select now() - %s * interval '1 day'", RETENTION_DAYS)
    assert isinstance(found, datetime)
    return found


async def revived_between(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, revive: Callable[[Any], Any]
) -> bool:
    """Try to give a job life when prune has locked it and not yet looked; answer whether it did."""
    tries: list[asyncio.Task[bool]] = []

    async def attempt() -> bool:
        async with pool.connection() as other:
            return bool(await revive(other))

    async def look(connection: Any, statement: str, **values: Any) -> Any:
        if statement == pruning.FORGET_JOBS and not tries:
            tries.append(asyncio.create_task(attempt()))
            await eventually(lambda: is_waiting(connection), every=0.005, within=3)
        return await row(connection, statement, **values)

    monkeypatch.setattr(pruning, "row", look)
    await pruning.prune_jobs(pruning.Turn(pool), await cut_off(pool))
    return await tries[0]


async def test_a_replay_that_committed_before_the_jobs_were_locked_is_seen(
    pool: Pool, make_run: MakeRun
) -> None:
    """It leaves the job's row as it was: only what is outstanding tells."""
    job_id = await make_run()
    await age(pool, job_id, days=40)
    await end(pool, job_id, days=40, state="failed")
    async with pool.connection() as connection:
        assert await moves.replay(connection, DeadLetters(1, job_id), most=1)
    await prune(pool, retention_days=RETENTION_DAYS)
    assert await jobs(pool) == {job_id}


async def test_one_executor_prunes_at_a_time(pool: Pool, make_run: MakeRun) -> None:
    job_id = await make_run()
    await age(pool, job_id, days=40)
    await end(pool, job_id, days=40)
    async with pool.connection() as other, other.transaction():
        await other.execute(LOCK.encode())
        await prune(pool, retention_days=RETENTION_DAYS)
    assert await jobs(pool) == {job_id}
    await asyncio.gather(*(prune(pool, retention_days=RETENTION_DAYS) for _ in range(3)))
    assert await jobs(pool) == set()


async def test_who_reads_history_for_long_does_not_stop_its_writers_while_a_day_is_dropped(
    pool: Pool, make_run: MakeRun
) -> None:
    day = await make_day(pool, 35)
    job_id = await make_run()
    async with (
        pool.connection() as writing,
        pool.connection() as reading,
        reading.transaction(),
    ):
        await reading.execute("select from executions")
        pruned = asyncio.create_task(prune(pool, retention_days=RETENTION_DAYS))
        await eventually(lambda: is_waiting(writing), every=0.01)
        await writing.execute("set lock_timeout = '3s'")
        await writing.execute(
            "insert into executions (job_id, scheduled_for, attempt, state, finished_at) "
            "values (%s, now(), 1, 'retrying', now())",
            (job_id,),
        )
        await writing.execute("reset lock_timeout")
        await pruned
        assert await exists(pool, day)
    await prune(pool, retention_days=RETENTION_DAYS)
    assert not await exists(pool, day)


async def test_an_idempotency_key_is_kept_for_a_day(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "BATCH_MAX", 2)
    await run_sql(
        pool,
        "insert into idempotency_keys "
        "(application_id, key, fingerprint, status, headers, body, created_at) "
        "select 1, n::text, '', 201, '{}', '', now() - n * interval '5 hours' "
        "from generate_series(1, 9) as n",
    )
    await prune(pool, retention_days=RETENTION_DAYS)
    kept = "select array_agg(key order by key) from idempotency_keys"
    assert await one(pool, kept) == ["1", "2", "3", "4"]
