"""Claims: how many to take, under which lock, how soon to look again."""

import asyncio
import math
from collections.abc import Callable
from time import monotonic

import structlog
from prometheus_client import Counter, Histogram
from redis.asyncio import Redis

from executor_service.lease import Lease
from executor_service.lock import ClaimLock
from executor_service.occur import Occurred, let_occur
from shared import database, wakeup
from shared.events import Event
from shared.runs import moves
from shared.runs.moves import Claim, Held
from shared.settings import ExecutorSettings

# A run overdue by more than this is backlog; one overdue by less is still on time as far as
# claiming goes.
ON_TIME_SECONDS = 5.0
KEPT_FROM_BACKLOG = 8  # one place in so many is for what is on time, and for it alone
OVERDUE_AT_ONCE = 100  # next occurrences: each may add many rows to history
EVER_SECONDS = 400 * 365 * 86_400.0
# A wake-up polls this long before the run is due: late enough that neighbours come along in one
# claim.
WAKE_AHEAD_SECONDS = 0.25
# Polls that follow wake-ups, or wait for occurrences, keep this distance, so that a stream of them
# costs a bounded number of claims.
WAKE_DISTANCE_SECONDS = 0.02

# Waiting for a connection, and both claims of a batch; the statements' own limits are shorter.
CLAIM_SECONDS_MAX = 15.0

# After a claim whose answer was lost: as long as its statement may be on its way, and take.
UNSURE_SECONDS = 25.0
# Conflicts with the lock that a claim takes on its claimer.
_WAIT_FOR_CLAIMS = b"select from executors where id = %(executor_id)s for update"

