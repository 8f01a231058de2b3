"""Events: what becomes of runs and jobs, told to whoever listens, by a Redis stream.

A courtesy: history is the truth. Without Redis events are lost and never runs; without a listener
nothing is written. An entry of the stream holds a batch: groups of events, each with how many
milliseconds it waited to be written. Its id says when that was, by Redis's clock.

There is a stream only while a handler listens, for it makes the stream; a teller does not. So
whether anybody listens is found out by telling, at most once a second while nobody does.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from time import monotonic
from typing import Any, Literal, get_args

import orjson
import structlog
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.runs.moves import Run

STREAM = "onthedot:events"
FIELD = "batch"
ENTRIES_MAX = 5_000  # kept in Redis; a full one has about 25 KB
BATCH_MAX = 500
WAITING_MAX = 20_000  # events of one process; what comes beyond them is dropped
GATHER_SECONDS = 0.2  # between two entries of one process, unless one is full
GROUP_SECONDS = 0.01  # what is told within this happened at one time
REST_SECONDS = 1.0  # after nobody listened, or Redis was away
LAST_WORDS_SECONDS_MAX = 1.0

EventType = Literal[
    "run.pending",
    "run.executing",
    "run.retrying",
    "run.done",
    "run.failed",
    "run.uncertain",
    "run.cancelled",
    "run.skipped",
    "run.abandoned",
    "job.created",
    "job.changed",
    "job.paused",
    "job.resumed",
    "job.ended",
]
TYPES: tuple[EventType, ...] = get_args(EventType)
GAP = "gap"  # told to everyone, in the place of events that were dropped

# Type, application, job, `scheduled_for` in epoch microseconds, attempt. A plain tuple: orjson
# writes those, and 500 of them in a tenth of a millisecond.
Event = tuple[str, int, int, int | None, int | None]
A_GAP: Event = (GAP, 0, 0, None, None)

DROPPED = Counter("onthedot_events_dropped", "Events not told, as Redis was slow or away.")

log = structlog.stdlib.get_logger(__name__)


def connect(url: str, *, timeout_seconds: float = 0.5) -> Redis:
    """Describe a connection that repeats nothing: a batch is told once, or not at all."""
    return Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        encoding_errors="replace",
    )


def of_run(
    kind: EventType, application_id: int, job_id: int, scheduled_for: int, attempt: int = 0
) -> Event:
    """Say what became of a run.

    `attempt` is the one that it is about; of a run that is pending, cancelled or skipped, how many
    there were.
    """
    return (kind, application_id, job_id, scheduled_for, attempt)


def of_job(kind: EventType, application_id: int, job_id: int) -> Event:
    """Say what became of a job."""
    return (kind, application_id, job_id, None, None)


def of_runs(kind: EventType, runs: Sequence[Run]) -> list[Event]:
    """Say what a move made of the runs it answered."""
    return [(kind, run.application_id, run.job_id, run.scheduled_for, run.attempt) for run in runs]


class Teller:
    """Tells events in the background, one entry at a time; never waits, never raises.

    `is_wanted` says whether it is worth making events now: false for a second after nobody
    listened, so that a busy process without listeners tries once a second and no more.
    """

    def __init__(self, redis: Redis) -> None:
        self.is_wanted = True
        self._redis = redis
        self._groups: deque[tuple[float, list[Event]]] = deque()
        self._waiting = 0
        self._written_at = 0.0
        self._had_listeners = False
        self._owes_a_gap = False
        self._is_closing = False
        self._awake: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def tell(self, events: Sequence[Event]) -> None:
        """Tell what has happened just now, and is committed."""
        if not self.is_wanted or not events:
            return
        now = monotonic()
        if self._waiting + len(events) > WAITING_MAX:
            self._drop(len(events))
            events = ()
        elif self._groups and now - self._groups[-1][0] < GROUP_SECONDS:
            self._groups[-1][1].extend(events)
        else:
            self._groups.append((now, list(events)))
        self._waiting += len(events)
        if self._task is None or self._task.done():
            # In a context of its own: it writes for many requests, and logs for none of them.
            self._task = asyncio.create_task(self._write(), context=Context())

    async def close(self) -> None:
        """Write what still waits, if that is quick."""
        self._is_closing = True
        if self._awake is not None:
            self._awake.cancel()
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=LAST_WORDS_SECONDS_MAX)
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _write(self) -> None:
        while self._groups:
            wait = self._written_at + GATHER_SECONDS - monotonic()
            if wait > 0 and self._waiting < BATCH_MAX and not self._is_closing:
                await asyncio.sleep(min(wait, GATHER_SECONDS / 4))
                continue
            batch = self._take()
            self._written_at = monotonic()
            try:
                entry: Any = await self._redis.xadd(
                    STREAM,
                    {FIELD: encode(batch, now=self._written_at)},
                    maxlen=ENTRIES_MAX,
                    nomkstream=True,
                )
            except (RedisError, OSError, TimeoutError) as error:
                log.debug("events.not_told", error=type(error).__name__)
                await self._lose(batch)
            else:
                self._had_listeners = entry is not None
                if entry is None:
                    self._rest()

    def _take(self) -> list[tuple[float, list[Event]]]:
        """Take a batch, whole groups but for one that is larger than a batch."""
        batch, size = [], 0
        while self._groups and size < BATCH_MAX:
            told_at, events = self._groups.popleft()
            if len(events) > BATCH_MAX - size:
                self._groups.appendleft((told_at, events[BATCH_MAX - size :]))
                events = events[: BATCH_MAX - size]
            batch.append((told_at, events))
            size += len(events)
        self._waiting -= size
        return batch

    async def _lose(self, batch: list[tuple[float, list[Event]]]) -> None:
        """Give up a batch that may or may not have been written: better a gap than two of each."""
        if not self._had_listeners:
            self._owes_a_gap = True
            self._rest()
            return
        DROPPED.inc(sum(len(events) for _, events in batch))
        if not self._is_closing:
            self._groups.appendleft((monotonic(), [A_GAP]))
            self._waiting += 1
            await asyncio.sleep(REST_SECONDS)

    def _drop(self, count: int) -> None:
        """Leave out what there is no room for, and leave a gap in its place."""
        DROPPED.inc(count)
        if not self._groups or self._groups[-1][1][-1][0] != GAP:
            self._groups.append((monotonic(), [A_GAP]))
            self._waiting += 1

    def _rest(self) -> None:
        """For a while, make no events: nobody would hear them."""
        self._groups.clear()
        self._waiting = 0
        self.is_wanted = False
        if not self._is_closing:
            self._awake = asyncio.get_running_loop().call_later(REST_SECONDS, self._wake)

    def _wake(self) -> None:
        self.is_wanted = True
        if self._owes_a_gap:  # it is not known whether anybody would have heard what was lost
            self._owes_a_gap = False
            self.tell([A_GAP])


def encode(batch: Sequence[tuple[float, Sequence[Event]]], *, now: float) -> bytes:
    """Write groups of events, each told at a moment of `monotonic`, as an entry holds them."""
    return orjson.dumps([[round((now - told_at) * 1_000), group] for told_at, group in batch])
