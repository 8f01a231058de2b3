"""Who listens to events: one reader of the stream for all of them, and each at its own pace.

A listener that keeps up is given what the reader reads. One that is behind (it came back with a
place in the stream, it is slow, or Redis was away) reads the stream itself, page by page, until it
has caught up: so no more than a bounded queue is kept for anyone.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from contextvars import Context
from time import monotonic
from typing import TypeVar

import orjson
import structlog
from prometheus_client import Gauge

from handler_service.event_source import AWAY, Mark, Place, Source, Told
from handler_service.problems import TooManyListeners
from handler_service.schemas.instants import write_instant
from shared.events import GAP

QUEUE_BYTES_MAX = 262_144
MARK_SECONDS = 5.0
AWAY_SECONDS = 1.0
GAP_DETAIL = "Events before this one are lost; GET /executions has what happened."

LISTENING = Gauge("onthedot_events_listeners", "Listeners of /events in this handler.")

Answer = TypeVar("Answer")

log = structlog.stdlib.get_logger(__name__)


class Listener:
    """One who listens: to an application's events, or those of them that fit a filter."""

    def __init__(
        self,
        *,
        application_id: int,
        job_id: int | None = None,
        types: frozenset[str] = frozenset(),
        place: Place | None = None,
    ) -> None:
        self.application_id = application_id
        self.job_id = job_id
        self.types = types
        self.place = place  # all before it was given to the listener; None: it has just come
        self.keeps_up = False
        self.is_over = False
        self.news = asyncio.Event()
        self._queue: list[bytes] = []
        self._queue_bytes = 0
        self._queue_place = place

    def wants(self, told: Told) -> bool:
        """Whether this is for them."""
        kind, application_id, job_id, _, _ = told.event
        if kind == GAP:
            return True
        return (
            application_id == self.application_id
            and (self.job_id is None or job_id == self.job_id)
            and (not self.types or kind in self.types)
            and (self.place is None or told.place > self.place)
        )

    def put(self, place: Place, words: bytes) -> None:
        """Queue an event; when the queue is full, let the listener read for itself."""
        if self._queue_bytes > QUEUE_BYTES_MAX:
            self.fall_behind()
            return
        self._queue.append(words)
        self._queue_bytes += len(words)
        self._queue_place = place
        self.news.set()

    def take(self) -> bytes:
        """Take what is queued."""
        words = b"".join(self._queue)
        if words:
            self.place = self._queue_place
            self._queue.clear()
            self._queue_bytes = 0
        return words

    def fall_behind(self) -> None:
        """Forget what is queued: it is read again from `place` on."""
        self._queue.clear()
        self._queue_bytes = 0
        self.keeps_up = False
        self.news.set()

    def end(self) -> None:
        """Have no more to say to them."""
        self.is_over = True
        self.news.set()


