"""`/timers`: create, read, list, cancel. Each endpoint parses, calls, answers."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.convertors import Convertor, register_url_convertor

from handler_service import bodies, reads
from handler_service.context import Context
from handler_service.openapi import header, json_body, problems
from handler_service.problems import (
    BodyTooLarge,
    InvalidRequest,
    TimerHasBegun,
    TimerNotFound,
)
from handler_service.schemas.timers import (
    Page,
    TimerBatchIn,
    TimerBatchOut,
    TimerIn,
    TimerOut,
    TimerPage,
)
from handler_service.violations import Violation
from shared.runs import moves
from shared.runs.moves import NewTimer

BATCH_BYTES_MAX = 8_388_608
ENVELOPE_BYTES_MAX = 65_536  # of a body beside its payload: URL, headers, names, white space
# A client that escapes whatever is not ASCII needs so many bytes for one that we send ("é", "😀").
SPELLING = 3
ID_MAX = 2**63 - 1
NEXT_PAGE = '</timers?limit=50&cursor=MTc>; rel="next"'


class IdConvertor(Convertor[int]):
    """An id in a path, in its one spelling; any other path is not found."""

    regex = r"[1-9][0-9]{0,18}(?!\n)"  # the router's $ would let a line break pass

    def convert(self, value: str) -> int:
        """Read it."""
        return int(value)

    def to_string(self, value: int) -> str:
        """Write it."""
        return str(value)


register_url_convertor("id", IdConvertor())
router = APIRouter(tags=["timers"])
TimerId = Annotated[
    int,
    Path(
        description="The timer's id.",
        examples=[1],
        json_schema_extra={"minimum": 1, "maximum": ID_MAX},
    ),
]


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
    bytes_max = context.settings.payload_bytes_max * SPELLING + ENVELOPE_BYTES_MAX
    timer = await bodies.read(request, TimerIn, bytes_max=bytes_max)
    [new] = _new(context, [timer], places=["#"])
    timer_id = await context.group_commit.create(new)
    return _json(
        {"id": timer_id, "time_left": timer.delay_seconds},
        status=201,
        location=f"/timers/{timer_id}",
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
    ids = await context.group_commit.create_together(new)
    data = [
        {"id": timer_id, "time_left": timer.delay_seconds}
        for timer_id, timer in zip(ids, batch.timers, strict=True)
    ]
    return _json({"data": data}, status=201)


@router.get(
    "/timers/{timer_id:id}",
    response_model=TimerOut,
    summary="Read how much time is left",
    operation_id="getTimer",
    response_description="The timer",
    responses=problems(404, 503),
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
    return _json({"id": timer_id, "time_left": left})


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
    before = ID_MAX if page.cursor is None else _read_cursor(page.cursor)
    found = await reads.timers(
        context.pool, application_id=context.application_id, before=before, most=page.limit + 1
    )
    timers = found[: page.limit]
    next_cursor = _write_cursor(timers[-1].timer_id) if len(found) > page.limit else None
    response = _json(
        {
            "data": [{"id": timer.timer_id, "time_left": timer.seconds} for timer in timers],
            "next_cursor": next_cursor,
        }
    )
    if next_cursor:
        following = f"/timers?limit={page.limit}&cursor={next_cursor}"
        response.headers["link"] = f'<{following}>; rel="next"'
    return response


@router.delete(
    "/timers/{timer_id:id}",
    status_code=204,
    summary="Cancel a timer",
    operation_id="deleteTimer",
    response_description="The timer is cancelled, now or before",
    responses=problems(404, 409, 503),
)
async def delete_timer(request: Request, timer_id: TimerId) -> Response:
    """Cancel a timer that has not begun. After a 204 it will not be called."""
    context = Context.of(request)
    if timer_id > ID_MAX:
        raise TimerNotFound(timer_id)
    whose = {"application_id": context.application_id}
    async with context.pool.connection() as connection:
        cancelled = await moves.cancel(connection, job_id=timer_id, **whose)
    if not cancelled and not await reads.was_cancelled(context.pool, timer_id=timer_id, **whose):
        if await reads.time_left(context.pool, timer_id=timer_id, **whose) is None:
            raise TimerNotFound(timer_id)
        raise TimerHasBegun(timer_id)
    return Response(status_code=204)


def _new(context: Context, timers: Sequence[TimerIn], *, places: Sequence[str]) -> list[NewTimer]:
    """Make rows of timers; refuse those whose payload is too large by their places in the body."""
    payloads = [timer.encoded_payload() for timer in timers]
    limit = context.settings.payload_bytes_max
    too_large = [
        f"{place}/payload"
        for place, payload in zip(places, payloads, strict=True)
        if payload is not None and len(payload) > limit
    ]
    if too_large:
        raise BodyTooLarge(f"{', '.join(too_large)}: may have {limit:,} bytes at most.")
    return [
        NewTimer(
            application_id=context.application_id,
            url=timer.url,
            method=timer.method,
            headers=orjson.dumps(timer.headers).decode() if timer.headers else None,
            payload=payload,
            timeout_seconds=timer.timeout,
            delay_seconds=float(timer.delay_seconds),
        )
        for timer, payload in zip(timers, payloads, strict=True)
    ]


def _json(body: object, *, status: int = 200, location: str | None = None) -> Response:
    headers = {"location": location} if location else None
    return Response(
        orjson.dumps(body), status_code=status, headers=headers, media_type="application/json"
    )


def _write_cursor(timer_id: int) -> str:
    return base64.urlsafe_b64encode(str(timer_id).encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        timer_id = int(text) if text.isdigit() else 0
    except (binascii.Error, ValueError):
        timer_id = 0
    if not 0 < timer_id <= ID_MAX:
        detail = "Is not a cursor of ours; take next_cursor of the page before."
        raise InvalidRequest([Violation("cursor", detail)])
    return timer_id
