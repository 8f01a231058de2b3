"""The bulkhead: no destination may take up the room of another.

A lane per destination (scheme, host, port), each with a limit of webhooks in flight, under one
limit for all. What a lane cannot start waits in it, in order. Lanes that find all places taken
queue for the next free one, and a lane gives its place away after each webhook while another lane
queues.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from shared.runs.moves import Claim

SLOW_SECONDS = 3.0


class _Lane:
    __slots__ = ("fired", "in_flight", "is_slow", "looks", "queues", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Claim] = deque()
        self.in_flight = 0
        self.queues = False  # for a place under the common limit
        self.fired = 0  # since the last look
        self.looks = 0
        self.is_slow = False


class Bulkhead:
    """Starts webhooks, as many at a time as the limits allow."""

    def __init__(
        self,
        fire: Callable[[Claim], Awaitable[None]],
        *,
        in_flight_max: int,
        per_destination_max: int,
    ) -> None:
        self._fire = fire
        self._in_flight_max = in_flight_max
        self._per_destination_max = per_destination_max
        self._lanes: dict[str, _Lane] = {}
        self._queue: deque[tuple[str, _Lane]] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._is_finishing = False

    @property
    def in_flight(self) -> int:
        """Webhooks being sent now."""
        return len(self._workers)

    def admit(self, destination: str, claim: Claim) -> None:
        """Send this when its lane has a place; now, if it has."""
        lane = self._lanes.get(destination)
        if lane is None:
            lane = self._lanes[destination] = _Lane()
        lane.waiting.append(claim)
        self._start(destination, lane)

    def take_waiting(self) -> list[Claim]:
        """Take back all that waits."""
        taken: list[Claim] = []
        for lane in self._lanes.values():
            taken += lane.waiting
            lane.waiting.clear()
        return taken

    def look(self) -> None:
        """See which lanes keep up; to be called each second.

        A lane that would not be empty within `SLOW_SECONDS` at the pace of the last second is slow.
        One that came since the last look has not shown its pace yet.
        """
        for lane in self._lanes.values():
            lane.is_slow = lane.looks > 0 and len(lane.waiting) > lane.fired * SLOW_SECONDS
            lane.looks += 1
            lane.fired = 0

    def take_from_slow(self, *, runs: int, size: int) -> list[Claim]:
        """Take back so many waiting runs and bytes of payload of slow lanes, longest first."""
        taken: list[Claim] = []
        slow = [lane for lane in self._lanes.values() if lane.is_slow and lane.waiting]
        while slow and (len(taken) < runs or size > 0):
            lane = max(slow, key=lambda lane: len(lane.waiting))
            for _ in range(max(1, len(lane.waiting) // 8)):
                claim = lane.waiting.pop()
                taken.append(claim)
                size -= len(claim.payload or b"")
            if not lane.waiting:
                slow.remove(lane)
        return taken

    async def finish(self, grace_seconds: float) -> None:
        """Wait for what is in flight; after the grace, cut it off. `fire` sees to the record."""
        self._is_finishing = True
        if self._workers:
            await asyncio.wait(self._workers, timeout=grace_seconds)
        for worker in list(self._workers):
            worker.cancel()
        while self._workers:
            await asyncio.wait(self._workers)

    def _start(self, destination: str, lane: _Lane) -> None:
        if self._is_finishing or not lane.waiting or lane.in_flight >= self._per_destination_max:
            return
        if len(self._workers) >= self._in_flight_max:
            if not lane.queues:
                lane.queues = True
                self._queue.append((destination, lane))
            return
        lane.in_flight += 1
        worker = asyncio.get_running_loop().create_task(self._work(destination, lane))
        self._workers.add(worker)

    async def _work(self, destination: str, lane: _Lane) -> None:
        """Fire what waits in the lane, in turn, until it is empty or others need the place."""
        try:
            while lane.waiting:
                await self._fire(lane.waiting.popleft())
                lane.fired += 1
                if self._queue or self._is_finishing:
                    break
        finally:
            self._leave(destination, lane)

    def _leave(self, destination: str, lane: _Lane) -> None:
        """Give the place back: first to the lanes that queue, then to this one."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # only ever called in a worker
        self._workers.discard(task)
        lane.in_flight -= 1
        while self._queue and len(self._workers) < self._in_flight_max:
            next_destination, next_lane = self._queue.popleft()
            next_lane.queues = False
            self._start(next_destination, next_lane)
            self._forget_if_empty(next_destination, next_lane)
        self._start(destination, lane)
        self._forget_if_empty(destination, lane)

    def _forget_if_empty(self, destination: str, lane: _Lane) -> None:
        if not lane.in_flight and not lane.waiting and not lane.queues:
            self._lanes.pop(destination, None)
