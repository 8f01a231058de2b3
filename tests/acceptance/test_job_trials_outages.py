"""Test calls: what egress refuses of them; executors that stop, die, or are not there."""

import asyncio
import signal
import socket
import sys
from urllib.parse import urlsplit

import httpx
import pytest

from handler_service.trials import AT_ONCE_MAX
from shared import trials
from tests.acceptance.test_job_trials import (
    GONE,
    SECRET,
    no_secret_is_logged,
    outcome_of,
    verdict_on,
)
from tests.acceptance.test_timers_contract_refusals import JSON, problem_of
from tests.eventually import eventually
from tests.processes import Service, Services
from tests.proxy import CuttingProxy
from tests.receiver import Call, Receiver


@pytest.fixture
async def executor(services: Services) -> Service:
    return await services.executor()


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
    told = await verdict_on(api, {"url": "https://example.com/"})
    assert told["valid"] is False
    assert told["host_resolves"] == (None, "No executor took it.")
    assert told["address_allowed"] == (None, "No executor took it.")
    others = ("fields", "scheme", "url", "schedule_lies_ahead", "sizes", "body")
    assert all(told[name][0] is True for name in others)
    no_secret_is_logged(services)


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
    at = urlsplit(redis_url)
    assert at.port is not None
    async with CuttingProxy(at.port) as proxy:
        behind = at._replace(netloc=at.netloc.replace(str(at.port), str(proxy.port)))
        services.environment["REDIS_URL"] = behind.geturl()
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
    api: httpx.AsyncClient, services: Services, executor: Service, receiver: Receiver
) -> None:
    slow = asyncio.create_task(outcome_of(api, receiver.url("/slow/6")))
    await eventually(lambda: in_flight(receiver, 1))
    executor.send(signal.SIGTERM)
    await eventually(lambda: draining(executor))
    late = await api.post("/jobs/test", json={"url": receiver.url("/late")})
    assert problem_of(late, 503)["code"] == "no_executor"
    assert (await slow)["status"] == 204
    assert await executor.stop() == 0
    assert [call.path for call in receiver.calls] == ["/slow/6"]
    await services.executor()
    assert (await outcome_of(api, receiver.url("/next")))["status"] == 204


async def test_a_call_that_outlives_the_grace_is_cut_off_and_said_to_be(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    executor = await services.executor(STOP_GRACE_SECONDS="0.2")
    hung = asyncio.create_task(outcome_of(api, receiver.url("/hang"), timeout=30))
    await eventually(lambda: in_flight(receiver, 1))
    assert await executor.stop() == 0
    assert (await hung)["error"] == "stopped: the executor stopped before the answer came"


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
