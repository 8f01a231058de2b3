"""The rhythm: what happens each second and each hour, owned by APScheduler.

APScheduler plans by the wall clock. When that clock is set back by an hour, it would stand still
for an hour, and our lease with it; so we compare it with the monotonic clock and plan anew when
the two part.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic, time

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

STEP_SECONDS = 0.5  # how far the clocks may part in one look before it counts as set

log = structlog.stdlib.get_logger(__name__)


class Rhythm:
    """Recurring work. A beat that is still running when the next is due absorbs it."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._under_way: set[asyncio.Task[object]] = set()

    def every(self, seconds: float, beat: Callable[[], Awaitable[object]], *, name: str) -> None:
        """Call `beat` now and then every so many seconds."""

        async def tracked() -> None:
            task = asyncio.ensure_future(beat())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            # The scheduler's end ends our wait for a beat, not the beat; that is no failure.
            with suppress(asyncio.CancelledError):
                await asyncio.shield(task)

        self._scheduler.add_job(
            tracked, IntervalTrigger(seconds=seconds, timezone=UTC), id=name, next_run_time=_now()
        )

    def stop(self, name: str) -> None:
        """Call this beat no more."""
        self._scheduler.remove_job(name)

    async def finish(self, grace_seconds: float) -> None:
        """Begin no more beats and let those under way end, within the grace."""
        self._scheduler.pause()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=grace_seconds)

    async def run(self) -> None:
        """Keep the rhythm until cancelled, whatever is done to the wall clock."""
        self._scheduler.start()
        try:
            await self._watch_the_clock()
        finally:
            self._scheduler.shutdown(wait=False)

    async def _watch_the_clock(self) -> None:
        apart = time() - monotonic()
        while True:
            await asyncio.sleep(1.0)
            now_apart = time() - monotonic()
            if abs(now_apart - apart) > STEP_SECONDS:
                log.warning("clock.set", seconds=round(now_apart - apart, 3))
                self._plan_anew()
            apart = now_apart

    def _plan_anew(self) -> None:
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=_now() + timedelta(milliseconds=1))


def _now() -> datetime:
    return datetime.now(UTC)
