"""`/jobs/test` and `/jobs/validate`: an executor tries, the handler tells; no run comes of it."""

import asyncio
import json
import socket
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx
import psycopg
import pytest
import pytest_asyncio
from standardwebhooks import Webhook

from tests.acceptance.test_timers_contract import fresh_database
from tests.acceptance.test_timers_contract_refusals import problem_of
from tests.hostile import HostileReceiver
from tests.processes import Services
from tests.receiver import Receiver
from tests.servers import Servers

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "hunter2"
GONE = "https://name.invalid/"  # RFC 6761, 6.4: never resolves


class Talker(Receiver):
    """Answers with a head and a body of its own choice."""

    ANSWERS: ClassVar = {
        "/json": (
            b"content-type: application/json\r\n",
            b'{"order": {"id": 17, "tags": ["a", 1]}}',
        ),
        "/twice": (b"x-part: one\r\nX-Part: two\r\n", b"hello"),
        "/bytes": (b"x-bytes: \xff\xfe\r\n", b"\xff\xfe\x00"),
        "/many-fields": (b"".join(b"x-%d: %s\r\n" % (n, b"y" * 90) for n in range(90)), b""),
    }

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> bool:
        if path not in self.ANSWERS:
            return await super()._answer(path, writer)
        fields, body = self.ANSWERS[path]
        head = b"HTTP/1.1 200 OK\r\n" + fields + b"content-length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        await writer.drain()
        return True


@pytest_asyncio.fixture(loop_scope="module")
async def talker() -> AsyncIterator[Talker]:
    async with Talker() as talker:
        yield talker


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def services(
    running_servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Services]:
    """A handler and an executor for all these tests: nothing of a trial stays."""
    with fresh_database(running_servers, template) as database_url:
        services = Services(
            database_url, running_servers.redis_url, tmp_path_factory.mktemp("trials")
        )
        await asyncio.gather(services.handler(), services.executor())
        yield services
        await services.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=services.started[0].url, timeout=30) as api:
        yield api


@pytest.fixture
def secret(services: Services) -> str:
    """The default application's, in the form that receivers keep."""
    with psycopg.connect(services.environment["DATABASE_URL"]) as connection:
        [key] = connection.execute("select signing_secret from applications").fetchone() or [b""]
    return "whsec_" + b64encode(key).decode()


async def outcome_of(api: httpx.AsyncClient, url: str, **body: Any) -> dict[str, Any]:
    answer = await api.post("/jobs/test", json={"url": url, **body})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return dict(answer.json())


async def verdict_on(api: httpx.AsyncClient, job: Any) -> dict[str, Any]:
    """What was answered, its criteria by their names."""
    answer = await api.post("/jobs/validate", json=job)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    criteria = {each["name"]: (each["met"], each["detail"]) for each in told["criteria"]}
    assert len(criteria) == len(told["criteria"]) == 8
    assert told["valid"] == all(met is True for met, _ in criteria.values())
    return {**told, **criteria}


def rows(services: Services) -> list[int]:
    with psycopg.connect(services.environment["DATABASE_URL"]) as connection:
        return [
            connection.execute(f"select count(*) from {table}".encode()).fetchone()[0]  # type: ignore[index]
            for table in ("jobs", "schedules", "executions")
        ]


def no_secret_is_logged(services: Services) -> None:
    for service in services.started:
        assert SECRET not in service.log.read_text()


