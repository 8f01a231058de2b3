"""What the handler reads of dead letters: a page by their index, one by the key of its run."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    Text,
    bindparam,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    union_all,
)

from handler_service.read_parts import host, microseconds, ours
from shared.database import Pool, Read
from shared.runs.lifecycle import JobState
from shared.runs.model import Instant, executions, jobs, schedules

# Written out, so that the planner sees that the partial index holds all of them.
_is_dead = text("executions.state in ('failed', 'uncertain') and executions.replayed_at is null")
_with_job = executions.join(jobs, jobs.c.id == executions.c.job_id)
_place = (executions.c.finished_at, executions.c.job_id, executions.c.scheduled_for)
_state = bindparam("state", type_=Text)
_of_host = bindparam("host", type_=Text)
_DEAD_LETTERS = Read(
    select(
        executions.c.job_id,
        microseconds(executions.c.scheduled_for),
        executions.c.state,
        executions.c.attempt,
        microseconds(executions.c.started_at),
        microseconds(executions.c.finished_at),
        executions.c.lateness_ms,
        executions.c.http_status,
        executions.c.error,
        executions.c.response,
        host,
    )
    .select_from(_with_job)
    .where(
        _is_dead,
        ours,
        executions.c.finished_at >= bindparam("finished_from", type_=Instant),
        executions.c.finished_at < bindparam("finished_to", type_=Instant),
        tuple_(*_place)
        < tuple_(
            bindparam("before_finished", type_=Instant),
            bindparam("before_job", type_=BigInteger),
            bindparam("before_run", type_=Instant),
        ),
        or_(_state.is_(None), executions.c.state == _state),
        or_(_of_host.is_(None), host == _of_host),
    )
    .order_by(*(column.desc() for column in _place))
    .limit(bindparam("most", type_=Integer))
)


def _is_run(job_id: Column[int], scheduled_for: Column[datetime]) -> ColumnElement[bool]:
    return (
        (job_id == bindparam("job_id", type_=BigInteger))
        & (scheduled_for >= bindparam("run_from", type_=Instant))
        & (scheduled_for < bindparam("run_to", type_=Instant))
    )


_LETTERS_OF_RUN = Read(
    select(
        microseconds(executions.c.scheduled_for),
        microseconds(executions.c.finished_at),
        executions.c.attempt,
        jobs.c.state == JobState.ENDED,
    )
    .select_from(_with_job)
    .where(_is_run(executions.c.job_id, executions.c.scheduled_for), _is_dead, ours)
    .limit(2)
)
_steps = union_all(
    select(schedules.c.state, literal_column("'infinity'::timestamptz").label("at")).where(
        _is_run(schedules.c.job_id, schedules.c.scheduled_for)
    ),
    select(executions.c.state, executions.c.finished_at).where(
        _is_run(executions.c.job_id, executions.c.scheduled_for)
    ),
).subquery()
_STATE_OF_RUN = Read(
    select(_steps.c.state)
    .select_from(_steps.join(jobs, jobs.c.id == bindparam("job_id", type_=BigInteger)))
    .where(ours)
    .order_by(_steps.c.at.desc())
    .limit(1)
)


class Wanted(NamedTuple):
    """Which dead letters to read: `most` of those that come after a place in the list.

    A place is when a letter ended, its job, and its instant.
    """

    application_id: int
    state: str | None
    host: str | None
    finished_from: datetime
    finished_to: datetime
    before_finished: datetime
    before_job: int
    before_run: datetime
    most: int


class Runs(NamedTuple):
    """A job's runs that were planned within a span of time."""

    application_id: int
    job_id: int
    run_from: datetime
    run_to: datetime


class DeadLetter(NamedTuple):
    """A run that failed for good, or of which nobody knows; instants in epoch microseconds."""

    job_id: int
    scheduled_for: int
    state: str
    attempt: int
    started_at: int | None
    finished_at: int
    lateness_ms: float | None
    http_status: int | None
    error: str | None
    response: bytes | None
    host: str


class LetterOfRun(NamedTuple):
    """As much of a dead letter as it takes to replay it; instants in epoch microseconds."""

    scheduled_for: int
    finished_at: int
    attempt: int
    is_of_ended_job: bool


async def dead_letters(pool: Pool, wanted: Wanted) -> list[DeadLetter]:
    """Answer dead letters, newest first."""
    rows = await _DEAD_LETTERS.rows(pool, **wanted._asdict())
    return [DeadLetter._make(row) for row in rows]


async def letters_of(pool: Pool, runs: Runs) -> list[LetterOfRun]:
    """Answer the dead letters, two at most, of these runs."""
    rows = await _LETTERS_OF_RUN.rows(pool, **runs._asdict())
    return [LetterOfRun._make(row) for row in rows]


async def state_of(pool: Pool, runs: Runs) -> str | None:
    """Answer where these runs stand, the latest word on one of them; None: there are none."""
    row = await _STATE_OF_RUN.row(pool, **runs._asdict())
    return None if row is None else row[0]
