"""What on-call people watch and no one event tells: backlog, old snapshots, how far off a clock is.

What is asked of Postgres is the same from every executor; a rule takes the greatest.
"""

from datetime import UTC, datetime

import structlog
from prometheus_client import Gauge

from executor_service.clock import DatabaseClock
from shared import database

# Counted no further: a scan of a million would cost what it warns of.
BACKLOG_MAX = 10_000
LOOK_SECONDS_MAX = 5.0

BACKLOG = Gauge(
    "onthedot_backlog_runs", f"Runs that are overdue and wait, counted up to {BACKLOG_MAX:,}."
)
BACKLOG_AGE = Gauge("onthedot_backlog_age_seconds", "How overdue the oldest of them is; 0: none.")
SNAPSHOT_AGE = Gauge(
    "onthedot_postgres_oldest_snapshot_seconds",
    "Age of the oldest transaction that keeps vacuum from what has changed since.",
)
XMIN_AGE = Gauge(
    "onthedot_postgres_oldest_xmin_transactions",
    "How many transactions back vacuum is held, replication slots and prepared ones included.",
)
CLOCK_OFFSET = Gauge(
    "onthedot_clock_offset_seconds",
    "This machine's wall clock minus the database's. Nothing here goes by it.",
)

# By index schedules_due, which begins with what is overdue longest.
_BACKLOG = f"""
select count(*), coalesce(extract(epoch from now() - min(due_at)), 0)::float8
from (
    select due_at
    from schedules
    where due_at <= now() and state = 'pending'
    order by due_at
    limit {BACKLOG_MAX}
) as overdue
""".encode()  # noqa: S608  # a number of ours
# Of other users' sessions `pg_stat_activity` tells only a member of pg_monitor.
_SNAPSHOTS = b"""
select
    coalesce(
        (
            select extract(epoch from max(now() - xact_start))
            from pg_stat_activity
            where coalesce(backend_xmin, backend_xid) is not null and pid <> pg_backend_pid()
        ), 0
    )::float8,
    coalesce(
        greatest(
            (select max(greatest(age(backend_xmin), age(backend_xid))) from pg_stat_activity),
            (select max(greatest(age(xmin), age(catalog_xmin))) from pg_replication_slots),
            (select max(age(transaction)) from pg_prepared_xacts)
        ), 0
    )
"""

log = structlog.stdlib.get_logger(__name__)


async def look(pool: database.Pool, clock: DatabaseClock) -> None:
    """Look at the database, and at both clocks. Never raises for an outage."""
    CLOCK_OFFSET.set(datetime.now(UTC).timestamp() - clock.now())
    try:
        async with database.connection(pool, seconds=LOOK_SECONDS_MAX) as connection:
            runs, age_seconds = await _one(connection, _BACKLOG)
            snapshot_seconds, transactions = await _one(connection, _SNAPSHOTS)
    except database.Failure as error:
        log.warning("gauges.not_read", error=type(error).__name__)
        return
    BACKLOG.set(runs)
    BACKLOG_AGE.set(age_seconds)
    SNAPSHOT_AGE.set(snapshot_seconds)
    XMIN_AGE.set(transactions)


async def _one(connection: database.Connection, query: bytes) -> tuple[float, float]:
    cursor = await connection.execute(query)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101  # an aggregate has one row
    return float(row[0]), float(row[1])
