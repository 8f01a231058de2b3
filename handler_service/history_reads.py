"""What the handler reads of history: attempts, the newest first.

Of one job by the key of history, which has them in the order of runs. Of all jobs by the index
of ends, which has them by state and instant: without a state, the newest of each are merged.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Integer,
    Select,
    SmallInteger,
    and_,
    bindparam,
    func,
    literal_column,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from handler_service.job_list_selects import FILTERS, MANY
from handler_service.read_parts import lent, microseconds, ours, windows
from handler_service.schemas.instants import from_microseconds
from shared.database import Connection, Pool, Read
from shared.runs.lifecycle import ExecutionState
from shared.runs.model import Instant, executions, jobs

_COLUMNS = (
    executions.c.job_id,
    microseconds(executions.c.scheduled_for),
    executions.c.attempt,
    executions.c.state,
    microseconds(executions.c.started_at),
    microseconds(executions.c.finished_at),
    executions.c.lateness_ms,
    executions.c.http_status,
    executions.c.error,
    executions.c.response,
    executions.c.executor_id,
)
_most = bindparam("most", type_=Integer)
_after = {
    "finished_at": bindparam("after_finished", type_=Instant),
    "job_id": bindparam("after_job", type_=BigInteger),
    "scheduled_for": bindparam("after_run", type_=Instant),
    "attempt": bindparam("after_attempt", type_=SmallInteger),
}
# The columns that an index has in this order, each of which tells every row from every other.
OF_JOB = ("scheduled_for", "attempt", "finished_at")
BY_END = ("finished_at", "job_id", "scheduled_for", "attempt")


class Execution(NamedTuple):
    """One attempt, or the end of a run that had none; instants in epoch microseconds."""

    job_id: int
    scheduled_for: int
    attempt: int
    state: str
    started_at: int | None
    finished_at: int
    lateness_ms: float | None
    http_status: int | None
    error: str | None
    response: bytes | None
    executor: UUID | None


class Place(NamedTuple):
    """Where an execution stands in a list."""

    finished_at: int
    job_id: int
    scheduled_for: int
    attempt: int

    @staticmethod
    def of(execution: Execution) -> "Place":
        """Answer the place of an execution."""
        return Place(*(getattr(execution, name) for name in Place._fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which executions: `most` of those that fit every field and come after a place in the list."""

    application_id: int
    state: str | None = None
    user: str | None = None
    host: str | None = None  # in lower case
    finished_from: datetime | None = None
    finished_to: datetime | None = None
    after: Place | None = None
    most: int = 50


async def of_job(
    source: Pool | Connection, job_id: int, *, after: Place | None, most: int
) -> list[Execution]:
    """Answer the executions of a job, those of its newest run first."""
    read = _of_job(is_first_page=after is None)
    rows = await read.rows(source, job_id=job_id, most=most, **_values(after))
    return [Execution._make(row) for row in rows]


async def by_end(source: Pool | Connection, wanted: Wanted) -> list[Execution]:
    """Answer executions, those that ended last first."""
    async with lent(source) as connection:
        values = await _filters(connection, wanted) | _values(wanted.after)
        latest = wanted.finished_to
        if wanted.after is not None:
            latest = from_microseconds(wanted.after.finished_at)
        rows: list[Any] = []
        # No more days are looked at than it takes.
        for earliest in windows(latest, wanted.finished_from):
            bounded = values if earliest is None else {**values, "finished_from": earliest}
            read = read_by_end(wanted.state, bounded)
            rows = await read.rows(connection, **bounded)
            if len(rows) >= wanted.most:
                break
    return [Execution._make(row) for row in rows]


def read_by_end(state: str | None, values: Mapping[str, object]) -> Read:
    """Answer the select of a list; there is one for each set of fields that may be given."""
    return _by_end(state, _FIELDS.intersection(values))


