"""Executors are killed, stopped, replaced, and stall."""

import asyncio
from time import time

from tests.chaos.stack import NOT_YET_DUE, SENT, Stack
from tests.eventually import eventually
from tests.processes import Service


async def killed_before_the_send(stack: Stack) -> None:
    """SIGKILL while it holds claims that are not due yet."""
    await stack.kill(await stack.holder(NOT_YET_DUE))


async def killed_during_the_send(stack: Stack) -> None:
    """SIGKILL while webhooks are in flight, to a destination that takes its time."""
    await stack.kill(await stack.holder(SENT))


async def killed_after_the_send(stack: Stack) -> None:
    """SIGKILL while answers are in and cannot be recorded: somebody has locked the history."""
    async with stack.sql() as connection, connection.transaction():
        await connection.execute("lock table executions in exclusive mode")
        locked_at = time()
        await stack.gets_calls(int(stack.scale.per_second * stack.scale.outage_seconds / 2))
        await stack.kill(await stack.holder(SENT), unrecorded_since=locked_at)


async def replaced(stack: Stack) -> None:
    """SIGTERM one, and start another."""
    await stack.replace(stack.executors[0])


async def all_replaced_in_turn(stack: Stack) -> None:
    """A rolling deployment."""
    for executor in list(stack.executors):
        await stack.replace(executor)


async def stalled_within_the_lease(stack: Stack) -> None:
    """SIGSTOP and SIGCONT before anyone may rescue: nothing comes twice."""
    with stack.stalled(await stack.holder(NOT_YET_DUE)):
        await asyncio.sleep(stack.scale.lease_seconds * 0.5)


async def stalled_beyond_the_lease(stack: Stack) -> None:
    """SIGSTOP until the others have rescued what it held, then SIGCONT."""
    executor = await stack.holder(SENT)
    with stack.stalled(executor):
        stack.falls(executor)
        await stack.is_rescued(executor)
    await eventually(lambda: _is_forgotten(executor))


def _is_forgotten(executor: Service) -> None:
    assert "lease.lost" in executor.log.read_text()
