"""The lease: why an executor may send what it claimed, and until when.

A heartbeat each poll renews it. When heartbeats fail, the executor stops sending by its own
monotonic clock before others may rescue its claims; when one succeeds again in time, everything it
holds is still its own. When it finds itself forgotten, its claims were rescued and it goes on
under a new id.
"""

import asyncio
import socket
from collections.abc import Mapping
from datetime import datetime
from time import monotonic
from uuid import uuid4

import structlog
from prometheus_client import Counter
from psycopg.rows import TupleRow

from executor_service.clock import DatabaseClock
from shared import VERSION, database

RENEWALS = Counter("onthedot_lease_renewals", "Heartbeats, by result.", ["result"])

_REGISTER = """
insert into executors (id, host, version, lease_seconds, claim_ahead_seconds)
values (%(id)s, %(host)s, %(version)s, %(lease_seconds)s, %(claim_ahead_seconds)s)
returning clock_timestamp()
"""
_RENEW = "update executors set heartbeat_at = now() where id = %(id)s returning clock_timestamp()"
# Conflicts with the lock that a claim takes on its claimer: so what it took is seen afterwards.
_WAIT_FOR_CLAIMS = b"select from executors where id = %(id)s for update"
_LEAVE = b"""
delete from executors
where id = %(id)s
    and not exists (
        select from schedules
        where due_at <= now() + claim_ahead_seconds * interval '1 second'
            and state = 'executing' and executor_id = %(id)s
    )
"""

# A heartbeat without an answer is given up in time for another one within the lease.
ANSWER_SECONDS_MAX = 2.0

log = structlog.stdlib.get_logger(__name__)


class Lease:
    """This process's right to send, renewed by `renew`."""

    def __init__(
        self,
        pool: database.Pool,
        clock: DatabaseClock,
        *,
        lease_seconds: float,
        margin_seconds: float,
        claim_ahead_seconds: float,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._margin_seconds = margin_seconds
        self._claim_ahead_seconds = claim_ahead_seconds
        self._registered = False
        self._telling: set[asyncio.Task[tuple[TupleRow | None, float, float]]] = set()
        self._holds_until = float("-inf")
        self._connected_since = float("inf")
        self.executor_id = str(uuid4())

    def holds(self, executor_id: str) -> bool:
        """Whether what was claimed under this id may be sent now."""
        return executor_id == self.executor_id and monotonic() < self._holds_until

    @property
    def is_held(self) -> bool:
        """Whether this process may claim and send now."""
        return self.holds(self.executor_id)

    @property
    def seconds_left(self) -> float:
        """How long this process may go on without another heartbeat; 0 or less: not at all."""
        return self._holds_until - monotonic()

    def may_rescue(self) -> bool:
        """Whether we hold a lease, and have been connected for the length of one.

        Before that, the silence of others may only be our own: after an outage of Postgres,
        everyone gets a lease's time to come back and record what was sent.
        """
        connected_seconds = monotonic() - self._connected_since
        return self.is_held and connected_seconds >= self._lease_seconds

    async def may_still_rescue(self, connection: database.Connection) -> bool:
        """Asked on the rescue's own connection: the wait for it may have been an outage's.

        And the silence of others is told by the database's clock, so that must not have jumped.
        """
        asked_at = monotonic()
        cursor = await connection.execute("select clock_timestamp()")
        row = await cursor.fetchone()
        assert row is not None  # noqa: S101  # a select without a table has one row
        return self._read_clock(row[0], asked_at=asked_at, heard_at=monotonic()) and (
            self.may_rescue()
        )

    async def renew(self) -> None:
        """Say that we are alive, and read the database's clock. Never raises for an outage."""
        asked_at = monotonic()
        try:
            if not self._registered:
                await self._register()
            elif not await self._beat():
                self._forgotten()
                await self._register()
        except database.Failure as error:
            RENEWALS.labels("failed").inc()
            self._connected_since = float("inf")
            log.warning("lease.not_renewed", error=type(error).__name__, held=self.is_held)
            return
        RENEWALS.labels("renewed").inc()
        if self._connected_since == float("inf") or monotonic() >= self._holds_until:
            # We are back, or an answer hung: so it may have been for the others.
            self._connected_since = monotonic()
        # The lease runs from before we asked: the database's own reckoning can only end later.
        self._holds_until = asked_at + self._lease_seconds - self._margin_seconds

    async def leave(self) -> None:
        """Take this executor off the list, unless a run is still held: then others rescue it."""
        self._holds_until = float("-inf")
        async with (
            database.connection(self._pool, seconds=ANSWER_SECONDS_MAX) as connection,
            connection.transaction(),
        ):
            await connection.execute(_WAIT_FOR_CLAIMS, {"id": self.executor_id})
            await connection.execute(_LEAVE, {"id": self.executor_id})

    async def _register(self) -> None:
        """Take a lease under a new id; the row of a try whose answer was lost lapses by itself."""
        self.executor_id = str(uuid4())
        values = {
            "id": self.executor_id,
            "host": socket.gethostname(),
            "version": VERSION,
            "lease_seconds": self._lease_seconds,
            "claim_ahead_seconds": self._claim_ahead_seconds,
        }
        await self._tell(_REGISTER, values)
        self._registered = True
        log.info("lease.taken", executor_id=self.executor_id)

    async def _beat(self) -> bool:
        return await self._tell(_RENEW, {"id": self.executor_id})

    async def _tell(self, statement: str, values: Mapping[str, object]) -> bool:
        """Whether the statement found its row; its answer is a reading of the database's clock.

        Given up in time for another one within the lease, and then left to itself: psycopg takes
        up to ten seconds to cancel a statement on a connection that has gone silent.
        """
        telling = asyncio.create_task(self._ask(statement, values))
        self._telling.add(telling)
        telling.add_done_callback(self._told)
        await asyncio.wait({telling}, timeout=ANSWER_SECONDS_MAX)
        if not telling.done():
            telling.cancel()
            raise TimeoutError
        row, asked_at, heard_at = telling.result()
        if row is None:
            return False
        self._read_clock(row[0], asked_at=asked_at, heard_at=heard_at)
        return True

    def _told(self, telling: asyncio.Task[tuple[TupleRow | None, float, float]]) -> None:
        self._telling.discard(telling)
        if not telling.cancelled():
            telling.exception()  # of one that was left to itself, nobody else asks

    async def _ask(
        self, statement: str, values: Mapping[str, object]
    ) -> tuple[TupleRow | None, float, float]:
        async with self._pool.connection() as connection:
            asked_at = monotonic()
            cursor = await connection.execute(statement.encode(), values)
            return await cursor.fetchone(), asked_at, monotonic()

    def _read_clock(self, reading: datetime, *, asked_at: float, heard_at: float) -> bool:
        """Whether the database's clock goes as it went.

        When it was set forward, everyone seems silent: they get a lease's time to say otherwise.
        """
        goes_on = self._clock.observe(reading, asked_at=asked_at, heard_at=heard_at)
        if not goes_on:
            log.warning("database.clock_was_set")
            self._connected_since = monotonic()
        return goes_on

    def _forgotten(self) -> None:
        """Others rescued what we held: nothing claimed under the old id may be sent any more."""
        log.warning("lease.lost", executor_id=self.executor_id)
        self._registered = False
        self._holds_until = float("-inf")
