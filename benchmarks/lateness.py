"""How late a webhook is: alone, and in a steady stream."""

import asyncio
from time import perf_counter

from pyreqwest.client import Client, ClientBuilder

from benchmarks.figures import quantile, spread
from benchmarks.stack import Stack
from shared import database, wakeup
from shared.runs import moves
from shared.runs.lifecycle import Delivery
from shared.runs.moves import NewJob

RATE = 200
ALONE = 40


async def measure(stack: Stack, *, seconds: int) -> list[str]:
    handler = await stack.services.handler()
    executor = await stack.services.executor()
    async with ClientBuilder().build() as client:
        url = f"{handler.url}/timers"
        alone = await _alone(stack, client, url)
        at_once = await _at_once(stack)
        await stream(client, url, stack.sink_url, seconds=seconds)
        steady = await _late(stack, RATE * seconds)
    await handler.stop()
    await executor.stop()
    return [
        _tell("1 s, alone", alone, 50),
        _tell("due at once, alone", at_once, 50),
        _tell(f"{RATE}/s for {seconds} s", steady, 30),
    ]


async def _create(client: Client, url: str, target: str) -> None:
    body = b'{"seconds":1,"url":"%b"}' % target.encode()
    request = client.post(url).header("content-type", "application/json").body_bytes(body)
    response = await request.build().send()
    assert response.status == 201


async def _alone(stack: Stack, client: Client, url: str) -> list[float]:
    """One timer of a second at a time, at every phase of the poll."""
    for _ in range(ALONE):
        await _create(client, url, stack.sink_url)
        await asyncio.sleep(0.37)
    return await _late(stack, ALONE)


async def _at_once(stack: Stack) -> list[float]:
    """Runs due when they are written, as a job without a time will be."""
    pool = database.open_pool(stack.postgres.url, name="bench", connections=1, pin_plans=True)
    redis = wakeup.connect(stack.services.environment["REDIS_URL"])
    timer = NewJob(1, stack.sink_url, "POST", None, None, 15.0, 0.0, None, Delivery.AT_LEAST_ONCE)
    async with pool:
        for _ in range(ALONE):
            async with pool.connection() as connection:
                await moves.create(connection, [timer])
            await wakeup.publish(redis, due_in_seconds=0)
            await asyncio.sleep(0.37)
    await redis.aclose()
    return await _late(stack, ALONE)


async def stream(client: Client, url: str, target: str, *, seconds: int) -> None:
    """Creates at a steady rate, whatever the answers take."""
    started = perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(RATE * seconds):
            group.create_task(_create(client, url, target))
            await asyncio.sleep(max(0.0, started + (number + 1) / RATE - perf_counter()))


async def _late(stack: Stack, count: int) -> list[float]:
    await stack.all_recorded(within=30)
    notes = await stack.report()
    assert len({note.webhook_id for note in notes}) == len(notes) == count
    late = [note.late_ms for note in notes]
    assert min(late) >= 0, "some came early"
    return late


def _tell(name: str, late: list[float], bar_ms: float) -> str:
    verdict = "holds" if quantile(late, 0.99) <= bar_ms else "FALLS SHORT"
    return f"lateness {name:20} {spread(late)}   (bar p99 {bar_ms:g}: {verdict})"