async def test_a_call_is_made_at_once_and_signed_as_a_run_s(
    api: httpx.AsyncClient, services: Services, talker: Talker,
    secret: str,
) -> None:  # fmt: skip
    told = await outcome_of(
        api,
        talker.url("/json"),
        method="PUT",
        headers={"x-of-mine": SECRET},
        payload={"order": 17},
    )
    assert told == {
        "delivered": True,
        "status": 200,
        "headers": {"content-type": "application/json", "content-length": "39"},
        "body": '{"order": {"id": 17, "tags": ["a", 1]}}',
        "body_encoding": "text",
        "body_is_whole": True,
        "duration_ms": told["duration_ms"],
        "error": None,
        "expectations": [],
        "met": True,
    }
    assert 0 < told["duration_ms"] < 10_000
    [call] = talker.calls
    assert (call.method, call.body) == ("PUT", b'{"order":17}')
    assert call.headers["x-of-mine"] == SECRET
    assert call.headers["onthedot-attempt"] == "1"
    assert call.headers["content-type"] == "application/json"
    assert call.headers["onthedot-scheduled-for"].endswith("Z")
    prefix, _, name = call.webhook_id.partition("_")
    assert (prefix, len(name), "." in name) == ("test", 32, False)
    Webhook(secret).verify(call.body, call.headers)
    assert rows(services) == [0, 0, 0]
    no_secret_is_logged(services)


async def test_without_a_payload_the_event_is_sent_of_no_job(
    api: httpx.AsyncClient, talker: Talker
) -> None:
    assert (await outcome_of(api, talker.url()))["status"] == 204
    [call] = talker.calls
    event = json.loads(call.body)
    assert event == {
        "type": "timer.fired",
        "timestamp": call.headers["onthedot-scheduled-for"],
        "data": {"id": 0, "scheduled_for": event["timestamp"], "attempt": 1},
    }
    assert (await outcome_of(api, talker.url(), method="GET"))["delivered"]
    assert talker.calls[1].body == b""


async def test_two_secrets_sign_while_a_rotation_overlaps(
    api: httpx.AsyncClient, talker: Talker, secret: str
) -> None:
    path = "/applications/1/signing-secret/rotate"
    rotated = (await api.post(path, json={"overlap": 60})).json()
    await outcome_of(api, talker.url())
    [call] = talker.calls
    for each in (secret, rotated["secret"]):
        Webhook(each).verify(call.body, call.headers)


async def test_what_is_expected_is_compared_thing_by_thing(
    api: httpx.AsyncClient, talker: Talker
) -> None:
    expected: dict[str, Any] = {
        "status": [200, 204],
        "headers": {"Content-Type": "application/json", "content-length": "40", "x-none": "1"},
        "body_contains": '"id": 17',
        "json_subset": {"order": {"id": 17, "tags": ["a", 2]}},
    }
    told = await outcome_of(api, talker.url("/json"), expect=expected)
    assert told["met"] is False
    assert [(each["name"], each["met"], each["detail"]) for each in told["expectations"]] == [
        ("status", True, "As expected."),
        ("headers/Content-Type", True, "As expected."),
        ("headers/content-length", False, 'Expected "40"; found "39".'),
        ("headers/x-none", False, "The answer has no such header field."),
        ("body_contains", True, "As expected."),
        ("json_subset", False, "#/order/tags/1: expected 2; found 1."),
    ]
    told = await outcome_of(api, talker.url("/twice"), expect={"headers": {"x-part": "two"}})
    assert (told["met"], told["headers"]["x-part"]) == (True, "one, two")
    refused = await outcome_of(api, talker.url("/status/404"), expect={"status": 404})
    assert (refused["delivered"], refused["met"]) == (False, True)
    assert refused["error"] == "status: the receiver answered 404"
    assert refused["body"] == "the receiver says so"


async def test_bytes_that_are_no_text_come_in_base64_and_header_fields_up_to_a_limit(
    api: httpx.AsyncClient, talker: Talker
) -> None:
    told = await outcome_of(api, talker.url("/bytes"))
    assert (told["body_encoding"], b64decode(told["body"])) == ("base64", b"\xff\xfe\x00")
    assert told["headers"] == {"content-length": "3"}, "a value that is no text is left out"
    told = await outcome_of(api, talker.url("/many-fields"))
    told_bytes = sum(len(name) + len(value) + 4 for name, value in told["headers"].items())
    assert 8_000 < told_bytes <= 8_192


