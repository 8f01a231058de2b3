"""Which jobs are on a page of a list: their ids, by an index that has them in its order.

A list goes by one instant. Without a status, by `run_at` of jobs; what is upcoming or executing,
by `due_at` of runs; what ended, by `finished_at` of history. Labels, users and hosts have an index
of their own in the order of `run_at`. Where two filters compete, Postgres says which is rarer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from handler_service.read_parts import host, microseconds, ours
from handler_service.schemas.instants import from_microseconds
from shared.database import Connection, Pool, Read
from shared.runs.lifecycle import ExecutionState, RunState
from shared.runs.model import Instant, executions, job_labels, jobs, schedules

OUTSTANDING = {"upcoming": RunState.PENDING, "executing": RunState.EXECUTING}
ENDED = {
    "succeeded": ExecutionState.DONE,
    "failed": ExecutionState.FAILED,
    "uncertain": ExecutionState.UNCERTAIN,
    "cancelled": ExecutionState.CANCELLED,
    "skipped": ExecutionState.SKIPPED,
}


class Place(NamedTuple):
    """Where a job stands in a list."""

    job_id: int
    instant: int | None  # epoch microseconds; None: never, it is held by a pause
    payload_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which jobs: `most` of those that fit every field and come after a place in the list."""

    application_id: int
    status: str | None = None
    user: str | None = None
    key: str | None = None
    labels: Sequence[tuple[str, str]] = ()
    host: str | None = None  # in lower case
    instant_from: datetime | None = None
    instant_to: datetime | None = None
    after: Place | None = None
    is_ascending: bool = False
    most: int = 50


async def places(source: Pool | Connection, wanted: Wanted) -> list[Place]:
    """Answer the places of jobs, in order."""
    values: dict[str, Any] = {
        "application_id": wanted.application_id,
        "user": wanted.user,
        "key": wanted.key,
        "host": wanted.host,
        "instant_from": wanted.instant_from,
        "instant_to": wanted.instant_to,
        "most": wanted.most,
    }
    if wanted.labels:
        values["label_name"], values["label_value"] = wanted.labels[0]
        values["labels"] = [Jsonb({name: value}) for name, value in wanted.labels]
    if wanted.after is not None:
        values["after_job"], instant = wanted.after.job_id, wanted.after.instant
        values["after"] = "infinity" if instant is None else from_microseconds(instant).isoformat()
    rows = await read_for(wanted).rows(
        source, **{name: value for name, value in values.items() if value is not None}
    )
    return [Place._make(row) for row in rows]


def read_for(wanted: Wanted) -> Read:
    """Answer the select of a list; there is one for each set of fields that may be given."""
    given = {
        name for name in ("user", "key", "host", "instant_from", "instant_to", "after")
        if getattr(wanted, name) is not None
    }  # fmt: skip
    labels = min(len(wanted.labels), 2)
    return _read(wanted.status, frozenset(given), labels, is_ascending=wanted.is_ascending)


@cache
def _read(status: str | None, given: frozenset[str], labels: int, *, is_ascending: bool) -> Read:
    source, instant, job_id, conditions = _source(status, has_label=labels > 0)
    conditions += [_CONDITIONS[name] for name in ("user", "key", "host") if name in given]
    if labels > 1:
        conditions.append(_has_labels)
    if "instant_from" in given:
        conditions.append(instant >= bindparam("instant_from", type_=Instant))
    if "instant_to" in given:
        conditions.append(instant < bindparam("instant_to", type_=Instant))
    place = tuple_(instant, job_id)
    if "after" in given:
        conditions.append(place > _after if is_ascending else place < _after)
    order = [instant, job_id] if is_ascending else [instant.desc(), job_id.desc()]
    never = literal_column("'infinity'::timestamptz", type_=Instant)
    columns = (job_id, microseconds(func.nullif(instant, never)), func.octet_length(jobs.c.payload))
    statement: Select[Any] = (
        select(*columns)
        .select_from(source)
        .where(ours, *conditions)
        .order_by(*order)
        .limit(bindparam("most", type_=Integer))
    )
    return Read(statement, depends_on_values=True)


