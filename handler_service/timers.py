"""`/timers`: create, read, list, cancel. Each endpoint parses, calls, answers."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from handler_service import answers, bodies, idempotency, job_edits, reads, rows
from handler_service.context import Context
from handler_service.openapi import header, json_body, problems
from handler_service.paths import ID_MAX, TimerId
from handler_service.planning import Planned
from handler_service.problems import TimerHasBegun, TimerNotFound
from handler_service.schemas.page import Page
from handler_service.schemas.timers import (
    TimerBatchIn,
    TimerBatchOut,
    TimerIn,
    TimerOut,
    TimerPage,
)
from handler_service.transaction import Creator
from shared.runs.moves import NewJob

NEXT_PAGE = '</timers?limit=50&cursor=MTc>; rel="next"'
LOCATION = header("Location", "The timer's own path.", "/timers/1")
NOT_FOUND, TOO_LATE = TimerNotFound(17), TimerHasBegun(17)

router = APIRouter(tags=["timers"])


@router.post(
    "/timers",
    status_code=201,
    response_model=TimerOut,
    summary="Create a timer",
    operation_id="createTimer",
    openapi_extra=json_body(TimerIn) | idempotency.PARAMETER,
    response_description="The timer is durable",
    responses=problems(400, idempotency.IN_PROGRESS, 413, 415, 422, 503)
    | {201: {"headers": LOCATION | idempotency.REPLAYED}},
)
async def create_timer(request: Request) -> Response:
    """Call a URL once, after a delay. Answered once the timer is durable."""
    context = Context.of(request)
    raw = await bodies.receive(request, bytes_max=rows.job_bytes_max(context))

    async def make(creator: Creator) -> Response:
        timer = bodies.parse(raw, TimerIn)
        [new] = _new(context, [timer], places=["#"])
        timer_id = (await creator.create(new)).job_id
        return answers.json(
            {"id": timer_id, "time_left": timer.delay_seconds},
            status=201,
            headers={"location": f"/timers/{timer_id}"},
        )

    return await idempotency.answer_once(request, context, raw, make)


@router.post(
    "/timers/batch",
    status_code=201,
    response_model=TimerBatchOut,
    summary="Create up to 1,000 timers, all or none",
    operation_id="createTimers",
    openapi_extra=json_body(TimerBatchIn) | idempotency.PARAMETER,
    response_description="All timers are durable",
    responses=problems(400, idempotency.IN_PROGRESS, 413, 415, 422, 503)
    | {201: {"headers": idempotency.REPLAYED}},
)
async def create_timers(request: Request) -> Response:
    """Create timers in one transaction. A bad one is named, and nothing is created."""
    context = Context.of(request)
    raw = await bodies.receive(request, bytes_max=rows.BATCH_BYTES_MAX)

    async def make(creator: Creator) -> Response:
        batch = bodies.parse(raw, TimerBatchIn)
        places = [f"#/timers/{place}" for place in range(len(batch.timers))]
        created = await creator.create_together(_new(context, batch.timers, places=places))
        data = [
            {"id": each.job_id, "time_left": timer.delay_seconds}
            for each, timer in zip(created, batch.timers, strict=True)
        ]
        return answers.json({"data": data}, status=201)

    return await idempotency.answer_once(request, context, raw, make)


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
    whose = {"timer_id": timer_id, "application_id": context.application_id}
    left = await reads.time_left(context.pool, **whose)
    is_cancelled = left is not None and await job_edits.cancel(context, timer_id)
    if not is_cancelled and not await reads.was_cancelled(context.pool, **whose):
        raise TimerNotFound(timer_id) if left is None else TimerHasBegun(timer_id)
    return Response(status_code=204)


def _new(context: Context, timers: Sequence[TimerIn], *, places: Sequence[str]) -> list[NewJob]:
    wanted = [(timer, Planned(None, float(timer.delay_seconds))) for timer in timers]
    return rows.new_jobs(context, wanted, keys=[timer.key for timer in timers], places=places)
