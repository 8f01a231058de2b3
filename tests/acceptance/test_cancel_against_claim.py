"""Thousands of timers are cancelled and changed at the very moment executors claim them.

Whatever a caller was answered is what happens: after a 204 silence, after a 200 the new request and
never the old, after a 409 the old one; and each timer ends exactly once.
"""

import asyncio
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from time import time
from typing import NamedTuple

import httpx
import psycopg
import pytest

from shared import wakeup
from tests.eventually import eventually
from tests.processes import Services
from tests.receiver import Receiver

TIMERS = 2_400
APART_SECONDS = 0.006
OWNERS = 8  # who ask at once
AHEAD_SECONDS = 1.2  # executors claim so long before the instant
SPREAD_SECONDS = 0.01
STEP_SECONDS = 0.002
MEETINGS_MIN = 100  # of each answer, or they did not meet

Ask = Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]


class Timer(NamedTuple):
    """One timer, and when it is due."""

    id: int
    due_at: float


@pytest.fixture
async def storm(redis_url: str) -> AsyncIterator[None]:
    """Wake-ups without end, so that executors claim each timer as soon as they may."""
    client = wakeup.connect(redis_url)

    async def blow() -> None:
        while True:
            await wakeup.publish(client, due_in_seconds=0)
            await asyncio.sleep(0.01)  # the rhythm of the storm

    blowing = asyncio.create_task(blow())
    yield
    blowing.cancel()
    await asyncio.gather(blowing, return_exceptions=True)
    await client.aclose()


@pytest.fixture
async def timers(database_url: str, services: Services, receiver: Receiver) -> list[Timer]:
    """Timers that come due one after the other, with two executors after them."""
    await services.executors(2)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        cursor = await connection.execute(
            "with job as (insert into jobs (application_id, url, method, timeout_seconds, run_at) "
            "select 1, %s, 'POST', 5, now() + (3 + n * %s) * interval '1 s' "
            "from generate_series(1, %s) as n returning id, run_at), "
            "run as (insert into schedules (job_id, scheduled_for, due_at) "
            "select id, run_at, run_at from job) "
            "select id, extract(epoch from run_at)::float8 from job",
            (receiver.url("/old"), APART_SECONDS, TIMERS),
        )
        return [Timer._make(row) for row in await cursor.fetchall()]


async def ask_at_the_moment_of_the_claim(
    api: httpx.AsyncClient, timers: list[Timer], ask: Ask
) -> dict[int, int]:
    """Answer the status that each timer's owner was answered.

    Owners ask for the timer that is claimed about now: a little later when they were in time, a
    little sooner when they were not. Timers that were passed over are asked for in the end.
    """
    statuses: dict[int, int] = {}
    waiting = sorted(timers, key=lambda timer: timer.due_at)
    passed_over: list[Timer] = []
    ahead = AHEAD_SECONDS

    async def own() -> None:
        nonlocal ahead
        while waiting or passed_over:
            soon = time() + random.gauss(ahead, SPREAD_SECONDS)
            place = bisect_left(waiting, soon, key=lambda timer: timer.due_at)
            passed_over.extend(waiting[:place])
            del waiting[:place]
            timer = waiting.pop(0) if waiting else passed_over.pop()
            await asyncio.sleep(max(0.0, timer.due_at - soon))
            statuses[timer.id] = (await ask(api, timer.id)).status_code
            ahead += STEP_SECONDS if statuses[timer.id] == 409 else -STEP_SECONDS

    async with asyncio.TaskGroup() as group:
        for _ in range(OWNERS):
            group.create_task(own())
    return statuses


async def ends(database_url: str) -> dict[int, list[str]]:
    """How each timer ended, once nothing is outstanding."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:

        async def is_over() -> None:
            cursor = await connection.execute("select count(*) from schedules")
            assert await cursor.fetchall() == [(0,)]

        await eventually(is_over, every=0.1)
        cursor = await connection.execute(
            "select job_id, array_agg(state) from executions group by job_id"
        )
        return dict(await cursor.fetchall())


@pytest.mark.usefixtures("storm")
async def test_no_timer_that_was_answered_as_cancelled_is_fired_and_every_other_is(
    api: httpx.AsyncClient, timers: list[Timer], receiver: Receiver, database_url: str
) -> None:
    statuses = await ask_at_the_moment_of_the_claim(
        api, timers, lambda http, timer_id: http.delete(f"/timers/{timer_id}")
    )
    met = Counter(statuses.values())
    assert met.keys() == {204, 409}
    assert min(met.values()) >= MEETINGS_MIN, f"they did not meet: {met}"
    assert await ends(database_url) == {
        timer_id: ["cancelled" if status == 204 else "done"]
        for timer_id, status in statuses.items()
    }
    assert Counter(call.job_id for call in receiver.calls) == {
        timer_id: 1 for timer_id, status in statuses.items() if status == 409
    }


@pytest.mark.usefixtures("storm")
async def test_a_timer_is_fired_as_its_owner_was_answered_that_it_is(
    api: httpx.AsyncClient, timers: list[Timer], receiver: Receiver, database_url: str
) -> None:
    statuses = await ask_at_the_moment_of_the_claim(
        api,
        timers,
        lambda http, timer_id: http.patch(
            f"/timers/{timer_id}", json={"url": receiver.url("/new")}
        ),
    )
    met = Counter(statuses.values())
    assert met.keys() == {200, 409}
    assert min(met.values()) >= MEETINGS_MIN, f"they did not meet: {met}"
    assert await ends(database_url) == {timer_id: ["done"] for timer_id in statuses}
    assert Counter((call.job_id, call.path) for call in receiver.calls) == {
        (timer_id, "/new" if status == 200 else "/old"): 1 for timer_id, status in statuses.items()
    }
