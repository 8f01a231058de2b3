"""Names: looked up once for all who ask, forgotten soon, and never at others' expense."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from executor_service import resolver
from executor_service.resolver import Answer, Resolver, ResolverBusy

ANSWER: Answer = [ip_address("192.0.2.1")]
NO_NAME = OSError(socket.EAI_NONAME, "Name or service not known")


@asynccontextmanager
async def a_resolver(look_up: Callable[[str], Answer]) -> AsyncIterator[Resolver]:
    made = Resolver(look_up)
    yield made
    made.close()


async def test_a_name_is_asked_for_once_while_its_answer_is_fresh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def look_up(name: str) -> Answer:
        asked.append(name)
        return ANSWER

    async with a_resolver(look_up) as names:
        answers = [names.resolve("one.test", seconds=5) for _ in range(100)]
        assert await asyncio.gather(*answers) == [ANSWER] * 100
        await names.resolve("one.test", seconds=5)
        assert asked == ["one.test"]
        monkeypatch.setattr(resolver, "monotonic", lambda: float("inf"))
        await names.resolve("one.test", seconds=5)
        assert asked == ["one.test"] * 2


async def test_a_failure_that_is_remembered_keeps_nothing_of_those_it_is_told_to() -> None:
    async with a_resolver(lambda _: NO_NAME) as names:
        lengths = set()
        for _ in range(20):
            with pytest.raises(OSError, match="not known") as failure:
                await names.resolve("none.test", seconds=5)
            lengths.add(len(failure.traceback))
        assert len(lengths) == 1


async def test_names_that_hang_leave_others_out_at_once_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolver, "THREADS", 2)
    answers = threading.Event()

    def look_up(name: str) -> Answer:
        if name.startswith("slow"):
            answers.wait(10)
        return ANSWER

    async with a_resolver(look_up) as names:
        for name in ("slow-1.test", "slow-2.test"):
            with pytest.raises(TimeoutError):
                await names.resolve(name, seconds=0.05)
        with pytest.raises(ResolverBusy):
            await names.resolve("other.test", seconds=5)
        with pytest.raises(TimeoutError):
            await names.resolve("slow-1.test", seconds=5)  # remembered: it does not wait
        answers.set()
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await names.resolve("other.test", seconds=5) == ANSWER
                    break
                except ResolverBusy:
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", ["no-such-name.invalid", "a" * 64, "a..invalid", "."])
def test_the_system_says_of_a_name_without_an_address_that_it_has_none(name: str) -> None:
    assert isinstance(resolver.ask_the_system(name), OSError)


def test_the_system_knows_this_machine() -> None:
    answer = resolver.ask_the_system("localhost")
    assert isinstance(answer, list)
    assert all(address.is_loopback for address in answer)
