"""The selects of lists of jobs: walk an index in the order of the list, or sort a few jobs.

A list goes by one instant. Without a status, by `run_at` of jobs; what is upcoming or executing,
by `due_at` of runs; what ended, by `finished_at` of history. Labels, users and hosts have an index
of their own in the order of `run_at`. A walk is for what is common: it would look for the needle
among all that it passes. Where a filter leaves only a few jobs, those are taken, and sorted; and
where it leaves too many for that, a walk by status is told which, so that it need not visit each
job that it passes.
"""

from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Text,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    literal_column,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from handler_service.read_parts import host, is_end, microseconds, ours
from shared.database import Read
from shared.runs.lifecycle import ExecutionState, JobState, RunState
from shared.runs.model import Instant, executions, job_labels, jobs, schedules

FEW = 2_500
MANY = 10_000
# No run that was begun ends before its instant, but clocks are set.
_SLACK: ColumnElement[Any] = literal_column("interval '1 hour'")
OUTSTANDING = {"upcoming": RunState.PENDING, "executing": RunState.EXECUTING}
ENDED = {
    "succeeded": ExecutionState.DONE,
    "failed": ExecutionState.FAILED,
    "uncertain": ExecutionState.UNCERTAIN,
    "cancelled": ExecutionState.CANCELLED,
    "skipped": ExecutionState.SKIPPED,
}


class Shape(NamedTuple):
    """What is given of a list's filters; there is one select for each shape."""

    status: str | None
    given: frozenset[str]  # of user, key, host, instant_from, instant_to, after
    labels: int  # 0, 1 or 2: more than one
    is_ascending: bool


class _List(NamedTuple):
    source: FromClause
    instant: ColumnElement[Any]
    job_id: ColumnElement[int]
    conditions: list[ColumnElement[bool]]


@cache
def walk(shape: Shape) -> Read:
    """Read a page along an index that has the list's order."""
    source: FromClause = jobs
    instant: ColumnElement[Any] = jobs.c.run_at
    job_id: ColumnElement[int] = jobs.c.id
    conditions = _fits(shape)
    if shape.labels:
        source = jobs.join(job_labels, job_labels.c.job_id == jobs.c.id)
        instant, job_id = job_labels.c.run_at, job_labels.c.job_id
    if shape.status is not None:
        runs = _of_status(shape.status)
        source = source.join(runs.source, runs.job_id == jobs.c.id)
        instant, job_id = runs.instant, runs.job_id
        conditions += runs.conditions
        if shape.status in ENDED:
            # Not as a plain equation, of which the planner would believe that next to none holds.
            is_last = case((executions.c.scheduled_for == _last_run, true()), else_=false())
            conditions.append(is_last)
        else:
            conditions.append(_is_first(OUTSTANDING[shape.status]))
    conditions += _in_bounds(shape, instant, job_id)
    return _page(shape, _List(source, instant, job_id, conditions))


@cache
def sieve(shape: Shape) -> Read:
    """Read a page along an index of runs, past all that are not of the many jobs that fit.

    Of what is passed no more is asked than the index has.
    """
    assert shape.status is not None  # noqa: S101  # there are no runs to walk along without
    runs = _of_status(shape.status)
    is_over = shape.status in ENDED
    columns = [runs.job_id, runs.instant.label("instant")]
    conditions = _in_bounds(shape, runs.instant, runs.job_id)
    fit: list[ColumnElement[Any]] = [jobs.c.id]
    if is_over:
        columns.append(executions.c.scheduled_for)
        conditions += runs.conditions
        fit.append(_last_run)
    # Runs of one job may be due at one instant, as what is held by a pause is: it is listed once.
    rows = select(*columns) if is_over else select(*columns).distinct()
    walked = (
        rows.where(*conditions)
        .order_by(*_order(shape, runs.instant, runs.job_id))
        .offset(0)  # so that one table of jobs is made, not one for each partition of history
        .subquery("walked")
    )
    run = tuple_(walked.c.job_id, walked.c.scheduled_for) if is_over else walked.c.job_id
    those = select(*fit).select_from(_jobs(shape)).where(*_fits(shape)).limit(MANY)
    # So that it is looked up, not joined to: the order would be lost.
    fits: ColumnElement[bool] = case((run.in_(those), true()), else_=false())
    if is_over:
        return _page(shape, _List(walked, walked.c.instant, walked.c.job_id, [fits]))
    in_order = _order(shape, walked.c.instant, walked.c.job_id)
    sieved = select(walked).where(fits).order_by(*in_order).offset(0).subquery("sieved")
    # Not as a plain equation: see `walk`.
    is_it = case((schedules.c.due_at == sieved.c.instant, true()), else_=false())
    is_so = [is_it, *runs.conditions, _is_first(OUTSTANDING[shape.status])]
    joined = sieved.join(schedules, schedules.c.job_id == sieved.c.job_id)
    found = _List(joined, sieved.c.instant, sieved.c.job_id, is_so)
    return _page(shape, found)


