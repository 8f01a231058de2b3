"""`/jobs/test` and `/jobs/validate`: an executor tries it, the handler tells; no run comes of it."""

import asyncio
import json
import signal
import socket
import sys
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest
from standardwebhooks import Webhook

from handler_service.trials import AT_ONCE_MAX
from shared import trials
from tests.acceptance.test_timers_contract_refusals import JSON, problem_of
from tests.conftest import url_of
from tests.eventually import eventually
from tests.hostile import HostileReceiver
from tests.processes import Service, Services
from tests.proxy import CuttingProxy
from tests.receiver import Call, Receiver

SECRET = "hunter2"
GONE = "https://name.invalid/"  # RFC 6761, 6.4: never resolves


class Talker(Receiver):
    """Answers with a head and a body of its own choice."""

    ANSWERS = {
        "/json": (
            b"content-type: application/json\r\n",
            b'{"order": {"id": 17, "tags": ["a", 1]}}',
        ),
        "/twice": (b"x-part: one\r\nX-Part: two\r\n", b"hello"),
        "/bytes": (b"x-bytes: \xff\xfe\r\n", b"\xff\xfe\x00"),
        "/many-fields": (b"".join(b"x-%d: %s\r\n" % (n, b"y" * 90) for n in range(200)), b""),
    }

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> bool:
        if path not in self.ANSWERS:
            return await super()._answer(path, writer)
        fields, body = self.ANSWERS[path]
        head = b"HTTP/1.1 200 OK\r\n" + fields + b"content-length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        await writer.drain()
        return True


@pytest.fixture
async def talker() -> AsyncIterator[Talker]:
    async with Talker() as talker:
        yield talker


@pytest.fixture
async def executor(services: Services) -> Service:
    return await services.executor()


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
    api: httpx.AsyncClient, services: Services, executor: Service, talker: Talker,
    signing_secret: str,
) -> None:  # fmt: skip
    del executor
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
    Webhook(signing_secret).verify(call.body, call.headers)
    assert rows(services) == [0, 0, 0]
    no_secret_is_logged(services)


async def test_without_a_payload_the_event_is_sent_of_no_job(
    api: httpx.AsyncClient, executor: Service, receiver: Receiver
) -> None:
    del executor
    assert (await outcome_of(api, receiver.url()))["status"] == 204
    [call] = receiver.calls
    event = json.loads(call.body)
    assert event == {
        "type": "timer.fired",
        "timestamp": call.headers["onthedot-scheduled-for"],
        "data": {"id": 0, "scheduled_for": event["timestamp"], "attempt": 1},
    }
    assert (await outcome_of(api, receiver.url(), method="GET"))["delivered"]
    assert receiver.calls[1].body == b""


async def test_two_secrets_sign_while_a_rotation_overlaps(
    api: httpx.AsyncClient, executor: Service, receiver: Receiver, signing_secret: str
) -> None:
    del executor
    path = "/applications/1/signing-secret/rotate"
    rotated = (await api.post(path, json={"overlap": 60})).json()
    await outcome_of(api, receiver.url())
    [call] = receiver.calls
    for secret in (signing_secret, rotated["secret"]):
        Webhook(secret).verify(call.body, call.headers)


async def test_what_is_expected_is_compared_thing_by_thing(
    api: httpx.AsyncClient, executor: Service, talker: Talker
) -> None:
    del executor
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
    api: httpx.AsyncClient, executor: Service, talker: Talker
) -> None:
    del executor
    told = await outcome_of(api, talker.url("/bytes"))
    assert (told["body_encoding"], b64decode(told["body"])) == ("base64", b"\xff\xfe\x00")
    assert told["headers"] == {"content-length": "3"}, "a value that is no text is left out"
    told = await outcome_of(api, talker.url("/many-fields"))
    assert 8_000 < sum(len(name) + len(value) + 4 for name, value in told["headers"].items())
    assert sum(len(name) + len(value) + 4 for name, value in told["headers"].items()) <= 8_192


async def test_a_huge_body_is_cut_off_and_no_json(
    api: httpx.AsyncClient, executor: Service
) -> None:
    del executor
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
    api: httpx.AsyncClient, executor: Service, receiver: Receiver
) -> None:
    del executor
    hung = await outcome_of(api, receiver.url("/hang"), timeout=0.5, expect={"status": 200})
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
    assert (await outcome_of(api, receiver.url("/drop")))["error"].startswith("connection: ")
    assert (await outcome_of(api, GONE))["error"].startswith("dns: ")
    assert len(receiver.calls) == 2, "nothing is tried twice"


async def test_a_redirect_is_told_and_not_followed(
    api: httpx.AsyncClient, executor: Service, receiver: Receiver
) -> None:
    del executor
    told = await outcome_of(api, receiver.url("/redirect"))
    assert (told["status"], told["delivered"]) == (302, False)
    assert told["headers"]["location"] == receiver.url("/ok/redirected")
    assert [call.path for call in receiver.calls] == ["/redirect"]


