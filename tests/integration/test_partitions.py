"""History has a partition for each day, made ahead, and loses no row on the way."""

import asyncio
from datetime import UTC, datetime, timedelta

from psycopg.sql import SQL, Identifier, Literal

from executor_service.partitions import DAYS_AHEAD, LOCK, STATEMENTS, make_partitions
from shared.database import Pool
from tests.conftest import MakeRun
from tests.eventually import eventually
from tests.integration.test_moves import is_waiting


async def partitions(pool: Pool) -> set[str]:
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "select inhrelid::regclass::text from pg_inherits "
            "where inhparent = 'executions'::regclass"
        )
        return {row[0] for row in await cursor.fetchall()}


async def test_today_and_the_days_ahead_have_theirs_and_making_them_again_changes_nothing(
    pool: Pool,
) -> None:
    await make_partitions(pool)
    made = await partitions(pool)
    today = datetime.now(UTC).date()
    days = [today + timedelta(days=number) for number in range(DAYS_AHEAD + 1)]
    assert made == {"executions_default", *(f"executions_{day:%Y_%m_%d}" for day in days)}
    await make_partitions(pool)
    assert await partitions(pool) == made


async def test_executors_that_start_together_do_not_get_in_each_others_way(pool: Pool) -> None:
    await asyncio.gather(*(make_partitions(pool) for _ in range(4)))
    assert len(await partitions(pool)) == DAYS_AHEAD + 2


async def test_what_came_before_its_partition_is_moved_into_it(
    pool: Pool, make_run: MakeRun
) -> None:
    job_id = await make_run()
    async with pool.connection() as connection:
        await connection.execute(
            "insert into executions (job_id, scheduled_for, attempt, state, finished_at) "
            "values (%s, now(), 1, 'done', now()), "
            "(%s, now(), 2, 'done', now() - interval '9 days')",
            (job_id, job_id),
        )
        await make_partitions(pool)
        cursor = await connection.execute(
            "select attempt, tableoid::regclass::text from executions order by attempt"
        )
        rows = await cursor.fetchall()
    today = datetime.now(UTC).date()
    assert rows == [(1, f"executions_{today:%Y_%m_%d}"), (2, "executions_default")]


async def test_an_outcome_that_is_written_while_its_day_is_made_is_not_refused(
    pool: Pool, make_run: MakeRun
) -> None:
    job_id = await make_run()
    today = datetime.now(UTC).date()
    values = {
        "name": Identifier("executions_of_the_test"),
        "start": Literal(f"{today - timedelta(days=1)} 00:00:00+00"),
        "end": Literal(f"{today + timedelta(days=2)} 00:00:00+00"),
    }
    async with pool.connection() as making, pool.connection() as writing:
        async with making.transaction():
            await making.execute(LOCK)
            written = asyncio.create_task(
                writing.execute(
                    "insert into executions (job_id, scheduled_for, attempt, state, finished_at) "
                    "values (%s, now(), 1, 'done', now())",
                    (job_id,),
                )
            )
            await eventually(lambda: is_waiting(making))
            for statement in STATEMENTS:
                await making.execute(SQL(statement).format(**values))
        await written


async def test_who_reads_history_for_long_does_not_stop_its_writers_while_a_day_is_made(
    pool: Pool, make_run: MakeRun
) -> None:
    """A dump holds a lock that making a day has to wait for, and writers wait behind the maker."""
    job_id = await make_run()
    async with (
        pool.connection() as writing,
        pool.connection() as reading,
        reading.transaction(),
    ):
        await reading.execute("select from executions")
        making = asyncio.create_task(make_partitions(pool))
        await eventually(lambda: is_waiting(writing), every=0.01)
        await writing.execute("set lock_timeout = '3s'")
        await writing.execute(
            "insert into executions (job_id, scheduled_for, attempt, state, finished_at) "
            "values (%s, now(), 1, 'done', now())",
            (job_id,),
        )
        await writing.execute("reset lock_timeout")
        await making
    assert await partitions(pool) == {"executions_default"}
    await make_partitions(pool)
    assert len(await partitions(pool)) == DAYS_AHEAD + 2
