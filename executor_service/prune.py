"""Prune: what is over leaves when its retention is: jobs, their history, idempotency keys.

Every executor asks each hour, and one at a time does it: late, if need be; what is due comes first.
"""

from datetime import UTC, datetime

import structlog
from prometheus_client import Counter

from executor_service.prune_history import prune_history
from executor_service.turn import NotOurTurn, Turn, row
from shared import database

BATCH_MAX = 1_000
BEGINNING = datetime.min.replace(tzinfo=UTC)

CUT_OFF = "select now() - %(days)s * interval '1 day'"
NEXT_APPLICATION = "select min(application_id) from jobs where application_id > %(after)s"
# By index jobs_by_instant. Whoever gives a job another run locks its row first: then it is passed
# by here, or was changed after all, or waits for us and finds no job.
OLD_JOBS = """
select run_at, id
from jobs
where application_id = %(application_id)s
    and run_at < %(before)s
    and (run_at, id) > (%(after_run_at)s, %(after_id)s)
    and updated_at < %(before)s
order by run_at, id
limit %(most)s
for update skip locked
"""
# A statement of its own: it sees all that was committed before the rows were locked.
FORGET_JOBS = """
with over as (
    delete from jobs
    where id = any(%(job_ids)s::bigint[])
        and not exists (select from schedules where schedules.job_id = jobs.id)
        and not exists (
            select from executions
            where executions.job_id = jobs.id and executions.finished_at >= %(before)s
        )
    returning id
),
label as (
    delete from job_labels where job_id in (select id from over)
)
select count(*) from over
"""
# An Idempotency-Key is kept for a day, as the contract says. By index idempotency_keys_by_age.
FORGET_KEYS = """
with old as materialized (
    select application_id, key
    from idempotency_keys
    where created_at < now() - interval '24 hours'
    order by created_at
    limit %(most)s
    for update skip locked
),
forgotten as (
    delete from idempotency_keys
    using old
    where idempotency_keys.application_id = old.application_id and idempotency_keys.key = old.key
    returning 1
)
select count(*) from forgotten
"""

PRUNED = Counter("onthedot_pruned", "What left when its retention was over, by kind.", ["what"])

log = structlog.stdlib.get_logger(__name__)


async def prune(pool: database.Pool, *, retention_days: int) -> None:
    """Let go of what was over so many days ago, and of idempotency keys after one."""
    parts = {
        "jobs.pruned": prune_jobs,
        "history.pruned": prune_history,
        "idempotency_keys.pruned": prune_keys,
    }
    for event, part in parts.items():
        turn = Turn(pool)
        try:
            async with turn.step() as connection:
                [before] = await row(connection, CUT_OFF, days=retention_days)
            pruned = await part(turn, before)
        except NotOurTurn:
            return
        except database.Failure as error:
            log.warning("prune.failed", part=part.__name__, error=type(error).__name__)
            continue
        for what, count in pruned.items():
            PRUNED.labels(what).inc(count)
        if any(pruned.values()):
            log.info(event, **pruned, is_all=not turn.is_over)


async def prune_jobs(turn: Turn, before: datetime) -> dict[str, int]:
    """Forget jobs of which nothing is outstanding, and nothing happened since then."""
    forgotten, application_id = 0, await _next_application(turn, 0)
    while application_id is not None and not turn.is_over:
        forgotten += await _prune_jobs_of(turn, before, application_id)
        application_id = await _next_application(turn, application_id)
    return {"jobs": forgotten}


async def _prune_jobs_of(turn: Turn, before: datetime, application_id: int) -> int:
    """Walk an application's old jobs once: those that stay are not looked at again and again."""
    forgotten, place = 0, (BEGINNING, 0)
    while not turn.is_over:
        values = {
            "application_id": application_id,
            "before": before,
            "after_run_at": place[0],
            "after_id": place[1],
            "most": BATCH_MAX,
        }
        async with turn.step() as connection:
            cursor = await connection.execute(OLD_JOBS.encode(), values)
            old = await cursor.fetchall()
            job_ids = [job_id for _, job_id in old]
            [count] = await row(connection, FORGET_JOBS, job_ids=job_ids, before=before)
        forgotten += count
        if len(old) < BATCH_MAX:
            break
        place = old[-1][0], old[-1][1]
    return forgotten


async def _next_application(turn: Turn, after: int) -> int | None:
    async with turn.step() as connection:
        [application_id] = await row(connection, NEXT_APPLICATION, after=after)
    return None if application_id is None else int(application_id)


async def prune_keys(turn: Turn, before: datetime) -> dict[str, int]:  # noqa: ARG001  # a day, always
    """Forget the answers that were kept for repeated requests."""
    forgotten, count = 0, BATCH_MAX
    while count == BATCH_MAX and not turn.is_over:
        async with turn.step() as connection:
            [count] = await row(connection, FORGET_KEYS, most=BATCH_MAX)
        forgotten += count
    return {"idempotency_keys": forgotten}
