"""TCP proxies before a server: they pass everything on, and listen in or lose something."""

import asyncio
from typing import Self

COMMITTED = b"COMMIT\0"  # how Postgres answers a commit


class Proxy:
    """Listens on a port of its own; what derives from it says what to do with what passes."""

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        self._upstream = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def hear(self, asked: bytes) -> None:
        """Take note of what a client says."""

    def passes(self, answer: bytes) -> bool:
        """Whether this answer goes on to the client; if not, the connection ends."""
        return bool(answer)

    def hung_up(self, writer: asyncio.StreamWriter) -> None:
        """A client has gone: tell the server."""
        writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        try:
            await asyncio.gather(self._ask(reader, up_writer), self._answer(up_reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            up_writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.hear(data)
            writer.write(data)
            await writer.drain()
        self.hung_up(writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.passes(data := await reader.read(262_144)):
            writer.write(data)
            await writer.drain()
        writer.close()


class LosingProxy(Proxy):
    """Until a server's answer holds `lose`: that one goes nowhere, once.

    With `lose_after`, answers are lost only after one that held that.
    """

    lose: bytes | None = None
    lose_after = b""
    lost = 0

    def passes(self, answer: bytes) -> bool:
        if self.lose_after:
            if self.lose_after in answer:
                self.lose_after = b""
        elif self.lose and self.lose in answer:
            self.lose = None
            self.lost += 1
            return False
        return bool(answer)


class CuttingProxy(Proxy):
    """Until `cut`: then every client is cut off, and the server goes on as if nothing were."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._clients: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        for client in self._clients:
            client.transport.abort()

    def hung_up(self, writer: asyncio.StreamWriter) -> None:
        """Do not tell the server: it finds out when it answers."""

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            await super()._answer(reader, writer)
        finally:
            self._clients.discard(writer)


class HoldingProxy(Proxy):
    """Keeps back, for good, the first answer that holds `hold`; `held` says that there was one."""

    def __init__(self, port: int, *, hold: bytes, host: str = "127.0.0.1") -> None:
        super().__init__(port, host=host)
        self._hold = hold
        self.held = asyncio.Event()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(262_144):
            if self._hold in data and not self.held.is_set():
                self.held.set()
                await asyncio.Event().wait()  # until the proxy ends
            writer.write(data)
            await writer.drain()
        writer.close()
