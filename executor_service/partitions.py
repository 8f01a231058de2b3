"""Partitions of history: one a day, made ahead of their time by whichever executor comes first."""

from datetime import date, timedelta
from typing import Any

import structlog
from prometheus_client import Gauge
from psycopg.errors import LockNotAvailable
from psycopg.sql import SQL, Identifier, Literal

from shared import database

DAYS_AHEAD = 7
MAKE_SECONDS_MAX = 15.0
# Executors that start together make a day one after another. And writers wait before they choose a
# partition: a row on its way to the default one would be refused there once its day has another.
LOCK = "lock table only executions in share row exclusive mode"
PATIENCE = "set local lock_timeout = '200ms'"
# Filled before it is attached: Postgres refuses a partition whose rows the default one has.
STATEMENTS = (
    """create table {name} (like executions including all)""",
    """with moved as (
        delete from executions_default
        where finished_at >= {start} and finished_at < {end}
        returning *
    )
    insert into {name} select * from moved""",
    """alter table executions
    attach partition {name} for values from ({start}) to ({end})""",
)

MADE_AHEAD = Gauge(
    "onthedot_history_days_ahead",
    "Days after today whose partitions were there when last looked at.",
)

log = structlog.stdlib.get_logger(__name__)


async def make_partitions(pool: database.Pool) -> None:
    """Make the partitions of today and the days ahead that do not exist yet."""
    # The days ahead first: they are empty, while today's may have much to move.
    missing = []
    for days in reversed(range(DAYS_AHEAD + 1)):
        try:
            async with database.connection(pool, seconds=MAKE_SECONDS_MAX) as connection:
                today = await _one(connection, "select (now() at time zone 'UTC')::date")
                await _make(connection, today + timedelta(days=days))
        except LockNotAvailable:  # somebody reads for long, or another executor is at it
            log.info("partition.put_off", days_ahead=days)
            missing.append(days)
        except database.Failure as error:
            log.warning("partition.not_made", days_ahead=days, error=type(error).__name__)
            missing.append(days)
    MADE_AHEAD.set(min(missing, default=DAYS_AHEAD + 1) - 1)


async def _make(connection: database.Connection, day: date) -> None:
    """Make one day's partition, and move there what the default partition holds of that day."""
    name = f"executions_{day:%Y_%m_%d}"
    if await _exists(connection, name):
        return
    values = {
        "name": Identifier(name),
        "start": Literal(f"{day} 00:00:00+00"),
        "end": Literal(f"{day + timedelta(days=1)} 00:00:00+00"),
    }
    async with connection.transaction():
        # Behind whoever reads history for long (a dump), all recording would wait for us.
        await connection.execute(PATIENCE)
        await connection.execute(LOCK)
        if not await _exists(connection, name):
            for statement in STATEMENTS:
                await connection.execute(SQL(statement).format(**values))


async def _exists(connection: database.Connection, name: str) -> bool:
    return bool(await _one(connection, "select to_regclass(%s) is not null", name))


async def _one(connection: database.Connection, query: str, *values: str) -> Any:
    cursor = await connection.execute(query.encode(), values)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101  # a select without a table has one row
    return row[0]
