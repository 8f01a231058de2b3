"""`/jobs`: create one or many, look ahead."""

from collections.abc import Sequence
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from handler_service import answers, bodies, idempotency, job_reads, planning, rows
from handler_service.bodies import ENVELOPE_BYTES_MAX
from handler_service.context import Context
from handler_service.openapi import header, json_body, problems
from handler_service.planning import Planned
from handler_service.problems import KeyTaken
from handler_service.reads import clock
from handler_service.schemas import instants
from handler_service.schemas.job_out import JobOut, job_out
from handler_service.schemas.jobs import JobBatchIn, JobBatchOut, JobIn, PreviewIn, PreviewOut
from handler_service.transaction import Creator, Transaction
from shared.recurrence import Previewed, preview
from shared.runs.moves import NewJob

ETAG = header("ETag", "The job's version, for If-Match.", '"1"')
MADE = header("Location", "The job's own path.", "/jobs/17") | ETAG

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs",
    status_code=201,
    response_model=JobOut,
    summary="Create a job",
    operation_id="createJob",
    openapi_extra=json_body(JobIn) | idempotency.PARAMETER,
    response_description="The job is durable",
    responses=problems(400, KeyTaken("daily-report"), 413, 415, 422, 503)
    | {201: {"headers": MADE | idempotency.REPLAYED}},
)
async def create_job(request: Request) -> Response:
    """Call a URL at once, after a delay, at an instant, or again and again."""
    context = Context.of(request)
    raw = await bodies.receive(request, bytes_max=rows.job_bytes_max(context))

    async def make(creator: Creator) -> Response:
        wanted = bodies.parse(raw, JobIn)
        [new] = await planned_jobs(context, [wanted], places=["#"])
        created = await creator.create(new)
        return await answer_job(context, created.job_id, creator=creator, status=201)

    return await idempotency.answer_once(request, context, raw, make)


@router.post(
    "/jobs/batch",
    status_code=201,
    response_model=JobBatchOut,
    summary="Create up to 1,000 jobs, all or none",
    operation_id="createJobs",
    openapi_extra=json_body(JobBatchIn) | idempotency.PARAMETER,
    response_description="All jobs are durable",
    responses=problems(400, KeyTaken(), 413, 415, 422, 503)
    | {201: {"headers": idempotency.REPLAYED}},
)
async def create_jobs(request: Request) -> Response:
    """Create jobs in one transaction. A bad one is named, and nothing is created."""
    context = Context.of(request)
    raw = await bodies.receive(request, bytes_max=rows.BATCH_BYTES_MAX)

    async def make(creator: Creator) -> Response:
        batch = bodies.parse(raw, JobBatchIn)
        places = [f"#/jobs/{place}" for place in range(len(batch.jobs))]
        new = await planned_jobs(context, batch.jobs, places=places)
        created = await creator.create_together(new)
        found = await read_jobs(context, [each.job_id for each in created], creator=creator)
        return answers.json({"data": [job_out(job) for job in found]}, status=201)

    return await idempotency.answer_once(request, context, raw, make)


@router.post(
    "/jobs/preview",
    response_model=PreviewOut,
    summary="Look at the next occurrences of a recurrence",
    operation_id="previewJob",
    openapi_extra=json_body(PreviewIn),
    response_description="The next occurrences",
    responses=problems(400, 413, 415, 422, 503),
)
async def preview_job(request: Request) -> Response:
    """Answer when a recurrence occurs next, each occurrence marked that a clock change moves.

    Nothing is created. Jitter is not in it: its share of that is a job's own.
    """
    context = Context.of(request)
    wanted = await bodies.read(request, PreviewIn, bytes_max=ENVELOPE_BYTES_MAX)
    now = await clock(context.pool)
    rule = await planning.recurrence_of(wanted.when(), now=now)
    count = min(wanted.count, rule.max_runs or wanted.count)
    found = preview(rule, wanted.after or now, count=count)
    return answers.json({"data": [_previewed_out(each) for each in found]})


async def planned_jobs(
    context: Context, wanted: Sequence[JobIn], *, places: Sequence[str]
) -> list[NewJob]:
    """Make rows of jobs, each with the instant of its first run."""
    said = [each.when() for each in wanted]
    # A delay is counted by Postgres; all else is planned by its clock. For the bound of delays, the
    # year 9999, any clock will do.
    is_simple = not any(map(planning.needs_the_clock, said))
    now = datetime.now(UTC) if is_simple else await clock(context.pool)
    planned: list[Planned] = [
        await planning.plan(each, now=now, place=place)
        for each, place in zip(said, places, strict=True)
    ]
    keys = [each.key for each in wanted]
    return rows.new_jobs(context, list(zip(wanted, planned, strict=True)), keys=keys, places=places)


async def answer_job(
    context: Context, job_id: int, *, creator: Creator | None = None, status: int = 200
) -> Response:
    """Answer a job as it is now; as it is made, to the creator that makes it."""
    [job] = await read_jobs(context, [job_id], creator=creator or context.group_commit)
    headers = {"etag": f'"{job.version}"'}
    if status == 201:
        headers["location"] = f"/jobs/{job_id}"
    return answers.json(job_out(job), status=status, headers=headers)


async def read_jobs(
    context: Context, job_ids: Sequence[int], *, creator: Creator
) -> list[job_reads.Job]:
    """Read jobs that are there, in this order: within the transaction that made them, if any."""
    source = creator.connection if isinstance(creator, Transaction) else context.pool
    return await job_reads.jobs_of(source, job_ids, application_id=context.application_id)


def _previewed_out(previewed: Previewed) -> dict[str, str | None]:
    at = previewed.at
    return {
        "at": None if at is None else instants.write_instant(instants.microseconds(at)),
        "local": previewed.local.isoformat(),
        "note": previewed.note,
    }
