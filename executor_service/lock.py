"""The claim lock: one executor at a time claims, so that N do not scan the same rows.

It saves work; it does not keep runs from being claimed twice. That is Postgres's part (the state
guard and the fence), so an executor that cannot have the lock soon claims without it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import structlog
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

NAME = "onthedot:claim"
TTL_SECONDS = 2.0  # a holder that dies holds up the others no longer than this
AWAY_SECONDS = (
    1.0  # after a failure, claims go without the lock for so long before Redis is asked again
)

TAKEN = Counter("onthedot_claim_lock", "Claims, by whether they had the lock.", ["lock"])

log = structlog.stdlib.get_logger(__name__)


class ClaimLock:
    """A Redis lock (token, TTL, compare-and-delete) that gives way rather than holds up."""

    def __init__(self, redis: Redis, *, wait_seconds: float) -> None:
        self._redis = redis
        self._wait_seconds = wait_seconds
        self._away_until = float("-inf")

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Hold the lock, or go without it after the bounded wait."""
        lock = await self._take()
        try:
            yield
        finally:
            if lock is not None:
                await self._give_back(lock)

    async def _take(self) -> Lock | None:
        if monotonic() < self._away_until:
            TAKEN.labels("redis_away").inc()
            return None
        lock = Lock(self._redis, NAME, timeout=TTL_SECONDS, sleep=0.005, thread_local=False)
        try:
            async with asyncio.timeout(self._wait_seconds * 2):
                taken = await lock.acquire(blocking_timeout=self._wait_seconds)
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)
            return None
        TAKEN.labels("held" if taken else "busy").inc()
        return lock if taken else None

    async def _give_back(self, lock: Lock) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds * 2):
                await lock.release()
        except LockError:
            log.debug("lock.expired")  # we took longer than its TTL: harmless, see the module
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if self._away_until == float("-inf") or monotonic() > self._away_until + 10 * AWAY_SECONDS:
            log.warning("redis.away", error=type(error).__name__)
        self._away_until = monotonic() + AWAY_SECONDS
        TAKEN.labels("redis_away").inc()
