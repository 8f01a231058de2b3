"""`GET /jobs` and `GET /jobs/{id}`: what jobs there are, and how they fare."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from handler_service import answers, job_list_reads, job_reads
from handler_service.context import Context
from handler_service.job_list_reads import Place, Wanted
from handler_service.openapi import header, problems
from handler_service.paths import ID_MAX, JobId
from handler_service.problems import JobNotFound
from handler_service.schemas.instants import US_MAX
from handler_service.schemas.job_filters import JobPage
from handler_service.schemas.job_out import JobList, JobOut, job_out

PAGE_BYTES_MAX = 8_388_608  # of payloads on one page
NEVER = US_MAX + 1  # how a cursor says when what is held is due
NOT_FOUND = JobNotFound(17)
NEXT_PAGE = '</jobs?limit=50&cursor=MTc5NTI1MTYwMDEyMzQ1Ni4xNw>; rel="next"'

router = APIRouter(tags=["jobs"])


@router.get(
    "/jobs/{job_id:id}",
    response_model=JobOut,
    summary="Read a job",
    operation_id="getJob",
    response_description="The job",
    responses=problems(NOT_FOUND, 503)
    | {200: {"headers": header("ETag", "Its version, for If-Match.", '"1"')}},
)
async def get_job(request: Request, job_id: JobId) -> Response:
    """Read a job, whether it was made as a job or as a timer; what has ended stays readable."""
    context = Context.of(request)
    if job_id > ID_MAX:
        raise JobNotFound(job_id)
    found = await job_reads.jobs_of(context.pool, [job_id], application_id=context.application_id)
    if not found:
        raise JobNotFound(job_id)
    [job] = found
    return answers.json(job_out(job), headers={"etag": f'"{job.version}"'})


@router.get(
    "/jobs",
    response_model=JobList,
    summary="List jobs by the instant of their next or last run",
    operation_id="listJobs",
    response_description="One page",
    responses=problems(422, 503)
    | {200: {"headers": header("Link", "The next page, when there is one.", NEXT_PAGE)}},
)
async def list_jobs(request: Request, page: Annotated[JobPage, Query()]) -> Response:
    """List the jobs that fit every field that is given; what has ended is among them.

    A list goes by one instant, which `from` and `to` bound: without a status, by `run_at`; what is
    upcoming or executing, by when it is due (what a pause holds, at the very end); what has ended,
    by when its last run did. A page whose payloads are large may be shorter than its limit.
    """
    context = Context.of(request)
    after = _read_place(page.cursor)
    found = await job_list_reads.places(context.pool, _wanted(context, page, after))
    places = that_fit(found[: page.limit])
    jobs = await job_reads.jobs_of(
        context.pool, [each.job_id for each in places], application_id=context.application_id
    )
    query = page.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"cursor"})
    return answers.page(
        "/jobs",
        [job_out(job) for job in jobs],
        next_cursor=_write_place(places[-1]) if len(found) > len(places) else None,
        query=query,
    )


def that_fit(places: Sequence[Place]) -> list[Place]:
    """Leave out those whose payloads would make the page too large; never all of them."""
    fitting: list[Place] = []
    size = 0
    for place in places:
        size += place.payload_bytes or 0
        if fitting and size > PAGE_BYTES_MAX:
            break
        fitting.append(place)
    return fitting


def _wanted(context: Context, page: JobPage, after: Place | None) -> Wanted:
    order = page.order or ("asc" if page.status == "upcoming" else "desc")
    return Wanted(
        application_id=context.application_id,
        status=page.status,
        user=page.user,
        key=page.key,
        labels=[(name, value) for name, _, value in (each.partition(":") for each in page.label)],
        host=page.host,
        instant_from=page.from_,
        instant_to=page.to,
        after=after,
        is_ascending=order == "asc",
        most=page.limit + 1,
    )


def _write_place(place: Place) -> str:
    return answers.write_cursor(NEVER if place.instant is None else place.instant, place.job_id)


def _read_place(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    instant, job_id = answers.read_cursor(cursor, maxima=(NEVER, ID_MAX))
    return Place(job_id, None if instant == NEVER else instant)
