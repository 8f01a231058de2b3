"""Dead letters, schedules, figures and events, from the real handler and executor."""

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta

import pytest

from onthedot import AsyncOnthedot, NoAnswerError, NotFoundError, Onthedot, UnavailableError
from onthedot.models import DeadLetter, Event
from tests.client.conftest import Server
from tests.client.flaky import Broken, Flaky, answer, flaky
from tests.eventually import eventually
from tests.proxy import CuttingProxy
from tests.receiver import Receiver

URL = "https://example.com/hook"
HOUR = timedelta(hours=1)


async def dead_letters(
    onthedot: AsyncOnthedot, receiver: Receiver, name: str, count: int
) -> list[DeadLetter]:
    made = await onthedot.jobs.create_batch(
        [{"url": receiver.url("/status/400"), "user": name} for _ in range(count)]
    )
    ids = {job.id for job in made}

    async def died() -> list[DeadLetter]:
        found = [each async for each in onthedot.dead_letters.list(state="failed")]
        found = [each for each in found if each.job_id in ids]
        assert len(found) == count
        return found

    return await eventually(died)


async def test_a_dead_letter_is_replayed_once(
    async_onthedot: AsyncOnthedot, receiver: Receiver, name: str
) -> None:
    first, second = await dead_letters(async_onthedot, receiver, name, 2)
    assert (first.http_status, first.response) == (400, "the receiver says so")
    replayed = await async_onthedot.dead_letters.replay(first)
    assert (replayed.job_id, replayed.attempt) == (first.job_id, 2)
    replayed = await async_onthedot.dead_letters.replay_run(second.job_id, second.scheduled_for)
    assert replayed.scheduled_for == second.scheduled_for

    def came() -> None:
        assert len(receiver.calls) == 4

    await eventually(came)
    assert len(receiver.runs) == 2
    with pytest.raises(NotFoundError):
        await async_onthedot.dead_letters.replay_run(2**40, datetime.now(UTC))


async def test_dead_letters_are_replayed_by_filter(
    async_onthedot: AsyncOnthedot, receiver: Receiver, name: str
) -> None:
    [letter] = await dead_letters(async_onthedot, receiver, name, 1)
    since = letter.finished_at - timedelta(seconds=1)
    replayed = await async_onthedot.dead_letters.replay_all(job_id=letter.job_id, from_=since)
    assert replayed == 1
    assert await async_onthedot.dead_letters.replay_all(job_id=letter.job_id, to=since) == 0


