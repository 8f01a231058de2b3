"""`GET /jobs/export`: every job that is still to run, in the form in which it is created."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import BigInteger, Integer, bindparam, func, null, select

from handler_service import job_reads, planning
from handler_service.context import Context
from handler_service.job_list_reads import Place
from handler_service.job_lists import that_fit
from handler_service.job_reads import Job
from handler_service.openapi import problems
from handler_service.read_parts import ours
from handler_service.schemas.instants import microseconds, write_instant
from handler_service.schemas.job_out import payload_out
from handler_service.schemas.retry import said_by
from shared.database import Failure, Pool, Read
from shared.recurrence import Recurrence
from shared.runs.lifecycle import JobState, RunState
from shared.runs.model import jobs, schedules
from shared.runs.policy import RetryPolicy

MEDIA_TYPE = "application/x-ndjson"
PAGE_JOBS = 300
EXAMPLE = (
    '{"url":"https://example.com/report","cron":"0 9 * * MON-FRI","timezone":"Europe/Paris",'
    '"catch_up":"one","overlap":"skip","dst":{"gap":"after","fold":"first"},'
    '"payload":{"report":"daily"},"key":"daily-report","labels":{"team":"billing"}}\n'
)

router = APIRouter(tags=["jobs"])
log = structlog.stdlib.get_logger(__name__)
# By the primary key of `schedules`, which holds nothing that is over.
_NEXT_JOBS = Read(
    select(schedules.c.job_id, null(), func.max(func.octet_length(jobs.c.payload)))
    .select_from(schedules.join(jobs, jobs.c.id == schedules.c.job_id))
    .where(
        schedules.c.job_id > bindparam("after", type_=BigInteger),
        schedules.c.state == RunState.PENDING,
        schedules.c.attempt == 0,
        ours,
        jobs.c.state != JobState.ENDED,
    )
    .group_by(schedules.c.job_id)
    .order_by(schedules.c.job_id)
    .limit(bindparam("most", type_=Integer))
)


class NdjsonStream(StreamingResponse):
    """One JSON document a line."""

    media_type = MEDIA_TYPE


@router.get(
    "/jobs/export",
    response_class=NdjsonStream,
    summary="Export the jobs",
    operation_id="exportJobs",
    response_description="A job in each line, by id",
    responses=problems(503)
    | {200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": EXAMPLE}}}},
)
async def export_jobs(request: Request) -> Response:
    """Write each job of which a run has not begun, one a line, as `POST /jobs` takes it.

    What was attempted already, is executing or is over is not among them. A job that runs once has
    its `run_at`, in whatever way that was said (the `delay` of a key is not told). Nor are pauses:
    a paused job is active where it is imported; nor what was counted of `max_runs`, ids, history.
    Read in pages, not at one moment: what changes meanwhile is there as it was, or as it is. When
    the database fails on the way the connection breaks off.
    """
    context = Context.of(request)
    first, place = await _page(context.pool, 0, application_id=context.application_id)
    if not request.scope.get("wants_body", True):
        return NdjsonStream(_nothing())
    abort: Callable[[], None] = request.scope["state"]["abort"]
    return NdjsonStream(_lines(context, first, place, abort))


async def _lines(
    context: Context, lines: bytes, place: int | None, abort: Callable[[], None]
) -> AsyncIterator[bytes]:
    """Go on from the first page; while a slow reader is waited for, no connection is held."""
    yield lines
    while place is not None:
        try:
            lines, place = await _page(context.pool, place, application_id=context.application_id)
        except Failure as error:
            # An answer that ended well would pass for complete.
            log.warning("jobs.export_broke_off", error=type(error).__name__)
            abort()
            return
        yield lines


async def _nothing() -> AsyncIterator[bytes]:
    yield b""


async def _page(pool: Pool, after: int, *, application_id: int) -> tuple[bytes, int | None]:
    """Answer the lines of the jobs after this id, and the last of them; None: no more follow."""
    rows = await _NEXT_JOBS.rows(pool, after=after, most=PAGE_JOBS, application_id=application_id)
    places = that_fit([Place(*row) for row in rows])
    job_ids = [place.job_id for place in places]
    found = await job_reads.without_last_runs(pool, job_ids, application_id=application_id)
    lines = b"".join(orjson.dumps(job_in(job), option=orjson.OPT_APPEND_NEWLINE) for job in found)
    is_last = len(rows) < PAGE_JOBS and len(places) == len(rows)
    return lines, None if is_last else job_ids[-1]


def job_in(job: Job) -> dict[str, Any]:
    """Write a job as `JobIn` takes it; what it leaves at its default is left out."""
    said = {
        "url": job.url,
        "method": job.method,
        "headers": job.headers,
        **_when(job),
        "user": job.user_id,
        "key": job.key,
        "labels": job.labels,
        "timeout": job.timeout_seconds,
        "retry": said_by(RetryPolicy.read(job.retry)),
        "delivery": job.delivery,
        "max_lateness": job.max_lateness_seconds,
    }
    written = {name: value for name, value in said.items() if value is not None}
    if job.payload is not None:  # null is a payload
        written["payload"] = payload_out(job)
    return written


def _when(job: Job) -> dict[str, Any]:
    if job.recurrence is None:
        return {"run_at": write_instant(job.run_at, timespec="microseconds")}
    said = planning.said_by(Recurrence.read(job.recurrence))
    for name in ("anchor", "starts_at", "ends_at"):
        if said[name] is not None:
            said[name] = write_instant(microseconds(said[name]), timespec="microseconds")
    if said["dst"] is not None:
        said["dst"] = said["dst"].model_dump(mode="json")
    return said
