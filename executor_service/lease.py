"""The lease: why an executor may send what it claimed, and until when.

A heartbeat each poll renews it. When heartbeats fail, the executor stops sending by its own
monotonic clock before others may rescue its claims; when one succeeds again in time, everything it
holds is still its own. When it finds itself forgotten, its claims were rescued and it goes on
under a new id.
"""

import socket
from collections.abc import Mapping
from time import monotonic
from uuid import uuid4

import structlog
from prometheus_client import Counter

from executor_service.clock import DatabaseClock
from shared import VERSION, database

RENEWALS = Counter("onthedot_lease_renewals", "Heartbeats, by result.", ["result"])

_REGISTER = """
insert into executors (id, host, version) values (%(id)s, %(host)s, %(version)s)
returning clock_timestamp()
"""
_RENEW = "update executors set heartbeat_at = now() where id = %(id)s returning clock_timestamp()"
_LEAVE = """
delete from executors
where id = %(id)s
    and not exists (
        select from schedules
        where due_at <= now() + %(ahead_seconds)s * interval '1 second'
            and state = 'executing' and executor_id = %(id)s
    )
"""

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
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._margin_seconds = margin_seconds
        self._registered = False
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
    def may_rescue(self) -> bool:
        """Whether we have been connected for a full lease.

        Before that, the silence of others may only be our own: after an outage of Postgres,
        everyone gets a lease's time to come back and record what was sent.
        """
        return monotonic() - self._connected_since >= self._lease_seconds

    async def renew(self) -> None:
        """Say that we are alive, and read the database's clock. Never raises for an outage."""
        asked_at = monotonic()
        try:
            if not self._registered:
                await self._register()
            elif not await self._beat():
                self._forgotten()
                await self._register()
        except (*database.Unavailable, database.NotMigrated) as error:
            RENEWALS.labels("failed").inc()
            self._connected_since = float("inf")
            log.warning("lease.not_renewed", error=type(error).__name__, held=self.is_held)
            return
        RENEWALS.labels("renewed").inc()
        # The lease runs from before we asked: the database's own reckoning can only end later.
        self._holds_until = asked_at + self._lease_seconds - self._margin_seconds
        self._connected_since = min(self._connected_since, monotonic())

    async def leave(self, *, ahead_seconds: float) -> None:
        """Take this executor off the list, unless a run is still held: then others rescue it."""
        self._holds_until = float("-inf")
        async with self._pool.connection() as connection:
            await connection.execute(
                _LEAVE, {"id": self.executor_id, "ahead_seconds": ahead_seconds}
            )

    async def _register(self) -> None:
        values = {"id": self.executor_id, "host": socket.gethostname(), "version": VERSION}
        await self._tell(_REGISTER, values)
        self._registered = True
        log.info("lease.taken", executor_id=self.executor_id)

    async def _beat(self) -> bool:
        return await self._tell(_RENEW, {"id": self.executor_id})

    async def _tell(self, statement: str, values: Mapping[str, object]) -> bool:
        async with self._pool.connection() as connection:
            asked_at = monotonic()
            cursor = await connection.execute(statement.encode(), values)
            row = await cursor.fetchone()
            heard_at = monotonic()
        if row is None:
            return False
        self._clock.observe(row[0], asked_at=asked_at, heard_at=heard_at)
        return True

    def _forgotten(self) -> None:
        """Others rescued what we held: nothing claimed under the old id may be sent any more."""
        log.warning("lease.lost", executor_id=self.executor_id)
        self._registered = False
        self._holds_until = float("-inf")
        self.executor_id = str(uuid4())
