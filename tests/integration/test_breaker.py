"""The breaker: opens on failures in a row, lets one probe through, and agrees through Redis."""

import asyncio
import socket
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import orjson
import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from executor_service import breaker
from executor_service.breaker import HASH, PROBE, Breakers
from executor_service.clock import DatabaseClock
from shared import wakeup
from tests.eventually import eventually

DESTINATION = "https://receiver.example:443"
OTHER = "http://other.example:80"
FAILURES = 3

MakeBreakers = Callable[..., Breakers]


class World:
    """A database's clock that passes as fast as the test says."""

    def __init__(self) -> None:
        self.clock = DatabaseClock()
        self._ahead = timedelta()
        self.passes(0)

    def passes(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)
        moment = monotonic()
        self.clock.observe(datetime.now(UTC) + self._ahead, asked_at=moment, heard_at=moment)


class Attempt:
    """One attempt in a task of its own, as a worker makes it; it ends when the test says how."""

    def __init__(self, breakers: Breakers, *, timeout_seconds: float = 5.0) -> None:
        self._breakers = breakers
        self._timeout_seconds = timeout_seconds
        self._answered: asyncio.Future[bool | None] = asyncio.Future()
        self.put_off_seconds: asyncio.Future[float | None] = asyncio.Future()
        self._task = asyncio.create_task(self._run())

    async def ends(self, *, answered: bool | None) -> None:
        assert await self.put_off_seconds is None, "it was not sent"
        self._answered.set_result(answered)
        await self._task

    async def is_sent(self) -> bool:
        return await self.put_off_seconds is None

    async def _run(self) -> None:
        seconds = await self._breakers.put_off_seconds(
            DESTINATION, timeout_seconds=self._timeout_seconds
        )
        self.put_off_seconds.set_result(seconds)
        if seconds is None:
            await self._breakers.learn(DESTINATION, answered=await self._answered)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with wakeup.connect(redis_url) as client:
        yield client


@pytest.fixture
async def make_breakers(world: World, redis_url: str) -> AsyncIterator[MakeBreakers]:
    """What one more executor knows; each has a connection of its own."""
    clients = []

    def make(url: str = redis_url, *, open_seconds: float = 5.0, most: float = 60.0) -> Breakers:
        clients.append(wakeup.connect(url))
        return Breakers(
            clients[-1],
            world.clock,
            failures_max=FAILURES,
            open_seconds=open_seconds,
            open_seconds_max=most,
        )

    yield make
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()  # attempts that the test let hang
    for client in clients:
        await client.aclose()


@pytest.fixture
async def hanging_url() -> AsyncIterator[str]:
    """A Redis that takes connections and says nothing, and a client that would wait for long."""
    writers = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0?socket_timeout=30"
    for writer in writers:
        writer.close()
    server.close()


@pytest.fixture
def away_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return f"redis://127.0.0.1:{port}/0"


@pytest.fixture(params=["away", "hanging"])
def no_redis_url(request: pytest.FixtureRequest, away_url: str, hanging_url: str) -> str:
    return away_url if request.param == "away" else hanging_url


async def fail(breakers: Breakers, times: int, destination: str = DESTINATION) -> None:
    for _ in range(times):
        await breakers.learn(destination, answered=False)


async def put_off_seconds(breakers: Breakers, destination: str = DESTINATION) -> float | None:
    return await breakers.put_off_seconds(destination, timeout_seconds=5.0)


async def opened_seconds(redis: Redis) -> float:
    """For how long the breaker was opened last."""
    found: dict[str, float] = orjson.loads(await redis.hget(HASH, DESTINATION) or b"{}")
    return found["open_seconds"]


def transitions(state: str) -> float:
    return REGISTRY.get_sample_value("onthedot_breaker_transitions_total", {"state": state}) or 0.0


def open_breakers() -> float | None:
    return REGISTRY.get_sample_value("onthedot_breakers_open")


