"""What the handler reads of timers: one, a page of them. Each by the primary key of `jobs`."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import BigInteger, Integer, bindparam, func, select

from handler_service.read_parts import ours
from shared.database import Connection, Pool, Read
from shared.runs.lifecycle import JobState
from shared.runs.model import jobs

# The database's clock says how much is left, rounded up, never below nought.
_seconds_left = func.ceil(
    func.greatest(0, func.extract("epoch", jobs.c.run_at - func.clock_timestamp()))
).cast(BigInteger)

# A job that recurs is no timer.
_timers = ours & jobs.c.recurrence.is_(None)
_ours = _timers & (jobs.c.state != JobState.ENDED)

_TIMER = Read(
    select(_seconds_left).where(jobs.c.id == bindparam("timer_id", type_=BigInteger), _ours)
)
_TIMERS = Read(
    select(jobs.c.id, _seconds_left)
    .where(jobs.c.id < bindparam("before", type_=BigInteger), _ours)
    .order_by(jobs.c.id.desc())
    .limit(bindparam("most", type_=Integer))
)
_CANCELLED = Read(
    select(jobs.c.id).where(
        jobs.c.id == bindparam("timer_id", type_=BigInteger),
        _timers,
        jobs.c.state == JobState.ENDED,
    )
)
_REQUEST = Read(
    select(jobs.c.method, jobs.c.headers, jobs.c.payload.is_not(None), _seconds_left).where(
        jobs.c.id == bindparam("timer_id", type_=BigInteger), _ours
    )
)


_CLOCK = Read(select(func.clock_timestamp()))


class TimeLeft(NamedTuple):
    """A timer and the whole seconds until it is due."""

    timer_id: int
    seconds: int


class Request(NamedTuple):
    """What a timer that was not cancelled asks for, as far as an edit has to know."""

    method: str
    headers: dict[str, str] | None
    has_payload: bool
    seconds_left: int


async def time_left(pool: Pool, *, timer_id: int, application_id: int) -> int | None:
    """Answer the whole seconds until a timer is due; None for no such timer, or a cancelled one."""
    row = await _TIMER.row(pool, timer_id=timer_id, application_id=application_id)
    return None if row is None else row[0]


async def was_cancelled(pool: Pool, *, timer_id: int, application_id: int) -> bool:
    """Whether this timer was cancelled before."""
    row = await _CANCELLED.row(pool, timer_id=timer_id, application_id=application_id)
    return row is not None


async def timers(pool: Pool, *, application_id: int, before: int, most: int) -> list[TimeLeft]:
    """Answer up to `most` timers with an id below `before`, newest first."""
    rows = await _TIMERS.rows(pool, application_id=application_id, before=before, most=most)
    return [TimeLeft._make(row) for row in rows]


async def request(connection: Connection, *, timer_id: int, application_id: int) -> Request | None:
    """Answer what a timer asks for; None for no such timer, or a cancelled one."""
    row = await _REQUEST.row(connection, timer_id=timer_id, application_id=application_id)
    return None if row is None else Request._make(row)


async def clock(source: Pool | Connection) -> datetime:
    """Answer what the database's clock says."""
    [[now]] = await _CLOCK.rows(source)
    assert isinstance(now, datetime)  # noqa: S101
    return now
