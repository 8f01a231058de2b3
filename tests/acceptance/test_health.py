"""Whether it lives, whether it can serve, what it has done, and how to use it."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.test_timers_contract import Handler, running_handler
from tests.eventually import eventually
from tests.processes import Services, free_port
from tests.servers import Servers

ROOT = Path(__file__).parent.parent.parent
URL = "https://example.com/hook"
WELL = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def handler(
    running_servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Handler]:
    """One handler for all tests that break nothing."""
    directory = tmp_path_factory.mktemp("health")
    async with running_handler(running_servers, template, directory) as handler:
        yield handler


@WELL
async def test_a_handler_lives_and_can_serve(handler: Handler) -> None:
    alive, ready = await handler.http.get("/healthz"), await handler.http.get("/readyz")
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "postgres": "ok", "redis": "ok"}
    assert alive.headers["content-type"] == ready.headers["content-type"] == "application/json"


async def test_a_database_behind_this_version_is_not_ready_and_one_ahead_is(
    api: httpx.AsyncClient, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as database:
        for revision, postgres in [("9999", "ok"), ("0000", "not migrated")]:
            database.execute("update alembic_version set version_num = %s", (revision,))
            ready = await api.get("/readyz")
            assert ready.json()["postgres"] == postgres
            assert ready.status_code == (200 if postgres == "ok" else 503)
        for change in ("delete from alembic_version", "drop table alembic_version"):
            database.execute(change.encode())
            ready = await api.get("/readyz")
            assert ready.status_code == 503
            assert ready.json() == {
                "status": "not ready",
                "postgres": "not migrated",
                "redis": "ok",
            }
            assert (await api.get("/healthz")).status_code == 200


async def test_postgres_is_required_and_redis_is_reported(services: Services) -> None:
    nowhere = free_port()
    without_redis, without_postgres = await asyncio.gather(
        services.handler(REDIS_URL=f"redis://127.0.0.1:{nowhere}/0"),
        services.handler(until_ready=False, DATABASE_URL=f"postgresql://x:y@127.0.0.1:{nowhere}/z"),
    )
    async with httpx.AsyncClient(timeout=5) as http:
        ready = await http.get(f"{without_redis.url}/readyz")
        assert ready.status_code == 200
        assert ready.json() == {"status": "ready", "postgres": "ok", "redis": "unreachable"}

        await eventually(lambda: answers(http, f"{without_postgres.url}/healthz"))
        ready = await http.get(f"{without_postgres.url}/readyz")
        assert ready.status_code == 503
        assert ready.json() == {"status": "not ready", "postgres": "unreachable", "redis": "ok"}


async def answers(http: httpx.AsyncClient, url: str) -> None:
    try:
        assert (await http.get(url)).status_code == 200
    except httpx.TransportError as error:
        raise AssertionError(str(error)) from None


async def test_a_probe_is_answered_soon_while_the_servers_are_silent(services: Services) -> None:
    """A prober gives up after a second or a few, and would take a slow yes for a no."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as nobody:
        silent = f"127.0.0.1:{nobody.getsockname()[1]}"
        handler = await services.handler(REDIS_URL=f"redis://{silent}/0")
        other = await services.handler(
            until_ready=False,
            DATABASE_URL=f"postgresql://x:y@{silent}/z?connect_timeout=2",
            REDIS_URL=f"redis://{silent}/0",
        )
        async with httpx.AsyncClient() as http:
            ready = await http.get(f"{handler.url}/readyz", timeout=2)
            assert (ready.status_code, ready.json()["redis"]) == (200, "unreachable")

            await eventually(lambda: answers(http, f"{other.url}/healthz"))
            ready = await http.get(f"{other.url}/readyz", timeout=5)
            assert (ready.status_code, ready.json()["postgres"]) == (503, "unreachable")


def value_of(metrics: str, sample: str) -> float:
    values = [
        found.value
        for family in text_string_to_metric_families(metrics)
        for found in family.samples
        if found.name == sample
    ]
    return values[0] if values else 0.0


@WELL
async def test_metrics_count_what_was_created(handler: Handler) -> None:
    before = await handler.http.get("/metrics")
    assert before.status_code == 200
    assert before.headers["content-type"].startswith("text/plain; version=")
    timer = {"hours": 1, "url": URL}
    assert (await handler.http.post("/timers", json=timer)).status_code == 201
    assert (
        await handler.http.post("/timers/batch", json={"timers": [timer] * 6})
    ).status_code == 201
    assert (await handler.http.post("/timers", json={})).status_code == 422
    after = (await handler.http.get("/metrics")).text
    created = "onthedot_jobs_created_total"
    assert value_of(after, created) - value_of(before.text, created) == 7
    groups = "onthedot_create_group_size_count"
    assert value_of(after, groups) - value_of(before.text, groups) == 2


@WELL
async def test_the_documentation_works_without_any_other_host(handler: Handler) -> None:
    page = await handler.http.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page.text) == []
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert any(asset.endswith(".js") for asset in assets)
    assert any(asset.endswith(".css") for asset in assets)
    for asset in assets:
        assert asset.startswith("/")
        answer = await handler.http.get(asset)
        assert answer.status_code == 200, asset
        assert len(answer.content) > 100
    assert "/openapi.json" in page.text


@WELL
async def test_the_document_served_is_the_one_committed(handler: Handler) -> None:
    served = await handler.http.get("/openapi.json")
    assert served.headers["content-type"] == "application/json"
    assert served.json() == json.loads((ROOT / "docs/openapi.json").read_text())


def examples_of(schema: dict[str, Any]) -> list[Any]:
    return list(schema.get("examples", []))


@WELL
async def test_every_example_in_the_document_is_accepted(handler: Handler) -> None:
    document = (await handler.http.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    timers = examples_of(schemas["TimerIn"])
    assert len(timers) > 1
    for timer in timers:
        assert (await handler.http.post("/timers", json=timer)).status_code == 201
    for batch in examples_of(schemas["TimerBatchIn"]):
        assert (await handler.http.post("/timers/batch", json=batch)).status_code == 201
