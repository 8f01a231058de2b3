"""Names to addresses, by the system's own resolver, off the event loop.

Looked up again every few seconds and once for all who ask at the same time; the answer is vetted
by egress on every use, so a name that starts to point inwards is refused at the next call.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from time import monotonic

from executor_service.egress import Address

KEPT_SECONDS = 10.0
NAMES_MAX = 10_000
THREADS = 32  # a resolver that hangs holds one of these per name, and nobody else


class Resolver:
    """Looks names up."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="resolve")
        self._known: dict[str, tuple[float, list[Address]]] = {}
        self._asked: dict[str, asyncio.Task[list[Address]]] = {}

    async def resolve(self, name: str) -> list[Address]:
        """Answer a name's addresses, in the system's order of preference; OSError for none."""
        known = self._known.get(name)
        if known is not None and monotonic() - known[0] < KEPT_SECONDS:
            return known[1]
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = asyncio.create_task(self._look_up(name))
            task.add_done_callback(lambda done: self._heard(name, done))
        return await asyncio.shield(task)

    def close(self) -> None:
        """Stop without waiting for look-ups that hang."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _look_up(self, name: str) -> list[Address]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _getaddrinfo, name)
        if len(self._known) >= NAMES_MAX:
            self._known.clear()
        self._known[name] = (monotonic(), found)
        return found

    def _heard(self, name: str, task: asyncio.Task[list[Address]]) -> None:
        self._asked.pop(name, None)
        if not task.cancelled():
            task.exception()  # whoever waited was told


def _getaddrinfo(name: str) -> list[Address]:
    answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    # A scope ("fe80::1%eth0") is no part of an address that may be reached.
    return list(
        dict.fromkeys(ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers)
    )
