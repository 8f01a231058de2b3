"""Telling costs nothing to speak of, holds up nobody, and says nothing twice."""

from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from executor_service import record
from shared import events
from shared.events import DROPPED, ENTRIES_MAX, FIELD, STREAM, WAITING_MAX, Event, Teller, of_job
from tests.claims import a_claim
from tests.eventually import eventually
from tests.processes import free_port


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    client = events.connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def teller(client: Redis) -> AsyncIterator[Teller]:
    teller = Teller(client)
    yield teller
    await teller.close()


async def entries(client: Redis) -> list[list[Event]]:
    """The events of each entry."""
    found: Any = await client.xrange(STREAM)
    return [
        [tuple(event) for _, group in orjson.loads(fields[FIELD]) for event in group]
        for _, fields in found
        if FIELD in fields
    ]


def changed(*job_ids: int) -> list[Event]:
    return [of_job("job.changed", 1, job_id) for job_id in job_ids]


async def listen(client: Redis) -> None:
    await client.xadd(STREAM, {FIELD: "[]"})


async def test_without_a_listener_nothing_is_written_and_little_is_tried(
    teller: Teller, client: Redis
) -> None:
    assert teller.is_wanted
    teller.tell(changed(1))

    def rests() -> None:
        assert not teller.is_wanted

    await eventually(rests)
    teller.tell(changed(2))
    assert teller._task is not None
    await teller._task
    assert not await client.exists(STREAM)
    await listen(client)

    async def is_heard() -> None:
        teller.tell(changed(3))
        assert 3 in {event[2] for entry in await entries(client) for event in entry}, "rests"

    await eventually(is_heard, within=3)
    assert 2 not in {event[2] for entry in await entries(client) for event in entry}


async def test_events_come_in_the_order_they_were_told_and_many_share_an_entry(
    teller: Teller, client: Redis
) -> None:
    await listen(client)
    for job_id in range(1_200):
        teller.tell(changed(job_id))
    teller.tell(changed(*range(1_200, 3_000)))
    await teller.close()
    told = await entries(client)
    assert [event[2] for entry in told for event in entry] == list(range(3_000))
    assert len(told) <= 8
    assert max(len(entry) for entry in told) <= events.BATCH_MAX


async def test_the_stream_is_bounded(teller: Teller, client: Redis) -> None:
    await listen(client)
    async with client.pipeline() as pipeline:
        for _ in range(ENTRIES_MAX + 500):
            pipeline.xadd(STREAM, {FIELD: "[]"})
        await pipeline.execute()
    teller.tell(changed(1))
    await teller.close()
    assert ENTRIES_MAX <= await client.xlen(STREAM) < ENTRIES_MAX + 200
    assert (await entries(client))[-1] == changed(1)


async def test_what_there_is_no_room_for_is_counted_and_leaves_a_gap_in_its_place(
    teller: Teller, client: Redis
) -> None:
    await listen(client)
    dropped = DROPPED._value.get()
    teller.tell(changed(*range(WAITING_MAX)))
    teller.tell(changed(1, 2, 3))
    teller.tell(changed(4))
    assert DROPPED._value.get() == dropped + 4
    await teller.close()
    told = [event for entry in await entries(client) for event in entry]
    assert len(told) == WAITING_MAX + 1
    assert told[-1][0] == events.GAP


async def test_a_redis_that_is_away_delays_nobody_and_nothing_is_kept_for_it() -> None:
    client = events.connect(f"redis://127.0.0.1:{free_port()}/0")
    teller = Teller(client)
    began = perf_counter()
    for job_id in range(1_000):
        teller.tell(changed(job_id))
    assert perf_counter() - began < 0.1

    def rests() -> None:
        assert not teller.is_wanted

    await eventually(rests)
    assert not teller._groups
    await teller.close()
    await client.aclose()


async def test_a_first_batch_lost_with_redis_is_a_gap_too(client: Redis) -> None:
    await listen(client)
    away = events.connect(f"redis://127.0.0.1:{free_port()}/0")
    teller = Teller(away)
    teller.tell(changed(1))
    assert teller._task is not None
    await teller._task
    teller._redis = client

    async def a_gap_is_told() -> None:
        assert (await entries(client))[1:] == [[events.A_GAP]]

    await eventually(a_gap_is_told)
    await teller.close()
    await away.aclose()


async def test_a_batch_lost_with_redis_is_a_gap_for_those_who_listened(client: Redis) -> None:
    await listen(client)
    away: Redis = events.connect(f"redis://127.0.0.1:{free_port()}/0")
    teller = Teller(client)
    teller.tell(changed(1))
    assert teller._task is not None
    await teller._task
    teller._redis = away
    dropped = DROPPED._value.get()
    teller.tell(changed(2))

    def is_lost() -> None:
        assert DROPPED._value.get() == dropped + 1

    await eventually(is_lost)
    teller._redis = client
    teller.tell(changed(3))
    await teller._task
    assert [[event[0] for event in entry] for entry in (await entries(client))[1:]] == [
        ["job.changed"],
        ["gap", "job.changed"],
    ]
    await away.aclose()


async def test_an_outcome_costs_less_than_a_microsecond(client: Redis) -> None:
    """Of a batch of 500: made, queued and written down, the best of many tries."""
    claims = [a_claim(job_id, scheduled_for=1_795_252_201_661_123) for job_id in range(500)]
    moved = [claim.job_id for claim in claims]
    best = {"wanted": 1.0, "unwanted": 1.0}
    for is_wanted in (True, False):
        teller = Teller(client)
        teller.is_wanted = is_wanted
        for _ in range(200):
            began = perf_counter()
            if teller.is_wanted:
                teller.tell(record._events("deliver", claims, moved))
                events.encode(teller._take(), now=0.0)
            name = "wanted" if is_wanted else "unwanted"
            best[name] = min(best[name], perf_counter() - began)
        await teller.close()
    print({name: f"{seconds / 500 * 1e6:.4f} µs an event" for name, seconds in best.items()})  # noqa: T201
    assert best["wanted"] / 500 < 1e-6
    assert best["unwanted"] / 500 < 1e-8
