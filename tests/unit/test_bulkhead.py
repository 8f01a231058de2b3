"""The bulkhead: limits hold, nobody starves, nothing is forgotten."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from executor_service.bulkhead import Bulkhead
from shared.runs.moves import Claim
from tests.eventually import eventually


@pytest.fixture(autouse=True)
async def _no_task_outlives_its_test() -> AsyncIterator[None]:
    yield
    while left := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in left:
            task.cancel()
        await asyncio.wait(left)


def claim(job_id: int) -> Claim:
    """A claim of which only the job is looked at; the destination is its thousands."""
    blank = Claim._make([None] * len(Claim._fields))
    return blank._replace(job_id=job_id, payload=b"")


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
            await asyncio.sleep(0)
            await self.gates.setdefault(destination, asyncio.Event()).wait()
        finally:
            self.in_flight[destination] -= 1
        self.done.append(claim.job_id)

    def open(self, *destinations: int) -> None:
        for destination in destinations:
            self.gates.setdefault(destination, asyncio.Event()).set()


LATER = 500  # what distinguishes a later run's number from a fresh one's


def admit(bulkhead: Bulkhead, destination: int, count: int) -> None:
    for number in range(count):
        bulkhead.admit(str(destination), claim(destination * 1000 + number), is_fresh=True)


def admit_later(bulkhead: Bulkhead, destination: int, count: int) -> None:
    for number in range(LATER, LATER + count):
        bulkhead.admit(str(destination), claim(destination * 1000 + number), is_fresh=False)


class Lane:
    """One destination, whose fresh and later runs are answered one by one, as the test says."""

    def __init__(self, per_destination_max: int) -> None:
        self.gates: dict[bool, asyncio.Semaphore] = {
            is_later: asyncio.Semaphore(0) for is_later in (False, True)
        }
        self.in_flight: Counter[bool] = Counter()
        self.done: list[int] = []
        self.bulkhead = Bulkhead(
            self._fire, in_flight_max=1_000, per_destination_max=per_destination_max
        )

    @property
    def fresh(self) -> int:
        return self.in_flight[False]

    @property
    def later(self) -> int:
        return self.in_flight[True]

    async def answer(self, *, fresh: int = 0, later: int = 0) -> None:
        """Answer so many that are, or come, in flight, and see what takes their places."""
        done = len(self.done) + fresh + later
        for _ in range(fresh):
            self.gates[False].release()
        for _ in range(later):
            self.gates[True].release()
        await eventually(lambda: is_(len(self.done), done))
        await settle()

    async def _fire(self, claim: Claim) -> None:
        is_later = claim.job_id % 1000 >= LATER
        self.in_flight[is_later] += 1
        try:
            await asyncio.sleep(0)
            await self.gates[is_later].acquire()
        finally:
            self.in_flight[is_later] -= 1
        self.done.append(claim.job_id)


async def settle() -> None:
    """Let every task that can run do so until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


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


async def test_a_lane_that_gave_its_places_away_gets_them_back() -> None:
    receivers = Receivers()
    bulkhead = Bulkhead(receivers.fire, in_flight_max=8, per_destination_max=4)
    admit(bulkhead, 0, 100)
    for destination in range(1, 9):
        admit(bulkhead, destination, 1)
    await eventually(lambda: is_(receivers.in_flight[0], 4))
    receivers.open(0)
    await eventually(lambda: is_(receivers.in_flight[0], 0))
    receivers.gates[0] = asyncio.Event()
    receivers.open(*range(1, 9))
    await eventually(lambda: is_(receivers.in_flight[0], 4))
    await bulkhead.finish(0)


async def test_later_runs_that_hang_take_half_a_lane_and_fresh_ones_go_on() -> None:
    lane = Lane(per_destination_max=16)
    admit_later(lane.bulkhead, 0, 100)
    assert lane.bulkhead.in_flight == 8, "half a lane, though nobody else wants the rest"
    await settle()
    assert (lane.fresh, lane.later) == (0, 8)
    admit(lane.bulkhead, 0, 100)
    await settle()
    assert (lane.fresh, lane.later) == (8, 8)
    await lane.answer(fresh=100)
    assert lane.done == list(range(100))
    assert lane.later == 8
    await lane.bulkhead.finish(0)


async def test_fresh_runs_without_end_leave_the_later_ones_their_share() -> None:
    lane = Lane(per_destination_max=16)
    admit(lane.bulkhead, 0, 400)
    await settle()
    admit_later(lane.bulkhead, 0, 50)
    await settle()
    assert (lane.fresh, lane.later) == (16, 0)
    await lane.answer(fresh=100)
    assert (lane.fresh, lane.later) == (14, 2), "an eighth, while fresh ones wait"
    await lane.answer(later=10)
    assert lane.done[100:] == list(range(LATER, LATER + 10))
    await lane.answer(fresh=2)
    assert (lane.fresh, lane.later) == (14, 2), "the share is kept up"
    await lane.bulkhead.finish(0)


