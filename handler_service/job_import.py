"""`POST /jobs/import`: take back what was exported, all of it or nothing."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from handler_service import (
    answers,
    bodies,
    idempotency,
    job_lock,
    keyed_jobs,
    planning,
    present_jobs,
    rows,
)
from handler_service.context import Context
from handler_service.job_export import EXAMPLE, MEDIA_TYPE
from handler_service.openapi import problems
from handler_service.problems import BodyTooLarge, InvalidRequest, JobHasBegun, MalformedBody
from handler_service.reads import clock
from handler_service.schemas.bulk import ImportOut
from handler_service.schemas.jobs import JobIn
from handler_service.transaction import Creator, Transaction
from handler_service.violations import Violation
from shared.events import of_job
from shared.runs.lifecycle import JobState
from shared.runs.moves import NewJob

LINES_MAX = 10_000
# Each holds a lock until the end, and Postgres has room for 6,400 at its defaults.
REPLACED_MAX = 2_000
CREATED_AT_ONCE = 500
READ_AT_ONCE = 50  # lines, between two looks at other requests: some 5 ms
VIOLATIONS_MAX = 100
IMPORT_SECONDS_MAX = 60.0

router = APIRouter(tags=["jobs"])
# Under an Idempotency-Key the transaction is open while the lines are read.
_WAIT = b"set local idle_in_transaction_session_timeout = '60s'"
_LINES = {
    "required": True,
    "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": EXAMPLE}},
}


class _Line(NamedTuple):
    place: str
    job: JobIn


@router.post(
    "/jobs/import",
    response_model=ImportOut,
    summary="Import jobs, all or none",
    operation_id="importJobs",
    openapi_extra={"requestBody": _LINES} | idempotency.PARAMETER,
    response_description="All jobs are durable",
    responses=problems(idempotency.IN_PROGRESS, JobHasBegun(17), 413, 415, 422, 503)
    | {200: {"headers": idempotency.REPLAYED}},
)
async def import_jobs(request: Request) -> Response:
    """Create a job of each line, or replace the one that has its key, in one transaction.

    A line is what `POST /jobs` takes: 10,000 of them at most, of which 2,000 may replace a job.
    Each bad one is named by its number, the first being `#/lines/0` (a hundred are), and nothing
    is made. An instant that has passed since the export is refused as everywhere: change or drop
    that line. A job that is being called right now cannot be replaced: 409.
    """
    context = Context.of(request)
    raw = await bodies.receive(request, bytes_max=rows.BATCH_BYTES_MAX, media_type=MEDIA_TYPE)

    async def make(creator: Creator) -> Response:
        async with asyncio.timeout(IMPORT_SECONDS_MAX):
            if isinstance(creator, Transaction):
                await creator.connection.execute(_WAIT)
            new = await _planned(context, await _read(raw))
        async with creator.transaction(seconds=IMPORT_SECONDS_MAX) as transaction:
            replaced = await _replace(context, transaction, new)
            made = [each for each in new if each.key not in replaced]
            for start in range(0, len(made), CREATED_AT_ONCE):
                await transaction.create_together(made[start : start + CREATED_AT_ONCE])
        return answers.json({"created": len(made), "replaced": len(replaced)})

    return await idempotency.answer_once(request, context, raw, make, seconds=IMPORT_SECONDS_MAX)


async def _read(raw: bytes) -> list[_Line]:
    """Read every line that is not blank."""
    texts = raw.split(b"\n", LINES_MAX)
    if len(texts) > LINES_MAX and texts.pop().strip():
        message = f"Must have {LINES_MAX:,} lines at most; send the others in another request."
        raise InvalidRequest([Violation("#/lines", message)])
    lines: list[_Line] = []
    wrong: list[Violation] = []
    place_of: dict[str, str] = {}
    for number, text in enumerate(texts):
        if number % READ_AT_ONCE == 0:
            await asyncio.sleep(0)
        if not text.strip():
            continue
        place = f"#/lines/{number}"
        try:
            job = JobIn.model_validate(bodies.parse_json(text))
        except MalformedBody:
            wrong.append(Violation(place, "Is not valid JSON; write one document on one line."))
        except ValidationError as refusal:
            wrong += [_below(place, each) for each in bodies.violations_of(refusal)]
        else:
            if job.key is not None and place_of.setdefault(job.key, place) != place:
                message = f"Is the key of {place_of[job.key]} too; leave out one of them."
                wrong.append(Violation(f"{place}/key", message))
            lines.append(_Line(place, job))
        _refuse(wrong, most=VIOLATIONS_MAX)
    _refuse(wrong)
    return lines


async def _planned(context: Context, lines: Sequence[_Line]) -> list[NewJob]:
    """Make rows of jobs, each with the instant of its first run."""
    now = await clock(context.pool)
    new: list[NewJob] = []
    wrong: list[Violation] = []
    for number, (place, job) in enumerate(lines):
        if number % READ_AT_ONCE == 0:
            await asyncio.sleep(0)
        try:
            planned = await planning.plan(job.when(), now=now, place=place)
            new += rows.new_jobs(context, [(job, planned)], keys=[job.key], places=[place])
        except InvalidRequest as refusal:
            wrong += refusal.violations
        except BodyTooLarge:
            limit = context.settings.payload_bytes_max
            wrong.append(Violation(f"{place}/payload", f"May have {limit:,} bytes at most."))
        _refuse(wrong, most=VIOLATIONS_MAX)
    _refuse(wrong)
    return new


def _below(place: str, violation: Violation) -> Violation:
    return Violation(place + violation.pointer.removeprefix("#"), violation.detail)


def _refuse(wrong: Sequence[Violation], *, most: int = 1) -> None:
    """Refuse the request once so many things are wrong with it."""
    if len(wrong) >= most:
        raise InvalidRequest(wrong[:VIOLATIONS_MAX])


async def _replace(
    context: Context, transaction: Transaction, new: Sequence[NewJob]
) -> set[str | None]:
    """Replace the jobs that have a key of these; answer those keys."""
    by_key = {each.key: each for each in new if each.key is not None}
    connection, application_id = transaction.connection, context.application_id
    ids = await present_jobs.ids_of_keys(connection, by_key, application_id=application_id)
    if len(ids) > REPLACED_MAX:
        message = f"Replace {len(ids):,} jobs; {REPLACED_MAX:,} at most may be in one request."
        raise InvalidRequest([Violation("#/lines", message)])
    replaced: dict[str | None, int] = {}
    # Everyone locks jobs in this order.
    for job_id, key in sorted((job_id, key) for key, job_id in ids.items()):
        async with job_lock.held(connection, job_id):
            present = await present_jobs.find(connection, job_id, application_id=application_id)
            if present.state != JobState.ENDED:
                await keyed_jobs.replace(connection, present, by_key[key])
                replaced[key] = job_id

    def tell() -> None:
        changed = [of_job("job.changed", application_id, job_id) for job_id in replaced.values()]
        context.events.tell(changed)
        context.announcer.due_in(min(by_key[key].delay_seconds for key in replaced if key))

    if replaced:
        transaction.after_commit(tell)
    return set(replaced)
