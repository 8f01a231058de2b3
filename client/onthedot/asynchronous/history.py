"""History: every attempt, and the dead letters among them."""

from typing import Unpack

from onthedot import call, wire
from onthedot.asynchronous.pages import AsyncPages
from onthedot.asynchronous.transport import AsyncTransport
from onthedot.models import DeadLetter, Execution, ReplayCount, Replayed
from onthedot.options import DeadLetterFilters, ExecutionFilters, Instant, ReplayFilters


class AsyncExecutions:
    """`client.executions`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        page_size: int = 50,
        cursor: str | None = None,
        **filters: Unpack[ExecutionFilters],
    ) -> AsyncPages[Execution]:
        """List attempts that fit every filter, newest first."""
        query = wire.filters({**filters, "limit": page_size, "cursor": cursor})
        return AsyncPages(self._transport, call.read("/executions", query), Execution)


class AsyncDeadLetters:
    """`client.dead_letters`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        page_size: int = 50,
        cursor: str | None = None,
        **filters: Unpack[DeadLetterFilters],
    ) -> AsyncPages[DeadLetter]:
        """List dead letters that fit every filter, newest first."""
        query = wire.filters({**filters, "limit": page_size, "cursor": cursor})
        return AsyncPages(self._transport, call.read("/dead-letters", query), DeadLetter)

    async def replay(self, letter: DeadLetter) -> Replayed:
        """Send a dead letter again, under its webhook-id; raises ConflictError if it is none now.

        Never retried once it was sent: the second would be told that it is none any more.
        """
        return await self._transport.fetch(call.change("POST", letter.replay), Replayed)

    async def replay_run(self, job_id: int, scheduled_for: Instant) -> Replayed:
        """Send the dead letter of a job and an instant again."""
        instant = wire.instant("scheduled_for", scheduled_for)
        path = f"/dead-letters/{job_id}/{instant}/replay"
        return await self._transport.fetch(call.change("POST", path), Replayed)

    async def replay_all(self, **filters: Unpack[ReplayFilters]) -> int:
        """Send every dead letter again that fits the filters; answer how many."""
        body = wire.filters(filters)
        answer = await self._transport.fetch(
            call.change("POST", "/dead-letters/replay", body=body), ReplayCount
        )
        return answer.replayed