async def test_it_opens_on_failures_in_a_row_and_on_no_others(make_breakers: MakeBreakers) -> None:
    breakers = make_breakers()
    for _ in range(5):
        await fail(breakers, FAILURES - 1)
        await breakers.learn(DESTINATION, answered=True)
    await fail(breakers, FAILURES - 1)
    await breakers.learn(DESTINATION, answered=None)
    await breakers.learn(OTHER, answered=False)
    assert await put_off_seconds(breakers) is None
    await fail(breakers, 1)
    assert await put_off_seconds(breakers) is not None
    assert await put_off_seconds(breakers, OTHER) is None


async def test_runs_come_back_spread_and_not_much_later_than_it_may_close(
    make_breakers: MakeBreakers, world: World
) -> None:
    breakers = make_breakers(open_seconds=10.0)
    await fail(breakers, FAILURES)
    world.passes(4.0)
    told = [await put_off_seconds(breakers) or 0.0 for _ in range(500)]
    assert len(set(told)) > 400
    assert 5.5 < min(told) < 6.3
    assert 7.5 < max(told) <= 8.0


async def test_a_herd_comes_back_little_by_little(
    make_breakers: MakeBreakers, world: World
) -> None:
    """Else it would go round between claims and breaker instead of waiting."""
    breakers = make_breakers(open_seconds=10.0)
    await fail(breakers, FAILURES)
    world.passes(4.0)
    told = sorted([await put_off_seconds(breakers) or 0.0 for _ in range(20_000)])
    within_a_second = max(
        bisect_right(told, moment + 1.0) - place for place, moment in enumerate(told)
    )
    assert within_a_second < 3_000
    assert told[-1] < 6.0 + 2.0 + 20_000 / 500


async def test_one_probe_at_a_time_among_all_executors(
    make_breakers: MakeBreakers, world: World
) -> None:
    executors = [make_breakers(), make_breakers()]
    await fail(executors[0], FAILURES)
    await executors[1].look()
    world.passes(5.1)
    half_open = transitions("half_open")
    attempts = [Attempt(executors[number % 2]) for number in range(20)]
    told = [await attempt.put_off_seconds for attempt in attempts]
    assert told.count(None) == 1
    assert all(1.0 <= seconds <= 2.0 for seconds in told if seconds is not None)
    assert len(set(told)) == 20
    assert transitions("half_open") == half_open + 1


async def test_while_another_executor_probes_few_runs_ask_redis(
    make_breakers: MakeBreakers, world: World, redis: Redis
) -> None:
    prober, other = make_breakers(), make_breakers()
    await fail(prober, FAILURES)
    await other.look()
    world.passes(5.1)
    assert await Attempt(prober).is_sent()
    before = (await redis.info("commandstats"))["cmdstat_hget"]["calls"]
    for _ in range(100):
        assert await put_off_seconds(other) is not None
    assert (await redis.info("commandstats"))["cmdstat_hget"]["calls"] == before + 1


@pytest.mark.parametrize("same_executor", [True, False])
async def test_a_probe_that_dies_frees_its_place(
    make_breakers: MakeBreakers, world: World, *, same_executor: bool
) -> None:
    dying, other = make_breakers(), make_breakers()
    await fail(dying, FAILURES)
    await other.look()
    world.passes(5.1)
    began = monotonic()
    dead = Attempt(dying, timeout_seconds=0.2)
    assert await dead.is_sent()

    async def is_sent() -> None:
        assert await Attempt(dying if same_executor else other).is_sent()

    await eventually(is_sent, within=5.0)
    assert monotonic() - began > 1.15
    third = make_breakers()
    await third.look()
    await dead.ends(answered=None)
    assert not await Attempt(third).is_sent(), "the place was no more the dead one's to free"


