"""What KEDA counts in the database is the overdue runs that nobody has claimed."""

import psycopg
import pytest

from shared.database import Pool
from tests.conftest import MakeExecutor, MakeRun
from tests.deploy.render import Object, Release


@pytest.fixture
def scaled(releases: dict[str, Release]) -> Object:
    (scaled,) = releases["keda"].of_kind("ScaledObject")
    return scaled


@pytest.fixture
def query(scaled: Object) -> str:
    (trigger,) = [each for each in scaled["spec"]["triggers"] if each["type"] == "postgresql"]
    # As many as ask for every executor.
    limit = int(trigger["metadata"]["targetQueryValue"]) * scaled["spec"]["maxReplicaCount"]
    query: str = trigger["metadata"]["query"]
    assert f"limit {limit})" in query
    return query


async def test_the_backlog_is_what_is_overdue_and_not_claimed(
    query: str, pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    for due_in in (-60.0, -3.0, 0.0, 60.0):
        await make_run(due_in=due_in)
    await make_run(due_in=-60.0, state="executing", executor_id=await make_executor())
    async with pool.connection() as connection:
        cursor = await connection.execute(query.encode())
        assert await cursor.fetchone() == (2,)


async def test_it_is_counted_by_index_on_a_connection_whose_plans_are_its_own(
    query: str, database_url: str
) -> None:
    # As KEDA connects: with none of our settings.
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(
            """
            with job as (
                insert into jobs (application_id, url, method, timeout_seconds, run_at)
                select 1, 'http://x/', 'POST', 5, now() + (n - 30.5) * interval '1 minute'
                from generate_series(1, 20000) as n
                returning id, run_at
            )
            insert into schedules (job_id, scheduled_for, due_at) select id, run_at, run_at from job
            """
        )
        await connection.execute("analyze")
        cursor = await connection.execute(query.encode())
        assert await cursor.fetchone() == (30,)
        cursor = await connection.execute(b"explain " + query.encode())
        plan = "\n".join(line for (line,) in await cursor.fetchall())
        assert "schedules_due" in plan
        assert "Seq Scan" not in plan
