"""Handlers and executors are exchanged one by one under load, and nobody notices."""

import asyncio
import signal

import httpx
import pytest

from tests.balancer import Balancer
from tests.eventually import eventually
from tests.processes import Service, Services
from tests.receiver import Receiver
from tests.traffic import Traffic

pytestmark = pytest.mark.timeout(240)  # on a busy machine, so many processes start slowly
DRAIN = {"DRAIN_SECONDS": "1"}  # ten times what the balancer needs to notice


async def test_a_rolling_restart_of_all_refuses_loses_and_doubles_nothing(
    services: Services, receiver: Receiver, database_url: str
) -> None:
    handlers = list(await asyncio.gather(*(services.handler(**DRAIN) for _ in range(2))))
    executors = await services.executors(2)
    async with Balancer() as balancer:
        for handler in handlers:
            await balancer.add(handler)
        traffic = Traffic(database_url, receiver, port=balancer.port)
        async with traffic.flows():
            for old_handler, old_executor in zip(handlers, executors, strict=True):
                await balancer.add(await services.handler(**DRAIN))
                assert await old_handler.stop() == 0
                await services.executor()
                assert await old_executor.stop() == 0
                await traffic.goes_on()
        await traffic.was_served_well()


async def test_a_handler_that_is_told_to_stop_serves_on_and_sends_its_clients_elsewhere(
    services: Services,
) -> None:
    handler = await services.handler(DRAIN_SECONDS="600")
    timer = {"hours": 1, "url": "https://example.com/hook"}
    async with httpx.AsyncClient(base_url=handler.url) as kept, httpx.AsyncClient() as prober:
        assert "connection" not in (await kept.post("/timers", json=timer)).headers
        handler.send(signal.SIGTERM)

        async def is_not_ready() -> None:
            ready = await prober.get(f"{handler.url}/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "leaving")

        await eventually(is_not_ready)
        for _ in range(3):  # on the connection from before, and then on new ones
            created = await kept.post("/timers", json=timer)
            assert (created.status_code, created.headers["connection"]) == (201, "close")
        refused = await kept.post("/timers", json={})
        assert (refused.status_code, refused.headers["connection"]) == (422, "close")
        assert (await kept.get("/healthz")).status_code == 200
    await ends_at_once(handler)


async def test_a_person_who_interrupts_a_handler_does_not_wait_for_balancers(
    services: Services,
) -> None:
    await ends_at_once(await services.handler(DRAIN_SECONDS="600"))


async def ends_at_once(handler: Service) -> None:
    handler.send(signal.SIGINT)
    assert handler.process is not None
    async with asyncio.timeout(15):
        assert await handler.process.wait() == 0
    assert '"handler.stopped"' in handler.log.read_text()
