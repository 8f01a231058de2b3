"""Each request has an id that its caller sees and our log tells, and is counted by its route."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.eventually import eventually
from tests.processes import Services, free_port

URL = "https://example.com/hook"


@pytest.fixture
async def samples(api: httpx.AsyncClient):
    async def read() -> dict[tuple[str, ...], float]:
        """What was answered, by method, route and status."""
        families = text_string_to_metric_families((await api.get("/metrics")).text)
        return {
            tuple(sample.labels[label] for label in ("method", "route", "status")): sample.value
            for family in families
            for sample in family.samples
            if sample.name == "onthedot_http_requests_total"
        }

    return read


async def test_a_request_keeps_the_id_that_it_brings_and_gets_one_if_it_brings_none(
    api: httpx.AsyncClient,
) -> None:
    brought = await api.post(
        "/timers", json={"seconds": 60, "url": URL}, headers={"X-Request-Id": "order-17/retry:2"}
    )
    assert brought.headers.get_list("x-request-id") == ["order-17/retry:2"]
    made = [(await api.get("/timers")).headers["x-request-id"] for _ in range(3)]
    assert len(set(made)) == 3
    assert all(len(request_id) == 16 for request_id in made)


@pytest.mark.parametrize("request_id", ["", "a" * 129, "a b", 'a"b', "a{b}"])
async def test_an_id_that_is_not_fit_for_a_log_is_replaced(
    api: httpx.AsyncClient, request_id: str
) -> None:
    answer = await api.get("/timers/999", headers={"X-Request-Id": request_id})
    assert answer.status_code == 404
    assert len(answer.headers["x-request-id"]) == 16


async def test_what_a_request_logs_carries_its_id(services: Services) -> None:
    nowhere = f"postgresql://x:y@127.0.0.1:{free_port()}/z"
    handler = await services.handler(until_ready=False, DATABASE_URL=nowhere, LOG_LEVEL="debug")
    async with httpx.AsyncClient(base_url=handler.url, timeout=30) as http:

        async def lives() -> None:
            try:
                await http.get("/healthz")
            except httpx.TransportError as error:
                raise AssertionError(str(error)) from None

        await eventually(lives)
        refused = await http.get("/jobs/1", headers={"X-Request-Id": "mine"})
        assert refused.status_code == 503
    mine = [event for event in handler.events() if event.get("request_id") == "mine"]
    assert [event["event"] for event in mine] == ["database.unavailable", "request.answered"]
    assert (mine[1]["route"], mine[1]["status"]) == ("/jobs/{job_id}", 503)


async def test_requests_are_counted_by_route_and_not_by_path(
    api: httpx.AsyncClient, samples
) -> None:
    created = await api.post("/timers", json={"seconds": 60, "url": URL})
    for path in (created.headers["location"], "/timers/998", "/timers/999"):
        await api.get(path)
    await api.head("/healthz")
    await api.get("/no/such/path")
    await api.request("PROPFIND", "/timers")
    await api.post("/timers", content=b"{", headers={"content-type": "application/json"})
    found = await samples()
    assert found == {
        **found,
        ("POST", "/timers", "201"): 1,
        ("POST", "/timers", "400"): 1,
        ("GET", "/timers/{timer_id}", "200"): 1,
        ("GET", "/timers/{timer_id}", "404"): 2,
        ("HEAD", "/healthz", "200"): 1,
        ("GET", "none", "404"): 1,
    }
    assert {method for method, _, _ in found} <= {"GET", "HEAD", "POST", "other"}
    assert sum(value for (method, _, _), value in found.items() if method == "other") == 1