CLAIMED = Counter("onthedot_runs_claimed", "Runs claimed.")
CLAIM_SECONDS = Histogram(
    "onthedot_claim_seconds",
    "Time of one claim, the wait for the lock included.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
BATCH = Histogram("onthedot_claim_batch_size", "Runs in one claim.", buckets=(0, 1, 10, 100, 500))

log = structlog.stdlib.get_logger(__name__)


class Claimer:
    """Claims what is due soon while there is room, and hands each batch over.

    With it goes what is to be told of occurrences, now that it is committed.
    """

    def __init__(
        self,
        settings: ExecutorSettings,
        pool: database.Pool,
        redis: Redis,
        lease: Lease,
        *,
        room: Callable[[], int],
        take: Callable[[list[Claim], list[Event]], None],
        holds: Callable[[Held], bool],
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._redis = redis
        self._lease = lease
        self._lock = ClaimLock(redis, wait_seconds=settings.lock_wait_seconds)
        self._room = room
        self._take = take
        self._holds = holds
        self._unsure_until = -math.inf
        self._poll_at = 0.0
        self._polled_at = 0.0
        self._lacked_room = False
        self._sooner = asyncio.Event()
        self._stopped = False

    def poll_within(self, seconds: float) -> None:
        """Poll no later than after so many seconds."""
        moment = monotonic() + max(0.0, seconds)
        if moment < self._poll_at:
            self._poll_at = moment
            self._sooner.set()

    def wake_up(self, due_in_seconds: float) -> None:
        """Heed a wake-up: poll shortly before the run is due, or now."""
        distance = self._polled_at + WAKE_DISTANCE_SECONDS - monotonic()
        self.poll_within(max(due_in_seconds - WAKE_AHEAD_SECONDS, distance))

    def room_was_made(self) -> None:
        """Go on at once with a poll that had stopped for lack of room."""
        if self._lacked_room and self._room() >= self._settings.claim_batch:
            self.poll_within(0.0)

    def stop(self) -> None:
        """Claim no more: `run` ends after the claim that is under way."""
        self._stopped = True
        self.poll_within(0.0)

    async def run(self) -> None:
        """Poll whenever it is time, until stopped. An outage of Postgres ends one poll, no more."""
        while not self._stopped:
            await self._until_poll()
            self._poll_at = math.inf
            if self._stopped or not self._lease.is_held:
                continue
            try:
                await self._poll()
            except database.Failure as error:
                log.warning("poll.failed", error=type(error).__name__)
            self._polled_at = monotonic()

    async def _until_poll(self) -> None:
        while (wait := self._poll_at - monotonic()) > 0:
            self._sooner.clear()
            try:
                async with asyncio.timeout(wait if wait < math.inf else None):
                    await self._sooner.wait()
            except TimeoutError:
                return

    async def _poll(self) -> None:
        """Claim batch after batch until nothing more is due soon, or there is no room."""
        self._lacked_room = False
        has_called_others = False
        while not self._stopped:
            most = min(self._room(), self._settings.claim_batch)
            if most <= 0:
                self._lacked_room = True
                return
            if not await self._claim_batch(most):
                return
            if not has_called_others:
                # A full batch: more is due than one claim takes. Let the others come and share it.
                has_called_others = True
                await wakeup.publish(self._redis, due_in_seconds=0)
            await asyncio.sleep(0)

    async def _claim_batch(self, most: int) -> bool:
        """Claim one batch: what is due about now, then backlog. Answer whether more may be waiting.

        Backlog may fill half the room, and beyond that takes a tenth of each batch while more than
        an eighth of the room is left: so neither can keep the other waiting for ever.
        """
        started = monotonic()
        settings = self._settings
        for_now = max(1, most - most // 10)
        async with (
            self._lock.held(),
            database.connection(self._pool, seconds=CLAIM_SECONDS_MAX) as connection,
        ):
            if monotonic() < self._unsure_until:
                await self._give_back_strays(connection)
            # Until the commit's answer is here, the claim may be made and we not know of it.
            was_unsure_until, self._unsure_until = self._unsure_until, monotonic() + UNSURE_SECONDS
            told: list[Event] = []
            async with connection.transaction():
                occurred = await self._let_occur(connection, told)
                now = await self._claim(
                    connection, ON_TIME_SECONDS, settings.claim_ahead_seconds, for_now
                )
                room = self._room() - len(now)
                share = most // 10 if room > settings.room // KEPT_FROM_BACKLOG else 0
                for_backlog = min(most - len(now), max(room - settings.room // 2, share))
                backlog = await self._claim(connection, EVER_SECONDS, -ON_TIME_SECONDS, for_backlog)
            self._take(now + backlog, told)
            self._unsure_until = was_unsure_until
        CLAIM_SECONDS.observe(monotonic() - started)
        BATCH.observe(len(now) + len(backlog))
        CLAIMED.inc(len(now) + len(backlog))
        if occurred.due_in_seconds is not None:
            self.poll_within(max(occurred.due_in_seconds, WAKE_DISTANCE_SECONDS))
        return bool(occurred.dealt_with) or len(now) == for_now or 0 < len(backlog) == for_backlog

    async def _let_occur(self, connection: database.Connection, told: list[Event]) -> Occurred:
        """Let next occurrences occur: those that are on time, and then what is overdue."""
        settings = self._settings
        windows = (
            (ON_TIME_SECONDS, settings.claim_ahead_seconds, settings.claim_batch),
            (EVER_SECONDS, -ON_TIME_SECONDS, OVERDUE_AT_ONCE),
        )
        count, due_in = 0, None
        for late, ahead, most in windows:
            occurred = await let_occur(
                connection,
                late_seconds=late,
                ahead_seconds=ahead,
                missed_after_seconds=settings.missed_after_seconds,
                most=most,
                told=told,
            )
            count += occurred.dealt_with
            due_in = due_in if occurred.due_in_seconds is None else occurred.due_in_seconds
        return Occurred(count, due_in)

    async def _claim(
        self, connection: database.Connection, late: float, ahead: float, most: int
    ) -> list[Claim]:
        if most <= 0:
            return []
        return await moves.claim(
            connection,
            executor_id=self._lease.executor_id,
            late_seconds=late,
            ahead_seconds=ahead,
            most=most,
        )

    async def _give_back_strays(self, connection: database.Connection) -> None:
        """Give back what was claimed in our name by a claim whose answer never came.

        Nobody else would: to others we are alive. What we do hold is told by its fence. A claim
        that is still at it is waited for; one that Postgres has not begun yet cannot be seen, so we
        stay unsure for as long as its connection may have kept it.
        """
        await connection.execute(_WAIT_FOR_CLAIMS, {"executor_id": self._lease.executor_id})
        found = await moves.held_by(
            connection,
            executor_id=self._lease.executor_id,
            ahead_seconds=self._settings.claim_ahead_seconds,
        )
        strays = [held for held in found if not self._holds(held)]
        if strays:
            log.warning("claims.given_back", runs=len(strays))
            await moves.release(connection, strays)
