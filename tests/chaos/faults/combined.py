"""Several things break at once, or nothing does."""

import asyncio
from collections.abc import Awaitable, Callable
from time import time

from tests.chaos.faults import executors, postgres, redis
from tests.chaos.stack import NOT_YET_DUE, Stack


def in_turn(*faults: Callable[[Stack], Awaitable[None]]) -> Callable[[Stack], Awaitable[None]]:
    """Make one fault of several: the next begins when the last is mended and timers are taken."""

    async def one_after_the_other(stack: Stack) -> None:
        for fault in faults:
            await fault(stack)
            await stack.accepts(int(stack.scale.per_second / 4))

    return one_after_the_other


async def nothing(stack: Stack) -> None:
    """The control: what a breach would mean here is that something else is wrong."""
    await stack.gets_calls(int(stack.scale.per_second * stack.scale.outage_seconds))


async def executor_and_postgres_killed(stack: Stack) -> None:
    """The executor goes on sending what it holds, can record nothing, and dies with it."""
    victim = await stack.holder(NOT_YET_DUE)
    since = time()
    async with postgres.down(stack):
        await asyncio.sleep(stack.scale.outage_seconds / 3)
        await stack.kill(victim, unrecorded_since=since)


async def redis_killed_and_executor_stalled(stack: Stack) -> None:
    """Nobody has the lock, and one comes back to find its claims rescued."""
    async with redis.down(stack):
        await executors.stalled_beyond_the_lease(stack)


async def executor_killed_while_postgres_is_silent(stack: Stack) -> None:
    """Records pile up, heartbeats fail, yet nobody's lease has ended when one executor dies."""
    victim = await stack.holder(NOT_YET_DUE)
    since = time()
    with postgres.stopped_processes(stack.postgres):
        await asyncio.sleep(stack.scale.lease_seconds * 2 / 3)
        await stack.kill(victim, unrecorded_since=since)


async def power_cut(stack: Stack) -> None:
    """SIGKILL everything at one moment, and start everything again."""
    killed = list(stack.executors)
    await asyncio.gather(
        *(stack.kill(executor) for executor in killed),
        stack.handler.kill(),
        asyncio.to_thread(stack.postgres.kill),
        asyncio.to_thread(stack.valkey.kill),
    )
    await asyncio.gather(
        asyncio.to_thread(stack.postgres.start), asyncio.to_thread(stack.valkey.start)
    )
    await asyncio.gather(stack.handler.start(), *(stack.new_executor() for _ in killed))
