"""The parts that several reads have in common."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg_pool import AsyncConnectionPool
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Text,
    and_,
    bindparam,
    func,
    literal_column,
)

from handler_service.schemas.instants import FIRST
from shared.database import Connection, Pool
from shared.runs.lifecycle import ExecutionState
from shared.runs.model import HOST, executions, jobs

ENDS = tuple(
    state
    for state in ExecutionState
    if state not in {ExecutionState.RETRYING, ExecutionState.ABANDONED}
)
WINDOWS = (timedelta(days=1), timedelta(days=8))

ours = jobs.c.application_id == bindparam("application_id", type_=Integer)
# Written as the index `jobs_of_host` has it. Only `jobs` has a URL.
host: ColumnElement[str] = literal_column(HOST, type_=Text)

# Whether an execution is the one that ended its run, which may be pending again by a replay.
is_end = and_(
    executions.c.state.in_(literal_column(f"'{state}'") for state in ENDS),
    executions.c.replayed_at.is_(None),
)


def microseconds(instant: ColumnElement[datetime] | ColumnElement[Any]) -> ColumnElement[int]:
    """Answer an instant as epoch microseconds, in which every instant of ours is exact."""
    return (func.extract("epoch", instant) * 1_000_000).cast(BigInteger)


def windows(
    latest: datetime | None,
    earliest: datetime | None,
    *,
    widths: Sequence[timedelta] = WINDOWS,
) -> Iterator[datetime | None]:
    """Say from when on to look for what came last before `latest`: a day, more days, all of them.

    History has a partition for each day; to open all of them takes longer than to read a page. What
    is found is right by any clock. The last one is `earliest` itself.
    """
    latest = latest or datetime.now(UTC)
    for width in widths:
        since = max(latest, FIRST + width) - width
        if earliest is None or since > earliest:
            yield since
    yield earliest


@asynccontextmanager
async def lent(source: Pool | Connection) -> AsyncIterator[Connection]:
    """Use this connection, or one of the pool: the same for several reads in a row."""
    if isinstance(source, AsyncConnectionPool):
        async with source.connection() as connection:
            yield connection
    else:
        yield source