class Listeners:
    """All who listen to this handler. It reads the stream while there are any."""

    def __init__(self, source: Source, *, most: int) -> None:
        self._source = source
        self._most = most
        self._all: set[Listener] = set()
        self._reading: asyncio.Task[None] | None = None
        self._mark: Mark | None = None  # None while Redis is away
        self._place: Place | None = None  # all before it was given to those who keep up
        self._is_closing = False

    def join(self, listener: Listener) -> None:
        """Let them listen. Raises TooManyListeners."""
        if len(self._all) >= self._most:
            raise TooManyListeners(self._most)
        self._all.add(listener)
        LISTENING.set(len(self._all))
        if self._is_closing:
            listener.end()
        elif self._reading is None:
            self._reading = asyncio.create_task(self._read(), context=Context())

    def leave(self, listener: Listener) -> None:
        """Forget them."""
        self._all.discard(listener)
        LISTENING.set(len(self._all))
        if not self._all and self._reading is not None:
            self._reading.cancel()
            self._reading, self._mark, self._place = None, None, None

    def end(self) -> None:
        """End every stream: the handler stops."""
        self._is_closing = True
        for listener in self._all:
            listener.end()

    async def close(self) -> None:
        """Cease to read."""
        if (reading := self._reading) is not None:
            self._reading = None
            reading.cancel()
            await asyncio.wait({reading})
        await self._source.close()

    async def words(self, listener: Listener, *, within_seconds: float) -> bytes:
        """Answer the next that there is to say to a listener; after a while, only where it is."""
        deadline = monotonic() + within_seconds
        while not listener.is_over:
            listener.news.clear()
            is_behind = not listener.keeps_up and self._mark is not None
            if is_behind:
                try:
                    words = await self._catch_up(listener)
                except AWAY:
                    is_behind = False  # the reader finds out too
                else:
                    if words:
                        return words
            if words := listener.take():
                return words
            if is_behind and not listener.keeps_up:
                continue  # in what was read was nothing for them
            try:
                async with asyncio.timeout(max(0.0, deadline - monotonic())):
                    await listener.news.wait()
            except TimeoutError:
                return self._still_here(listener)
        return b""

    def _still_here(self, listener: Listener) -> bytes:
        """Say that we live and, so that it comes back with a place that is kept, where it is."""
        if listener.keeps_up and self._place is not None:
            listener.place = max(self._place, listener.place or self._place)
        return b": still here\n" + _id(listener.place) + b"\n"

    async def _catch_up(self, listener: Listener) -> bytes:
        """Give a listener a page of what it has missed, or let it join those who keep up."""
        mark, place = self._mark, listener.place
        assert mark is not None  # noqa: S101  # the caller looked
        if place is None:
            listener.place, listener.keeps_up = self._place, True
            return _id(listener.place) + b"\n"
        first, page = await self._source.page(place)
        if first is None:
            self._mark = None  # somebody removed the stream: until the reader has made another
            return b""
        held_from = max(mark.since, first)
        if place < held_from or not page:  # too long ago; or a place in the stream of another Redis
            listener.place = held_from
            return _gap(held_from)
        words = [render(each) for _, told in page for each in told if listener.wants(each)]
        listener.place = max(place, page[-1][0])
        if self._place is not None and self._place <= listener.place:
            listener.keeps_up = self._mark is not None
        return b"".join(words)

    async def _read(self) -> None:
        """Read the stream for everyone, through outages of Redis."""
        while True:
            try:
                await self._follow(await self._unless_ended(self._source.mark()))
            except AWAY as error:
                log.debug("events.deaf", error=type(error).__name__)
            self._mark = None
            self._leave_all_behind()
            await asyncio.sleep(AWAY_SECONDS)

    async def _follow(self, mark: Mark) -> None:
        """Give those who keep up what comes, until the stream is not the same any more."""
        since = mark.since
        self._mark, self._place = mark, mark.place
        self._leave_all_behind()
        marked_at = monotonic()
        while True:
            for place, told in await self._unless_ended(self._source.news(self._place)):
                self._give(told)
                self._place = place
                await asyncio.sleep(0)
            if monotonic() - marked_at > MARK_SECONDS:
                mark = await self._unless_ended(self._source.mark())
                marked_at = monotonic()
                if mark.since != since or mark.first > self._place:
                    return
                self._mark = mark

    async def _unless_ended(self, answer: Awaitable[Answer]) -> Answer:
        """Await an answer of Redis, and end if the reader was cancelled meanwhile.

        The client writes by `asyncio.wait_for`, which before Python 3.12 can lose a cancellation
        that comes just as the wait ends (bpo-37658).
        """
        found = await answer
        if asyncio.current_task() is not self._reading:
            raise asyncio.CancelledError
        return found

    def _give(self, told: Sequence[Told]) -> None:
        if not told:
            return
        listeners = [listener for listener in self._all if listener.keeps_up]
        for each in told:
            words = None
            for listener in listeners:
                if listener.keeps_up and listener.wants(each):
                    words = words or render(each)
                    listener.put(each.place, words)

    def _leave_all_behind(self) -> None:
        for listener in self._all:
            listener.fall_behind()


def render(told: Told) -> bytes:
    """Write an event as server-sent events are (WHATWG HTML, 9.2.6)."""
    kind, _, job_id, scheduled_for, attempt = told.event
    if kind == GAP:
        return _gap(told.place)
    data: dict[str, object] = {"type": kind, "job_id": job_id}
    if scheduled_for is not None:
        data |= {"scheduled_for": write_instant(scheduled_for), "attempt": attempt}
    data["at"] = write_instant(told.at_ms * 1_000)
    return b"%sevent: %s\ndata: %s\n\n" % (_id(told.place), kind.encode(), orjson.dumps(data))


def _gap(place: Place) -> bytes:
    data = orjson.dumps({"type": GAP, "detail": GAP_DETAIL})
    return b"%sevent: gap\ndata: %s\n\n" % (_id(place), data)


def _id(place: Place | None) -> bytes:
    return b"" if place is None else f"id: {place}\n".encode()
