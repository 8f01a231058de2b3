"""`/schedules`: an older contract, honoured word for word; a thin face over jobs."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from handler_service import (
    answers,
    bodies,
    idempotency,
    job_edits,
    present_jobs,
    rows,
    schedule_reads,
)
from handler_service.context import Context
from handler_service.job_lists import PAGE_BYTES_MAX
from handler_service.openapi import header, json_body, problems
from handler_service.paths import ID_MAX, JobId
from handler_service.planning import Planned
from handler_service.present_jobs import Present
from handler_service.problems import InvalidRequest, JobHasBegun, JobNotFound
from handler_service.reads import clock
from handler_service.schedule_reads import CONTRACT, Place, Schedule
from handler_service.schemas import instants
from handler_service.schemas.schedules import (
    EVERY_SECONDS,
    HEADERS,
    LISTED_MAX,
    METHOD,
    ScheduleEditIn,
    ScheduleIn,
    ScheduleList,
    ScheduleOut,
    SchedulePage,
)
from handler_service.transaction import Creator
from handler_service.violations import Violation
from shared.events import of_job, of_run
from shared.recurrence import next_after
from shared.runs import moves
from shared.runs.moves import Edit

MINUTE = timedelta(minutes=1)
MINUTE_US = 60_000_000
WORDS = {float(seconds): word for word, seconds in EVERY_SECONDS.items()} | {None: "none"}
NOT_FOUND, TOO_LATE = JobNotFound(17), JobHasBegun(17)
NEXT_PAGE = '</schedules?cursor=MTc>; rel="next"'

router = APIRouter(tags=["schedules"])


@router.post(
    "/schedules",
    status_code=201,
    response_model=ScheduleOut,
    summary="Create a schedule",
    operation_id="createSchedule",
    openapi_extra=json_body(ScheduleIn) | idempotency.PARAMETER,
    response_description="The schedule is durable",
    responses=problems(400, idempotency.IN_PROGRESS, 413, 415, 422, 503)
    | {
        201: {
            "headers": header("Location", "The schedule's own path.", "/schedules/17")
            | idempotency.REPLAYED
        }
    },
)
async def create_schedule(request: Request) -> Response:
    """Send a text at a minute, once or every day or week from then on; and now, if asked to."""
    context = Context.of(request)
    raw = await bodies.receive(request, bytes_max=rows.job_bytes_max(context))

    async def make(creator: Creator) -> Response:
        wanted = bodies.parse(raw, ScheduleIn)
        webhook = wanted.webhook(_destination(wanted))
        planned = _planned(wanted, now=await clock(context.pool))
        [new] = rows.new_jobs(
            context, [(webhook, planned)], keys=[None], places=["#"], contract=CONTRACT
        )
        if wanted.immediate:
            async with creator.transaction() as transaction:
                job_id = (await transaction.create(new)).job_id
                await moves.trigger(
                    transaction.connection, job_id=job_id, application_id=context.application_id
                )
                transaction.after_commit(lambda: context.announcer.due_in(0.0))
        else:
            job_id = (await creator.create(new)).job_id
        headers = {"location": f"/schedules/{job_id}"}
        return answers.json(_wanted_out(job_id, wanted, planned), status=201, headers=headers)

    return await idempotency.answer_once(request, context, raw, make)


@router.get(
    "/schedules",
    response_model=ScheduleList,
    summary="List schedules, newest last",
    operation_id="listSchedules",
    response_description="All of them, or the first 10,000",
    responses=problems(422, 503)
    | {200: {"headers": header("Link", "The next ones, when there are more.", NEXT_PAGE)}},
)
async def list_schedules(request: Request, page: Annotated[SchedulePage, Query()]) -> Response:
    """List the schedules of which something is outstanding: what was sent for good is not there.

    All in one array, as the contract has it, up to 10,000 of them or 8 MiB of payloads; what is
    beyond that is found by `Link`.
    """
    context = Context.of(request)
    [after] = [0] if page.cursor is None else answers.read_cursor(page.cursor, maxima=[ID_MAX])
    whose = {"application_id": context.application_id, "after": after}
    found = await schedule_reads.places(context.pool, **whose, most=LISTED_MAX + 1)
    fitting = _count_that_fits(found)
    if not fitting:
        return answers.json([])
    last = found[fitting - 1].job_id
    schedules = await schedule_reads.schedules_between(context.pool, **whose, last=last)
    headers = {}
    if fitting < len(found):
        headers["link"] = f'</schedules?cursor={answers.write_cursor(last)}>; rel="next"'
    return answers.json([_out(each) for each in schedules], headers=headers)


@router.get(
    "/schedules/{job_id:id}",
    response_model=ScheduleOut,
    summary="Read a schedule",
    operation_id="getSchedule",
    response_description="The schedule",
    responses=problems(NOT_FOUND, 503),
)
async def get_schedule(request: Request, job_id: JobId) -> Response:
    """Read a schedule, as long as something of it is outstanding. `/jobs` tells how it fared."""
    context = Context.of(request)
    return answers.json(await _expect(context, job_id))


@router.put(
    "/schedules/{job_id:id}",
    response_model=ScheduleOut,
    summary="Replace a schedule",
    operation_id="putSchedule",
    openapi_extra=json_body(ScheduleEditIn),
    response_description="The schedule is replaced",
    responses=problems(400, NOT_FOUND, TOO_LATE, 413, 415, 422, 503),
)
async def put_schedule(request: Request, job_id: JobId) -> Response:
    """Replace what has not begun of a schedule; it keeps its id, and its `url` unless one is given.

    What `/jobs` alone has a word for (labels, retries) stays as it is. After a 409 all of it does.
    """
    context = Context.of(request)
    wanted = await bodies.read(request, ScheduleEditIn, bytes_max=rows.job_bytes_max(context))
    if wanted.job_id is not None and wanted.job_id != str(job_id):
        raise InvalidRequest([Violation("#/jobId", "Must be that of the path; leave it out.")])
    whose = {"application_id": context.application_id}
    async with present_jobs.held(context, job_id) as (connection, present):
        if await schedule_reads.schedule(connection, job_id, **whose) is None:
            raise JobNotFound(job_id)
        planned = _planned(wanted, now=await clock(connection))
        edit = _edit(context, wanted, planned)

        async def change(_: Present) -> Edit:
            return edit

        await job_edits.make(connection, present, change, **whose)
        told = [of_job("job.changed", context.application_id, job_id)]
        if wanted.immediate:
            run = await moves.trigger(connection, job_id=job_id, **whose)
            assert run is not None  # noqa: S101  # it was changed just now: it has not ended
            told.append(of_run("run.pending", context.application_id, job_id, run))
    context.events.tell(told)
    context.announcer.due_in(0.0 if wanted.immediate else planned.delay_seconds)
    return answers.json(_wanted_out(job_id, wanted, planned))


@router.delete(
    "/schedules/{job_id:id}",
    response_model=ScheduleOut,
    summary="End a schedule",
    operation_id="deleteSchedule",
    response_description="Nothing more of it is sent; this is what it was",
    responses=problems(NOT_FOUND, TOO_LATE, 503),
)
async def delete_schedule(request: Request, job_id: JobId) -> Response:
    """Cancel what is pending of a schedule and end it.

    What is being sent goes on; when nothing else was pending, that is a 409.
    """
    context = Context.of(request)
    was = await _expect(context, job_id)
    if not await job_edits.cancel(context, job_id):
        await _expect(context, job_id)
        raise JobHasBegun(job_id)
    return answers.json(was)


def _destination(wanted: ScheduleIn) -> str:
    if wanted.url is None:
        detail = "Is required: this application has no default destination; give a url."
        raise InvalidRequest([Violation("#/url", detail)])
    return wanted.url


def _planned(wanted: ScheduleIn, *, now: datetime) -> Planned:
    """Plan its first run; a minute is past once the next one has begun."""
    asked = instants.from_microseconds(wanted.minute * MINUTE_US)
    rule = wanted.recurrence(asked)
    first = asked if rule is None else next_after(rule, now)
    if first is None or now - first >= MINUTE:
        detail = "Lies in the past; choose one ahead, or let it recur daily or weekly."
        raise InvalidRequest([Violation("#/minute", detail)])
    return Planned(instants.microseconds(first), max(0.0, (first - now).total_seconds()), rule)


def _edit(context: Context, wanted: ScheduleIn, planned: Planned) -> Edit:
    """Say what a replacement changes: all that the contract has a word for."""
    payload = wanted.payload.encode()
    rows.check_sizes([payload], ["#"], bytes_max=context.settings.payload_bytes_max)
    rule = planned.recurrence
    changed = ["method", "headers", "payload", "run_at", "recurrence"]
    return Edit(
        changed if wanted.url is None else [*changed, "url"],
        url=wanted.url,
        method=METHOD,
        headers=rows.json_document(HEADERS),
        payload=payload,
        run_at=planned.run_at,
        recurrence=None if rule is None else rule.document(),
    )


async def _expect(context: Context, job_id: int) -> dict[str, Any]:
    found = await schedule_reads.schedule(
        context.pool, job_id, application_id=context.application_id
    )
    if found is None:
        raise JobNotFound(job_id)
    return _out(found)


def _count_that_fits(places: list[Place]) -> int:
    """Say how many of these one answer takes; never none of some."""
    size = 0
    for count, place in enumerate(places[:LISTED_MAX]):
        size += place.payload_bytes
        if count and size > PAGE_BYTES_MAX:
            return count
    return min(len(places), LISTED_MAX)


def _wanted_out(job_id: int, wanted: ScheduleIn, planned: Planned) -> Mapping[str, Any]:
    """Answer it as it was made; by now it may have been sent, and be over."""
    assert planned.run_at is not None  # noqa: S101  # a minute names an instant
    return {
        "jobId": str(job_id),
        "payload": wanted.payload,
        "minute": planned.run_at // MINUTE_US,
        "recurring": wanted.recurring,
    }


def _out(schedule: Schedule) -> dict[str, Any]:
    return {
        "jobId": str(schedule.job_id),
        "payload": (schedule.payload or b"").decode(errors="replace"),
        "minute": schedule.run_at // MINUTE_US,
        "recurring": WORDS[schedule.every_seconds],
    }