@cache
def sort(shape: Shape) -> Read:
    """Read a page of the few jobs that fit, all of which are looked at."""
    few = (
        select(
            jobs.c.id,
            jobs.c.run_at,
            _last_run.label("last_run"),
            case(
                (jobs.c.state == JobState.ENDED, func.least(_last_run, jobs.c.created_at)),
                else_=_last_run,
            ).label("since"),
        )
        .select_from(_jobs(shape))
        .where(*_fits(shape))
        .limit(FEW)  # so that nothing else decides where this begins
        .subquery("few")
    )
    joined: FromClause = few
    instant: ColumnElement[Any] = few.c.run_at
    conditions: list[ColumnElement[bool]] = []
    if shape.status in OUTSTANDING:
        first = (
            select(schedules.c.due_at)
            .where(schedules.c.job_id == few.c.id, *_of_status(shape.status).conditions)
            .order_by(schedules.c.due_at)
            .limit(1)
            .correlate(few)
            .lateral("first")
        )
        joined, instant = few.join(first, true()), first.c.due_at
    elif shape.status is not None:
        # Its partitions are looked at one by one from then on, and no further than that row.
        end = (
            select(executions.c.state, executions.c.finished_at)
            .where(
                executions.c.job_id == few.c.id,
                executions.c.scheduled_for == few.c.last_run,
                executions.c.finished_at >= few.c.since - _SLACK,
                is_end,
            )
            .limit(1)
            .correlate(few)
            .lateral("last_end")
        )
        joined, instant = few.join(end, true()), end.c.finished_at
        conditions = [end.c.state == literal_column(f"'{ENDED[shape.status]}'")]
        if ENDED[shape.status] != ExecutionState.CANCELLED:  # only that ends what is still ahead
            conditions.append(few.c.last_run <= func.now() + _SLACK)
    rows = (
        select(few.c.id, instant.label("instant"))
        .select_from(joined)
        .where(*conditions)
        .offset(0)  # so that the place in the list does not choose the index
        .subquery("found")
    )
    conditions = _in_bounds(shape, rows.c.instant, rows.c.id)
    return _page(shape, _List(rows, rows.c.instant, rows.c.id, conditions))


def _jobs(shape: Shape) -> FromClause:
    return jobs.join(job_labels, job_labels.c.job_id == jobs.c.id) if shape.labels else jobs


def _of_status(status: str) -> _List:
    """Say where the runs of a status are, whether or not they are their jobs' first or last."""
    if status in ENDED:
        is_so = executions.c.state == literal_column(f"'{ENDED[status]}'")
        conditions = [is_so, executions.c.replayed_at.is_(None)]
        return _List(executions, executions.c.finished_at, executions.c.job_id, conditions)
    conditions = [schedules.c.state == literal_column(f"'{OUTSTANDING[status]}'")]
    if OUTSTANDING[status] == RunState.EXECUTING:
        # Claimed a few seconds ahead: no need to look at all that is due later.
        conditions.append(schedules.c.due_at < text("now() + interval '1 minute'"))
    return _List(schedules, schedules.c.due_at, schedules.c.job_id, conditions)


