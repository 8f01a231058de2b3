"""The ledger: what the database says became of every job, once all is over."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import psycopg

from tests.chaos.checker import Accepted, Arrival, Casualty, Evidence, Execution, Job
from tests.receiver import Call


async def gather_evidence(
    database_url: str,
    accepted: Sequence[Accepted],
    calls: Sequence[Call],
    casualties: Sequence[Casualty] = (),
) -> Evidence:
    """Put what was accepted, what arrived and what was recorded side by side."""
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        return Evidence(
            accepted=accepted,
            arrivals=[_arrival(call) for call in calls],
            jobs=await _jobs(connection),
            executions=await _executions(connection),
            outstanding=await _outstanding(connection),
            casualties=casualties,
        )


def _arrival(call: Call) -> Arrival:
    _, job_id, due_at = call.webhook_id.split("_")
    attempt = int(call.headers["onthedot-attempt"])
    signed_at = float(call.headers["webhook-timestamp"])
    return Arrival(int(job_id), int(due_at), attempt, call.path, call.arrived_at, signed_at)


async def _jobs(connection: psycopg.AsyncConnection) -> dict[int, Job]:
    cursor = await connection.execute(
        "select id, (extract(epoch from run_at) * 1000000)::bigint, url from jobs"
    )
    return {
        job_id: Job(due_at, urlsplit(url).path) for job_id, due_at, url in await cursor.fetchall()
    }


async def _executions(connection: psycopg.AsyncConnection) -> list[Execution]:
    cursor = await connection.execute(
        "select job_id, attempt, state, executor_id::text, extract(epoch from started_at)::float8 "
        "from executions order by job_id, attempt, finished_at"
    )
    return [Execution(*row) for row in await cursor.fetchall()]


async def _outstanding(connection: psycopg.AsyncConnection) -> frozenset[int]:
    cursor = await connection.execute("select job_id from schedules")
    return frozenset(job_id for (job_id,) in await cursor.fetchall())
