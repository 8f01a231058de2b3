# Made by `make docs` from asynchronous/history.py: change that one.
"""History: every attempt, and the dead letters among them."""

from typing import Unpack

from onthedot import call, wire
from onthedot.models import DeadLetter, Execution, ReplayCount, Replayed
from onthedot.options import DeadLetterFilters, ExecutionFilters, Instant, ReplayFilters
from onthedot.synchronous.pages import Pages
from onthedot.synchronous.transport import Transport


class Executions:
    """`client.executions`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        page_size: int = 50,
        cursor: str | None = None,
        **filters: Unpack[ExecutionFilters],
    ) -> Pages[Execution]:
        """List attempts that fit every filter, newest first."""
        query = wire.filters({**filters, "limit": page_size, "cursor": cursor})
        return Pages(self._transport, call.read("/executions", query), Execution)


class DeadLetters:
    """`client.dead_letters`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        page_size: int = 50,
        cursor: str | None = None,
        **filters: Unpack[DeadLetterFilters],
    ) -> Pages[DeadLetter]:
        """List dead letters that fit every filter, newest first."""
        query = wire.filters({**filters, "limit": page_size, "cursor": cursor})
        return Pages(self._transport, call.read("/dead-letters", query), DeadLetter)

    def replay(self, letter: DeadLetter) -> Replayed:
        """Send a dead letter again, under its webhook-id; raises ConflictError if it is none now.

        Never retried once it was sent: the second would be told that it is none any more.
        """
        return self._transport.fetch(call.change("POST", letter.replay), Replayed)

    def replay_run(self, job_id: int, scheduled_for: Instant) -> Replayed:
        """Send the dead letter of a job and an instant again."""
        instant = wire.instant("scheduled_for", scheduled_for)
        path = f"/dead-letters/{job_id}/{instant}/replay"
        return self._transport.fetch(call.change("POST", path), Replayed)

    def replay_all(self, **filters: Unpack[ReplayFilters]) -> int:
        """Send every dead letter again that fits the filters; answer how many."""
        body = wire.filters(filters)
        answer = self._transport.fetch(
            call.change("POST", "/dead-letters/replay", body=body), ReplayCount
        )
        return answer.replayed
