"""How late healthy timers are beside a receiver that hangs, and beside a backlog that drains."""

import asyncio
from contextlib import suppress
from time import perf_counter

from pyreqwest.client import Client, ClientBuilder

from benchmarks.figures import quantile, spread
from benchmarks.lateness import RATE, stream
from benchmarks.stack import Note, Stack

HANGING = 1_000
HANGING_MS_MAX = 100
BACKLOG = 100_000
BACKLOG_AGE_SECONDS = 3_600
BACKLOG_MS_MAX = 500
SECONDS = 20


async def measure(stack: Stack) -> list[str]:
    handler = await stack.services.handler()
    executor = await stack.services.executor()
    async with ClientBuilder().build() as client:
        url = f"{handler.url}/timers"
        lines = [await _hanging(stack, client, url)]
        await executor.stop()
        lines.append(await _backlog(stack, client, url, executors=1))
        lines.append(await _backlog(stack, client, url, executors=3))
    await handler.stop()
    return lines


async def _hanging(stack: Stack, client: Client, url: str) -> str:
    """The same stream twice: alone, and while a thousand timers go to a receiver that hangs."""

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while await reader.read(65_536):
                pass

    await stream(client, url, stack.sink_url, seconds=SECONDS)
    alone = await _late(stack)
    server = await asyncio.start_server(hang, "127.0.0.1", 0, backlog=4_096)
    hanging_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    await stack.plan(HANGING, due_in_seconds=3, url=hanging_url)
    await stream(client, url, stack.sink_url, seconds=SECONDS)
    beside = await _late(stack)
    server.close()
    await stack.forget_all()
    moved = quantile(beside, 0.99) - quantile(alone, 0.99)
    verdict = "holds" if moved <= HANGING_MS_MAX else "FALLS SHORT"
    return (
        f"hanging  {HANGING:,} beside {RATE}/s: {spread(beside)}; alone {spread(alone)}"
        f"   (bar p99 + {HANGING_MS_MAX}: {verdict})"
    )


async def _backlog(stack: Stack, client: Client, url: str, *, executors: int) -> str:
    """A stream to the very destination that the backlog goes to, while it drains."""
    await stack.vacuum()
    await stack.plan(BACKLOG, due_in_seconds=-BACKLOG_AGE_SECONDS)
    started = perf_counter()
    streaming = asyncio.create_task(stream(client, url, stack.sink_url, seconds=SECONDS))
    running = await stack.services.executors(executors)
    drained: list[Note] = []
    late: list[float] = []
    while len(drained) < BACKLOG or not streaming.done():
        await asyncio.sleep(0.5)
        notes = await stack.report()
        old = [note for note in notes if note.late_ms > BACKLOG_AGE_SECONDS * 500]
        if len(drained) < BACKLOG:
            late += [note.late_ms for note in notes if note.late_ms <= BACKLOG_AGE_SECONDS * 500]
            seconds = perf_counter() - started
        drained += old
    await stack.all_recorded(within=60)
    await stack.report()
    assert len({note.webhook_id for note in drained}) == len(drained) == BACKLOG
    for service in running:
        await service.stop()
    verdict = "holds" if quantile(late, 0.99) <= BACKLOG_MS_MAX else "FALLS SHORT"
    return (
        f"backlog  {BACKLOG:,} drained in {seconds:.0f} s by {executors}, once each; beside it "
        f"{len(late):,} on time: {spread(late)}   (bar p99 {BACKLOG_MS_MAX}: {verdict})"
    )


async def _late(stack: Stack) -> list[float]:
    """Lateness of the stream, once all of it has come."""
    count = RATE * SECONDS
    notes: list[Note] = []
    async with asyncio.timeout(30):
        while len(notes) < count:
            await asyncio.sleep(0.2)
            notes += await stack.report()
    assert len({note.webhook_id for note in notes}) == len(notes) == count
    return [note.late_ms for note in notes]