async def test_later_runs_take_the_rest_of_their_half_when_no_fresh_one_waits() -> None:
    lane = Lane(per_destination_max=16)
    admit(lane.bulkhead, 0, 16)
    admit_later(lane.bulkhead, 0, 50)
    await settle()
    await lane.answer(fresh=16)
    assert (lane.fresh, lane.later) == (0, 8)
    await lane.answer(later=50)
    assert lane.bulkhead.in_flight == 0
    assert len(lane.done) == 66


@pytest.mark.parametrize("per_destination_max", [1, 2, 3])
async def test_neither_kind_starves_in_a_lane_of_few_places(per_destination_max: int) -> None:
    lane = Lane(per_destination_max)
    admit(lane.bulkhead, 0, 100)
    admit_later(lane.bulkhead, 0, 100)
    for _ in range(100):
        lane.gates[False].release()
        lane.gates[True].release()
    await eventually(lambda: is_(len(lane.done), 200))
    half_way = Counter(job_id >= LATER for job_id in lane.done[:100])
    assert half_way[False] >= 25
    assert half_way[True] >= 25
    assert [job_id for job_id in lane.done if job_id < LATER] == list(range(100))
    assert [job_id for job_id in lane.done if job_id >= LATER] == list(range(LATER, LATER + 100))
    admit_later(lane.bulkhead, 0, 1)
    await lane.answer(later=1)


async def test_a_later_run_that_hangs_leaves_a_lane_of_two_its_other_place() -> None:
    lane = Lane(per_destination_max=2)
    admit_later(lane.bulkhead, 0, 10)
    admit(lane.bulkhead, 0, 10)
    await lane.answer(fresh=10)
    assert (lane.fresh, lane.later) == (0, 1)
    await lane.bulkhead.finish(0)


@pytest.mark.parametrize("in_flight_max", [2, 3, 8])
async def test_fresh_runs_do_not_starve_where_lanes_share_few_places(in_flight_max: int) -> None:
    """An eighth of a lane's limit may be all the places that it gets under the common limit."""
    receivers = Receivers()
    receivers.open(0, 1)
    bulkhead = Bulkhead(
        receivers.fire, in_flight_max=in_flight_max, per_destination_max=in_flight_max * 32
    )
    for destination in (0, 1):
        admit_later(bulkhead, destination, 100)
        admit(bulkhead, destination, 20)
    await eventually(lambda: is_(len(receivers.done), 240))
    last_fresh = max(receivers.done.index(number) for number in (19, 1019))
    assert last_fresh < 100
    await eventually(lambda: is_(bulkhead.in_flight, 0))


async def test_both_kinds_are_taken_back_when_all_that_waits_is() -> None:
    lane = Lane(per_destination_max=2)
    admit(lane.bulkhead, 0, 10)
    admit_later(lane.bulkhead, 0, 10)
    await settle()
    back = {claim.job_id for claim in lane.bulkhead.take_waiting()}
    assert back == {*range(1, 10), *range(LATER + 1, LATER + 10)}
    await lane.bulkhead.finish(0)


async def test_a_slow_lane_gives_back_its_later_runs_before_its_fresh_ones() -> None:
    lane = Lane(per_destination_max=4)
    admit(lane.bulkhead, 0, 100)
    admit_later(lane.bulkhead, 0, 40)
    await settle()
    for _ in range(2):
        lane.bulkhead.look()
    taken = [claim.job_id for claim in lane.bulkhead.take_from_slow(runs=20, size=0)]
    assert min(taken) >= LATER
    assert taken == sorted(taken, reverse=True), "those that have waited least"
    rest = lane.bulkhead.take_from_slow(runs=1_000, size=0)
    assert len(taken) + len(rest) == 136
    await lane.bulkhead.finish(0)


async def test_a_lane_whose_later_runs_pile_up_is_slow_though_no_fresh_one_waits() -> None:
    lane = Lane(per_destination_max=4)
    admit_later(lane.bulkhead, 0, 40)
    await settle()
    for _ in range(2):
        lane.bulkhead.look()
    assert len(lane.bulkhead.take_from_slow(runs=1_000, size=0)) == 38
    await lane.bulkhead.finish(0)


async def test_nothing_more_is_begun_once_it_finishes() -> None:
    lane = Lane(per_destination_max=2)
    admit(lane.bulkhead, 0, 10)
    admit_later(lane.bulkhead, 0, 10)
    await settle()
    finishing = asyncio.create_task(lane.bulkhead.finish(5))
    await lane.answer(fresh=1, later=1)
    assert lane.bulkhead.in_flight == 0
    await finishing
    assert sorted(lane.done) == [0, LATER]


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
