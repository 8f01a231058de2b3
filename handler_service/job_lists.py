"""`/jobs` and `/jobs/{id}`: what jobs there are, and how they fare."""

from fastapi import APIRouter, Request, Response

from handler_service import answers, job_reads
from handler_service.context import Context
from handler_service.openapi import header, problems
from handler_service.paths import ID_MAX, JobId
from handler_service.problems import JobNotFound
from handler_service.schemas.job_out import JobOut, job_out

NOT_FOUND = JobNotFound(17)

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
    job = None
    if job_id <= ID_MAX:
        job = await job_reads.job(
            context.pool, job_id=job_id, application_id=context.application_id
        )
    if job is None:
        raise JobNotFound(job_id)
    return answers.json(job_out(job), headers={"etag": f'"{job.version}"'})
