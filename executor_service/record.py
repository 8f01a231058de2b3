"""Record: what became of each claim, written in batches, kept until Postgres takes it."""

import asyncio
import collections
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

import structlog
from prometheus_client import Counter, Histogram
from psycopg import DataError, Error, IntegrityError

from executor_service.fire import Delivered, Failed, Outcome, Refused, Skipped, error_class, run_id
from executor_service.retry import next_delay
from shared import database
from shared.events import Event, EventType, Teller, of_job
from shared.runs import moves
from shared.runs.moves import Attempt, Claim

BATCH_MAX = 500  # 500 at once cost 16 µs a row, 1,000 cost 54
GATHER_SECONDS = 0.004
RETRY_SECONDS_MAX = 1.0
WRITE_SECONDS_MAX = 12.0  # the statement's own limit is 10

FIRED = Counter("onthedot_webhooks_fired", "Attempts, by what the run did next.", ["move"])
FAILURES = Counter(
    "onthedot_webhook_failures", "Attempts that brought no 2xx, by class of error.", ["error"]
)
DURATION = Histogram(
    "onthedot_webhook_seconds",
    "From the start of an attempt to its end.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 120),
)
FENCED = Counter(
    "onthedot_fence_refusals", "Outcomes of claims that were no longer ours.", ["move"]
)
LATENESS = Histogram(
    "onthedot_lateness_seconds",
    "From the instant an attempt was planned for to its start, by the database's clock.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600),
)

GONE = 410  # RFC 9110, 15.5.11: and likely to be for good


log = structlog.stdlib.get_logger(__name__)


# What each move is told as.
TOLD: dict[str, EventType] = {
    "deliver": "run.done",
    "retry": "run.retrying",
    "bury": "run.failed",
    "doubt": "run.uncertain",
    "skip": "run.skipped",
    "release": "run.pending",
}
UNSENT = {"skip", "release"}  # these made no attempt


class _GivenBack(NamedTuple):
    claim: Claim
    delay_seconds: float


Item = TypeVar("Item", Attempt, _GivenBack)


class Recorder:
    """Writes outcomes behind the firing, and gives claims back."""

    def __init__(
        self, pool: database.Pool, teller: Teller, *, settled: Callable[[Sequence[Claim]], None]
    ) -> None:
        self.waiting = 0  # outcomes and returns that are not written yet
        self._pool = pool
        self._teller = teller
        self._settled = settled
        self._moves = {
            "deliver": moves.deliver,
            "retry": moves.retry,
            "bury": self._bury,
            "doubt": moves.doubt,
            "skip": moves.skip,
        }
        self._attempts: deque[tuple[str, Attempt]] = deque()
        self._given_back: deque[_GivenBack] = deque()
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(
        self, claim: Claim, outcome: Outcome, *, started_at: float | None, finished_at: float
    ) -> None:
        """Keep an outcome; started and finished are moments of the database's clock.

        Not started: it ended without being sent.
        """
        move, attempt = _decide(claim, outcome, started_at, finished_at)
        if started_at is not None and attempt.lateness_ms is not None:
            LATENESS.observe(attempt.lateness_ms / 1000)
            DURATION.observe(finished_at - started_at)
            if attempt.error is not None:
                _tell_failure(move, attempt, attempt.error)
        self._attempts.append((move, attempt))
        self.waiting += 1
        self._wake()

    def give_back(self, claims: Sequence[Claim], *, delay_seconds: float = 0.0) -> None:
        """Give back claims that were not sent."""
        self._given_back.extend(_GivenBack(claim, delay_seconds) for claim in claims)
        self.waiting += len(claims)
        if claims:
            self._wake()

    async def run(self) -> None:
        """Write what comes, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(GATHER_SECONDS)
            while self._attempts or self._given_back:
                await self._write_attempts()
                await self._write_given_back()
            self._idle.set()

    async def drained(self) -> None:
        """Wait until everything put so far is written."""
        await self._idle.wait()

    def _wake(self) -> None:
        self._idle.clear()
        self._news.set()

    async def _write_attempts(self) -> None:
        batch = [self._attempts.popleft() for _ in range(min(BATCH_MAX, len(self._attempts)))]
        for name, move in self._moves.items():
            attempts = [attempt for kind, attempt in batch if kind == name]
            if attempts:
                FIRED.labels(name).inc(len(attempts))
                await self._write(name, move, attempts)

    async def _write_given_back(self) -> None:
        size = min(BATCH_MAX, len(self._given_back))
        batch = [self._given_back.popleft() for _ in range(size)]
        if batch:
            await self._write("release", _release, batch)

    async def _write(
        self,
        name: str,
        move: Callable[[database.Connection, Sequence[Item]], Awaitable[list[int]]],
        items: Sequence[Item],
    ) -> None:
        """Write one move's batch, through any outage; what the database will not take, apart."""
        delay = 0.05
        while True:
            try:
                async with database.connection(self._pool, seconds=WRITE_SECONDS_MAX) as connection:
                    moved = await move(connection, items)
            except (DataError, IntegrityError) as error:
                await self._write_apart(name, move, items, error)
                return
            except database.Failure as error:
                log.warning(
                    "record.postponed", move=name, runs=len(items), error=type(error).__name__
                )
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_SECONDS_MAX)
            else:
                FENCED.labels(name).inc(len(items) - len(moved))
                if self._teller.is_wanted:
                    self._teller.tell(_events(name, _claims(items), moved))
                self._settle(items)
                return

    async def _bury(
        self, connection: database.Connection, attempts: Sequence[Attempt]
    ) -> list[int]:
        """End runs that failed for good. What recurs is paused when its receiver is gone too."""
        gone = {
            each.claim.job_id: each.claim.application_id
            for each in attempts
            if each.http_status == GONE and each.claim.recurs
        }
        if not gone:
            return await moves.bury(connection, attempts)
        async with connection.transaction():
            buried = await moves.bury(connection, attempts)
            paused = await moves.pause_recurring(connection, [job for job in gone if job in buried])
        await moves.hold(connection, paused)
        self._teller.tell([of_job("job.paused", gone[job_id], job_id) for job_id in paused])
        return buried

    async def _write_apart(
        self,
        name: str,
        move: Callable[[database.Connection, Sequence[Item]], Awaitable[list[int]]],
        items: Sequence[Item],
        error: Error,
    ) -> None:
        """Keep one outcome that the database refuses from holding up those that came with it.

        What was said about it may be impossible to store; what became of the run is not.
        """
        if len(items) > 1:
            for item in items:
                await self._write(name, move, [item])
            return
        log.error("record.refused", move=name, error=type(error).__name__, sqlstate=error.sqlstate)
        plain = [_without_words(item) for item in items]
        if plain != items:
            await self._write(name, move, plain)
        else:
            self._settle(items)

    def _settle(self, items: Sequence[Attempt] | Sequence[_GivenBack]) -> None:
        self.waiting -= len(items)
        self._settled(_claims(items))