async def test_the_place_of_a_probe_lasts_as_long_as_its_timeout(
    make_breakers: MakeBreakers, world: World, redis: Redis
) -> None:
    breakers = make_breakers()
    await fail(breakers, FAILURES)
    world.passes(5.1)
    assert await Attempt(breakers, timeout_seconds=90.0).is_sent()
    assert 90_000 < await redis.pttl(PROBE + DESTINATION) < 92_000


async def test_a_probe_that_says_nothing_frees_its_place(
    make_breakers: MakeBreakers, world: World
) -> None:
    one, other = make_breakers(), make_breakers()
    await fail(one, FAILURES)
    await other.look()
    world.passes(5.1)
    for breakers in (one, other, one):
        probe = Attempt(breakers)
        assert await probe.is_sent()
        await probe.ends(answered=None)


async def test_a_probe_that_is_answered_closes_it_everywhere(
    make_breakers: MakeBreakers, world: World, redis: Redis
) -> None:
    one, other = make_breakers(), make_breakers()
    await fail(other, FAILURES - 1)
    await fail(one, FAILURES)
    await other.look()
    assert await put_off_seconds(other) is not None
    world.passes(5.1)
    closed = transitions("closed")
    await Attempt(other).ends(answered=True)
    assert transitions("closed") == closed + 1
    await one.look()
    assert open_breakers() == 0
    assert all([await Attempt(breakers).is_sent() for breakers in (one, other) for _ in range(5)])
    assert await redis.exists(HASH, PROBE + DESTINATION) == 0
    for breakers in (one, other):
        await fail(breakers, FAILURES - 1)
        assert await put_off_seconds(breakers) is None, "it counts anew"


async def test_an_attempt_from_before_that_is_answered_closes_it(
    make_breakers: MakeBreakers,
) -> None:
    one, other = make_breakers(), make_breakers()
    before = Attempt(one)
    await before.put_off_seconds
    await fail(one, FAILURES)
    await other.look()
    await before.ends(answered=True)
    await other.look()
    assert await put_off_seconds(one) is None
    assert await put_off_seconds(other) is None


async def test_an_attempt_from_before_that_fails_is_not_taken_for_the_probe(
    make_breakers: MakeBreakers, world: World, redis: Redis
) -> None:
    breakers = make_breakers()
    before = [Attempt(breakers) for _ in range(2)]
    for attempt in before:
        await attempt.put_off_seconds
    await fail(breakers, FAILURES)
    world.passes(5.1)
    probe = Attempt(breakers)
    assert await probe.is_sent()
    await before[0].ends(answered=False)
    await before[1].ends(answered=None)
    assert await opened_seconds(redis) == 5.0
    assert not await Attempt(breakers).is_sent(), "the probe is still under way"
    await probe.ends(answered=False)
    assert await opened_seconds(redis) == 10.0


async def test_each_probe_that_fails_doubles_the_time_up_to_a_limit(
    make_breakers: MakeBreakers, world: World, redis: Redis
) -> None:
    executors = [make_breakers(most=15.0), make_breakers(most=15.0)]
    await fail(executors[0], FAILURES)
    opened = []
    for number in range(4):
        opened.append(await opened_seconds(redis))
        prober = executors[number % 2]
        await prober.look()
        world.passes(opened[-1] - 0.5)
        assert not await Attempt(prober).is_sent()
        world.passes(0.6)
        await Attempt(prober).ends(answered=False)
    assert opened == [5.0, 10.0, 15.0, 15.0]
    world.passes(15.1)
    await Attempt(executors[1]).ends(answered=True)
    await fail(executors[1], FAILURES)
    assert await opened_seconds(redis) == 5.0


async def test_who_has_not_looked_since_a_probe_came_back_does_not_probe_again(
    make_breakers: MakeBreakers, world: World
) -> None:
    one, other = make_breakers(), make_breakers()
    await fail(one, FAILURES)
    await other.look()
    world.passes(5.1)
    await Attempt(one).ends(answered=False)
    assert (await put_off_seconds(other) or 0.0) > 9.0
    world.passes(10.1)
    await Attempt(one).ends(answered=True)
    assert all([await Attempt(other).is_sent() for _ in range(3)])
    await fail(other, 1)
    assert await put_off_seconds(other) is None, "it was no probe"