async def test_nothing_is_called_that_egress_refuses(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    """Not even asked by its name, nor on a port that is denied."""
    await services.executor(ALLOWED_PRIVATE_NETWORKS="", DENIED_PORTS="25", DENIED_HOSTS="no.test")
    for host, told in {
        "127.0.0.1": "egress: 127.0.0.1 may not be reached: loopback (RFC 1122)",
        "0x7f000001": "egress: 127.0.0.1 may not be reached: loopback (RFC 1122)",
        "[::ffff:127.0.0.1]": "egress: ::ffff:7f00:1 may not be reached: loopback (RFC 1122)",
        "localhost": "may not be reached: ",
        "no.test": "egress: no.test is named by DENIED_HOSTS",
    }.items():
        answer = await outcome_of(api, f"http://{host}:{receiver.port}/?{SECRET}")
        assert told in answer["error"], host
        assert (answer["delivered"], answer["status"]) == (False, None)
    answer = await outcome_of(api, "http://example.com:25/")
    assert answer["error"] == "egress: port 25 is named by DENIED_PORTS"
    assert receiver.connections == 0
    no_secret_is_logged(services)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no 127.0.0.2")
async def test_a_redirect_inwards_is_not_followed(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor(ALLOWED_PRIVATE_NETWORKS="127.0.0.2/32")
    async with Receiver(host="127.0.0.2") as outer:
        told = await outcome_of(api, outer.url(f"/redirect-to/307/{receiver.url('/secret')}"))
    assert told["status"] == 307
    assert receiver.connections == 0


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
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
    ],
)
async def test_a_test_call_that_is_not_described_well_is_refused(
    api: httpx.AsyncClient, body: dict[str, Any], pointer: str
) -> None:
    problem = problem_of(await api.post("/jobs/test", json=body), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_a_body_that_is_no_json_or_too_large_is_refused(services: Services) -> None:
    handler = await services.handler(PAYLOAD_BYTES_MAX="100")
    async with httpx.AsyncClient(base_url=handler.url) as http:
        for path in ("/jobs/test", "/jobs/validate"):
            problem_of(await http.post(path, content=b"{", headers=JSON), 400)
            problem_of(await http.post(path, content=b"{}"), 415)
            problem_of(await http.post(path, json={"x": "y" * 70_000}), 413)
        call = {"url": "https://a.test/", "payload": "y" * 101}
        problem = problem_of(await http.post("/jobs/test", json=call), 413)
        assert "#/payload" in problem["detail"]


async def test_without_an_executor_a_call_is_refused_and_nothing_stays_in_redis(
    api: httpx.AsyncClient, services: Services, redis_url: str
) -> None:
    call = {"url": f"https://example.com/?{SECRET}", "headers": {"authorization": SECRET}}
    answer = await api.post("/jobs/test", json=call)
    assert problem_of(answer, 503)["code"] == "no_executor"
    assert answer.headers["retry-after"] == "5"
    redis = trials.connect(redis_url)
    assert await redis.keys("onthedot:trial*") == []
    await redis.aclose()
    no_secret_is_logged(services)


async def test_what_only_an_executor_can_tell_is_null_without_one(api: httpx.AsyncClient) -> None:
    told = await verdict_on(api, {"url": "https://example.com/"})
    assert told["valid"] is False
    assert told["host_resolves"] == (None, "No executor took it.")
    assert told["address_allowed"] == (None, "No executor took it.")
    others = ("fields", "scheme", "url", "schedule_lies_ahead", "sizes", "body")
    assert all(told[name][0] is True for name in others)


async def test_without_redis_a_call_is_refused_and_a_job_is_judged_without_it(
    services: Services,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        handler = await services.handler(
            REDIS_URL=f"redis://127.0.0.1:{taken.getsockname()[1]}/0", until_ready=True
        )
        async with httpx.AsyncClient(base_url=handler.url, timeout=30) as http:
            answer = await http.post("/jobs/test", json={"url": "https://example.com/"})
            assert problem_of(answer, 503)["code"] == "redis_away"
            assert answer.headers["retry-after"] == "1"
            told = await verdict_on(http, {"url": "https://example.com/"})
            assert told["host_resolves"] == (None, "Executors cannot be asked right now.")


async def test_an_executor_takes_trials_again_after_an_outage_of_redis(
    services: Services, redis_url: str, receiver: Receiver
) -> None:
    found = url_of(redis_url, "x").rpartition("/")[0].rpartition(":")
    async with CuttingProxy(int(found[2])) as proxy:
        database = redis_url.rpartition("/")[2]
        services.environment["REDIS_URL"] = f"redis://127.0.0.1:{proxy.port}/{database}"
        handler = await services.handler()
        await services.executor()
        async with httpx.AsyncClient(base_url=handler.url, timeout=30) as http:
            await outcome_of(http, receiver.url())
            proxy.cut()

            async def is_back() -> None:
                answer = await http.post("/jobs/test", json={"url": receiver.url()})
                assert answer.status_code == 200, answer.text

            await eventually(is_back)


async def test_an_executor_that_stops_finishes_a_call_and_takes_no_more(
    api: httpx.AsyncClient, executor: Service, receiver: Receiver
) -> None:
    slow = asyncio.create_task(outcome_of(api, receiver.url("/slow/2")))
    await eventually(lambda: in_flight(receiver, 1))
    executor.send(signal.SIGTERM)
    await eventually(lambda: draining(executor))
    late = asyncio.create_task(api.post("/jobs/test", json={"url": receiver.url("/late")}))
    assert (await slow)["status"] == 204
    assert problem_of(await late, 503)["code"] == "no_executor"
    assert await executor.stop() == 0
    assert [call.path for call in receiver.calls] == ["/slow/2"]


async def test_a_call_that_outlives_the_grace_is_cut_off_and_said_to_be(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    executor = await services.executor(STOP_GRACE_SECONDS="0.2")
    hung = asyncio.create_task(outcome_of(api, receiver.url("/hang"), timeout=30))
    await eventually(lambda: in_flight(receiver, 1))
    assert await executor.stop() == 0
    assert (await hung)["error"] == "stopped: the executor stopped before the answer came"


async def test_what_a_draining_executor_leaves_another_takes(
    api: httpx.AsyncClient, services: Services, executor: Service, receiver: Receiver
) -> None:
    slow = asyncio.create_task(outcome_of(api, receiver.url("/slow/2")))
    await eventually(lambda: in_flight(receiver, 1))
    executor.send(signal.SIGTERM)
    await eventually(lambda: draining(executor))
    await services.executor()
    for _ in range(5):
        assert (await outcome_of(api, receiver.url()))["status"] == 204
    assert (await slow)["status"] == 204


async def test_an_executor_that_dies_over_a_call_leaves_its_caller_no_doubt(
    api: httpx.AsyncClient, executor: Service, receiver: Receiver
) -> None:
    call = {"url": receiver.url("/hang"), "timeout": 0.5}
    asked = asyncio.create_task(api.post("/jobs/test", json=call))
    await eventually(lambda: in_flight(receiver, 1))
    await executor.kill()
    assert problem_of(await asked, 503)["code"] == "no_reply"


async def test_a_handler_lets_only_so_many_wait(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executors(2)
    hanging = {"url": receiver.url("/hang"), "timeout": 5}
    asked = [asyncio.create_task(api.post("/jobs/test", json=hanging)) for _ in range(AT_ONCE_MAX)]
    await eventually(lambda: in_flight(receiver, AT_ONCE_MAX))
    for path in ("/jobs/test", "/jobs/validate"):
        answer = await api.post(path, json={"url": receiver.url()})
        assert problem_of(answer, 503)["code"] == "too_many_trials"
        assert int(answer.headers["retry-after"]) == 5
    for answer in await asyncio.gather(*asked):
        assert answer.json()["error"] == "timeout: no answer within 5 s"
    assert (await outcome_of(api, receiver.url()))["status"] == 204, "each gives its place back"


async def test_a_valid_job_is_said_to_be_valid_by_every_criterion(
    api: httpx.AsyncClient, services: Services, executor: Service, receiver: Receiver
) -> None:
    del executor
    told = await verdict_on(api, {"url": receiver.url(), "delay": 60, "payload": {"order": 17}})
    assert told["valid"] is True
    assert told["errors"] == []
    assert told["host_resolves"] == (True, "To 127.0.0.1.")
    assert told["address_allowed"] == (True, "May be reached.")
    assert told["schedule_lies_ahead"] == (True, "It runs after 60 seconds.")
    assert told["body"] == (True, "Is the payload, 12 bytes of it.")
    assert receiver.connections == 0, "nothing is called"
    assert rows(services) == [0, 0, 0]


async def test_every_criterion_that_is_not_met_is_told(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor(ALLOWED_PRIVATE_NETWORKS="")
    told = await verdict_on(
        api,
        {
            "url": f"http://localhost:{receiver.port}/?{SECRET}",
            "method": "GET",
            "payload": "y" * 300_000,
            "run_at": "2001-01-01T00:00:00Z",
            "surprise": 1,
        },
    )
    assert told["valid"] is False
    assert told["scheme"][0] is told["url"][0] is told["host_resolves"][0] is True
    assert told["address_allowed"][0] is False
    assert "127.0.0.1 may not be reached: loopback (RFC 1122)" in told["address_allowed"][1]
    assert told["schedule_lies_ahead"][0] is False
    assert told["sizes"][0] is False
    assert told["body"] == (False, "A GET request carries no payload; leave it out.")
    assert told["fields"][0] is False
    assert [error["pointer"] for error in told["errors"]] == ["#/surprise"]
    told = await verdict_on(api, {"url": "http://example.com:25/"})
    assert told["host_resolves"][0] is None
    assert told["address_allowed"] == (False, "Port 25 is named by DENIED_PORTS.")
    told = await verdict_on(api, {"url": GONE})
    assert told["host_resolves"][0] is False
    assert told["address_allowed"][0] is None
    assert receiver.connections == 0
    no_secret_is_logged(services)


def in_flight(receiver: Receiver, count: int) -> list[Call]:
    assert receiver.in_flight == count
    return receiver.calls


def draining(executor: Service) -> None:
    assert "executor.draining" in executor.log.read_text()
