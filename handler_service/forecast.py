"""`GET /forecast`: how many runs are due, and when."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import BigInteger, Integer, bindparam, func, literal_column, select

from handler_service import answers, scans
from handler_service.context import Context
from handler_service.openapi import problems
from handler_service.problems import TooMuchToCount
from handler_service.schemas.figures import ForecastOut, ForecastQuery
from handler_service.schemas.instants import (
    MICROSECOND,
    from_microseconds,
    microseconds,
    write_instant,
)
from shared.database import Read
from shared.recurrence import InvalidRule, Recurrence, occurrences
from shared.runs.lifecycle import JobState, RunState
from shared.runs.model import Instant, jobs, schedules

FORECAST_SECONDS_MAX = 20.0
RULES_MAX = 10_000  # that differ, or whose next occurrences do
OCCURRENCES_MAX = 200_000
# Reckoning shares the processor with everyone whom this process serves.
RECKON_SECONDS_MAX = 2.0
OCCURRENCES_AT_ONCE = 100  # between two looks at the time
OVERDUE = -1

router = APIRouter(tags=["history"])

_ours = jobs.c.application_id == bindparam("application_id", type_=Integer)
_start = bindparam("start", type_=Instant)
_seconds = bindparam("seconds", type_=Integer)
_bucket = func.floor(func.extract("epoch", schedules.c.due_at - _start) / _seconds).cast(Integer)
_NOW = Read(select(func.now()))
# By index schedules_due. What a paused job holds is due never.
_DUE = Read(
    select(func.greatest(OVERDUE, _bucket).label("bucket"), func.count())
    .select_from(schedules.join(jobs, jobs.c.id == schedules.c.job_id))
    .where(
        schedules.c.due_at < bindparam("end", type_=Instant),
        schedules.c.state == RunState.PENDING,
        _ours,
    )
    .group_by(literal_column("bucket"))
)
# By index schedules_next_due. A job that occurs for the first time after the end occurs never here.
_RECURRING = Read(
    select(
        jobs.c.recurrence,
        schedules.c.scheduled_for,
        (jobs.c.recurrence["max_runs"].astext.cast(Integer) - jobs.c.runs_begun - 1).label(
            "runs_left"
        ),
        (
            func.floor(func.coalesce(schedules.c.spread_seconds, 0) / _seconds).cast(BigInteger)
            * _seconds
        ).label("spread"),
        func.count().label("jobs"),
    )
    .select_from(schedules.join(jobs, jobs.c.id == schedules.c.job_id))
    .where(
        schedules.c.is_next,
        schedules.c.due_at < bindparam("end", type_=Instant),
        jobs.c.state == JobState.ACTIVE,
        _ours,
    )
    .group_by(literal_column("1"), literal_column("2"), literal_column("3"), literal_column("4"))
    .order_by(literal_column("jobs").desc())
    .limit(RULES_MAX + 1)
)


class Recurring(NamedTuple):
    """Jobs that recur alike, and from the same occurrence on."""

    recurrence: dict[str, Any]
    next_for: datetime
    runs_left: int | None  # after that one; None: no limit
    spread_seconds: int  # of jitter, in whole buckets
    jobs: int


class Buckets(NamedTuple):
    """The buckets that are asked about, and where they lie."""

    start: datetime
    end: datetime
    seconds: int

    @classmethod
    def of(cls, asked: ForecastQuery, now: datetime) -> "Buckets":
        """Begin with the one that is now; each at a multiple of its length, since 1970."""
        width = asked.bucket * 1_000_000
        start = from_microseconds(microseconds(now) // width * width)
        count = -(-asked.horizon // asked.bucket)
        return cls(start, start + timedelta(seconds=count * asked.bucket), asked.bucket)

    def number(self, instant: datetime) -> int:
        """Say in which bucket an instant lies, from 0."""
        return (instant - self.start) // timedelta(seconds=self.seconds)


@router.get(
    "/forecast",
    response_model=ForecastOut,
    summary="Count what is due",
    operation_id="readForecast",
    response_description="Every bucket",
    responses=problems(422, TooMuchToCount()),
)
async def get_forecast(request: Request, asked: Annotated[ForecastQuery, Query()]) -> Response:
    """Count the runs that are due within each bucket of the time to come, as things stand.

    Runs that are pending, retries included, and the occurrences of jobs that recur; not what is
    held by a pause. An occurrence that jitter puts off may be counted a bucket early.
    """
    context = Context.of(request)
    async with scans.snapshot(context, seconds=FORECAST_SECONDS_MAX) as connection:
        [[now]] = await _NOW.rows(connection)
        buckets = Buckets.of(asked, now)
        values = {**buckets._asdict(), "application_id": context.application_id}
        due: Counter[int] = Counter(dict(await _DUE.rows(connection, **values)))
        found = [Recurring._make(row) for row in await _RECURRING.rows(connection, **values)]
    # Some rules take milliseconds: not in the event loop.
    later, is_complete = await asyncio.to_thread(reckon, found[:RULES_MAX], buckets)
    due.update(later)
    count = buckets.number(buckets.end)
    return answers.json(
        {
            "bucket": asked.bucket,
            "overdue": due[OVERDUE],
            "data": [
                {"at": _write(buckets, number), "runs": due[number]} for number in range(count)
            ],
            "complete": is_complete and len(found) <= RULES_MAX,
        }
    )


def reckon(recurring: Sequence[Recurring], buckets: Buckets) -> tuple[Counter[int], bool]:
    """Count occurrences after the next ones, by bucket; say whether those are all.

    Bounded in number and time.
    """
    counts: Counter[int] = Counter()
    deadline, left, is_complete = monotonic() + RECKON_SECONDS_MAX, OCCURRENCES_MAX, True
    for each in recurring:
        spread = timedelta(seconds=each.spread_seconds)
        after = max(each.next_for, buckets.start - spread - MICROSECOND)
        until = buckets.end - spread - MICROSECOND
        wanted = left if each.runs_left is None else min(left, each.runs_left)
        try:
            rule = Recurrence.read(each.recurrence)
            while wanted > 0 and monotonic() < deadline:
                most = min(wanted, OCCURRENCES_AT_ONCE)
                found = occurrences(rule, after, until=until, most=most)
                counts.update(
                    {
                        number: runs * each.jobs
                        for number, runs in Counter(
                            buckets.number(instant + spread) for instant in found
                        ).items()
                    }
                )
                left, wanted = left - len(found), wanted - len(found)
                if len(found) < most:
                    break
                after = found[-1]
        except (ValueError, InvalidRule):  # it will be paused when it is due
            is_complete = False
        if left <= 0 or monotonic() >= deadline:
            return counts, False
    return counts, is_complete


def _write(buckets: Buckets, number: int) -> str:
    return write_instant(microseconds(buckets.start + timedelta(seconds=number * buckets.seconds)))