async def test_without_redis_it_works_for_one_executor_and_waits_for_nothing(
    make_breakers: MakeBreakers, world: World, no_redis_url: str
) -> None:
    breakers = make_breakers(no_redis_url)
    began = monotonic()
    await fail(breakers, FAILURES)
    assert await put_off_seconds(breakers) is not None
    await breakers.look()
    world.passes(5.1)
    attempts = [Attempt(breakers) for _ in range(10)]
    told = [await attempt.put_off_seconds for attempt in attempts]
    assert told.count(None) == 1
    await attempts[told.index(None)].ends(answered=False)
    assert (await put_off_seconds(breakers) or 0.0) > 9.0
    world.passes(10.1)
    await Attempt(breakers).ends(answered=True)
    assert await put_off_seconds(breakers) is None
    # A Redis that hangs is waited for once a second, for half a second.
    assert monotonic() - began < 1.3


async def test_a_redis_that_fails_when_it_is_time_to_probe_does_not_hinder_the_probe(
    make_breakers: MakeBreakers, world: World, redis: Redis
) -> None:
    breakers = make_breakers()
    await fail(breakers, FAILURES)
    await redis.set(HASH, "not a hash: every command fails")
    world.passes(5.1)
    attempts = [Attempt(breakers) for _ in range(5)]
    assert [await attempt.is_sent() for attempt in attempts].count(True) == 1


async def test_what_opens_at_the_same_time_is_told_at_once(
    make_breakers: MakeBreakers, redis: Redis
) -> None:
    breakers = make_breakers()
    destinations = [f"http://many.example:{number}" for number in range(100)]
    await asyncio.gather(*(fail(breakers, FAILURES, destination) for destination in destinations))
    assert await redis.hlen(HASH) == 100


async def test_what_opened_while_redis_was_away_is_told_when_it_is_back(
    make_breakers: MakeBreakers, redis: Redis
) -> None:
    one, other = make_breakers(), make_breakers()
    await redis.set(HASH, "not a hash: every command fails")
    await fail(one, FAILURES)
    await one.look()
    assert await put_off_seconds(one) is not None
    await redis.delete(HASH)

    async def is_told() -> None:
        await one.look()
        await other.look()
        assert await put_off_seconds(one) is not None
        assert await put_off_seconds(other) is not None

    await eventually(is_told, within=5.0)


async def test_what_closed_while_redis_was_away_closes_elsewhere_when_it_is_back(
    make_breakers: MakeBreakers, redis: Redis
) -> None:
    one, other = make_breakers(), make_breakers()
    await fail(one, FAILURES)
    await other.look()
    await redis.rename(HASH, "aside")
    await redis.set(HASH, "not a hash: every command fails")
    await one.learn(DESTINATION, answered=True)
    await redis.rename("aside", HASH)

    async def is_told() -> None:
        await one.look()
        await other.look()
        assert await put_off_seconds(one) is None
        assert await put_off_seconds(other) is None

    await eventually(is_told, within=5.0)


async def test_a_redis_that_is_flushed_leaves_nobody_stuck(
    make_breakers: MakeBreakers, redis: Redis
) -> None:
    executors = [make_breakers(), make_breakers()]
    await fail(executors[0], FAILURES)
    await executors[1].look()
    await redis.flushdb()
    for breakers in executors:
        await breakers.look()
        assert await put_off_seconds(breakers) is None
    await fail(executors[1], FAILURES)
    await executors[0].look()
    for breakers in executors:
        assert await put_off_seconds(breakers) is not None


