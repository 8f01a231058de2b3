"""How many timers a second one handler accepts, each durable, beside a route that keeps nothing."""

import asyncio
from contextlib import AsyncExitStack
from time import perf_counter

from pyreqwest.client import ClientBuilder

from benchmarks.figures import against_floor
from benchmarks.stack import Stack, process
from tests.processes import free_port

ROUNDS = 5
REQUESTS = 15_000
CONNECTIONS = 64
BAR = 0.55


async def measure(stack: Stack) -> str:
    async with AsyncExitStack() as exits:
        handler = await stack.services.handler()
        floor_port = free_port()
        await process(exits, "benchmarks.noop", floor_port)
        body = b'{"hours":400,"minutes":0,"seconds":5,"url":"%b"}' % stack.sink_url.encode()
        rates: list[float] = []
        floors: list[float] = []
        for _ in range(ROUNDS):
            floors.append(await _post(f"http://127.0.0.1:{floor_port}/timers", body))
            rates.append(await _post(f"{handler.url}/timers", body))
        await handler.stop()
        return against_floor("create", rates, floors, BAR)


async def _post(url: str, body: bytes) -> float:
    """Requests a second, each answered 201."""
    async with ClientBuilder().max_connections(CONNECTIONS).build() as client:
        tickets = iter(range(REQUESTS))

        async def caller() -> None:
            for _ in tickets:
                request = client.post(url).header("content-type", "application/json")
                response = await request.body_bytes(body).build().send()
                assert response.status == 201, await response.text()

        started = perf_counter()
        await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))
        return REQUESTS / (perf_counter() - started)
