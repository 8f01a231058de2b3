"""From the request that creates a job to each attempt at it, as a collector is told."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.eventually import eventually
from tests.processes import Services, free_port
from tests.receiver import Receiver

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Collector(Receiver):
    """Takes spans as OTLP sends them by HTTP."""

    def spans(self) -> list[tuple[str, Span]]:
        """Each span, with the name of the service that sent it."""
        found = []
        for call in self.calls:
            assert (call.method, call.path) == ("POST", "/v1/traces")
            for resource in ExportTraceServiceRequest.FromString(call.body).resource_spans:
                names = {each.key: each.value for each in resource.resource.attributes}
                service = names["service.name"].string_value
                found += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        return found


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with Collector() as listening:
        yield listening


def attributes(span: Span) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_each_attempt_is_a_span_linked_with_the_request_that_created_its_job(
    services: Services, receiver: Receiver, collector: Collector
) -> None:
    services.environment |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url(""),
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    handler = await services.handler()
    executor = await services.executor()
    async with httpx.AsyncClient(base_url=handler.url) as api:
        created = await api.post(
            "/jobs",
            json={
                "url": receiver.url("/flaky/1/token-in-a-path?key=secret"),
                "retry": {"max_attempts": 3, "base": 0.2},
            },
            headers={"traceparent": TRACEPARENT, "X-Request-Id": "mine"},
        )
        job_id = created.json()["id"]

    def told() -> tuple[Span, list[Span]]:
        spans = collector.spans()
        requests = [span for service, span in spans if span.name == "POST /jobs"]
        attempts = [span for service, span in spans if service == "onthedot-executor"]
        assert (len(requests), len(attempts)) == (1, 2)
        return requests[0], attempts

    request, attempts = await eventually(told)
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert request.kind == Span.SPAN_KIND_SERVER
    assert attributes(request)["http.response.status_code"] == 201

    attempts.sort(key=lambda span: span.start_time_unix_nano)
    first, second = map(attributes, attempts)
    for number, span in enumerate(attempts, start=1):
        assert span.trace_id != request.trace_id  # it may come months later
        [link] = span.links
        assert (link.trace_id, link.span_id) == (request.trace_id, request.span_id)
        assert span.kind == Span.SPAN_KIND_CLIENT
        told_of = attributes(span)
        assert told_of["onthedot.job.id"] == job_id
        assert told_of["onthedot.attempt"] == number
        assert told_of["onthedot.run.id"] == receiver.calls[0].webhook_id
        assert "secret" not in str(span)
        assert "token-in-a-path" not in str(span)
        # The receiver's own spans become part of the attempt's trace.
        received = receiver.calls[number - 1].headers["traceparent"]
        assert received[:-2] == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-"
    assert (first["onthedot.outcome"], first["http.response.status_code"]) == ("failed", 503)
    assert (second["onthedot.outcome"], second["http.response.status_code"]) == ("delivered", 204)
    assert executor.log.read_text().count("Traceback") == 0


async def test_without_a_collector_the_creator_is_kept_and_the_webhook_says_nothing(
    services: Services, api: httpx.AsyncClient, receiver: Receiver, database_url: str
) -> None:
    await services.executor()
    own = {"traceparent": TRACEPARENT.replace("0af7", "1111")}
    for number, (given, headers) in enumerate(
        [
            (TRACEPARENT, {}),
            (f"01-{TRACE}-{PARENT}-01-more", {}),  # of a version to come
            (f"00-{TRACE}-{PARENT}-01-more", {}),
            (f"00-{'0' * 32}-{PARENT}-01", {}),
            (f"ff-{TRACE}-{PARENT}-01", {}),
            ("none", own),
        ]
    ):
        body = {"url": receiver.url(f"/{number}"), "headers": headers}
        answer = await api.post("/jobs", json=body, headers={"traceparent": given})
        assert answer.status_code == 201, answer.text

    def arrived() -> None:
        assert len(receiver.calls) == 6

    await eventually(arrived)
    with psycopg.connect(database_url) as database:
        kept = [row[0] for row in database.execute("select traceparent from jobs order by id")]
    assert kept == [TRACEPARENT, f"01-{TRACE}-{PARENT}-01", None, None, None, None]
    said = {call.path: call.headers.get("traceparent") for call in receiver.calls}
    assert said == dict.fromkeys(["/0", "/1", "/2", "/3", "/4"]) | {"/5": own["traceparent"]}


async def test_a_collector_that_is_away_harms_nothing(
    services: Services, receiver: Receiver
) -> None:
    services.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    handler = await services.handler()
    executor = await services.executor()
    own = {"traceparent": TRACEPARENT}
    async with httpx.AsyncClient(base_url=handler.url) as api:
        await api.post("/jobs", json={"url": receiver.url(), "headers": own})

    def arrived() -> None:
        assert [call.headers["traceparent"] for call in receiver.calls] == [TRACEPARENT]  # its own

    await eventually(arrived)
    for service in (handler, executor):
        assert await service.stop() == 0
        assert service.events()  # each line of it JSON


async def test_a_collector_that_never_answers_does_not_hold_up_a_stop(services: Services) -> None:
    """Kubernetes would kill what takes longer than its grace."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as nobody:
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        handler = await services.handler(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        async with httpx.AsyncClient(base_url=handler.url) as api:
            for _ in range(20):
                await api.get("/jobs/1")
        async with asyncio.timeout(8):  # of the forty seconds that the exporter would take
            assert await handler.stop() == 0


@pytest.mark.parametrize(
    ("endpoint", "remedy"),
    [
        ("collector:4318", "is not a URL of a collector"),
        (
            "https://user:hush@collector",
            "holds credentials: put them into OTEL_EXPORTER_OTLP_HEADERS",
        ),
    ],
)
async def test_an_endpoint_that_cannot_be_is_refused_at_the_start(
    services: Services, endpoint: str, remedy: str
) -> None:
    handler = await services.handler(until_ready=False, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert handler.process is not None
    assert await handler.process.wait() == 2
    log = handler.log.read_text()
    assert f"OTEL_EXPORTER_OTLP_ENDPOINT: {remedy}" in log
    assert "hush" not in log
    services.started.remove(handler)
