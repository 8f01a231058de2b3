"""How many webhooks a second one executor fires, beside a bare loop of the same client."""

import asyncio
from time import perf_counter

from pyreqwest.client import ClientBuilder

from benchmarks.figures import against_floor, quantile
from benchmarks.stack import Note, Stack
from tests.processes import Service

ROUNDS = 5
HERD = 10_000
CONNECTIONS = 128
BAR = 0.40


async def measure(stack: Stack) -> list[str]:
    executor = await stack.services.executor()
    rates: list[float] = []
    floors: list[float] = []
    worst: list[float] = []
    for _ in range(ROUNDS):
        floors.append(await _bare_loop(stack.sink_url))
        await stack.report()
        notes = await herd(stack)
        rates.append(HERD / (max(note.late_ms for note in notes) / 1000))
        worst.append(max(note.late_ms for note in notes))
    lines = [against_floor("fire", rates, floors, BAR), tell_herd("one executor", worst)]
    more: list[Service] = await stack.services.executors(2)
    worst = [max(note.late_ms for note in await herd(stack)) for _ in range(3)]
    lines.append(tell_herd("three executors", worst))
    for service in [executor, *more]:
        await service.stop()
    return lines


async def herd(stack: Stack) -> list[Note]:
    """Plan a herd at one instant and see each arrive once and none early."""
    await stack.vacuum()
    await stack.plan(HERD, due_in_seconds=3)
    await stack.all_recorded(within=60)
    notes = await stack.report()
    assert len(notes) == HERD, f"{len(notes)} calls of {HERD}"
    assert len({note.webhook_id for note in notes}) == HERD, "some came twice"
    assert min(note.late_ms for note in notes) >= 0, "some came early"
    return notes


def tell_herd(who: str, worst: list[float]) -> str:
    verdict = "holds" if max(worst) <= 2000 else "FALLS SHORT"
    runs = ", ".join(f"{value:,.0f}" for value in worst)
    return (
        f"herd     {HERD:,} at one instant, {who}: all within {quantile(worst, 0.5):,.0f} ms"
        f"   (bar 2,000: {verdict}; once each, none early; runs {runs})"
    )


async def _bare_loop(url: str) -> float:
    """The same client, the same kind of request, nothing else."""
    headers = {
        "content-type": "application/json",
        "user-agent": "onthedot/0",
        "webhook-id": "run_1_1763715600000000",
        "webhook-timestamp": "1763715600",
        "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
        "onthedot-scheduled-for": "2026-11-21T09:00:00.000Z",
        "onthedot-attempt": "1",
    }
    body = b"x" * 132
    async with ClientBuilder().no_proxy().build() as client:
        tickets = iter(range(HERD))

        async def caller() -> None:
            for _ in tickets:
                response = await client.post(url).headers(headers).body_bytes(body).build().send()
                assert response.status == 204

        started = perf_counter()
        await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))
        return HERD / (perf_counter() - started)
