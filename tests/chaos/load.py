"""The load: asks the handler for timers at a steady rate and keeps what it answered.

Raw HTTP on connections that are kept alive: a client library would take more of the processor than
all that is tested here.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, time
from typing import NamedTuple

from tests.chaos.checker import AT_LEAST_ONCE, AT_MOST_ONCE, Accepted

CONNECTIONS = 40
ANSWER_SECONDS_MAX = 15.0
SLOW_SECONDS = 0.3
AT_MOST_ONCE_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What is asked for, and how much of it."""

    per_second: float
    delay_seconds_max: int
    slow_share: float = 0.1


class _Timer(NamedTuple):
    path: str
    delivery: str
    delay_seconds: int


class Load:
    """Asks for timers until it is stopped."""

    def __init__(
        self, handler_port: int, mix: Mix, url: Callable[[str], str], *, host: str = "127.0.0.1"
    ) -> None:
        self.accepted: list[Accepted] = []
        self.refusals: list[str] = []  # or no answer came: these timers may exist or not
        self.waiting = 0
        self._handler = host, handler_port
        self._mix = mix
        self._url = url
        self._random = random.Random(17)
        self._number = 0
        self._is_stopped = False

    async def run(self) -> None:
        """Ask, each connection in its turn, so that a slow answer does not hold up the rest."""
        pause = CONNECTIONS / self._mix.per_second
        began = monotonic()
        async with asyncio.TaskGroup() as group:
            for place in range(CONNECTIONS):
                group.create_task(self._ask_on_and_on(began + pause * place / CONNECTIONS, pause))

    @property
    def unanswered(self) -> int:
        """How many were refused, or got no answer."""
        return len(self.refusals)

    def stop(self) -> None:
        """Ask for no more; `run` ends when what was asked for is answered."""
        self._is_stopped = True

    async def _ask_on_and_on(self, moment: float, pause: float) -> None:
        connection = _Connection(*self._handler)
        while not self._is_stopped:
            await asyncio.sleep(moment - monotonic())
            await self._ask(connection)
            while moment <= monotonic():  # what was missed meanwhile is not made up for
                moment += pause
        connection.close()

    async def _ask(self, connection: "_Connection") -> None:
        timer = self._next()
        asked_at = time()
        self.waiting += 1
        try:
            status, body = await connection.post("/timers", self._document(timer))
        except (OSError, EOFError, TimeoutError) as error:
            connection.close()
            status, body = 0, repr(error).encode()
        finally:
            self.waiting -= 1
        if status == 201:
            job_id = json.loads(body)["id"]
            self.accepted.append(Accepted(job_id, timer.path, timer.delay_seconds, asked_at))
        else:
            assert status in {0, 503}, f"{status}: {body.decode()}"
            self.refusals.append(f"{status} after {time() - asked_at:.3f} s: {body.decode()}")

    def _next(self) -> _Timer:
        """Choose the next timer. Its path is its own: a call tells which request asked for it."""
        self._number += 1
        at_most_once = self._random.random() < AT_MOST_ONCE_SHARE
        delivery = AT_MOST_ONCE if at_most_once else AT_LEAST_ONCE
        is_slow = self._random.random() < self._mix.slow_share
        kind = f"slow/{SLOW_SECONDS}" if is_slow else "ok"
        delay = self._random.randint(1, self._mix.delay_seconds_max)
        return _Timer(f"/{kind}/{delivery}/{self._number}", delivery, delay)

    def _document(self, timer: _Timer) -> bytes:
        document = {"seconds": timer.delay_seconds, "url": self._url(timer.path)}
        if timer.delivery == AT_MOST_ONCE:
            document["delivery"] = AT_MOST_ONCE
        return json.dumps(document).encode()


class _Connection:
    """One connection to the handler, made when it is needed, and anew when it ended or broke."""

    def __init__(self, host: str, port: int) -> None:
        self._handler = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Answer status and body. Raises OSError, EOFError or TimeoutError when none came."""
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            if self._streams is not None and self._streams[0].at_eof():
                self.close()
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._handler)
            reader, writer = self._streams
            head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
            writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body)
            first, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            size = next(line for line in fields if line.startswith("content-length:"))
            answer = await reader.readexactly(int(size.partition(":")[2]))
            if "connection: close" in fields:
                self.close()
            return int(first.split()[1]), answer

    def close(self) -> None:
        """Close it, broken or not."""
        if self._streams is not None:
            with contextlib.suppress(OSError):
                self._streams[1].close()
            self._streams = None