def test_a_schedule_is_created_listed_changed_and_deleted(onthedot: Onthedot, name: str) -> None:
    minute = int(datetime.now(UTC).timestamp() // 60) + 100
    schedule = onthedot.schedules.create(name, minute, "weekly", url=URL)
    assert schedule.document() == {
        "jobId": schedule.job_id,
        "payload": name,
        "minute": minute,
        "recurring": "weekly",
    }
    assert schedule in list(onthedot.schedules.list())
    changed = onthedot.schedules.put(schedule.job_id, "other", minute + 1, "none")
    assert onthedot.schedules.get(schedule.job_id) == changed
    assert onthedot.schedules.delete(schedule.job_id) == changed
    with pytest.raises(NotFoundError):
        onthedot.schedules.get(schedule.job_id)


def test_a_list_of_schedules_follows_its_link() -> None:
    """The real one begins a second page after 10,000."""
    pages = [
        (
            b'[{"jobId": "1", "payload": "", "minute": 1, "recurring": "none"}]',
            "</schedules?cursor=MTc%3D>",
        ),
        (b'[{"jobId": "2", "payload": "", "minute": 1, "recurring": "none"}]', None),
    ]
    with flaky() as server, Onthedot(server.url) as client:
        server.script = [
            answer(200, page, **({"link": f'{link}; rel="next"'} if link else {}))
            for page, link in pages
        ]
        assert [each.job_id for each in client.schedules.list()] == ["1", "2"]
        assert server.asked[1].line == "GET /schedules?cursor=MTc%3D HTTP/1.1"


async def test_figures_are_those_of_the_server(
    async_onthedot: AsyncOnthedot, receiver: Receiver, name: str
) -> None:
    job = await async_onthedot.jobs.create(receiver.url(), user=name)

    async def ended() -> None:
        stats = await async_onthedot.stats(group_by=["user", "status"])
        [row] = [each for each in stats.data if each.user == name] or [None]
        assert row is not None
        assert (row.status, row.ended.done, row.attempts) == ("done", 1, 1)
        assert row.lateness_ms.p99 is not None

    await eventually(ended)
    assert (await async_onthedot.jobs.get(job.id)).status == "succeeded"
    ledger = await async_onthedot.ledger()
    assert ledger.adds_up
    assert ledger.done >= 1
    await async_onthedot.jobs.create(URL, delay=timedelta(minutes=5))
    forecast = await async_onthedot.forecast(bucket=timedelta(minutes=10), horizon=HOUR)
    assert forecast.bucket == 600
    assert sum(bucket.runs for bucket in forecast.data) >= 1
    assert (await async_onthedot.ready()).postgres == "ok"


def test_a_secret_is_rotated_and_both_are_answered() -> None:
    """Against a script: the shared server's secret is everybody's."""
    previous = b'{"secret": "whsec_YQ==", "until": "2031-01-01T00:00:00.000Z"}'
    body = b'{"secret": "whsec_Yg==", "previous": %s}' % previous
    with flaky() as server, Onthedot(server.url) as client:
        server.script = [answer(200, body)]
        rotated = client.rotate_signing_secret(overlap=HOUR)
        assert rotated.all == ["whsec_Yg==", "whsec_YQ=="]
        assert "whsec" not in repr(rotated)
        assert server.asked[0].body == b'{"overlap":3600}'


async def test_events_are_heard_and_go_on_after_a_break(server: Server) -> None:
    heard: list[Event] = []
    async with (
        CuttingProxy(int(server.url.rsplit(":", 1)[1])) as proxy,
        AsyncOnthedot(f"http://127.0.0.1:{proxy.port}") as listener,
        AsyncOnthedot(server.url) as client,
    ):
        job = await client.jobs.create(URL, every=HOUR)

        async def listen() -> None:
            async for event in listener.events(job_id=job.id):
                heard.append(event)  # noqa: PERF401  # for others to see, one by one

        async def stir() -> None:
            await client.jobs.pause(job.id)
            await client.jobs.resume(job.id)
            assert heard

        async with asyncio.TaskGroup() as group:
            listening = group.create_task(listen())
            # Whoever begins to listen is told what comes after it has begun.
            await eventually(stir)
            await eventually(lambda: ends_with(heard, "job.resumed"))
            proxy.cut()
            await client.jobs.update(job.id, timeout=3)
            await eventually(lambda: ends_with(heard, "job.changed"))
            listening.cancel()
    assert "gap" not in {event.type for event in heard}
    assert {event.job_id for event in heard} == {job.id}
    assert len({event.id for event in heard}) == len(heard)


def ends_with(heard: list[Event], kind: str) -> None:
    assert heard[-1].type == kind


def test_code_that_waits_hears_events_too(onthedot: Onthedot, server: Server) -> None:
    job = onthedot.jobs.create(URL, every=HOUR)
    has_heard = threading.Event()

    def move() -> None:
        with Onthedot(server.url) as other:
            while not has_heard.wait(0.05):
                other.jobs.pause(job.id)
                other.jobs.resume(job.id)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        event = next(onthedot.events(job_id=job.id, types=["job.paused"]))
    finally:
        has_heard.set()
        thread.join()
    assert (event.type, event.job_id) == ("job.paused", job.id)


def test_who_may_not_listen_is_told() -> None:
    with flaky() as server, Onthedot(server.url, retries=0) as client:
        server.script = [answer(503, b"")]
        with pytest.raises(UnavailableError):
            next(client.events())


async def test_an_event_during_which_the_connection_breaks_is_asked_for_again() -> None:
    first = b'retry: 1\nid: 1\nevent: a\ndata: {"job_id": 7}\n\nid: 2\nevent: b\nda'
    again = b'id: 2\nevent: b\ndata: {"job_id": 7}\n\nid: 3\n\n'
    with flaky() as server:
        server.script = [
            Broken(answer(200, first + b"cut off here")[:-12]),
            Broken(answer(200, again + b"cut off here")[:-12]),
            Broken(answer(200, b"")),
        ]
        async with AsyncOnthedot(server.url, retries=0) as client, asyncio.timeout(20):
            events = client.events()
            assert [(await anext(events)).id for _ in range(2)] == ["1", "2"]
            listening = asyncio.ensure_future(anext(events))
            await eventually(lambda: has_asked(server, 3))
            listening.cancel()
    places = [asked.headers.get("last-event-id") for asked in server.asked]
    assert places[:3] == [None, "1", "3"]


def has_asked(server: Flaky, count: int) -> None:
    assert len(server.asked) >= count


def test_only_a_line_feed_ends_a_line() -> None:
    """JSON may hold what Unicode breaks lines at: U+0085, U+2028 and U+2029."""
    breaks = "\u0085 \u2028 \u2029 \x0b"
    with flaky() as server, Onthedot(server.url) as client:
        line = json.dumps({"url": URL, "payload": breaks}, ensure_ascii=False)
        server.script = [answer(200, f"{line}\r\n{line}\n{line}".encode())]
        assert [job["payload"] for job in client.jobs.export()] == [breaks] * 3
        event = json.dumps({"job_id": 7, "detail": breaks}, ensure_ascii=False)
        server.script = [answer(200, f"id: 1\r\nevent: a\r\ndata: {event}\r\n\r\n".encode())]
        assert next(client.events()).job_id == 7


def test_an_export_that_breaks_off_is_not_taken_for_complete() -> None:
    with flaky() as broken, Onthedot(broken.url, retries=0) as client:
        broken.script = [Broken(answer(200, b'{"url": "https://a"}\n' * 3)[:-5])]
        with pytest.raises(NoAnswerError, match="not complete"):
            list(client.jobs.export())