async def _filters(connection: Connection, wanted: Wanted) -> dict[str, object]:
    """Say which executions fit; where a filter leaves not too many jobs, by naming those."""
    names = ("application_id", "most", "user", "host", "finished_from", "finished_to")
    values = {name: getattr(wanted, name) for name in names if getattr(wanted, name) is not None}
    given = frozenset(_OF_JOBS).intersection(values)
    if given:
        rows = await _jobs_of(given).rows(connection, **values)
        if len(rows) <= MANY:
            values = {name: value for name, value in values.items() if name not in given}
            values["job_ids"] = [job_id for [job_id] in rows]
    return values


_OF_JOBS = {name: FILTERS[name] for name in ("user", "host")}
_FIELDS = frozenset({*_OF_JOBS, "job_ids", "finished_from", "finished_to", "after_job"})


@cache
def _jobs_of(given: frozenset[str]) -> Read:
    conditions = [_OF_JOBS[name] for name in sorted(given)]
    return Read(select(jobs.c.id).where(ours, *conditions).limit(MANY + 1), depends_on_values=True)


@cache
def _by_end(state: str | None, given: frozenset[str]) -> Read:
    """Find the places of the rows first: the index has what is asked of all that are passed."""
    if state is None:
        each = [_of_state(each, given).subquery() for each in ExecutionState]
        merged = union_all(*(select(newest) for newest in each)).subquery("merged")
        place = (merged.c[name].desc() for name in BY_END)
        places = select(merged).order_by(*place).limit(_most).subquery("places")
    else:
        places = _of_state(state, given).subquery("places")
    is_there = and_(*(executions.c[name] == places.c[name] for name in BY_END))
    statement = (
        select(*_COLUMNS)
        .select_from(places.join(executions, is_there))
        .order_by(*(places.c[name].desc() for name in BY_END))
    )
    return Read(statement, depends_on_values=True)


def _of_state(state: str, given: frozenset[str]) -> Select[Any]:
    place = tuple(executions.c[name] for name in BY_END)
    walked = select(*place).where(executions.c.state == literal_column(f"'{state}'"))
    if "finished_from" in given:
        walked = walked.where(executions.c.finished_at >= bindparam("finished_from", type_=Instant))
    if "finished_to" in given:
        walked = walked.where(executions.c.finished_at < bindparam("finished_to", type_=Instant))
    is_first = "after_job" not in given
    if not is_first:  # by a place alone no partition would be left out
        walked = walked.where(executions.c.finished_at <= _after["finished_at"])
    if "job_ids" not in given:
        conditions = [ours, *(_OF_JOBS[name] for name in sorted(given & _OF_JOBS.keys()))]
        of_ours = walked.join(jobs, jobs.c.id == executions.c.job_id).where(*conditions)
        return _in_order(of_ours, BY_END, is_first=is_first).limit(_most)
    # The jobs are looked up once, not by each partition.
    all_of_them = _in_order(walked, BY_END, is_first=is_first).offset(0).subquery("walked")
    job_ids = bindparam("job_ids", type_=ARRAY(BigInteger))
    return (
        select(all_of_them)
        .where(all_of_them.c.job_id == func.any(job_ids))
        .order_by(*(all_of_them.c[name].desc() for name in BY_END))
        .limit(_most)
    )


@cache
def _of_job(*, is_first_page: bool) -> Read:
    source = select(*_COLUMNS).where(executions.c.job_id == bindparam("job_id", type_=BigInteger))
    return Read(_in_order(source, OF_JOB, is_first=is_first_page).limit(_most))


def _in_order(source: Select[Any], order: tuple[str, ...], *, is_first: bool) -> Select[Any]:
    columns = [executions.c[name] for name in order]
    if not is_first:
        source = source.where(tuple_(*columns) < tuple_(*(_after[name] for name in order)))
    return source.order_by(*(column.desc() for column in columns))


def _values(after: Place | None) -> dict[str, object]:
    if after is None:
        return {}
    return {
        "after_finished": from_microseconds(after.finished_at),
        "after_job": after.job_id,
        "after_run": from_microseconds(after.scheduled_for),
        "after_attempt": after.attempt,
    }
