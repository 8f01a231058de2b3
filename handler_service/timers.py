"""`/timers`: create, read, list, cancel. Each endpoint parses, calls, answers."""

from collections.abc import Sequence
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response

from handler_service import answers, bodies, job_lock, reads
from handler_service.bodies import ENVELOPE_BYTES_MAX
from handler_service.context import Context
from handler_service.openapi import header, json_body, problems
from handler_service.paths import ID_MAX, TimerId
from handler_service.problems import BodyTooLarge, TimerHasBegun, TimerNotFound
from handler_service.schemas.page import Page
from handler_service.schemas.timers import (
    TimerBatchIn,
    TimerBatchOut,
    TimerIn,
    TimerOut,
    TimerPage,
)
from shared.events import of_job, of_runs
from shared.runs import moves
from shared.runs.moves import NewJob

BATCH_BYTES_MAX = 8_388_608
# A client that escapes whatever is not ASCII needs so many bytes for one that we send ("é", "😀").
SPELLING = 3
NEXT_PAGE = '</timers?limit=50&cursor=MTc>; rel="next"'
NOT_FOUND, TOO_LATE = TimerNotFound(17), TimerHasBegun(17)

router = APIRouter(tags=["timers"])


@router.post(
    "/timers",
    status_code=201,
    response_model=TimerOut,
    summary="Create a timer",
    operation_id="createTimer",
    openapi_extra=json_body(TimerIn),
    response_description="The timer is durable",
    responses=problems(400, 413, 415, 422, 503)
    | {201: {"headers": header("Location", "The timer's own path.", "/timers/1")}},
)
async def create_timer(request: Request) -> Response:
    """Call a URL once, after a delay. Answered once the timer is durable."""
    context = Context.of(request)
    timer = await bodies.read(request, TimerIn, bytes_max=timer_bytes_max(context))
    [new] = _new(context, [timer], places=["#"])
    timer_id = (await context.group_commit.create(new)).job_id
    return answers.json(
        {"id": timer_id, "time_left": timer.delay_seconds},
        status=201,
        headers={"location": f"/timers/{timer_id}"},
    )


@router.post(
    "/timers/batch",
    status_code=201,
    response_model=TimerBatchOut,
    summary="Create up to 1,000 timers, all or none",
    operation_id="createTimers",
    openapi_extra=json_body(TimerBatchIn),
    response_description="All timers are durable",
    responses=problems(400, 413, 415, 422, 503),
)
async def create_timers(request: Request) -> Response:
    """Create timers in one transaction. A bad one is named, and nothing is created."""
    context = Context.of(request)
    batch = await bodies.read(request, TimerBatchIn, bytes_max=BATCH_BYTES_MAX)
    places = [f"#/timers/{place}" for place in range(len(batch.timers))]
    new = _new(context, batch.timers, places=places)
    created = await context.group_commit.create_together(new)
    data = [
        {"id": each.job_id, "time_left": timer.delay_seconds}
        for each, timer in zip(created, batch.timers, strict=True)
    ]
    return answers.json({"data": data}, status=201)


@router.get(
    "/timers/{timer_id:id}",
    response_model=TimerOut,
    summary="Read how much time is left",
    operation_id="getTimer",
    response_description="The timer",
    responses=problems(NOT_FOUND, 503),
)
async def get_timer(request: Request, timer_id: TimerId) -> Response:
    """Read a timer. `time_left` is 0 once it is due, fired or not."""
    context = Context.of(request)
    left = None
    if timer_id <= ID_MAX:
        left = await reads.time_left(
            context.pool, timer_id=timer_id, application_id=context.application_id
        )
    if left is None:
        raise TimerNotFound(timer_id)
    return answers.json({"id": timer_id, "time_left": left})


@router.get(
    "/timers",
    response_model=TimerPage,
    summary="List timers, newest first",
    operation_id="listTimers",
    response_description="One page",
    responses=problems(422, 503)
    | {200: {"headers": header("Link", "The next page, when there is one.", NEXT_PAGE)}},
)
async def list_timers(request: Request, page: Annotated[Page, Query()]) -> Response:
    """List the timers that were not cancelled. Pages are stable while timers come and go."""
    context = Context.of(request)
    [before] = (
        [ID_MAX] if page.cursor is None else answers.read_cursor(page.cursor, maxima=[ID_MAX])
    )
    found = await reads.timers(
        context.pool, application_id=context.application_id, before=before, most=page.limit + 1
    )
    timers = found[: page.limit]
    return answers.page(
        "/timers",
        [{"id": timer.timer_id, "time_left": timer.seconds} for timer in timers],
        next_cursor=(
            answers.write_cursor(timers[-1].timer_id) if len(found) > page.limit else None
        ),
        query={"limit": page.limit},
    )


@router.delete(
    "/timers/{timer_id:id}",
    status_code=204,
    summary="Cancel a timer",
    operation_id="deleteTimer",
    response_description="The timer is cancelled, now or before",
    responses=problems(NOT_FOUND, TOO_LATE, 503),
)
async def delete_timer(request: Request, timer_id: TimerId) -> Response:
    """Cancel a timer that has not begun. After a 204 it will not be called."""
    context = Context.of(request)
    if timer_id > ID_MAX:
        raise TimerNotFound(timer_id)
    whose = {"application_id": context.application_id}
    async with context.pool.connection() as connection:
        cancelled = await moves.cancel(connection, job_id=timer_id, **whose)
        if not cancelled:  # or an edit was replacing its run just then
            async with job_lock.held(connection, timer_id):
                cancelled = await moves.cancel(connection, job_id=timer_id, **whose)
    if not cancelled and not await reads.was_cancelled(context.pool, timer_id=timer_id, **whose):
        if await reads.time_left(context.pool, timer_id=timer_id, **whose) is None:
            raise TimerNotFound(timer_id)
        raise TimerHasBegun(timer_id)
    if cancelled:
        ended = of_job("job.ended", context.application_id, timer_id)
        context.events.tell([*of_runs("run.cancelled", cancelled), ended])
    return Response(status_code=204)


def _new(context: Context, timers: Sequence[TimerIn], *, places: Sequence[str]) -> list[NewJob]:
    """Make rows of timers; refuse those whose payload is too large by their places in the body."""
    payloads = [timer.encoded_payload(timer.headers) for timer in timers]
    check_sizes(payloads, places, bytes_max=context.settings.payload_bytes_max)
    return [
        NewJob(
            application_id=context.application_id,
            url=timer.url,
            method=timer.method,
            headers=headers_document(timer.headers),
            payload=payload,
            timeout_seconds=timer.timeout,
            delay_seconds=float(timer.delay_seconds),
            retry=timer.retry.document(),
            delivery=timer.delivery,
        )
        for timer, payload in zip(timers, payloads, strict=True)
    ]


def timer_bytes_max(context: Context) -> int:
    """Say how long the body of one timer may be, however its client spelt the payload."""
    return context.settings.payload_bytes_max * SPELLING + ENVELOPE_BYTES_MAX


def check_sizes(payloads: Sequence[bytes | None], places: Sequence[str], *, bytes_max: int) -> None:
    """Refuse payloads that are too large, by their places in the body."""
    too_large = [
        f"{place}/payload"
        for place, payload in zip(places, payloads, strict=True)
        if payload is not None and len(payload) > bytes_max
    ]
    if too_large:
        raise BodyTooLarge(f"{', '.join(too_large)}: may have {bytes_max:,} bytes at most.")


def headers_document(headers: dict[str, str] | None) -> str | None:
    """Write a webhook's headers as its row keeps them."""
    return orjson.dumps(headers).decode() if headers else None
