"""What KEDA counts in the database is the overdue runs that nobody has claimed."""

from shared.database import Pool
from tests.conftest import MakeExecutor, MakeRun
from tests.deploy.render import Release


async def test_the_backlog_is_what_is_overdue_and_not_claimed_and_is_counted_to_a_limit(
    releases: dict[str, Release], pool: Pool, make_run: MakeRun, make_executor: MakeExecutor
) -> None:
    (scaled,) = releases["keda"].of_kind("ScaledObject")
    (trigger,) = [each for each in scaled["spec"]["triggers"] if each["type"] == "postgresql"]
    query = trigger["metadata"]["query"]
    # As many as ask for every executor.
    limit = int(trigger["metadata"]["targetQueryValue"]) * scaled["spec"]["maxReplicaCount"]
    assert f"limit {limit})" in query

    for due_in in (-60.0, -3.0, 0.0, 60.0):
        await make_run(due_in=due_in)
    await make_run(due_in=-60.0, state="executing", executor_id=await make_executor())
    async with pool.connection() as connection:
        cursor = await connection.execute(query.encode())
        assert await cursor.fetchone() == (2,)
        cursor = await connection.execute(b"explain " + query.encode())
        plan = "\n".join(line for (line,) in await cursor.fetchall())
        assert "using schedules_due" in plan
