"""Receivers that break the protocol, never end, or end at once: each costs its own attempt.

Every case ends as delivered or failed within its timeout, is written to the receiver once per
attempt, and leaves the executor no bigger than it was.
"""

import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trustme

from shared.runs.lifecycle import Delivery
from tests.acceptance.test_attempts import attempts, run_of
from tests.conftest import MakeRun
from tests.eventually import eventually
from tests.hostile import BROKEN_BODIES, NO_ANSWERS, NO_TEXT, HostileReceiver, speak_first
from tests.processes import Service, Services
from tests.receiver import Receiver

TIMEOUT_SECONDS = 1.0
# All that fails here fails at one destination: what protects others from that is tested elsewhere.
SETTINGS = {"BREAKER_FAILURES": "1000"}
GROWTH_MAX = 50 * 2**20  # bytes that an executor may grow by
# What a receiver may get rid of before it is cut off: 64 KiB are read, the rest lies in sockets.
SENT_MAX = 16 * 2**20


@pytest.fixture
async def hostile() -> AsyncIterator[HostileReceiver]:
    async with HostileReceiver() as receiver:
        yield receiver


async def fire_at(
    make_run: MakeRun, receiver: Receiver, words: Iterable[str], **job: Any
) -> dict[str, int]:
    """Make a run per word, due now; answer its job by word."""
    job = {"timeout_seconds": TIMEOUT_SECONDS, **job}
    return {word: await make_run(url=receiver.url(f"/{word}"), **job) for word in words}


async def delivered(services: Services, job_id: int, status: int = 200) -> dict[str, Any]:
    """The one attempt of a run that was accepted."""
    [done] = await attempts(services, job_id, count=1)
    assert (done["state"], done["http_status"], done["attempt"]) == ("done", status, 1), done
    assert await run_of(services, job_id) is None
    return in_time(done)


async def failed_and_retried(services: Services, job_id: int, *errors: str) -> dict[str, Any]:
    """The first attempt of a run that is not over."""
    failed, *_ = await attempts(services, job_id, count=1)
    assert (failed["state"], failed["attempt"]) == ("retrying", 1), failed
    assert failed["error"].startswith(errors), failed
    assert await run_of(services, job_id) is not None
    return in_time(failed)


def in_time(attempt: dict[str, Any]) -> dict[str, Any]:
    took = (attempt["finished_at"] - attempt["started_at"]).total_seconds()
    assert took < TIMEOUT_SECONDS + 0.75, attempt
    assert attempt["lateness_ms"] >= 0
    return attempt


def written_once(receiver: HostileReceiver, jobs: Mapping[str, int]) -> None:
    """Each job's first attempt reached the receiver, and no attempt reached it twice."""
    assert {call.job_id for call in receiver.calls} == set(jobs.values())
    assert set(receiver.written.values()) == {1}, receiver.written


