"""What the handler reads of schedules, by the index `jobs_of_contract` or the primary key.

A schedule is there as long as something of it is outstanding, and as long as the older contract has
a word for how it recurs: `/jobs` may have changed that.
"""

from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Double,
    Integer,
    Text,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
)

from handler_service.paths import ID_MAX
from handler_service.read_parts import microseconds, ours
from handler_service.schemas.schedules import EVERY_SECONDS
from shared.database import Connection, Pool, Read
from shared.runs.lifecycle import JobState
from shared.runs.model import jobs, schedules

CONTRACT = "schedules"

_every_seconds = cast(literal_column("jobs.recurrence ->> 'every_seconds'", type_=Text), Double)
_there = and_(
    ours,
    jobs.c.contract == literal_column(f"'{CONTRACT}'"),
    jobs.c.state != JobState.ENDED,
    or_(
        jobs.c.recurrence.is_(None),
        *(_every_seconds == literal_column(str(each)) for each in EVERY_SECONDS.values()),
    ),
    select(schedules.c.job_id).where(schedules.c.job_id == jobs.c.id).exists(),
)
_columns = (jobs.c.id, jobs.c.payload, microseconds(jobs.c.run_at), _every_seconds)
_after = jobs.c.id > bindparam("after", type_=BigInteger)

_SCHEDULE = Read(
    select(*_columns).where(jobs.c.id == bindparam("job_id", type_=BigInteger), _there)
)
_PLACES = Read(
    select(jobs.c.id, func.coalesce(func.octet_length(jobs.c.payload), 0))
    .where(_after, _there)
    .order_by(jobs.c.id)
    .limit(bindparam("most", type_=Integer))
)
_SCHEDULES = Read(
    select(*_columns)
    .where(_after, jobs.c.id <= bindparam("last", type_=BigInteger), _there)
    .order_by(jobs.c.id)
)


class Schedule(NamedTuple):
    """A schedule of which something is outstanding."""

    job_id: int
    payload: bytes | None
    run_at: int  # epoch microseconds; of one that recurs, its next occurrence
    every_seconds: float | None


class Place(NamedTuple):
    """Where a schedule is in the list, and how much it weighs."""

    job_id: int
    payload_bytes: int


async def schedule(
    source: Pool | Connection, job_id: int, *, application_id: int
) -> Schedule | None:
    """Answer a schedule; None when there is none, or nothing of it is outstanding."""
    if job_id > ID_MAX:
        return None
    row = await _SCHEDULE.row(source, job_id=job_id, application_id=application_id)
    return None if row is None else Schedule._make(row)


async def places(pool: Pool, *, application_id: int, after: int, most: int) -> list[Place]:
    """Answer where the schedules with an id above `after` are, in their order."""
    rows = await _PLACES.rows(pool, application_id=application_id, after=after, most=most)
    return [Place._make(row) for row in rows]


async def schedules_between(
    pool: Pool, *, application_id: int, after: int, last: int
) -> list[Schedule]:
    """Answer the schedules with an id above `after` and up to `last`, in their order."""
    rows = await _SCHEDULES.rows(pool, application_id=application_id, after=after, last=last)
    return [Schedule._make(row) for row in rows]
