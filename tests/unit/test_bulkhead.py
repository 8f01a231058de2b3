"""The bulkhead: limits hold, nobody starves, nothing is forgotten."""

import asyncio
from collections import Counter

from executor_service.bulkhead import Bulkhead
from shared.runs.moves import Claim
from tests.eventually import eventually


def claim(job_id: int) -> Claim:
    return Claim(job_id, 1, 1, 1, 1, "", "POST", None, None, 1.0, b"", "executor")


class Receivers:
    """Each destination answers when its gate is open; remembers who was in flight when."""

    def __init__(self) -> None:
        self.gates: dict[int, asyncio.Event] = {}
        self.in_flight: Counter[int] = Counter()
        self.most: Counter[int] = Counter()
        self.done: list[int] = []

    async def fire(self, claim: Claim) -> None:
        destination = claim.job_id // 1000
        self.in_flight[destination] += 1
        self.most[destination] = max(self.most[destination], self.in_flight[destination])
        self.most[-1] = max(self.most[-1], self.in_flight.total())
        try:
            await self.gates.setdefault(destination, asyncio.Event()).wait()
        finally:
            self.in_flight[destination] -= 1
        self.done.append(claim.job_id)

    def open(self, *destinations: int) -> None:
        for destination in destinations:
            self.gates.setdefault(destination, asyncio.Event()).set()


def admit(bulkhead: Bulkhead, destination: int, count: int) -> None:
    for number in range(count):
        bulkhead.admit(str(destination), claim(destination * 1000 + number))


async def test_each_destination_and_all_together_stay_within_their_limits() -> None:
    receivers = Receivers()
    bulkhead = Bulkhead(receivers.fire, in_flight_max=12, per_destination_max=5)
    for destination in range(4):
        admit(bulkhead, destination, 50)
    await eventually(lambda: is_(receivers.in_flight.total(), 12))
    receivers.open(0, 1, 2, 3)
    await eventually(lambda: is_(len(receivers.done), 200))
    assert max(receivers.most[destination] for destination in range(4)) == 5
    assert receivers.most[-1] == 12
    assert Counter(receivers.done).most_common(1)[0][1] == 1
    await eventually(lambda: is_(bulkhead.in_flight, 0))


async def test_a_destination_that_hangs_does_not_stop_the_others() -> None:
    receivers = Receivers()
    bulkhead = Bulkhead(receivers.fire, in_flight_max=10, per_destination_max=5)
    admit(bulkhead, 0, 100)
    receivers.open(1)
    admit(bulkhead, 1, 100)
    await eventually(lambda: is_(len(receivers.done), 100))
    assert receivers.in_flight[0] == 5
    await bulkhead.finish(0)


async def test_a_lane_that_queues_for_a_place_gets_one_before_a_busy_one_goes_on() -> None:
    receivers = Receivers()
    bulkhead = Bulkhead(receivers.fire, in_flight_max=2, per_destination_max=2)
    receivers.open(0, 1)
    admit(bulkhead, 0, 100)
    admit(bulkhead, 1, 2)
    await eventually(lambda: is_(len(receivers.done), 102))
    assert max(receivers.done.index(1000), receivers.done.index(1001)) < 10


async def test_what_waits_in_order_is_fired_in_order() -> None:
    receivers = Receivers()
    bulkhead = Bulkhead(receivers.fire, in_flight_max=1, per_destination_max=1)
    receivers.open(0)
    admit(bulkhead, 0, 20)
    await eventually(lambda: is_(len(receivers.done), 20))
    assert receivers.done == list(range(20))


async def test_what_waits_can_be_taken_back_and_what_flies_is_finished() -> None:
    receivers = Receivers()
    bulkhead = Bulkhead(receivers.fire, in_flight_max=3, per_destination_max=2)
    for destination in (0, 1, 2):
        admit(bulkhead, destination, 10)
    await eventually(lambda: is_(receivers.in_flight.total(), 3))
    back = bulkhead.take_waiting()
    assert len(back) == 27
    receivers.open(0, 1, 2)
    await bulkhead.finish(5)
    assert len(receivers.done) == 3
    assert len({claim.job_id for claim in back} | set(receivers.done)) == 30


async def test_only_lanes_that_do_not_keep_up_are_asked_to_give_back() -> None:
    receivers = Receivers()
    bulkhead = Bulkhead(receivers.fire, in_flight_max=10, per_destination_max=5)
    admit(bulkhead, 0, 200)  # hangs
    receivers.open(1)
    bulkhead.look()
    assert bulkhead.take_from_slow(runs=50, size=0) == [], "it has not shown its pace yet"
    admit(bulkhead, 1, 100)
    await eventually(lambda: is_(len(receivers.done), 100))
    bulkhead.look()
    taken = bulkhead.take_from_slow(runs=50, size=0)
    assert len(taken) >= 50
    assert {claim.job_id // 1000 for claim in taken} == {0}
    rest = bulkhead.take_from_slow(runs=10_000, size=0)
    assert len(taken) + len(rest) == 195
    await bulkhead.finish(0)


async def test_what_outlasts_the_grace_is_cut_off() -> None:
    receivers = Receivers()
    bulkhead = Bulkhead(receivers.fire, in_flight_max=3, per_destination_max=3)
    admit(bulkhead, 0, 3)
    await eventually(lambda: is_(receivers.in_flight[0], 3))
    await bulkhead.finish(0.01)
    assert bulkhead.in_flight == 0
    assert receivers.done == []


def is_(found: int, wanted: int) -> None:
    assert found == wanted
