"""The bulkhead: no destination may take up the room of another, no backlog that of what is on time.

A lane per destination (scheme, host, port), each with a limit of webhooks in flight, under one
limit for all. What a lane cannot start waits in it: fresh runs (on time, first attempt) and later
ones (retries, replays, backlog), each in order. Later ones have a share of the lane's places to
themselves, take half of them at most, and between the two wait for the fresh ones. So neither can
keep the other waiting for ever, and retries that hang leave half the lane.

Lanes that find all places taken queue for the next free one, and a lane gives its place away after
each webhook while another lane queues.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from shared.runs.moves import Claim

SLOW_SECONDS = 3.0
# Of the places that a lane has, one in so many is for later runs, whatever else waits.
PLACES_PER_LATER = 8


class _Lane:
    __slots__ = (
        "fired",
        "fresh",
        "in_flight",
        "is_slow",
        "later",
        "later_in_flight",
        "looks",
        "queues",
        "starting",
        "was_later",
    )

    def __init__(self) -> None:
        self.fresh: deque[Claim] = deque()
        self.later: deque[Claim] = deque()
        self.in_flight = 0
        self.later_in_flight = 0
        # Workers that were made and have not run yet: each will take one of `fresh` or `later`.
        self.starting = 0
        self.was_later = False  # what was picked last
        self.queues = False  # for a place under the common limit
        self.fired = 0  # since the last look
        self.looks = 0
        self.is_slow = False

    @property
    def waiting(self) -> int:
        return len(self.fresh) + len(self.later)


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
        self._later_max = max(1, per_destination_max // 2)
        self._lanes: dict[str, _Lane] = {}
        self._queue: deque[tuple[str, _Lane]] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._is_finishing = False

    @property
    def in_flight(self) -> int:
        """Webhooks being sent now."""
        return len(self._workers)

    def admit(self, destination: str, claim: Claim, *, is_fresh: bool) -> None:
        """Send this when its lane has a place for it; now, if it has."""
        lane = self._lanes.get(destination)
        if lane is None:
            lane = self._lanes[destination] = _Lane()
        (lane.fresh if is_fresh else lane.later).append(claim)
        self._start(destination, lane)

    def take_waiting(self) -> list[Claim]:
        """Take back all that waits."""
        taken: list[Claim] = []
        for lane in self._lanes.values():
            for waiting in (lane.fresh, lane.later):
                taken += waiting
                waiting.clear()
        return taken

    def look(self) -> None:
        """See which lanes keep up; to be called each second.

        A lane that would not be empty within `SLOW_SECONDS` at the pace of the last second is slow.
        One that came since the last look has not shown its pace yet.
        """
        for lane in self._lanes.values():
            lane.is_slow = lane.looks > 0 and lane.waiting > lane.fired * SLOW_SECONDS
            lane.looks += 1
            lane.fired = 0

    def take_from_slow(self, *, runs: int, size: int) -> list[Claim]:
        """Take back so many waiting runs and bytes of payload of slow lanes, longest lane first.

        Of a lane the later runs go first, and of each kind those that have waited least.
        """
        taken: list[Claim] = []
        slow = [lane for lane in self._lanes.values() if lane.is_slow and lane.waiting]
        while slow and (len(taken) < runs or size > 0):
            lane = max(slow, key=lambda lane: lane.waiting)
            for _ in range(max(1, lane.waiting // 8)):
                claim = (lane.later or lane.fresh).pop()
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

    def _wants_place(self, lane: _Lane) -> bool:
        """Whether something waits that could be sent at once, and the lane's own limit allows it.

        A place that is taken is filled only when its worker first runs, so those are counted off.
        """
        if lane.in_flight >= self._per_destination_max or self._is_finishing:
            return False
        ready = len(lane.fresh)
        if lane.later:
            ready += min(len(lane.later), self._later_max - lane.later_in_flight)
        return ready > lane.starting

    def _start(self, destination: str, lane: _Lane) -> None:
        """Take one more place for a lane that wants one, or queue for it."""
        if not self._wants_place(lane):
            return
        if len(self._workers) >= self._in_flight_max:
            self._enqueue(destination, lane)
            return
        lane.in_flight += 1
        lane.starting += 1
        worker = asyncio.get_running_loop().create_task(self._work(destination, lane))
        self._workers.add(worker)

    def _enqueue(self, destination: str, lane: _Lane) -> None:
        if not lane.queues:
            lane.queues = True
            self._queue.append((destination, lane))

    async def _work(self, destination: str, lane: _Lane) -> None:
        """Fire what waits in the lane, in turn, until nothing may go or others need the place."""
        lane.starting -= 1
        try:
            while True:
                if lane.later and self._is_turn_of_later(lane):
                    await self._fire_later(lane)
                elif lane.fresh:
                    lane.was_later = False
                    await self._fire(lane.fresh.popleft())
                else:
                    break
                lane.fired += 1
                if self._queue or self._is_finishing:
                    break
        finally:
            self._leave(destination, lane)

    def _is_turn_of_later(self, lane: _Lane) -> bool:
        """Whether a later run goes next, given that one waits.

        Their share is of the places that the lane has now: where many lanes share the common limit,
        that may be few. Where it is less than one place, they and the fresh ones take turns at one.
        """
        if not lane.fresh:
            return lane.later_in_flight < self._later_max
        share = lane.in_flight // PLACES_PER_LATER
        if share == 0:
            return lane.later_in_flight == 0 and not lane.was_later
        return lane.later_in_flight < share

    async def _fire_later(self, lane: _Lane) -> None:
        lane.was_later = True
        lane.later_in_flight += 1
        try:
            await self._fire(lane.later.popleft())
        finally:
            lane.later_in_flight -= 1

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
            if self._wants_place(next_lane):
                self._enqueue(next_destination, next_lane)  # its turn for one more comes again
            self._forget_if_empty(next_destination, next_lane)
        self._start(destination, lane)
        self._forget_if_empty(destination, lane)

    def _forget_if_empty(self, destination: str, lane: _Lane) -> None:
        if not (lane.in_flight or lane.fresh or lane.later or lane.queues):
            self._lanes.pop(destination, None)
