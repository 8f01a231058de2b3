"""What the handler reads of a job: itself, what is outstanding of it, how its last run ended.

The first two in one select, by the keys of `jobs` and `schedules`; the last, for all jobs of a page
together, by the key of history.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    and_,
    bindparam,
    column,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from handler_service.read_parts import is_end, microseconds, ours
from handler_service.schemas.instants import LAST, from_microseconds
from shared.database import Connection, Pool, Read
from shared.runs.lifecycle import ExecutionState, JobState, RunState
from shared.runs.model import Instant, executions, jobs, schedules

# No run that was begun ends before its instant, but clocks are set.
SLACK_US = 3_600_000_000
# How a status is called that is a run's end under another name.
STATUSES = {ExecutionState.DONE.value: "succeeded"}

outstanding = (
    select(
        func.count().label("runs"),
        func.bool_or(schedules.c.state == RunState.EXECUTING).label("executes"),
        func.bool_or(and_(schedules.c.state == RunState.PENDING, schedules.c.attempt > 0)).label(
            "retries"
        ),
        func.bool_or(
            schedules.c.scheduled_for == func.coalesce(jobs.c.last_run_for, jobs.c.run_at)
        ).label("has_newest"),
        # A paused job's runs are due never.
        func.nullif(
            func.min(schedules.c.due_at).filter(schedules.c.state == RunState.PENDING),
            literal_column("'infinity'::timestamptz", type_=Instant),
        ).label("next_run_at"),
    )
    .where(schedules.c.job_id == jobs.c.id)
    .correlate(jobs)
    .lateral("outstanding")
)
JOB_COLUMNS = (
    jobs.c.id,
    jobs.c.url,
    jobs.c.method,
    jobs.c.headers,
    jobs.c.payload,
    microseconds(jobs.c.run_at),
    jobs.c.delay_seconds,
    jobs.c.recurrence,
    jobs.c.user_id,
    jobs.c.key,
    jobs.c.labels,
    jobs.c.timeout_seconds,
    jobs.c.retry,
    jobs.c.delivery,
    jobs.c.max_lateness_seconds,
    jobs.c.state,
    microseconds(jobs.c.created_at),
    microseconds(jobs.c.updated_at),
    jobs.c.version,
    microseconds(jobs.c.last_run_for),
    jobs.c.runs_made,
    outstanding.c.runs,
    outstanding.c.executes,
    outstanding.c.retries,
    outstanding.c.has_newest,
    microseconds(outstanding.c.next_run_at),
)
_JOBS = Read(
    select(*JOB_COLUMNS)
    .select_from(jobs.join(outstanding, true()))
    .where(jobs.c.id == func.any(bindparam("job_ids", type_=ARRAY(BigInteger))), ours)
)

_wanted = (
    func.unnest(
        bindparam("job_ids", type_=ARRAY(BigInteger)),
        bindparam("runs", type_=ARRAY(Instant)),
        bindparam("since", type_=ARRAY(Instant)),
    )
    .table_valued(column("job_id", BigInteger), column("run", Instant), column("since", Instant))
    .render_derived(name="wanted")
)


def _last_runs(*, is_exact: bool) -> Read:
    """Find how runs ended: those asked for, or the newest of each job that is older than that.

    A run has one row that ends it, so the partitions are looked at one by one from `since` on, and
    no further than that row.
    """
    ended = select(
        microseconds(executions.c.scheduled_for).label("scheduled_for"),
        executions.c.state,
        executions.c.attempt,
        microseconds(executions.c.started_at).label("started_at"),
        microseconds(executions.c.finished_at).label("finished_at"),
        executions.c.lateness_ms,
        executions.c.http_status,
        executions.c.error,
    ).where(
        executions.c.job_id == _wanted.c.job_id,
        executions.c.finished_at >= _wanted.c.since,
        is_end,
    )
    if is_exact:
        ended = ended.where(executions.c.scheduled_for == _wanted.c.run)
    else:
        ended = ended.where(executions.c.scheduled_for <= _wanted.c.run).order_by(
            executions.c.scheduled_for.desc()
        )
    found = ended.limit(1).correlate(_wanted).lateral("found")
    return Read(select(_wanted.c.job_id, *found.c).select_from(_wanted.join(found, true())))


_RUNS = _last_runs(is_exact=True)
_NEWEST_RUNS = _last_runs(is_exact=False)


class LastRun(NamedTuple):
    """How a run ended; instants in epoch microseconds."""

    scheduled_for: int
    state: str
    attempt: int
    started_at: int | None
    finished_at: int
    lateness_ms: float | None
    http_status: int | None
    error: str | None


class Job(NamedTuple):
    """A job and how it fares; instants in epoch microseconds."""

    job_id: int
    url: str
    method: str
    headers: dict[str, str] | None
    payload: bytes | None
    run_at: int
    delay_seconds: float | None
    recurrence: dict[str, Any] | None
    user_id: str | None
    key: str | None
    labels: dict[str, str] | None
    timeout_seconds: float
    retry: dict[str, Any] | None
    delivery: str
    max_lateness_seconds: float | None
    owner_wants: str  # `JobState`
    created_at: int
    updated_at: int
    version: int
    last_run_for: int | None
    runs_made: int
    runs_outstanding: int
    executes: bool | None  # None: nothing is outstanding
    retries: bool | None
    newest_is_outstanding: bool | None
    next_run_at: int | None
    last_run: LastRun | None = None

    @property
    def state(self) -> str:
        """What is to be said of it: a job of which nothing is left to run has ended."""
        return self.owner_wants if self.runs_outstanding else JobState.ENDED

    @property
    def status(self) -> str:
        """Where its newest run stands."""
        if self.executes:
            return "executing"
        if self.retries:
            return "retrying"
        # Its history may have been dropped: then all that is known is that it was called, or not.
        if self.runs_outstanding:
            return "upcoming"
        if self.last_run is None:
            return "cancelled" if self.owner_wants == JobState.ENDED else "succeeded"
        return STATUSES.get(self.last_run.state, self.last_run.state)


async def jobs_of(
    source: Pool | Connection, job_ids: Sequence[int], *, application_id: int
) -> list[Job]:
    """Answer jobs in the order asked, whatever became of them; leave out those that are not."""
    found = await without_last_runs(source, job_ids, application_id=application_id)
    return await with_last_runs(source, found)


async def without_last_runs(
    source: Pool | Connection, job_ids: Sequence[int], *, application_id: int
) -> list[Job]:
    """Answer jobs as `jobs_of` does, but not how their last runs ended."""
    rows = await _JOBS.rows(source, job_ids=list(job_ids), application_id=application_id)
    found = {job.job_id: job for job in (Job(*row) for row in rows)}
    return [found[each] for each in job_ids if each in found]


async def with_last_runs(source: Pool | Connection, found: Sequence[Job]) -> list[Job]:
    """Answer the jobs with how their last runs ended."""
    runs: list[_Run] = []
    newest: list[_Run] = []
    for each in found:
        _seek(each, runs, newest)
    ended: dict[int, LastRun] = {}
    for read, wanted in ((_RUNS, runs), (_NEWEST_RUNS, newest)):
        if wanted:
            job_ids, instants, since = map(list, zip(*wanted, strict=True))
            rows = await read.rows(source, job_ids=job_ids, runs=instants, since=since)
            ended |= {job_id: LastRun._make(rest) for job_id, *rest in rows}
    return [each._replace(last_run=ended.get(each.job_id)) for each in found]


class _Run(NamedTuple):
    job_id: int
    instant: datetime
    since: datetime  # it did not end before


def _seek(found: Job, runs: list[_Run], newest: list[_Run]) -> None:
    """Say where a job's last run is to be found: mostly its row says which run that was."""
    only_one = found.recurrence is None and found.runs_made == 1
    instant = found.run_at if only_one else found.last_run_for
    if only_one or found.recurrence is not None:
        if instant is None and found.runs_made == 1:
            return  # it has had none
        if only_one and found.newest_is_outstanding:
            return
        if instant is not None and not found.newest_is_outstanding:
            since = instant - SLACK_US
            if found.owner_wants == JobState.ENDED:  # cancelled before its instant, perhaps
                since = min(since, found.created_at)
            runs.append(_Run(found.job_id, from_microseconds(instant), from_microseconds(since)))
            return
    newest.append(_Run(found.job_id, LAST, from_microseconds(found.created_at)))
