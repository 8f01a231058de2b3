"""Redis is killed, emptied, silent, or forgets who holds the lock."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from redis.asyncio import Redis

from executor_service import lock
from tests.chaos.stack import Stack


async def killed(stack: Stack) -> None:
    """SIGKILL, an outage, and a start."""
    async with down(stack):
        await asyncio.sleep(stack.scale.outage_seconds)


@asynccontextmanager
async def down(stack: Stack) -> AsyncIterator[None]:
    """Kill Redis; start it again after the block."""
    await asyncio.to_thread(stack.valkey.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(stack.valkey.start)


async def silent(stack: Stack) -> None:
    """SIGSTOP: connections stay open and nothing is answered."""
    stack.valkey.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(stack.scale.outage_seconds)
    finally:
        stack.valkey.send(signal.SIGCONT)


async def flushed(stack: Stack) -> None:
    """FLUSHALL, ten times a second."""
    await _again_and_again(stack, "FLUSHALL", pause_seconds=0.1)


async def loses_the_lock(stack: Stack) -> None:
    """DEL the lock under its holder, as often as one can."""
    await _again_and_again(stack, "DEL", lock.NAME, pause_seconds=0.001)


async def _again_and_again(stack: Stack, *command: str, pause_seconds: float) -> None:
    async with Redis.from_url(stack.valkey.url) as client:
        ends_at = monotonic() + stack.scale.outage_seconds
        while monotonic() < ends_at:
            await client.execute_command(*command)
            await asyncio.sleep(pause_seconds)
