"""History leaves by whole days, and the ledger goes on adding up.

The runs that ended on a day are taken off the `runs_made` of their jobs in the transaction in which
they leave. Most go before the day itself is dropped, in small steps: what is dropped then has
hardly anything to settle, for recording waits while a partition is taken away.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
from psycopg.errors import LockNotAvailable
from psycopg.sql import SQL, Identifier

from executor_service.turn import Turn, row
from shared import database

ROWS_MAX = 1_000
DROP_SECONDS_MAX = 90.0
DEFAULT = "executions_default"
# By the upper bound of each partition, as Postgres writes it; the default one has none.
OLD_DAYS = """
select relname
from (
    select
        relname,
        substring(pg_get_expr(relpartbound, pg_class.oid) from $$TO \\('([^']+)'\\)$$)::timestamptz
            as upper_bound
    from pg_inherits
    join pg_class on pg_class.oid = inhrelid
    where inhparent = 'executions'::regclass
) as partition
where upper_bound <= %(before)s
order by upper_bound
"""
IS_END = "state in ('done', 'failed', 'uncertain', 'cancelled', 'skipped') and replayed_at is null"
# By the primary key, so that each row is looked at once.
ROWS = """
select job_id, scheduled_for, attempt, finished_at
from only {history}
where (job_id, scheduled_for, attempt, finished_at) > (%(job_id)s, %(run)s, %(attempt)s, %(end)s)
order by job_id, scheduled_for, attempt, finished_at
limit %(most)s
"""
JOBS = "select id from jobs where id = any(%(job_ids)s::bigint[])"
# Whoever holds one of these rows is not waited for: its runs stay until the day is dropped.
LOCKED = "for no key update skip locked"
# What `replay` took meanwhile is no end any more. Of the default partition everything goes, but for
# the ends that nobody settles now; of a day only what is settled: the rest is dropped with it.
# `is true` keeps the planner from indexes that would be read from end to end.
FORGET_ROWS = """
with gone as (
    delete from only {history}
    where job_id between %(job_id)s and %(last_job_id)s
        and (job_id, scheduled_for, attempt, finished_at)
            > (%(job_id)s, %(run)s, %(attempt)s, %(end)s)
        and (job_id, scheduled_for, attempt, finished_at)
            <= (%(last_job_id)s, %(last_run)s, %(last_attempt)s, %(last_end)s)
        and (finished_at < %(before)s) is true
        and case when {is_end} and job_id = any(%(job_ids)s::bigint[])
            then job_id = any(%(locked)s::bigint[])
            else %(all_of_it)s
        end
    returning job_id, {is_end} as is_end
),
settled as (
    update jobs
    set runs_made = runs_made - ended.runs
    from (select job_id, count(*) as runs from gone where is_end group by job_id) as ended
    where jobs.id = ended.job_id
)
select count(*) from gone
"""
# Replays wait for this lock; who reads and who records does not.
LOCK = "lock table only {history} in share row exclusive mode"
SETTLE = """
update jobs
set runs_made = runs_made - ended.runs
from (
    select job_id, count(*) as runs from only {history} where {is_end} group by job_id
) as ended
where jobs.id = ended.job_id
"""
DROP = "drop table {history}"
# The whole day is read at once.
SCAN = """
select
    set_config('enable_seqscan', 'on', true),
    set_config('enable_hashjoin', 'on', true),
    set_config('statement_timeout', '60s', true)
"""

log = structlog.stdlib.get_logger(__name__)


class Place(NamedTuple):
    """A row's place in its partition."""

    job_id: int
    run: datetime
    attempt: int
    end: datetime


BEGINNING = Place(0, datetime.min.replace(tzinfo=UTC), 0, datetime.min.replace(tzinfo=UTC))


async def prune_history(turn: Turn, before: datetime) -> dict[str, int]:
    """Drop the days that were over by then, and delete what the default partition has of them."""
    async with turn.step() as connection:
        cursor = await connection.execute(OLD_DAYS.encode(), {"before": before})
        days = [name for (name,) in await cursor.fetchall()]
    rows, dropped = await _forget(turn, DEFAULT, before), 0
    for day in days:
        rows += await _forget(turn, day, before)
        if not turn.is_over:
            dropped += await _drop(turn, day)
    return {"executions": rows, "days": dropped}


async def _forget(turn: Turn, history: str, before: datetime) -> int:
    """Walk a partition once and delete rows of it, step by step."""
    forgotten, place = 0, BEGINNING
    while not turn.is_over:
        async with turn.step() as connection:
            cursor = await connection.execute(
                about(history, ROWS).encode(), {**place._asdict(), "most": ROWS_MAX}
            )
            places = [Place._make(each) for each in await cursor.fetchall()]
            if places:
                forgotten += await _forget_between(connection, history, place, places, before)
        if len(places) < ROWS_MAX:
            break
        place = places[-1]
    return forgotten


async def _forget_between(
    connection: database.Connection,
    history: str,
    after: Place,
    places: Sequence[Place],
    before: datetime,
) -> int:
    job_ids = list({place.job_id for place in places})
    last = {f"last_{name}": value for name, value in places[-1]._asdict().items()}
    values: dict[str, Any] = {
        **after._asdict(),
        **last,
        "before": before,
        "job_ids": await _ids(connection, JOBS, job_ids),
        "locked": await _ids(connection, f"{JOBS} {LOCKED}", job_ids),
        "all_of_it": history == DEFAULT,
    }
    cursor = await connection.execute(about(history, FORGET_ROWS).encode(), values)
    [(count,)] = await cursor.fetchall()
    return int(count)


async def _drop(turn: Turn, day: str) -> bool:
    """Drop a day, unless somebody else did or reads it for long: then an hour later."""
    try:
        async with turn.step(seconds=DROP_SECONDS_MAX) as connection:
            [exists] = await row(connection, "select to_regclass(%(day)s) is not null", day=day)
            if exists:
                await connection.execute(SCAN.encode())
                for statement in (LOCK, SETTLE, DROP):
                    await connection.execute(about(day, statement).encode())
    except LockNotAvailable:
        log.warning("history.not_pruned", partition=day, reason="it is being read or written")
        return False
    return bool(exists)


async def _ids(
    connection: database.Connection, statement: str, job_ids: Sequence[int]
) -> list[int]:
    cursor = await connection.execute(statement.encode(), {"job_ids": job_ids})
    return [job_id for (job_id,) in await cursor.fetchall()]


def about(history: str, statement: str) -> str:
    """Name the partition in a statement."""
    named = SQL(statement).format(history=Identifier(history), is_end=SQL(IS_END))
    return named.as_string(None)