def peak_bytes(service: Service) -> int:
    """The most memory that this process ever had."""
    for line in Path(f"/proc/{service.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    pytest.skip("this system does not tell the peak of a process's memory")


async def test_an_answer_that_is_no_http_costs_an_attempt(
    services: Services, make_run: MakeRun, hostile: HostileReceiver
) -> None:
    jobs = await fire_at(make_run, hostile, NO_ANSWERS)
    await services.executor(**SETTINGS)
    for job_id in jobs.values():
        failed = await failed_and_retried(services, job_id, "connection: ")
        assert failed["http_status"] is None
        assert "invalid" in failed["error"], "it says what was wrong"
    written_once(hostile, jobs)


async def test_a_connection_that_ends_without_an_answer_costs_an_attempt(
    services: Services, make_run: MakeRun, hostile: HostileReceiver
) -> None:
    jobs = await fire_at(make_run, hostile, ("drop", "reset"))
    await services.executor(**SETTINGS)
    for job_id in jobs.values():
        await failed_and_retried(services, job_id, "connection: ")
    written_once(hostile, jobs)


async def test_an_answer_that_does_not_begin_in_time_costs_an_attempt(
    services: Services, make_run: MakeRun, hostile: HostileReceiver
) -> None:
    jobs = await fire_at(make_run, hostile, ("hang", "drip-head", "endless-continues"))
    await services.executor(**SETTINGS)
    for job_id in jobs.values():
        await failed_and_retried(services, job_id, "timeout: no answer within 1 s")
    written_once(hostile, jobs)


async def test_the_last_attempt_at_a_hostile_receiver_leaves_a_dead_letter(
    services: Services, make_run: MakeRun, hostile: HostileReceiver
) -> None:
    words = ("garbage", "reset", "hang", "endless-head")
    jobs = await fire_at(make_run, hostile, words, attempt=4)
    await services.executor(**SETTINGS)
    for job_id in jobs.values():
        [failed] = await attempts(services, job_id, count=1)
        assert (failed["state"], failed["attempt"]) == ("failed", 5)
        assert await run_of(services, job_id) is None
    written_once(hostile, jobs)


async def test_a_status_stands_whatever_becomes_of_the_body(
    services: Services, make_run: MakeRun, hostile: HostileReceiver
) -> None:
    jobs = await fire_at(make_run, hostile, (*BROKEN_BODIES, "drip-body", "reset-after-head"))
    await services.executor(**SETTINGS)
    for job_id in jobs.values():
        await delivered(services, job_id)
    written_once(hostile, jobs)
    [row] = await attempts(services, jobs["reset-after-head"], count=1)
    assert row["response"] == b"begun"


async def test_a_status_stands_beside_a_field_that_is_no_text(
    services: Services, make_run: MakeRun, hostile: HostileReceiver
) -> None:
    retried = await fire_at(make_run, hostile, NO_TEXT)
    once = await fire_at(make_run, hostile, NO_TEXT, delivery=Delivery.AT_MOST_ONCE)
    await services.executor(**SETTINGS)
    for job_id in retried.values():
        failed = await failed_and_retried(services, job_id, "status: the receiver answered 503")
        assert (failed["http_status"], failed["response"]) == (503, b"not today")
        run = await run_of(services, job_id)
        assert run is not None
        assert 2 < run["due_in"] <= 6, "the policy's own delay: nothing was asked for"
    for job_id in once.values():
        [failed] = await attempts(services, job_id, count=1)
        assert (failed["state"], failed["http_status"]) == ("failed", 503)
        assert failed["error"] == "status: the receiver answered 503"
        assert await run_of(services, job_id) is None
    assert set(hostile.written.values()) == {1}
    assert {call.job_id for call in hostile.calls} == {*retried.values(), *once.values()}


async def test_an_informational_answer_is_not_the_answer(
    services: Services, make_run: MakeRun, hostile: HostileReceiver
) -> None:
    jobs = await fire_at(make_run, hostile, ("continues", "hints"))
    await services.executor(**SETTINGS)
    for job_id in jobs.values():
        await delivered(services, job_id, 204)
    written_once(hostile, jobs)


async def test_a_body_is_read_up_to_its_limit_and_cut_off(
    services: Services, make_run: MakeRun, hostile: HostileReceiver
) -> None:
    executor = await services.executor(**SETTINGS)
    await make_run(url=hostile.url("/warm-up"))
    await eventually(lambda: called(hostile))
    before = peak_bytes(executor)
    words = ("ten-gigabytes", "endless-chunks", "bomb")
    # Who reads on is at it for as long as that, and records nothing that could be waited for.
    long = {"timeout_seconds": 100.0}
    several = [await fire_at(make_run, hostile, words, **long) for _ in range(10)]
    unavailable = await fire_at(make_run, hostile, ["endless-chunks/503"], **long)
    for jobs in several:
        for word, job_id in jobs.items():
            [done] = await attempts(services, job_id, count=1)
            assert (done["state"], done["http_status"]) == ("done", 200)
            assert len(done["response"]) == 1024
            assert done["response"].startswith(b"\x1f\x8b" if word == "bomb" else b"xxx")
    for job_id in unavailable.values():
        failed, *_ = await attempts(services, job_id, count=1)
        assert (failed["state"], failed["http_status"]) == ("retrying", 503)
    assert peak_bytes(executor) - before < GROWTH_MAX
    for word in ("ten-gigabytes", "endless-chunks"):
        assert hostile.sent[word] < SENT_MAX * 10, "the connection was cut"


async def test_a_head_is_read_up_to_its_limit(
    services: Services, make_run: MakeRun, hostile: HostileReceiver
) -> None:
    executor = await services.executor(**SETTINGS)
    await make_run(url=hostile.url("/warm-up"))
    await eventually(lambda: called(hostile))
    before = peak_bytes(executor)
    words = ("long-header", "many-headers", "endless-head")
    several = [await fire_at(make_run, hostile, words) for _ in range(10)]
    for jobs in several:
        for job_id in jobs.values():
            await failed_and_retried(services, job_id, "connection: message head is too large")
    assert peak_bytes(executor) - before < GROWTH_MAX
    assert hostile.sent["endless-head"] < SENT_MAX * 10


def called(receiver: Receiver) -> None:
    assert receiver.calls


async def test_endless_receivers_do_not_delay_others(
    services: Services, make_run: MakeRun, hostile: HostileReceiver, receiver: Receiver
) -> None:
    """The client has one thread: what is cut off must not keep it, nor what drips.

    A flood of 1xx is not among them: the client reads it, at its own expense, until the timeout.
    """
    words = ("endless-chunks", "endless-head", "drip-head", "drip-body", "hang")
    for _ in range(20):
        await fire_at(make_run, hostile, words, timeout_seconds=4.0)
    ordinary = [
        await make_run(url=receiver.url(), due_in=1.5 + number / 10) for number in range(15)
    ]
    await services.executor(**SETTINGS)
    for job_id in ordinary:
        [done] = await attempts(services, job_id, count=1)
        assert (done["state"], done["attempt"]) == ("done", 1)
        assert 0 <= done["lateness_ms"] < 5_000
        assert done["finished_at"] - done["started_at"] < timedelta(seconds=1)


async def test_a_tls_handshake_that_fails_costs_an_attempt_and_sends_nothing(
    services: Services, make_run: MakeRun, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    yesterday = datetime.now(UTC) - timedelta(days=1)
    certificates = {
        "expired": authority.issue_cert("localhost", not_after=yesterday),
        "not for a month": authority.issue_cert(
            "localhost", not_before=datetime.now(UTC) + timedelta(days=30)
        ),
        "NotValidForName": authority.issue_cert("example.com"),
    }
    errors = {
        "expired": ("connect: invalid peer certificate: certificate expired",),
        "not for a month": ("connect: invalid peer certificate: certificate not valid yet",),
        "NotValidForName": ("connect: invalid peer certificate: certificate not valid for name",),
        "plain": ("connect: received corrupt message",),
        "silent": ("connect: ", "timeout: "),
    }
    await services.executor(**SETTINGS, EXTRA_CA_FILE=str(tmp_path / "ca.pem"))
    async with AsyncExitStack() as stack:
        receivers = {
            name: await stack.enter_async_context(Receiver(context_of(certificate)))
            for name, certificate in certificates.items()
        }
        ports = {name: receiver.port for name, receiver in receivers.items()}
        ports["plain"] = await stack.enter_async_context(
            speak_first(b"HTTP/1.1 400 This Is Plain\r\ncontent-length: 0\r\n\r\n")
        )
        ports["silent"] = await stack.enter_async_context(speak_first(b""))
        jobs = {
            name: await make_run(url=f"https://localhost:{port}/", timeout_seconds=TIMEOUT_SECONDS)
            for name, port in ports.items()
        }
        for name, job_id in jobs.items():
            await failed_and_retried(services, job_id, *errors[name])
        assert not any(receiver.calls for receiver in receivers.values())


def context_of(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def test_a_name_without_an_address_costs_an_attempt(
    services: Services, make_run: MakeRun
) -> None:
    hosts = ("no-such-name.invalid", f"{'a' * 64}.invalid", "a..invalid", ".")
    jobs = [await make_run(url=f"http://{host}/") for host in hosts]
    await services.executor(**SETTINGS)
    for job_id in jobs:
        await failed_and_retried(services, job_id, "dns: ")


async def test_a_request_that_meets_a_closing_connection_is_not_written_again(
    services: Services, make_run: MakeRun, hostile: HostileReceiver
) -> None:
    """Nobody knows whether it was read: it is a failed attempt, and the next one says so."""
    first, second = [await make_run(url=hostile.url("/close-on-next")) for _ in range(2)]
    await services.executor(**SETTINGS, IN_FLIGHT_PER_DESTINATION_MAX="1")
    await delivered(services, first, 204)
    await failed_and_retried(services, second, "connection: ")
    assert (hostile.cut_off, hostile.connections) == (1, 1)
    await due_now(services)
    [_, again] = await attempts(services, second, count=2)
    assert (again["state"], again["attempt"]) == ("done", 2)
    assert [call.headers["onthedot-attempt"] for call in hostile.calls_of(second)] == ["2"]


async def test_an_attempt_after_a_failed_one_has_a_connection_of_its_own(
    services: Services, make_run: MakeRun, hostile: HostileReceiver
) -> None:
    """A connection that closes just then may cost a run one attempt, not every one."""
    first = [await make_run(url=hostile.url("/close-on-next"))]
    again = [await make_run(url=hostile.url("/close-on-next"), attempt=1) for _ in range(5)]
    await services.executor(**SETTINGS, IN_FLIGHT_PER_DESTINATION_MAX="1")
    for job_id in first + again:
        [row] = await attempts(services, job_id, count=1)
        assert row["state"] == "done"
    assert hostile.cut_off == 0
    assert hostile.connections == 6


async def test_a_connection_may_close_at_any_moment(
    services: Services, make_run: MakeRun, hostile: HostileReceiver
) -> None:
    paths = ["/close", "/close/0.002"] * 100
    jobs = [await make_run(url=hostile.url(path)) for path in paths]
    await services.executor(**SETTINGS, IN_FLIGHT_PER_DESTINATION_MAX="2")
    outcomes = set()
    for job_id in jobs:
        first, *_ = await attempts(services, job_id, count=1)
        outcomes.add((first["state"], (first["error"] or "").partition(":")[0]))
    assert outcomes <= {("done", ""), ("retrying", "connection")}
    await due_now(services)
    await eventually(lambda: over(services))
    assert set(hostile.written.values()) == {1}
    assert {call.job_id for call in hostile.calls} == set(jobs)
    assert hostile.connections == len(hostile.calls)


async def due_now(services: Services) -> None:
    """Let what waits for its next attempt wait no longer."""
    url = services.environment["DATABASE_URL"]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("update schedules set due_at = now() where state = 'pending'")


async def over(services: Services) -> None:
    url = services.environment["DATABASE_URL"]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("select count(*) from schedules")
        assert await cursor.fetchone() == (0,)