def _tell_failure(move: str, attempt: Attempt, error: str) -> None:
    """Count an attempt that failed and log the last, by its error's class: the rest may quote."""
    kind = error_class(error)
    FAILURES.labels(kind).inc()
    if move == "retry":
        return
    log.info(
        "attempt.failed",
        run_id=run_id(attempt.claim),
        job_id=attempt.claim.job_id,
        attempt=attempt.claim.attempt,
        error=kind,
        http_status=attempt.http_status,
        move=move,
    )


def _without_words(item: Item) -> Item:
    if isinstance(item, Attempt):
        return item._replace(error=item.error and "unknown: it cannot be stored", response=None)
    return item


async def _release(connection: database.Connection, batch: Sequence[_GivenBack]) -> list[int]:
    delays = [given.delay_seconds for given in batch]
    return await moves.release(connection, _claims(batch), delays=delays)


def _events(name: str, claims: Sequence[Claim], moved: Sequence[int]) -> list[Event]:
    """Say what became of those claims that were still ours.

    Of a job with several runs in the batch it may be unknown which was moved; then none is told.
    """
    if len(moved) < len(claims):
        given = collections.Counter(claim.job_id for claim in claims)
        found = collections.Counter(moved)
        claims = [claim for claim in claims if found[claim.job_id] == given[claim.job_id]]
    kind, unsent = TOLD[name], name in UNSENT
    return [
        (kind, claim.application_id, claim.job_id, claim.scheduled_for, claim.attempt - unsent)
        for claim in claims
    ]


def _claims(items: Sequence[Attempt] | Sequence[_GivenBack]) -> list[Claim]:
    return [item.claim for item in items]


def _decide(
    claim: Claim, outcome: Outcome, started_at: float | None, finished_at: float
) -> tuple[str, Attempt]:
    """Say which move an outcome makes, and what history keeps of it."""
    lateness_ms = None if started_at is None else started_at * 1_000 - _planned_for(claim) / 1_000
    attempt = Attempt(
        claim, started_at, finished_at, lateness_ms, outcome.status, outcome.response or None
    )
    match outcome:
        case Delivered():
            return "deliver", attempt
        case Refused(error):
            return "bury", attempt._replace(error=error)
        case Skipped(error):
            return "skip", attempt._replace(error=error)
        case Failed(error) if claim.is_at_most_once and outcome.was_sent:
            # An answer is an answer; without one, nobody knows. Never a second request of ours.
            return "bury" if outcome.status else "doubt", attempt._replace(error=error)
        case Failed(error, retry_after=retry_after):
            delay = next_delay(claim, retry_after=retry_after, now=finished_at)
            if delay is None:
                return "bury", attempt._replace(error=error)
            return "retry", attempt._replace(error=error, retry_in_seconds=delay)


def _planned_for(claim: Claim) -> int:
    """Epoch microseconds from which this attempt is late."""
    return claim.instant if claim.attempt == 1 else max(claim.due_at, claim.age_from)
