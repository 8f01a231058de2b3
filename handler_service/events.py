"""`GET /events`: what becomes of runs and jobs, as it happens (server-sent events)."""

import asyncio
from collections.abc import Callable
from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Query, Request, Response
from starlette.types import Receive, Scope, Send

from handler_service.context import Context
from handler_service.event_source import Place
from handler_service.listeners import Listener, Listeners
from handler_service.openapi import problems
from handler_service.problems import TooManyListeners
from handler_service.schemas.events import EXAMPLE, EventId, EventsIn

HEARTBEAT_SECONDS = 15.0
SEND_SECONDS_MAX = 5.0  # a listener that reads nothing for longer is cut off
OPENING = b"retry: 1000\n\n"  # how soon an EventSource comes back
MEDIA_TYPE = "text/event-stream"

router = APIRouter(tags=["history"])
log = structlog.stdlib.get_logger(__name__)


class EventStream(Response):
    """An answer that ends when its listener goes, or the handler does."""

    media_type = MEDIA_TYPE

    def __init__(self, listeners: Listeners, listener: Listener) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(headers=headers, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._listeners = listeners
        self._listener = listener

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve until it is over. Raises TooManyListeners before anything is sent."""
        self._listeners.join(self._listener)
        watching = asyncio.create_task(self._watch(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope.get("wants_body", True):
                await self._serve(send)
            if not watching.done():
                await _send(send, b"", is_last=True)
        except TimeoutError:
            log.info("events.listener_cut_off")
            abort: Callable[[], None] = scope["state"]["abort"]
            abort()
            await watching
        finally:
            self._listeners.leave(self._listener)
            watching.cancel()
            await asyncio.wait({watching})

    async def _serve(self, send: Send) -> None:
        words = OPENING
        while not self._listener.is_over:
            await _send(send, words)
            words = await self._listeners.words(self._listener, within_seconds=HEARTBEAT_SECONDS)

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._listener.end()


async def _send(send: Send, words: bytes, *, is_last: bool = False) -> None:
    async with asyncio.timeout(SEND_SECONDS_MAX):
        await send({"type": "http.response.body", "body": words, "more_body": not is_last})


@router.get(
    "/events",
    status_code=200,
    response_class=EventStream,
    summary="Listen to what happens",
    operation_id="listenToEvents",
    response_description="Events as they happen, for ever",
    responses=problems(422, TooManyListeners(100))
    | {200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": EXAMPLE}}}},
)
async def listen_to_events(
    request: Request,
    wanted: Annotated[EventsIn, Query()],
    last_event_id: Annotated[
        EventId | None,
        Header(
            description="The id of the last event that was heard.", examples=["1795252202000-0.1"]
        ),
    ] = None,
) -> Response:
    """Hear of each change of a run's and a job's state within a fraction of a second.

    An event's `data` has `type`, `job_id`, `scheduled_for` and `attempt` (not with `job.…`), and
    `at`. A client that comes back with the id of the last event it heard is told what it missed,
    for as long as that is kept; else it is told by an event `gap` first, and reads
    `GET /executions`. Events are a courtesy, history is the truth: they may be lost with Redis, and
    while nobody listened none are made. Those of one run come in order from each executor.
    """
    context = Context.of(request)
    place = last_event_id or wanted.last_event_id
    listener = Listener(
        application_id=context.application_id,
        job_id=wanted.job_id,
        types=frozenset(wanted.type),
        place=None if place is None else Place.read(place),
    )
    return EventStream(context.listeners, listener)