async def test_what_changes_while_another_looks_is_neither_undone_nor_lost(
    make_breakers: MakeBreakers, redis: Redis
) -> None:
    breakers = make_breakers()
    for steps in range(40):
        await fail(breakers, FAILURES)
        look = asyncio.create_task(breakers.look())
        for _ in range(steps % 20):
            await asyncio.sleep(0)
        await breakers.learn(DESTINATION, answered=True)
        await look
        assert await put_off_seconds(breakers) is None
        await breakers.look()
        assert await redis.exists(HASH) == 0


async def test_only_so_many_are_open_at_a_time(
    make_breakers: MakeBreakers, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "BREAKERS_MAX", 5)
    one = make_breakers()
    for number in range(8):
        await fail(one, FAILURES, f"http://one.example:{number}")
    assert open_breakers() == await redis.hlen(HASH) == 5
    assert await put_off_seconds(one, "http://one.example:4") is not None
    assert await put_off_seconds(one, "http://one.example:5") is None

    standing = await redis.hget(HASH, "http://one.example:0")
    for number in range(20):
        await redis.hset(HASH, f"http://other.example:{number}", standing)
    await make_breakers().look()
    assert open_breakers() == 5


async def test_only_so_many_destinations_are_counted_at_a_time(
    make_breakers: MakeBreakers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FAILING_MAX", 20)
    breakers = make_breakers()
    await fail(breakers, 1, OTHER)
    await fail(breakers, FAILURES - 1)
    await fail(breakers, 1, OTHER)
    for number in range(19):
        await fail(breakers, 1, f"http://many.example:{number}")
    await fail(breakers, 1, OTHER)
    await fail(breakers, 1)
    assert await put_off_seconds(breakers) is None, "it was quiet for longest and is forgotten"
    assert await put_off_seconds(breakers, OTHER) is not None


async def test_what_nobody_probes_any_more_is_forgotten(
    make_breakers: MakeBreakers, world: World, redis: Redis
) -> None:
    one, newcomer = make_breakers(), make_breakers()
    await fail(one, FAILURES)
    world.passes(5.0 + breaker.STALE_SECONDS + 1.0)
    await newcomer.look()
    await newcomer.look()
    assert await redis.exists(HASH) == 0
    assert await put_off_seconds(newcomer) is None


async def test_a_database_clock_that_was_set_back_holds_nobody_up(
    make_breakers: MakeBreakers, world: World
) -> None:
    executors = [make_breakers(), make_breakers()]
    await fail(executors[0], FAILURES)
    await executors[1].look()
    world.passes(-3_600.0)
    assert (await put_off_seconds(executors[1]) or 0.0) < 8.0
    for breakers in executors:
        await breakers.look()
    await Attempt(executors[1]).ends(answered=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        '{"probe_at": 1}',
        '{"probe_at": null, "open_seconds": 5}',
        '{"probe_at": 1e999, "open_seconds": 5}',
        '{"probe_at": 4e9, "open_seconds": -5}',
        '{"probe_at": 4e9, "open_seconds": "nan"}',
    ],
)
async def test_nonsense_in_redis_is_ignored_and_removed(
    make_breakers: MakeBreakers, redis: Redis, text: str
) -> None:
    await redis.hset(HASH, DESTINATION, text)
    breakers = make_breakers()
    await breakers.look()
    assert await put_off_seconds(breakers) is None
    await breakers.look()
    assert await redis.exists(HASH) == 0


async def test_runs_to_healthy_destinations_wait_for_no_io(
    make_breakers: MakeBreakers, away_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "AWAY_SECONDS", 0.0)
    breakers = make_breakers(away_url)
    await fail(breakers, FAILURES, OTHER)
    assert at_once(put_off_seconds(breakers)) is None
    at_once(breakers.learn(DESTINATION, answered=False))
    at_once(breakers.learn(DESTINATION, answered=True))
    at_once(breakers.learn(DESTINATION, answered=None))
    assert isinstance(at_once(put_off_seconds(breakers, OTHER)), float)


def at_once(coroutine: Coroutine[Any, Any, object]) -> object:
    """Answer what a coroutine returns without ever having been suspended."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("it was suspended")
