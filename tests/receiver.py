"""A webhook target that remembers every request and misbehaves on request.

The first word of the path says how it answers:

    /status/503      with this status            /hang      never
    /flaky/2/...     503 to the first two calls   /drop      by closing the connection
    /retry-after/1   429 once, then 204          /drip      200, then a byte a second
    /slow/0.5        204 after so many seconds   /huge      200, and never stops
    /redirect        302 to /ok/redirected       anything else: 204
    /redirect-to/302/http://...  with this status, to what follows
"""

import asyncio
import ssl
from collections import Counter
from time import time
from typing import NamedTuple, Self
from urllib.parse import unquote
from weakref import WeakSet


class Call(NamedTuple):
    """One request as it came over the socket; arrived at this moment of this machine's clock."""

    arrived_at: float
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    lines: tuple[str, ...] = ()  # the header lines as they came, should one come twice

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def job_id(self) -> int:
        return int(self.webhook_id.split("_")[1])

    @property
    def planned_at(self) -> float:
        """The instant this run was planned for, in epoch seconds, to the microsecond."""
        return int(self.webhook_id.split("_")[2]) / 1_000_000


class Receiver:
    """Listens on a loopback address, on a port of its own unless told which."""

    def __init__(
        self, tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.tls = tls
        self.host = host
        self.port = port
        self.connections = 0
        self.calls: list[Call] = []
        self.in_flight = 0
        self._seen: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: WeakSet[asyncio.StreamWriter] = WeakSet()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, self.host, self.port, backlog=4096, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # One that has said goodbye over TLS waits for the other side's.
        for writer in self._writers:
            writer.transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)  # transports let go of their sockets in the loop's next turns

    def url(self, path: str = "/ok") -> str:
        if self.tls is not None:
            return f"https://localhost:{self.port}{path}"
        return f"http://{self.host}:{self.port}{path}"

    def calls_of(self, job_id: int) -> list[Call]:
        return [call for call in self.calls if call.job_id == job_id]

    @property
    def runs(self) -> Counter[str]:
        """How often each run was called, by its webhook-id."""
        return Counter(call.webhook_id for call in self.calls)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {}
        for line in head[1:]:
            if line:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.calls.append(Call(time(), method, path, headers, body, tuple(filter(None, head[1:]))))
        self._seen[path] += 1
        self.in_flight += 1
        try:
            return await self._answer(path, writer)
        finally:
            self.in_flight -= 1

    async def _answer(  # noqa: C901, PLR0912  # one arm per misbehaviour
        self, path: str, writer: asyncio.StreamWriter
    ) -> bool:
        words = path.partition("?")[0].strip("/").split("/")
        match words:
            case ["status", status, *_]:
                await _write(writer, int(status), body=b"the receiver says so")
            case ["flaky", times, *_]:
                await _write(writer, 503 if self._seen[path] <= int(times) else 204)
            case ["retry-after", seconds, *_]:
                if self._seen[path] == 1:
                    await _write(writer, 429, headers={"retry-after": unquote(seconds)})
                else:
                    await _write(writer, 204)
            case ["slow", seconds, *_]:
                await asyncio.sleep(float(seconds))
                await _write(writer, 204)
            case ["hang", *_]:
                await asyncio.sleep(3600)
            case ["drop", *_]:
                return False
            case ["redirect", *_]:
                await _write(writer, 302, headers={"location": self.url("/ok/redirected")})
            case ["redirect-to", status, *_]:
                location = path.split("/", 3)[3]
                await _write(writer, int(status), headers={"location": location})
            case ["drip", *_]:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(1)
            case ["huge", *_]:
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                while True:
                    writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                    await writer.drain()
            case _:
                await _write(writer, 204)
        return True


async def _write(
    writer: asyncio.StreamWriter,
    status: int,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> None:
    lines = [f"HTTP/1.1 {status} Because"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if status != 204:
        lines.append(f"content-length: {len(body)}")
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body if status != 204 else b""))
    await writer.drain()
