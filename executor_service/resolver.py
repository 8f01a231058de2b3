"""Names to addresses, by the system's own resolver, off the event loop.

Looked up again every few seconds and once for all who ask at the same time; the answer is vetted
by egress on every use, so a name that starts to point inwards is refused at the next call.

A name server that hangs holds a thread for each of its names. So a failure is remembered for a
while, and who finds every thread taken is told so at once: their webhook is put off, and costs no
attempt.
"""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from time import monotonic

from executor_service.egress import Address

KEPT_SECONDS = 10.0
FAILURE_KEPT_SECONDS = 5.0
NAMES_MAX = 10_000
THREADS = 64

Answer = list[Address] | OSError


class ResolverBusy(Exception):  # noqa: N818  # not an error of the name that was asked for
    """Every thread waits for a name server; ask again later."""


def ask_the_system(name: str) -> Answer:
    """Ask for a name's addresses, as every program on this machine does; may take its time."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except OSError as error:
        return error
    except UnicodeError:  # a label that is empty or too long for IDNA
        return OSError(socket.EAI_NONAME, "not a host name")
    # A scope ("fe80::1%eth0") is no part of an address that may be reached.
    return list(dict.fromkeys(ip_address(str(answer[4][0]).partition("%")[0]) for answer in found))


class Resolver:
    """Looks names up, by the system's resolver unless given another."""

    def __init__(self, look_up: Callable[[str], Answer] = ask_the_system) -> None:
        self._look_name_up = look_up
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resolve")
        self._known: dict[str, tuple[float, Answer]] = {}
        self._asked: dict[str, asyncio.Task[Answer]] = {}

    async def resolve(self, name: str, *, seconds: float) -> list[Address]:
        """Answer a name's addresses, in the system's order of preference.

        Raises OSError for a name that has none, TimeoutError when there is no answer in time, and
        ResolverBusy when the name was not even asked for.
        """
        answer = self._remembered(name)
        if answer is None:
            if name not in self._asked and len(self._asked) >= THREADS:
                raise ResolverBusy
            try:
                async with asyncio.timeout(seconds):
                    answer = await asyncio.shield(self._ask(name))
            except TimeoutError:
                self._known[name] = (monotonic() + FAILURE_KEPT_SECONDS, TimeoutError())
                raise
        if isinstance(answer, OSError):
            # One error for all who ask meanwhile: it must not gather the traceback of each.
            raise answer.with_traceback(None)
        return answer

    def close(self) -> None:
        """Stop without waiting for look-ups that hang."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _remembered(self, name: str) -> Answer | None:
        kept_until, answer = self._known.get(name, (0.0, None))
        return answer if monotonic() < kept_until else None

    def _ask(self, name: str) -> asyncio.Task[Answer]:
        """Share the look-up that is under way, or begin one."""
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = asyncio.create_task(self._look_up(name))
            task.add_done_callback(lambda _: self._asked.pop(name, None))
        return task

    async def _look_up(self, name: str) -> Answer:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._threads, self._look_name_up, name)
        kept = FAILURE_KEPT_SECONDS if isinstance(answer, OSError) else KEPT_SECONDS
        if len(self._known) >= NAMES_MAX:
            self._known.clear()
        self._known[name] = (monotonic() + kept, answer)
        return answer
