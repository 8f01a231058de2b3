"""`/executions`: what became of each attempt, of one job or of all."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from handler_service import answers, history_reads, present_jobs
from handler_service.context import Context
from handler_service.history_reads import Execution, Place, Wanted
from handler_service.openapi import header, problems
from handler_service.paths import ID_MAX, JobId
from handler_service.problems import JobNotFound
from handler_service.schemas import instants
from handler_service.schemas.history import ExecutionList, ExecutionPage, execution_out
from handler_service.schemas.page import Page

ATTEMPT_MAX = 2**15 - 1
MAXIMA = (instants.US_MAX, ID_MAX, instants.US_MAX, ATTEMPT_MAX + 1)
CURSOR = "MTc5NTI1MTYwMDA4MzAwMC4xNy4xNzk1MjUxNjAwMDAwMDAwLjI"
NEXT = {
    path: header("Link", "The next page, when there is one.", f'<{path}{CURSOR}>; rel="next"')
    for path in ("/jobs/17/executions?limit=50&cursor=", "/executions?limit=50&cursor=")
}
OF_JOB, OF_ALL = NEXT.values()

router = APIRouter(tags=["history"])


@router.get(
    "/jobs/{job_id:id}/executions",
    response_model=ExecutionList,
    summary="List the executions of a job, those of its newest run first",
    operation_id="listExecutionsOfJob",
    response_description="One page",
    responses=problems(JobNotFound(17), 422, 503) | {200: {"headers": OF_JOB}},
)
async def list_executions_of_job(
    request: Request, job_id: JobId, page: Annotated[Page, Query()]
) -> Response:
    """List every attempt at every run of a job, as far as history is kept."""
    context = Context.of(request)
    after = _read_place(page.cursor)
    await present_jobs.find(context.pool, job_id, application_id=context.application_id)
    found = await history_reads.of_job(context.pool, job_id, after=after, most=page.limit + 1)
    return _page(f"/jobs/{job_id}/executions", found, page.limit, query={"limit": page.limit})


@router.get(
    "/executions",
    response_model=ExecutionList,
    summary="List executions, the newest first",
    operation_id="listExecutions",
    response_description="One page",
    responses=problems(422, 503) | {200: {"headers": OF_ALL}},
)
async def list_executions(request: Request, page: Annotated[ExecutionPage, Query()]) -> Response:
    """List the attempts at the runs of all jobs that fit every field that is given."""
    context = Context.of(request)
    wanted = Wanted(
        application_id=context.application_id,
        state=page.status,
        user=page.user,
        host=page.host,
        finished_from=page.from_,
        finished_to=page.to,
        after=_read_place(page.cursor),
        most=page.limit + 1,
    )
    found = await history_reads.by_end(context.pool, wanted)
    query = page.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"cursor"})
    return _page("/executions", found, page.limit, query=query)


def _page(
    path: str, found: Sequence[Execution], limit: int, *, query: Mapping[str, object]
) -> Response:
    data = found[:limit]
    return answers.page(
        path,
        [execution_out(execution) for execution in data],
        next_cursor=_write_place(Place.of(data[-1])) if len(found) > limit else None,
        query=query,
    )


def _write_place(place: Place) -> str:
    # A cursor's numbers are 1 or more; what was never sent has no attempts.
    return answers.write_cursor(*place._replace(attempt=place.attempt + 1))


def _read_place(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    place = Place._make(answers.read_cursor(cursor, maxima=MAXIMA))
    return place._replace(attempt=place.attempt - 1)
