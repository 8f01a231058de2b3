"""What is sent again, when, and what is not."""

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from onthedot import (
    AsyncOnthedot,
    ConflictError,
    NoAnswerError,
    NotAllowedError,
    Onthedot,
    OnthedotError,
    Retries,
    TooManyRequestsError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
)
from onthedot.call import change, read
from tests.client.conftest import Server
from tests.client.flaky import CUT, DROP, Flaky, answer, flaky, problem
from tests.processes import free_port
from tests.proxy import LosingProxy

URL = "https://example.com/hook"
BRIEFLY = Retries(wait_seconds=0.01)
AWAY = problem(503, "unavailable")
IDEMPOTENCY_KEY = "idempotency-key"


@pytest.fixture
def server_by_script() -> Iterator[Flaky]:
    with flaky() as server:
        yield server
        assert not server.script, "more was expected to be asked"


@pytest.fixture
def client(server_by_script: Flaky) -> Iterator[Onthedot]:
    with Onthedot(server_by_script.url, retries=BRIEFLY, timeout=5) as client:
        yield client


@pytest.mark.parametrize("failure", [DROP, CUT, AWAY, problem(502, "x"), answer(504, b"")])
def test_a_create_is_sent_again_under_one_key(
    failure: bytes, client: Onthedot, server_by_script: Flaky
) -> None:
    server_by_script.script = [failure, failure, answer(201)]
    assert client.timers.create(URL, minutes=1).id == 1
    keys = {asked.headers[IDEMPOTENCY_KEY] for asked in server_by_script.asked}
    bodies = {asked.body for asked in server_by_script.asked}
    assert (len(server_by_script.asked), len(keys), len(bodies)) == (3, 1, 1)


async def test_asyncio_sends_again_too(server_by_script: Flaky) -> None:
    server_by_script.script = [DROP, CUT, AWAY, answer(201)]
    async with AsyncOnthedot(server_by_script.url, retries=BRIEFLY) as client:
        assert (await client.timers.create(URL, minutes=1)).id == 1


def test_each_create_has_a_key_of_its_own(client: Onthedot, server_by_script: Flaky) -> None:
    server_by_script.script = [answer(201), answer(201)]
    for _ in range(2):
        client.timers.create(URL, minutes=1)
    first, second = server_by_script.asked
    assert first.headers[IDEMPOTENCY_KEY] != second.headers[IDEMPOTENCY_KEY]


def test_the_first_request_may_still_be_in_progress(
    client: Onthedot, server_by_script: Flaky
) -> None:
    in_progress = problem(409, "idempotency_in_progress")
    server_by_script.script = [DROP, in_progress, answer(201)]
    assert client.timers.create(URL, minutes=1).id == 1
    server_by_script.script = [problem(409, "key_taken")]
    with pytest.raises(ConflictError):
        client.timers.create(URL, minutes=1)


SENT_ONCE: list[Callable[[Onthedot], object]] = [
    lambda client: client.timers.update(1, timeout=3),
    lambda client: client.jobs.update(1, timeout=3),
    lambda client: client.jobs.delete(1, version=3),
    lambda client: client.jobs.test(URL),
    lambda client: client.jobs.cancel(user="anna"),
    lambda client: client.jobs.put("key", URL),
    lambda client: client.jobs.put("key", URL, delay=5),
    lambda client: client.jobs.put("key", URL, delay="PT5S", on_conflict="extend"),
    lambda client: client.jobs.put("key", URL, run_at=datetime.now(UTC) + timedelta(minutes=5)),
    lambda client: client.jobs.put("key", URL, run_at="2001-01-01T00:00:00Z"),
    lambda client: client.jobs.put("key", URL, run_at="2001-01-01T00:00", timezone="Asia/Tokyo"),
    lambda client: client.jobs.put("key", URL, run_at="soon"),
    lambda client: client.jobs.put("key", URL, cron="@daily", max_runs=1),
    lambda client: client.jobs.put("key", URL, every=60, ends_at="2031-01-01T00:00:00Z"),
    lambda client: client.jobs.put("key", URL, rrule="FREQ=DAILY;COUNT=1"),
    lambda client: client.jobs.put("key", URL, cron="@daily", on_conflict="error"),
    lambda client: client.jobs.touch("key"),
    lambda client: client.schedules.delete("1"),
    lambda client: client.dead_letters.replay_run(1, "2031-01-01T00:00:00Z"),
    lambda client: client.dead_letters.replay_all(host="example.com"),
    lambda client: client.rotate_signing_secret(),
    lambda client: client.schedules.put("1", "x", 1, "none", immediate=True),
]
SENT_AGAIN: list[Callable[[Onthedot], object]] = [
    lambda client: client.timers.get(1),
    lambda client: client.timers.delete(1),
    lambda client: client.jobs.trigger(1),
    lambda client: client.jobs.pause(1),
    lambda client: client.jobs.preview(cron="@daily"),
    lambda client: client.jobs.cancel(user="anna", dry_run=True),
    lambda client: client.jobs.put("key", URL, cron="@daily"),
    lambda client: client.jobs.put("key", URL, delay=timedelta(hours=1)),
    lambda client: client.jobs.put("key", URL, delay="PT1H"),
    lambda client: client.jobs.put("key", URL, run_at=datetime.now(UTC) + timedelta(minutes=15)),
    lambda client: client.jobs.put("key", URL, run_at="2131-01-01T00:00", timezone="Asia/Tokyo"),
    lambda client: client.jobs.put("key", URL, on_conflict="keep"),
    lambda client: client.jobs.import_([{"url": URL}]),
    lambda client: client.schedules.create("x", 1),
    lambda client: client.schedules.put("1", "x", 1, "none"),
]