def _in_bounds(
    shape: Shape, instant: ColumnElement[Any], job_id: ColumnElement[int]
) -> list[ColumnElement[bool]]:
    """Whether it lies between the instants that are given, and comes after that place."""
    conditions: list[ColumnElement[bool]] = []
    if "instant_from" in shape.given:
        conditions.append(instant >= bindparam("instant_from", type_=Instant))
    if "instant_to" in shape.given:
        conditions.append(instant < bindparam("instant_to", type_=Instant))
    if "after" in shape.given:
        # The instant by itself once more: by a pair no partition would be left out.
        conditions += (
            [tuple_(instant, job_id) > _after, instant >= _after_instant]
            if shape.is_ascending
            else [tuple_(instant, job_id) < _after, instant <= _after_instant]
        )
    return conditions


def _page(shape: Shape, found: _List) -> Read:
    source, instant, job_id, conditions = found
    rows = (
        select(job_id.label("id"), instant.label("instant"))
        .select_from(source)
        .where(*conditions)
        .order_by(*_order(shape, instant, job_id))
        .limit(bindparam("most", type_=Integer))
        .subquery("page")
    )
    never = literal_column("'infinity'::timestamptz", type_=Instant)
    columns: list[ColumnElement[Any]] = [
        rows.c.id,
        microseconds(func.nullif(rows.c.instant, never)),
        func.octet_length(jobs.c.payload),
    ]
    statement = (
        select(*columns)
        .select_from(rows.join(jobs, jobs.c.id == rows.c.id))
        .order_by(*_order(shape, rows.c.instant, rows.c.id))
    )
    return Read(statement, depends_on_values=True)


def _order(shape: Shape, *place: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    return [column if shape.is_ascending else column.desc() for column in place]


def _fits(shape: Shape) -> list[ColumnElement[bool]]:
    """Whether a job fits every field that is given, but for those that say when and how it ran."""
    conditions = [ours]
    conditions += [FILTERS[name] for name in ("user", "key", "host") if name in shape.given]
    if shape.labels:
        conditions.append(labelled)
    if shape.labels > 1:
        labels = bindparam("labels", type_=ARRAY(JSONB))
        conditions.append(jobs.c.labels.op("@>")(func.all(labels)))
    return conditions


def _is_first(state: RunState) -> ColumnElement[bool]:
    """Whether none of its job's other runs that stand so is due before it: a job is listed once."""
    other = schedules.alias("other")
    return ~exists(
        select(other.c.job_id).where(
            other.c.job_id == schedules.c.job_id,
            other.c.state == literal_column(f"'{state}'"),
            tuple_(other.c.due_at, other.c.scheduled_for)
            < tuple_(schedules.c.due_at, schedules.c.scheduled_for),
        )
    )


# Of a job that runs once its last run is its own, unless that is still ahead and a person asked for
# another one before it.
_last_run = case(
    (jobs.c.recurrence.is_not(None), jobs.c.last_run_for),
    (jobs.c.last_run_for.is_(None), jobs.c.run_at),
    (jobs.c.last_run_for >= jobs.c.run_at, jobs.c.last_run_for),
    (
        exists(
            select(schedules.c.job_id)
            .where(schedules.c.job_id == jobs.c.id, schedules.c.scheduled_for == jobs.c.run_at)
            .correlate(jobs)
        ),
        jobs.c.last_run_for,
    ),
    else_=jobs.c.run_at,
)
FILTERS: dict[str, ColumnElement[bool]] = {
    "user": jobs.c.user_id == bindparam("user", type_=Text),
    # Written out, so that the planner sees that the index of keys holds all of them.
    "key": and_(
        jobs.c.key == bindparam("key", type_=Text),
        text("jobs.key is not null and jobs.state <> 'ended'"),
    ),
    "host": host == bindparam("host", type_=Text),
}
labelled = and_(
    job_labels.c.application_id == bindparam("application_id", type_=Integer),
    job_labels.c.name == bindparam("label_name", type_=Text),
    job_labels.c.value == bindparam("label_value", type_=Text),
)
_after_instant = bindparam("after", type_=Text).cast(Instant)
_after = tuple_(_after_instant, bindparam("after_job", type_=BigInteger))
