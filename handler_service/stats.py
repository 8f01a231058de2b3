"""`GET /stats`: what happened within a span of time, by the hour, day, outcome or user."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from psycopg.rows import TupleRow
from sqlalchemy import (
    ColumnElement,
    Integer,
    bindparam,
    func,
    literal_column,
    select,
    text,
)

from handler_service import answers, scans
from handler_service.context import Context
from handler_service.ledger import ENDS, is_end
from handler_service.openapi import problems
from handler_service.problems import InvalidRequest, TooMuchToCount
from handler_service.reads import clock
from handler_service.schemas.figures import SPAN_MAX, StatsOut, StatsQuery
from handler_service.schemas.instants import microseconds, write_instant
from handler_service.violations import Violation
from shared.database import Read
from shared.runs.model import Instant, executions, jobs

STATS_SECONDS_MAX = 30.0
ROWS_MAX = 10_000
SPAN_DEFAULT = timedelta(days=1)
FIRST_PERCENTILES = ("p50", "p95", "p99")

router = APIRouter(tags=["history"])

_COLUMNS: dict[str, ColumnElement[Any]] = {
    "hour": func.date_trunc("hour", executions.c.finished_at, "UTC"),
    "day": func.date_trunc("day", executions.c.finished_at, "UTC"),
    "status": executions.c.state,
    "user": jobs.c.user_id,
}
# A run that was cancelled or skipped was not attempted then.
_is_attempt = text("executions.state not in ('cancelled', 'skipped')")
# Later attempts are planned by the retry policy; how punctual we are is told by the first.
_lateness: ColumnElement[Any] = literal_column(
    "percentile_disc(array[0.5, 0.95, 0.99]) within group (order by executions.lateness_ms) "
    "filter (where executions.attempt = 1)"
)


@router.get(
    "/stats",
    response_model=StatsOut,
    summary="Count what happened",
    operation_id="readStats",
    response_description="A row for each group",
    responses=problems(422, TooMuchToCount()),
)
async def get_stats(request: Request, asked: Annotated[StatsQuery, Query()]) -> Response:
    """Count runs that ended, attempts, and how late first attempts began, within a span of time.

    By the last day, unless told otherwise. Of jobs that are still kept.
    """
    context = Context.of(request)
    start, end = _span(asked, await clock(context.pool))
    values = {"application_id": context.application_id, "start": start, "end": end}
    async with scans.snapshot(context, seconds=STATS_SECONDS_MAX) as connection:
        rows = await _read(asked.groups).rows(connection, **values)
    if len(rows) > ROWS_MAX:
        detail = f"Must make {ROWS_MAX:,} rows at most; group by less, or ask for a shorter span."
        raise InvalidRequest([Violation("group_by", detail)])
    return answers.json(
        {
            "from": write_instant(microseconds(start)),
            "to": write_instant(microseconds(end)),
            "data": [_out(asked.groups, row) for row in rows],
        }
    )


def _span(asked: StatsQuery, now: datetime) -> tuple[datetime, datetime]:
    """Say from when to when; refuse what is none, or longer than we count."""
    end = asked.to or now
    start = asked.from_ or max(end, datetime.min.replace(tzinfo=end.tzinfo) + SPAN_DEFAULT)
    if asked.from_ is None:
        start -= SPAN_DEFAULT
    until = "`to`" if asked.to else "now"
    if start >= end:
        raise InvalidRequest([Violation("from", f"Must be before {until}.")])
    if end - start > SPAN_MAX:
        detail = f"Must be {SPAN_MAX.days} days before {until} at most; ask for less at once."
        raise InvalidRequest([Violation("from", detail)])
    return start, end


@lru_cache(maxsize=16)
def _read(groups: Sequence[str]) -> Read:
    """By index executions_by_end or the day's partitions, whichever is less to read."""
    keys = [_COLUMNS[name].label(f"group_{name}") for name in groups]
    names: list[ColumnElement[Any]] = [literal_column(key.name) for key in keys]
    return Read(
        select(
            *keys,
            *(
                func.count().filter(is_end, literal_column("executions.state") == text(f"'{end}'"))
                for end in ENDS
            ),
            func.count().filter(_is_attempt),
            _lateness,
        )
        .select_from(executions.join(jobs, jobs.c.id == executions.c.job_id))
        .where(
            jobs.c.application_id == bindparam("application_id", type_=Integer),
            executions.c.finished_at >= bindparam("start", type_=Instant),
            executions.c.finished_at < bindparam("end", type_=Instant),
        )
        .group_by(*names)
        .order_by(*names)
        .limit(ROWS_MAX + 1)
    )


def _out(groups: Sequence[str], row: TupleRow) -> dict[str, Any]:
    keys, counts = row[: len(groups)], row[len(groups) :]
    *ended, attempts, lateness = counts
    return {
        **{
            name: write_instant(microseconds(key)) if isinstance(key, datetime) else key
            for name, key in zip(groups, keys, strict=True)
        },
        "ended": dict(zip(ENDS, ended, strict=True)),
        "attempts": attempts,
        "lateness_ms": dict(
            zip(FIRST_PERCENTILES, lateness or [None] * len(FIRST_PERCENTILES), strict=True)
        ),
    }
