"""History has a partition for each day, made ahead, and loses no row on the way."""

import asyncio
from datetime import UTC, datetime, timedelta

from executor_service.partitions import DAYS_AHEAD, make_partitions
from shared.database import Pool
from tests.conftest import MakeRun


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
