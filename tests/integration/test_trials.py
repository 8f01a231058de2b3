"""Trials through Redis: each is taken by one executor at most; none outlives who asks for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_network
from time import monotonic

import pytest
from redis.asyncio import Redis

from executor_service.client import Clients
from executor_service.clock import DatabaseClock
from executor_service.egress import Egress
from executor_service.fire import Sender
from executor_service.resolver import Resolver
from executor_service.trials import AT_ONCE_MAX, Trials
from shared import trials
from shared.database import Pool
from shared.trials import Called, Looked, Reply, Trial, Unable, Vetted
from tests.eventually import eventually
from tests.receiver import Receiver

SECONDS = 0.2


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    redis = trials.connect(redis_url)
    yield redis
    await redis.aclose()


@asynccontextmanager
async def an_executor(redis: Redis, pool: Pool, *, is_ready: bool = True) -> AsyncIterator[Trials]:
    """What an executor tries by."""
    clock = DatabaseClock()
    clock.observe(datetime.now(UTC), asked_at=monotonic(), heard_at=monotonic())
    sender = Sender(
        clients=Clients(connect_seconds=1.0, idle_per_host_max=8),
        resolver=Resolver(),
        egress=Egress([ip_network("127.0.0.0/8")]),
        clock=clock,
        resolve_seconds=1.0,
        may_send=lambda _: True,
    )
    executor = Trials(redis, pool, sender, is_ready=lambda: is_ready)
    running = asyncio.create_task(executor.run())
    yield executor
    executor.stop()
    await running
    await executor.finish(0.0)
    sender.resolver.close()
    await sender.clients.close()


def a_trial(url: str = "https://example.com/", *, call: bool = True, application: int = 1) -> Trial:
    headers = {"authorization": "hunter2"}
    return Trial(trials.new_id(), application, url, 10.0, call, "PUT", headers, b"\x00\xff")


async def test_a_trial_arrives_as_it_was_asked_and_is_taken_once(redis: Redis) -> None:
    trial = a_trial()
    await trials.ask(redis, trial)
    trial_id = await trials.next_id(redis)
    assert trial_id == trial.id
    assert await trials.take(redis, trial_id) == trial
    assert await trials.take(redis, trial_id) is None
    assert await trials.withdraw(redis, trial) is False
    assert await redis.keys("*") == []


async def test_a_trial_that_is_withdrawn_is_taken_by_nobody(redis: Redis) -> None:
    trial = a_trial()
    await trials.ask(redis, trial)
    trial_id = await trials.next_id(redis)
    assert trial_id is not None
    assert await trials.withdraw(redis, trial) is True
    assert await trials.take(redis, trial_id) is None
    await trials.ask(redis, a_trial())
    assert await redis.llen(trials.QUEUE) == 1


async def test_whatever_stands_in_redis_expires(redis: Redis) -> None:
    trial = a_trial()
    await trials.ask(redis, trial)
    assert 0 < await redis.ttl(trials.REQUEST + trial.id) <= trials.REQUEST_SECONDS
    assert 0 < await redis.ttl(trials.QUEUE) <= trials.QUEUE_SECONDS
    await trials.reply(redis, trial, Unable("no"))
    assert 0 < await redis.ttl(trials.REPLY + trial.id) <= trials.REPLY_SECONDS
    assert trials.REQUEST_SECONDS > trials.TAKE_SECONDS


@pytest.mark.parametrize(
    "said",
    [
        Called(True, 200, [("a", "1"), ("a", "2")], b"\xff\x00", False, 1.5, None),
        Called(False, None, [], b"", False, 1.5, "timeout: no answer within 1 s"),
        Looked([Vetted("127.0.0.1", "loopback"), Vetted("::1", None)], None, None),
        Looked([], "denied", "dns: none"),
        Unable("Postgres is away."),
    ],
)
async def test_a_reply_arrives_as_it_was_said_and_leaves_nothing(redis: Redis, said: Reply) -> None:
    trial = a_trial()
    await trials.reply(redis, trial, said)
    assert await trials.hear(redis, trial, seconds=SECONDS) == said
    assert await redis.keys("*") == []
    assert await trials.hear(redis, trial, seconds=SECONDS) is None


async def test_what_is_no_trial_of_ours_harms_nobody(redis: Redis, pool: Pool) -> None:
    strange = trials.new_id()
    await redis.rpush(trials.QUEUE, b"\xff", "not an id", "0" * 31, strange, trials.new_id())
    await redis.set(trials.REQUEST + strange, b'{"id": "of another version"}')
    async with an_executor(redis, pool), Receiver() as receiver:
        trial = a_trial(receiver.url())
        await trials.ask(redis, trial)
        said = await trials.hear(redis, trial, seconds=10)
    assert isinstance(said, Called)
    assert said.status == 204


async def test_an_executor_tries_only_so_much_at_once(
    redis: Redis, pool: Pool, receiver: Receiver
) -> None:
    asked = [a_trial(receiver.url("/hang")) for _ in range(AT_ONCE_MAX + 1)]
    async with an_executor(redis, pool):
        for trial in asked:
            await trials.ask(redis, trial)
        await eventually(lambda: in_flight(receiver))
        assert await trials.hear(redis, asked[-1], seconds=SECONDS) is None
        assert await trials.withdraw(redis, asked[-1]) is True
    assert len(receiver.calls) == AT_ONCE_MAX
    for trial in asked[:-1]:
        said = await trials.hear(redis, trial, seconds=SECONDS)
        assert isinstance(said, Called)
        assert said.error == "stopped: the executor stopped before the answer came"


async def test_an_executor_that_has_lost_postgres_takes_nothing(redis: Redis, pool: Pool) -> None:
    trial = a_trial()
    await trials.ask(redis, trial)
    async with an_executor(redis, pool, is_ready=False):
        assert await trials.hear(redis, trial, seconds=SECONDS) is None
    assert await trials.withdraw(redis, trial) is True


async def test_a_call_of_an_application_that_is_gone_is_not_made(
    redis: Redis, pool: Pool, receiver: Receiver
) -> None:
    trial = a_trial(receiver.url(), application=2)
    async with an_executor(redis, pool):
        await trials.ask(redis, trial)
        assert await trials.hear(redis, trial, seconds=10) == Unable("The application is gone.")
    assert receiver.connections == 0


async def test_a_look_makes_no_connection(redis: Redis, pool: Pool, receiver: Receiver) -> None:
    async with an_executor(redis, pool):
        for url, found in {
            receiver.url(): Looked([Vetted("127.0.0.1", None)], None, None),
            "http://10.0.0.1/": Looked([Vetted("10.0.0.1", "private (RFC 1918)")], None, None),
        }.items():
            trial = a_trial(url, call=False)
            await trials.ask(redis, trial)
            assert await trials.hear(redis, trial, seconds=10) == found
    assert receiver.connections == 0


async def test_what_stopped_before_it_took_a_trial_leaves_it_to_the_next(
    redis: Redis, pool: Pool, receiver: Receiver
) -> None:
    """It waits for an id when it is told to stop, and gets one."""
    async with an_executor(redis, pool) as first:
        await eventually(lambda: blocked(redis))
        first.stop()
        trial = a_trial(receiver.url())
        await trials.ask(redis, trial)
        assert await trials.hear(redis, trial, seconds=SECONDS) is None
    assert receiver.connections == 0
    async with an_executor(redis, pool):
        said = await trials.hear(redis, trial, seconds=2)
    assert isinstance(said, Called)


def in_flight(receiver: Receiver) -> None:
    assert receiver.in_flight == AT_ONCE_MAX


async def blocked(redis: Redis) -> None:
    assert (await redis.info("clients"))["blocked_clients"] == 1
