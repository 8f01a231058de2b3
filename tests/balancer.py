"""What stands before handlers where there are several: it passes connections on to those ready.

As a Service of Kubernetes does it: it asks `/readyz`, gives each new connection to the next that
is ready, never takes one away, and knows nothing of HTTP otherwise. It does not try a second
handler where the first refuses: whoever asked sees that.
"""

import asyncio
import itertools
from typing import Self

import httpx

from tests.eventually import eventually
from tests.processes import Service

PROBE_SECONDS = 0.1


class Balancer:
    """Listens on a port of its own."""

    def __init__(self) -> None:
        self.port = 0
        self._handlers: list[Service] = []
        self._ready: list[Service] = []
        self._turn = itertools.count()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def add(self, handler: Service) -> None:
        """Know of one more, and wait until connections go to it."""
        self._handlers.append(handler)

        def is_taken() -> None:
            assert handler in self._ready

        await eventually(is_taken)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        self._keep(asyncio.create_task(self._probe()))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)  # transports let go of their sockets in the loop's next turns

    async def _probe(self) -> None:
        async with httpx.AsyncClient(timeout=2) as http:
            while True:
                for handler in list(self._handlers):
                    await self._ask(http, handler)
                await asyncio.sleep(PROBE_SECONDS)

    async def _ask(self, http: httpx.AsyncClient, handler: Service) -> None:
        try:
            is_ready = (await http.get(f"{handler.url}/readyz")).status_code == 200
        except httpx.HTTPError:
            is_ready = False
        if is_ready and handler not in self._ready:
            self._ready.append(handler)
        elif not is_ready and handler in self._ready:
            self._ready.remove(handler)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._keep(task)
        try:
            if self._ready:
                chosen = self._ready[next(self._turn) % len(self._ready)]
                await self._join(chosen, reader, writer)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()

    async def _join(
        self, chosen: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", chosen.port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, up_writer))
                group.create_task(_pass_on(up_reader, writer))
        except* OSError:
            writer.transport.abort()
        finally:
            up_writer.close()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
