"""Timers: a call after a delay of whole seconds."""

from collections.abc import Sequence
from typing import Unpack

from onthedot import call, wire
from onthedot.asynchronous.pages import AsyncPages
from onthedot.asynchronous.transport import AsyncTransport
from onthedot.models import Batch, Timer
from onthedot.options import NewTimer, TimerChanges, TimerOptions


class AsyncTimers:
    """`client.timers`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self, url: str, *, idempotency_key: str | None = None, **options: Unpack[TimerOptions]
    ) -> Timer:
        """Have a URL called after a delay; the timer is durable once this returns.

        Without an `idempotency_key` of yours one is made, so that a retry makes no second timer.
        """
        body = wire.timer({"url": url, **options})
        return await self._transport.fetch(
            call.create("/timers", body=body, key=idempotency_key), Timer
        )

    async def create_batch(
        self, timers: Sequence[NewTimer], *, idempotency_key: str | None = None
    ) -> list[Timer]:
        """Create up to 1,000 timers, all or none; answer them in order."""
        body = {"timers": [wire.timer(timer) for timer in timers]}
        made = await self._transport.fetch(
            call.create("/timers/batch", body=body, key=idempotency_key), Batch[Timer]
        )
        return made.data

    async def get(self, timer_id: int) -> Timer:
        """Read a timer; raises NotFoundError once it was deleted."""
        return await self._transport.fetch(call.read(f"/timers/{timer_id}"), Timer)

    def list(self, *, page_size: int = 50, cursor: str | None = None) -> AsyncPages[Timer]:
        """List timers, newest first."""
        query = wire.filters({"limit": page_size, "cursor": cursor})
        return AsyncPages(self._transport, call.read("/timers", query), Timer)

    async def update(self, timer_id: int, **changes: Unpack[TimerChanges]) -> Timer:
        """Change a timer that has not begun; raises ConflictError for one that has."""
        body = wire.timer(changes)
        return await self._transport.fetch(
            call.change("PATCH", f"/timers/{timer_id}", body=body), Timer
        )

    async def delete(self, timer_id: int) -> None:
        """Cancel a timer: it will not be sent. Raises ConflictError for one that has begun."""
        await self._transport.send(call.change("DELETE", f"/timers/{timer_id}"))
