"""Waiting for a fact instead of sleeping for a guess."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

Fact = TypeVar("Fact")


async def eventually(
    assertion: Callable[[], Fact | Awaitable[Fact]], *, within: float = 30.0, every: float = 0.02
) -> Fact:
    """Call `assertion` until it stops raising AssertionError; answer what it answers.

    Raises the last AssertionError when `within` seconds have passed.
    """
    deadline = monotonic() + within
    while True:
        try:
            answer = assertion()
            return await answer if inspect.isawaitable(answer) else answer
        except AssertionError:
            if monotonic() > deadline:
                raise
        await asyncio.sleep(every)