@pytest.mark.parametrize("ask", SENT_ONCE)
@pytest.mark.parametrize("failure", [DROP, AWAY])
def test_what_could_be_done_twice_is_sent_once(
    ask: Callable[[Onthedot], object], failure: bytes, client: Onthedot, server_by_script: Flaky
) -> None:
    server_by_script.script = [failure]
    with pytest.raises(NoAnswerError if failure == DROP else UnavailableError):
        ask(client)
    assert len(server_by_script.asked) == 1


@pytest.mark.parametrize("ask", SENT_ONCE)
def test_what_was_not_even_looked_at_is_sent_again(
    ask: Callable[[Onthedot], object], client: Onthedot, server_by_script: Flaky
) -> None:
    server_by_script.script = [problem(429, "too_many"), problem(404, "x")]
    with pytest.raises(OnthedotError):
        ask(client)
    assert len(server_by_script.asked) == 2


@pytest.mark.parametrize("ask", SENT_AGAIN)
def test_what_is_the_same_done_twice_is_sent_again(
    ask: Callable[[Onthedot], object], client: Onthedot, server_by_script: Flaky
) -> None:
    server_by_script.script = [DROP, AWAY, problem(404, "x")]
    with pytest.raises(OnthedotError):
        ask(client)
    assert len(server_by_script.asked) == 3


def test_retry_after_is_honoured_and_a_long_one_is_told(server_by_script: Flaky) -> None:
    with Onthedot(server_by_script.url, retries=Retries(wait_seconds=0.001)) as client:
        soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
        server_by_script.script = [
            problem(429, "too_many", retry_after="1"),
            problem(503, "unavailable", retry_after=format_datetime(soon, usegmt=True)),
            answer(200),
        ]
        client.timers.get(1)
        assert server_by_script.waits[0] >= 1
        assert datetime.now(UTC) >= soon - timedelta(seconds=0.1)
        server_by_script.script = [problem(429, "too_many", retry_after="3600")]
        with pytest.raises(TooManyRequestsError) as refused:
            client.timers.get(1)
    assert refused.value.retry_after == 3_600


def test_waits_grow_and_end(server_by_script: Flaky) -> None:
    waits = Retries(most=3, wait_seconds=0.04, wait_seconds_max=0.08)
    with Onthedot(server_by_script.url, retries=waits) as client:
        server_by_script.script = [AWAY] * 4
        with pytest.raises(UnavailableError):
            client.timers.get(1)
    first, second, third = server_by_script.waits
    assert first >= 0.02
    assert min(second, third) >= 0.04


def test_waits_are_spread_and_have_an_end() -> None:
    waits = Retries(most=9, wait_seconds=1.0, wait_seconds_max=5.0)
    lost = httpx.ReadError("lost")
    for sent, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (9, 5.0)):
        drawn = {waits.after_error(read("/timers/1"), lost, sent) for _ in range(50)}
        assert len(drawn) > 40
        assert all(wait is not None and longest / 2 <= wait <= longest for wait in drawn)
    assert waits.after_error(read("/timers/1"), lost, 10) is None


def test_what_was_never_sent_is_tried_again_whatever_it_is() -> None:
    once = change("PATCH", "/timers/1")
    assert Retries().after_error(once, httpx.ReadError("lost"), 1) is None
    assert Retries().after_error(once, httpx.ConnectError("refused"), 1) is not None


def test_no_retries_are_none(server_by_script: Flaky) -> None:
    for failure, error in ((AWAY, UnavailableError), (DROP, NoAnswerError)):
        server_by_script.script = [failure]
        with Onthedot(server_by_script.url, retries=0) as client, pytest.raises(error):
            client.timers.get(1)
    assert len(server_by_script.asked) == 2


