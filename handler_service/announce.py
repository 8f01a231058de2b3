"""Tells the executors what is due soon, in the background: no request waits for a slow Redis."""

import asyncio
import math
from contextvars import Context
from time import monotonic

from redis.asyncio import Redis

from shared import wakeup


class Announcer:
    """Publishes wake-ups, one at a time; what comes up meanwhile shares the next one."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._task: asyncio.Task[None] | None = None
        self._soonest = math.inf  # when the first run not yet announced is due, by `monotonic`

    def due_in(self, seconds: float) -> None:
        """Say that a run is due in so many seconds; if they are many, a poll will find it."""
        if seconds <= wakeup.WAKE_UP_WITHIN_SECONDS:
            self._soonest = min(self._soonest, monotonic() + seconds)
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._publish(), context=Context())

    async def close(self) -> None:
        """Finish what is being published."""
        if self._task is not None:
            await self._task

    async def _publish(self) -> None:
        while self._soonest < math.inf:
            soonest, self._soonest = self._soonest, math.inf
            await wakeup.publish(self._redis, due_in_seconds=soonest - monotonic())
