"""`POST /jobs/cancel`: end every job that fits."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from fastapi import APIRouter, Request, Response
from psycopg.errors import DeadlockDetected
from sqlalchemy import BigInteger, bindparam, exists, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from handler_service import answers, bodies, job_edits, job_list_reads
from handler_service.bodies import ENVELOPE_BYTES_MAX
from handler_service.context import Context
from handler_service.job_list_reads import Wanted
from handler_service.openapi import json_body, problems
from handler_service.problems import InvalidRequest
from handler_service.read_parts import ours
from handler_service.schemas.bulk import CancelIn, CancelOut
from handler_service.violations import Violation
from shared.database import Read
from shared.events import of_job, of_runs
from shared.runs import moves
from shared.runs.lifecycle import JobState
from shared.runs.model import jobs, schedules

LOOKED_AT_ONCE = 1_000
CANCELLED_AT_ONCE = 100  # so that no transaction keeps the executors waiting
MATCHED_MAX = 1_000_000  # ids in memory, some 64 MB
TRIES = 5  # an executor that records runs of the same jobs may be in our way, and we in its

router = APIRouter(tags=["jobs"])
_ARE_NOT_OVER = Read(
    select(jobs.c.id).where(
        jobs.c.id == func.any(bindparam("job_ids", type_=ARRAY(BigInteger))),
        ours,
        jobs.c.state != JobState.ENDED,
        exists().where(schedules.c.job_id == jobs.c.id),
    )
)


@router.post(
    "/jobs/cancel",
    response_model=CancelOut,
    summary="Cancel every job that fits",
    operation_id="cancelJobs",
    openapi_extra=json_body(CancelIn),
    response_description="Nothing more is called of the jobs that were cancelled",
    responses=problems(400, 413, 415, 422, 503),
)
async def cancel_jobs(request: Request) -> Response:
    """Cancel what is pending of the jobs that fit now, and end them. Their history stays.

    What is executing goes on; a job of which nothing else is pending is not cancelled. In steps:
    after a 503 some are cancelled, and the same request cancels the others.
    """
    context = Context.of(request)
    wanted = await bodies.read(request, CancelIn, bytes_max=ENVELOPE_BYTES_MAX)
    matched = await _matching(context, wanted)
    cancelled = 0
    if not wanted.dry_run:
        for job_ids in _chunks(matched, CANCELLED_AT_ONCE):
            cancelled += len(await _cancel(context, job_ids))
    return answers.json({"matched": len(matched), "cancelled": cancelled})


async def _matching(context: Context, filters: CancelIn) -> list[int]:
    """Find all of them first, each once: the lists change while jobs are cancelled.

    The earliest first: a job that recurs meanwhile moves towards the end, and is met there again.
    """
    wanted = Wanted(
        application_id=context.application_id,
        status=filters.status,
        user=filters.user,
        key=filters.key,
        labels=[
            (name, value) for name, _, value in (each.partition(":") for each in filters.label)
        ],
        host=filters.host,
        instant_from=filters.from_,
        instant_to=filters.to,
        is_ascending=True,
        most=LOOKED_AT_ONCE,
    )
    matched: dict[int, None] = {}
    while True:
        page = await job_list_reads.places(context.pool, wanted)
        job_ids = [each.job_id for each in page]
        whose = {"application_id": context.application_id}
        for [job_id] in await _ARE_NOT_OVER.rows(context.pool, job_ids=job_ids, **whose):
            matched[job_id] = None
        if len(matched) > MATCHED_MAX:
            message = f"More than {MATCHED_MAX:,} jobs fit; ask for fewer at a time."
            raise InvalidRequest([Violation("#", message)])
        if len(page) < LOOKED_AT_ONCE:
            return list(matched)
        wanted = replace(wanted, after=page[-1])


def _chunks(job_ids: Sequence[int], size: int) -> Iterator[list[int]]:
    left = iter(job_ids)
    while chunk := list(islice(left, size)):
        yield chunk


async def _cancel(context: Context, job_ids: Sequence[int]) -> set[int]:
    """Cancel jobs, and answer which of them were.

    Asked until nothing is pending, as `job_edits.cancel` does. Of what was not cancelled a change
    may have been replacing the run just then: those few are cancelled one by one.
    """
    cancelled: set[int] = set()
    while runs := await _cancel_once(context, job_ids):
        ended = {run.job_id for run in runs} - cancelled
        told = [of_job("job.ended", context.application_id, job_id) for job_id in ended]
        context.events.tell([*of_runs("run.cancelled", runs), *told])
        cancelled |= ended
    for job_id in set(job_ids) - cancelled:
        if await job_edits.cancel(context, job_id):
            cancelled.add(job_id)
    return cancelled


async def _cancel_once(context: Context, job_ids: Sequence[int]) -> list[moves.Run]:
    for tries_left in reversed(range(TRIES)):
        try:
            async with context.pool.connection() as connection:
                return await moves.cancel_all(
                    connection, job_ids, application_id=context.application_id
                )
        except DeadlockDetected:
            if not tries_left:
                raise
    raise AssertionError("unreachable")