def test_a_server_that_says_nothing_is_not_waited_for_beyond_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Onthedot(url, timeout=0.05, retries=0) as client,
            pytest.raises(NoAnswerError, match="may have been processed"),
        ):
            client.timers.create(URL, minutes=1)


def test_nobody_there_is_said_so_and_nothing_was_sent() -> None:
    with (
        Onthedot(f"http://127.0.0.1:{free_port()}", retries=BRIEFLY) as client,
        pytest.raises(UnreachableError, match="Cannot connect") as refused,
    ):
        client.jobs.cancel(user="anna")
    assert not isinstance(refused.value, NoAnswerError)
    assert not issubclass(NoAnswerError, UnreachableError), "which says that nothing was sent"


def test_a_stranger_that_answers_is_no_onthedot(client: Onthedot, server_by_script: Flaky) -> None:
    for page in (answer(200, b"<html>hello"), answer(200, b"{}")):
        server_by_script.script = [page]
        with pytest.raises(UnexpectedAnswerError, match="GET /timers/1"):
            client.timers.get(1)
    server_by_script.script = [answer(302, b"", location="https://example.com/")]
    with pytest.raises(UnexpectedAnswerError):
        client.timers.get(1)


def test_a_problem_says_what_it_knows(client: Onthedot, server_by_script: Flaky) -> None:
    server_by_script.script = [problem(403, "forbidden", x_request_id="req-7")]
    with pytest.raises(NotAllowedError) as refused:
        client.timers.get(1)
    told = refused.value
    assert (told.status, told.code, told.detail, told.request_id) == (
        *(403, "forbidden", "Because.", "req-7"),
    )


def test_the_key_goes_with_every_request_and_into_no_text(server_by_script: Flaky) -> None:
    server_by_script.script = [answer(200), problem(401, "unauthorized")]
    with Onthedot(server_by_script.url, api_key="sesame-7", retries=0) as client:
        client.timers.get(1)
        with pytest.raises(NotAllowedError) as refused:
            client.timers.get(1)
    assert {asked.headers["authorization"] for asked in server_by_script.asked} == {
        "Bearer sesame-7"
    }
    inside = [vars(client), vars(vars(client)["_transport"])]
    assert "sesame-7" not in f"{client!r} {inside!r} {refused.value!r}"


async def test_a_client_of_the_caller_s_own_stays_as_it_is(server_by_script: Flaky) -> None:
    """It may be for others too: they are to see neither the key nor a closed client."""
    server_by_script.script = [answer(200)] * 4
    own: dict[str, Any] = {
        "base_url": "https://own.example",
        "headers": {"x-own": "yes"},
        "timeout": 7,
    }
    with httpx.Client(**own) as http:
        with Onthedot(server_by_script.url, api_key="sesame-7", timeout=5, http=http) as client:
            client.timers.get(1)
        http.get(server_by_script.url)  # noqa: ASYNC212  # nothing else is to go on meanwhile
        assert (http.base_url, http.timeout) == (httpx.URL("https://own.example"), httpx.Timeout(7))
    async with httpx.AsyncClient(**own) as other:
        async with AsyncOnthedot(server_by_script.url, api_key="sesame-7", http=other) as waiting:
            await waiting.timers.get(1)
        await other.get(server_by_script.url)
    assert [
        (asked.headers["x-own"], asked.headers.get("authorization"))
        for asked in server_by_script.asked
    ] == [("yes", "Bearer sesame-7"), ("yes", None)] * 2


@pytest.mark.parametrize(
    ("url", "key", "field"),
    [
        ("localhost:8080", None, "base_url"),
        ("http://user:secret@localhost", None, "base_url"),
        ("http://localhost", "two\nlines", "api_key"),
    ],
)
def test_a_wrong_address_or_key_is_refused_at_once(url: str, key: str | None, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: ") as refused:
        Onthedot(url, api_key=key)
    assert "secret" not in str(refused.value)


async def test_a_lost_answer_makes_no_second_timer(server: Server, name: str) -> None:
    """Against the real handler: its answer is lost after the commit."""
    async with LosingProxy(int(server.url.rsplit(":", 1)[1])) as proxy:
        proxy.lose = b"201 Created"
        url = f"http://127.0.0.1:{proxy.port}"
        async with AsyncOnthedot(url, retries=BRIEFLY) as client:
            made = await client.timers.create(URL, hours=1, user=name)
            assert proxy.lost == 1
            assert [job.id async for job in client.jobs.list(user=name)] == [made.id]