def _source(
    status: str | None, *, has_label: bool
) -> tuple[FromClause, ColumnElement[Any], ColumnElement[int], list[ColumnElement[bool]]]:
    """Say where a list is read from, by which instant and job, and what makes a row one of it."""
    source: FromClause
    if status in OUTSTANDING:
        source = schedules.join(jobs, jobs.c.id == schedules.c.job_id)
        instant, job_id = schedules.c.due_at, schedules.c.job_id
        conditions = _is_first(OUTSTANDING[status])
        if OUTSTANDING[status] == RunState.EXECUTING:
            conditions.append(_may_have_begun)
    elif status is not None:
        source = executions.join(jobs, jobs.c.id == executions.c.job_id)
        instant, job_id = executions.c.finished_at, executions.c.job_id
        conditions = _is_last(ENDED[status])
    elif has_label:
        source = job_labels.join(jobs, jobs.c.id == job_labels.c.job_id)
        return source, job_labels.c.run_at, job_labels.c.job_id, [*_labelled]
    else:
        return jobs, jobs.c.run_at, jobs.c.id, []
    if has_label:
        source = source.join(job_labels, job_labels.c.job_id == jobs.c.id)
        conditions = [*conditions, *_labelled]
    return source, instant, job_id, conditions


def _is_first(state: RunState) -> list[ColumnElement[bool]]:
    """Whether a run is the first that stands so of its job, which is listed once."""
    other = schedules.alias("other")
    return [
        schedules.c.state == literal_column(f"'{state}'"),
        ~exists(
            select(other.c.job_id).where(
                other.c.job_id == schedules.c.job_id,
                other.c.state == literal_column(f"'{state}'"),
                tuple_(other.c.due_at, other.c.scheduled_for)
                < tuple_(schedules.c.due_at, schedules.c.scheduled_for),
            )
        ),
    ]


def _is_last(state: ExecutionState) -> list[ColumnElement[bool]]:
    """Whether an execution ended the last run of its job, so.

    Of a job that runs once that is its run, unless it is still ahead and a person asked for another
    one before.
    """
    is_ahead = exists(
        select(schedules.c.job_id).where(
            schedules.c.job_id == jobs.c.id, schedules.c.scheduled_for == jobs.c.run_at
        )
    )
    last_run = case(
        (jobs.c.recurrence.is_not(None), jobs.c.last_run_for),
        (jobs.c.last_run_for.is_(None), jobs.c.run_at),
        (jobs.c.last_run_for >= jobs.c.run_at, jobs.c.last_run_for),
        (is_ahead, jobs.c.last_run_for),
        else_=jobs.c.run_at,
    )
    return [
        executions.c.state == literal_column(f"'{state}'"),
        executions.c.replayed_at.is_(None),
        executions.c.scheduled_for == last_run,
    ]


_CONDITIONS: dict[str, ColumnElement[bool]] = {
    "user": jobs.c.user_id == bindparam("user", type_=Text),
    # Written out, so that the planner sees that the index of keys holds all of them.
    "key": and_(
        jobs.c.key == bindparam("key", type_=Text),
        text("jobs.key is not null and jobs.state <> 'ended'"),
    ),
    "host": host == bindparam("host", type_=Text),
}
# Claimed a few seconds ahead at most: no need to look at all that is due later.
_may_have_begun = schedules.c.due_at < text("now() + interval '1 minute'")
_labelled = (
    job_labels.c.application_id == bindparam("application_id", type_=Integer),
    job_labels.c.name == bindparam("label_name", type_=Text),
    job_labels.c.value == bindparam("label_value", type_=Text),
)
_has_labels = jobs.c.labels.op("@>")(func.all(bindparam("labels", type_=ARRAY(JSONB))))
_after = tuple_(
    bindparam("after", type_=Text).cast(Instant), bindparam("after_job", type_=BigInteger)
)