async def test_a_huge_body_is_cut_off_and_no_json(api: httpx.AsyncClient) -> None:
    async with HostileReceiver() as hostile:
        told = await outcome_of(
            api,
            hostile.url("/endless-chunks"),
            expect={"body_contains": "y", "json_subset": None},
        )
        assert (told["delivered"], told["body_is_whole"]) == (True, False)
        assert len(told["body"]) == 65_536
        assert [each["detail"] for each in told["expectations"]] == [
            "Is not in the body, as far as it was read.",
            "The body was not read to its end, and is no JSON as far as it was.",
        ]
        assert hostile.sent["endless-chunks"] < 16 * 2**20


async def test_a_receiver_that_hangs_or_is_not_there_is_told_as_history_would(
    api: httpx.AsyncClient, talker: Talker
) -> None:
    hung = await outcome_of(api, talker.url("/hang"), timeout=0.5, expect={"status": 200})
    assert hung["error"] == "timeout: no answer within 0.5 s"
    assert (hung["delivered"], hung["status"], hung["body"], hung["met"]) == (
        *(False, None, None),
        False,
    )
    assert hung["duration_ms"] >= 450
    assert hung["expectations"] == [
        {"name": "status", "met": False, "detail": "There was no answer."}
    ]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        nobody = await outcome_of(api, f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert nobody["error"].startswith("connect: ")
    assert (await outcome_of(api, talker.url("/drop")))["error"].startswith("connection: ")
    assert (await outcome_of(api, GONE))["error"].startswith("dns: ")
    assert len(talker.calls) == 2, "nothing is tried twice"


async def test_a_redirect_is_told_and_not_followed(api: httpx.AsyncClient, talker: Talker) -> None:
    told = await outcome_of(api, talker.url("/redirect"))
    assert (told["status"], told["delivered"]) == (302, False)
    assert told["headers"]["location"] == talker.url("/ok/redirected")
    assert [call.path for call in talker.calls] == ["/redirect"]


NOT_WELL = [
    ({}, "#/url"),
    ({"url": "ftp://example.com/"}, "#/url"),
    ({"url": "https://a.test/", "timeout": 31}, "#/timeout"),
    ({"url": "https://a.test/", "timeout": "PT31S"}, "#/timeout"),
    ({"url": "https://a.test/", "delay": 1}, "#/delay"),
    ({"url": "https://a.test/", "method": "GET", "payload": 1}, "#/payload"),
    ({"url": "https://a.test/", "headers": {"Host": "b"}}, "#/headers/Host"),
    ({"url": "https://a.test/", "expect": {"status": 99}}, "#/expect/status"),
    ({"url": "https://a.test/", "expect": {"status": True}}, "#/expect/status"),
    ({"url": "https://a.test/", "expect": {"status": "200"}}, "#/expect/status"),
    ({"url": "https://a.test/", "expect": {"status": []}}, "#/expect/status"),
    ({"url": "https://a.test/", "expect": {"status": [200, 600]}}, "#/expect/status/1"),
    ({"url": "https://a.test/", "expect": {"headers": {"a": 1}}}, "#/expect/headers/a"),
    ({"url": "https://a.test/", "expect": {"body_contains": 1}}, "#/expect/body_contains"),
    ({"url": "https://a.test/", "expect": {"body": "x"}}, "#/expect/body"),
]


async def test_a_test_call_that_is_not_described_well_is_refused(api: httpx.AsyncClient) -> None:
    for body, pointer in NOT_WELL:
        problem = problem_of(await api.post("/jobs/test", json=body), 422)
        assert [error["pointer"] for error in problem["errors"]] == [pointer], body


async def test_a_valid_job_is_said_to_be_valid_by_every_criterion(
    api: httpx.AsyncClient, services: Services, talker: Talker
) -> None:
    told = await verdict_on(api, {"url": talker.url(), "delay": 60, "payload": {"order": 17}})
    assert told["valid"] is True
    assert told["errors"] == []
    assert told["host_resolves"] == (True, "To 127.0.0.1.")
    assert told["address_allowed"] == (True, "May be reached.")
    assert told["schedule_lies_ahead"] == (True, "It runs after 60 seconds.")
    assert told["body"] == (True, "Is the payload, 12 bytes of it.")
    assert talker.connections == 0, "nothing is called"
    assert rows(services) == [0, 0, 0]
