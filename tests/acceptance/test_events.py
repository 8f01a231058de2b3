"""What becomes of runs and jobs is told to those who listen: in order, once, and to nobody else."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic, time

import httpx
import pytest
import redis

from local_stack.valkey import Valkey
from shared import events
from shared.events import STREAM, Teller, of_job
from tests.eventually import eventually
from tests.listening import Listening
from tests.processes import Services
from tests.receiver import Receiver

TIMER = {"seconds": 3_600, "url": "https://example.com/hook"}


@pytest.fixture
async def teller(redis_url: str) -> AsyncIterator[Teller]:
    """One who tells, as an executor does, but that waits for a Redis that is slow."""
    client = events.connect(redis_url, timeout_seconds=30)
    teller = Teller(client)
    yield teller
    await teller.close()
    await client.aclose()


async def tell(teller: Teller, *job_ids: int, application_id: int = 1) -> None:
    """Tell of jobs, each in an entry of its own."""
    for job_id in job_ids:
        teller.tell([of_job("job.changed", application_id, job_id)])
        await written(teller)


async def written(teller: Teller) -> None:
    def nothing_waits() -> None:
        assert teller._task is None or teller._task.done()

    await eventually(nothing_waits)


def jobs(listening: Listening) -> list[int]:
    return [each.data["job_id"] for each in listening.heard if each.kind != "gap"]


def is_last(listening: Listening, job_id: int) -> None:
    assert jobs(listening)[-1] == job_id


def kinds(listening: Listening) -> list[str]:
    return [each.kind for each in listening.heard]


async def test_the_life_of_a_run_is_told_in_order(
    services: Services, api: httpx.AsyncClient, receiver: Receiver
) -> None:
    await services.executor()
    async with Listening(str(api.base_url)) as listening:
        await listening.placed()
        timer = {"seconds": 3, "url": receiver.url("/hook")}  # later than an executor may rest
        timer_id = (await api.post("/timers", json=timer)).json()["id"]

        def is_done() -> None:
            assert listening.of(timer_id) == [
                *("job.created", "run.pending", "run.executing", "run.done")
            ]

        await eventually(is_done)
    pending, executing, done = listening.heard[1:]
    for each in (pending, executing, done):
        assert each.data.keys() == {"type", "job_id", "scheduled_for", "attempt", "at"}
        assert each.data["type"] == each.kind
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each.data["at"])
        assert each.data["scheduled_for"] == pending.data["scheduled_for"]
    assert [each.data["attempt"] for each in (pending, executing, done)] == [0, 1, 1]
    assert pending.data["at"] < executing.data["at"] <= done.data["at"]
    assert done.data["scheduled_for"] <= done.data["at"]


async def test_what_fails_is_told_and_what_is_edited_cancelled_and_replayed(
    services: Services, api: httpx.AsyncClient, receiver: Receiver
) -> None:
    await services.executor()
    async with Listening(str(api.base_url)) as listening:
        await listening.placed()
        failing = {
            "seconds": 3,
            "url": receiver.url("/status/500"),
            "retry": {"max_attempts": 2, "base": 0.1},
        }
        failed_id = (await api.post("/timers", json=failing)).json()["id"]
        timer_id = (await api.post("/timers", json=TIMER)).json()["id"]
        await api.patch(f"/timers/{timer_id}", json={"seconds": 7_200})
        await api.delete(f"/timers/{timer_id}")
        await api.delete(f"/timers/{timer_id}")  # says nothing new
        twice = ["run.executing", "run.retrying", "run.executing", "run.failed"]

        def is_failed() -> None:
            assert listening.of(failed_id) == ["job.created", "run.pending", *twice]

        await eventually(is_failed)
        assert (await api.post("/dead-letters/replay", json={})).json() == {"replayed": 1}

        def is_failed_again() -> None:
            assert listening.of(failed_id)[6:] == ["run.pending", *twice]

        await eventually(is_failed_again)
    assert listening.of(timer_id) == [
        *("job.created", "run.pending", "job.changed", "run.cancelled", "job.ended")
    ]


async def test_what_an_executor_gives_back_when_it_stops_is_pending_again(
    services: Services, api: httpx.AsyncClient
) -> None:
    executor = await services.executor(CLAIM_AHEAD_SECONDS="60")
    async with Listening(str(api.base_url)) as listening:
        await listening.placed()
        timer_id = (await api.post("/timers", json={**TIMER, "seconds": 30})).json()["id"]
        await eventually(lambda: is_told(listening, timer_id, "run.executing"), within=5)
        await executor.stop()
        await eventually(lambda: is_told(listening, timer_id, "run.pending"))


def is_called(receiver: Receiver) -> None:
    assert receiver.calls


def is_told(listening: Listening, job_id: int, kind: str) -> None:
    assert listening.of(job_id)[-1:] == [kind]


async def test_what_is_rescued_is_told(
    services: Services, api: httpx.AsyncClient, receiver: Receiver
) -> None:
    killed = await services.executor()
    async with Listening(str(api.base_url)) as listening:
        await listening.placed()
        timer = {"seconds": 3, "url": receiver.url("/hang"), "timeout": 90}
        timer_id = (await api.post("/timers", json=timer)).json()["id"]
        await eventually(lambda: is_told(listening, timer_id, "run.executing"))
        await eventually(lambda: is_called(receiver))
        await killed.kill()
        await services.executor(STOP_GRACE_SECONDS="1")
        told = ["run.executing", "run.abandoned", "run.executing"]

        def is_rescued() -> None:
            assert listening.of(timer_id)[2:5] == told

        await eventually(is_rescued)


async def test_who_comes_back_to_another_handler_hears_the_rest_without_loss_or_doubles(
    services: Services, teller: Teller
) -> None:
    one, other = await services.handler(), await services.handler()
    async with Listening(one.url) as first:
        await first.placed()
        await tell(teller, 1, 2)
        teller.tell([of_job("job.changed", 1, job_id) for job_id in range(3, 2_001)])
        await first.hears(2_000)
    assert jobs(first) == list(range(1, 2_001))
    await tell(teller, 2_001)
    for place in (0, 1, 2, 700, 1_999):
        async with Listening(other.url, last_event_id=first.heard[place].id) as second:
            await second.hears(2_000 - place)
            await tell(teller, 9_000 + place)
            await eventually(lambda place=place, second=second: is_last(second, 9_000 + place))
        assert jobs(second)[: 2_000 - place] == list(range(place + 2, 2_002))
        assert len({each.id for each in second.heard}) == len(second.heard)
    query = f"?last_event_id={first.heard[-1].id}"
    async with Listening(other.url, query=query) as third:
        await third.hears(1)
        assert jobs(third)[0] == 2_001


async def test_who_has_heard_nothing_yet_can_come_back_too(
    services: Services, teller: Teller
) -> None:
    handler = await services.handler()
    async with Listening(handler.url) as first:
        await first.placed()
    await tell(teller, 1)
    async with Listening(handler.url, last_event_id=first.last_event_id) as second:
        await second.hears(1)
    assert (jobs(second), kinds(second)) == ([1], ["job.changed"])


async def test_who_comes_back_too_late_is_told_that_there_is_a_gap(
    services: Services, teller: Teller, redis_url: str
) -> None:
    handler = await services.handler()
    async with Listening(handler.url) as first:
        await first.placed()
        await tell(teller, 1, 2, 3)
        await first.hears(3)
    with redis.Redis.from_url(redis_url) as client:
        client.xtrim(STREAM, maxlen=1, approximate=False)
        async with Listening(handler.url, last_event_id=first.heard[0].id) as second:
            await second.hears(1)
            await tell(teller, 4)
            await second.hears(2)
        assert second.heard[0].kind == "gap"
        assert "GET /executions" in second.heard[0].data["detail"]
        assert jobs(second)[-1] == 4
        # Its window is over: nobody has listened for so long that nothing was told.
        client.delete(STREAM)
    await tell(teller, 5)
    async with Listening(handler.url, last_event_id=second.heard[-1].id) as third:
        await third.hears(1)
    assert kinds(third) == ["gap"]
    async with Listening(handler.url, last_event_id="99999999999999-0.1") as fourth:
        await fourth.hears(1)
    assert kinds(fourth) == ["gap"]
    async with Listening(handler.url, last_event_id=fourth.heard[0].id) as fifth:

        async def is_told() -> None:
            await tell(teller, 6)  # which may rest, as nobody listened
            assert fifth.heard

        await eventually(is_told)
    assert set(kinds(fifth)) == {"job.changed"}, "a gap is told once"


NO_PLACES = ["", "1", "1-", "-1", "1-1.", "1-1-1", "x-1", "1-1.99999999999", "9" * 20 + "-0", "١-1"]


async def test_what_is_no_id_of_an_event_is_refused(api: httpx.AsyncClient) -> None:
    for place in NO_PLACES:
        by_header = await api.get("/events", headers={"last-event-id": place.encode()})
        by_query = await api.get("/events", params={"last_event_id": place})
        for refused, pointer in ((by_header, "last-event-id"), (by_query, "last_event_id")):
            assert refused.status_code == 422, place
            assert refused.json()["errors"][0]["pointer"] == pointer


async def test_a_filter_that_means_nothing_is_refused(api: httpx.AsyncClient) -> None:
    for query in ("type=run", "job_id=0", "job_id=x", "what=1"):
        refused = await api.get(f"/events?{query}")
        assert refused.status_code == 422, query
        assert refused.json()["errors"][0]["pointer"] in {query.partition("=")[0], "0"}


async def test_nobody_hears_of_what_is_another_s_or_was_not_asked_for(
    services: Services, teller: Teller
) -> None:
    handler = await services.handler()
    query = "?type=job.created&type=job.paused&job_id=7"
    async with Listening(handler.url) as all_of_it, Listening(handler.url, query=query) as part:
        await all_of_it.placed()
        await part.placed()
        teller.tell(
            [
                of_job("job.created", 2, 7),
                of_job("job.created", 1, 7),
                of_job("job.changed", 1, 7),
                of_job("job.created", 1, 8),
                of_job("job.paused", 1, 7),
            ]
        )
        await all_of_it.hears(4)
        await part.hears(2)
    assert [each.brief for each in all_of_it.heard] == [
        *(("job.created", 7), ("job.changed", 7), ("job.created", 8), ("job.paused", 7))
    ]
    assert [each.brief for each in part.heard] == [("job.created", 7), ("job.paused", 7)]
    async with Listening(handler.url, last_event_id=all_of_it.heard[0].id, query=query) as back:
        await back.hears(1)
    assert [each.brief for each in back.heard] == [("job.paused", 7)]


async def test_nothing_is_written_while_nobody_listens(
    services: Services, api: httpx.AsyncClient, receiver: Receiver, redis_url: str
) -> None:
    await services.executor()
    await api.post("/timers", json={"seconds": 1, "url": receiver.url("/hook")})
    await eventually(lambda: is_called(receiver))
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("onthedot:events*") == []
        async with Listening(str(api.base_url)) as listening:
            await listening.placed()
            await api.post("/timers", json=TIMER)
            assert client.exists(STREAM)
        assert 0 < client.ttl(STREAM) <= 600


async def test_no_more_listen_than_the_setting_allows(services: Services) -> None:
    handler = await services.handler(EVENTS_LISTENERS_MAX="2")
    async with httpx.AsyncClient(base_url=handler.url) as http, Listening(handler.url) as one:
        async with Listening(handler.url) as other:
            await one.placed()
            await other.placed()
            refused = await http.get("/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
            assert refused.json()["code"] == "too_many_listeners"
        await eventually(lambda: listeners_are(http, 1))
        async with Listening(handler.url) as third:
            await third.placed()
        await eventually(lambda: listeners_are(http, 1))
        head = await http.head("/events")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"].startswith("text/event-stream")
        await eventually(lambda: listeners_are(http, 1))


async def listeners_are(http: httpx.AsyncClient, count: int) -> None:
    metrics = (await http.get("/metrics")).text
    assert f"\nonthedot_events_listeners {float(count)}\n" in metrics


async def test_a_handler_that_stops_ends_its_streams_and_who_hangs_up_is_forgotten(
    services: Services,
) -> None:
    handler = await services.handler()
    async with (
        httpx.AsyncClient(base_url=handler.url) as http,
        Listening(handler.url) as one,
        Listening(handler.url) as other,
    ):
        await one.placed()
        await other.placed()
        await listeners_are(http, 2)
        await other.stop()
        await eventually(lambda: listeners_are(http, 1))
        began = monotonic()
        assert await handler.stop() == 0
        assert monotonic() - began < 5
        await eventually(lambda: has_ended(one))


def has_ended(listening: Listening) -> None:
    assert listening.has_ended


async def test_a_listener_that_does_not_read_is_cut_off_and_keeps_up_nobody(
    services: Services, teller: Teller
) -> None:
    handler = await services.handler()
    async with (
        httpx.AsyncClient(base_url=handler.url) as http,
        Listening(handler.url) as quick,
    ):
        await quick.placed()
        silent = socket.socket()
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        silent.connect(("127.0.0.1", handler.port))
        silent.sendall(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n")
        await eventually(lambda: listeners_are(http, 2))
        for times in range(1, 31):  # 60,000 events are 8 MB, more than the sockets hold
            teller.tell([of_job("job.changed", 1, job_id) for job_id in range(2_000)])
            await quick.hears(2_000 * times)
        await eventually(lambda: listeners_are(http, 1))
        assert jobs(quick) == list(range(2_000)) * 30
        silent.close()


async def test_a_slow_listener_reads_all_of_it_at_its_own_pace(
    services: Services, teller: Teller
) -> None:
    handler = await services.handler()
    reader, writer = await asyncio.open_connection("127.0.0.1", handler.port, limit=1_024)
    writer.write(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"\nid: ")  # no header is meant
    for _ in range(10):
        teller.tell([of_job("job.changed", 1, job_id) for job_id in range(2_000)])
        await written(teller)
    found: list[int] = []
    while len(found) < 20_000:
        async with asyncio.timeout(30):
            line = await reader.readuntil(b"\n")
        assert b"gap" not in line
        found += [int(number) for number in re.findall(rb'"job_id":(\d+)', line)]
    assert found == list(range(2_000)) * 10
    writer.close()
    await writer.wait_closed()


async def test_a_redis_that_dies_and_comes_back_costs_a_gap_and_no_stream(
    services: Services, tmp_path: Path
) -> None:
    server = Valkey(tmp_path / "redis", durable=False)
    server.start()
    handler = await services.handler(REDIS_URL=server.url)
    client = events.connect(server.url)
    teller = Teller(client)
    try:
        async with Listening(handler.url) as listening:
            await listening.placed()
            await tell(teller, 1)
            await listening.hears(1)
            server.stop()
            teller.tell([of_job("job.changed", 1, 2)])
            async with Listening(handler.url) as newcomer:  # it is served all the same
                server.start()
                await newcomer.placed()

                async def is_told() -> None:
                    await tell(teller, 3)
                    assert 3 in jobs(listening)
                    assert 3 in jobs(newcomer)

                await eventually(is_told)
            assert kinds(listening)[:2] == ["job.changed", "gap"]
            assert 2 not in jobs(listening)
            assert not listening.has_ended
    finally:
        await teller.close()
        await client.aclose()
        server.stop()


async def test_what_is_done_to_a_job_is_told(
    services: Services, api: httpx.AsyncClient, receiver: Receiver
) -> None:
    await services.executor()
    async with Listening(str(api.base_url)) as listening:
        await listening.placed()
        job = {"every": 3_600, "url": receiver.url("/hook")}
        job_id = (await api.post("/jobs", json=job)).json()["id"]
        await api.patch(f"/jobs/{job_id}", json={"timeout": 3})
        for verb in ("pause", "pause", "resume", "resume", "trigger"):
            assert (await api.post(f"/jobs/{job_id}/{verb}")).status_code in {200, 201}
        done = ["run.executing", "run.done"]

        def is_called() -> None:
            assert [kind for kind in listening.of(job_id) if kind in done] == done

        await eventually(is_called)
        await api.delete(f"/jobs/{job_id}")
        await eventually(lambda: is_told(listening, job_id, "job.ended"))
    told = [kind for kind in listening.of(job_id) if kind not in done]
    assert told == [
        *("job.created", "run.pending", "job.changed", "job.paused", "job.resumed"),
        *("run.pending", "run.cancelled", "job.ended"),
    ]


async def test_what_is_done_to_a_schedule_is_told(api: httpx.AsyncClient) -> None:
    words = {"payload": "x", "recurring": "daily", "url": "https://example.com/hook"}
    async with Listening(str(api.base_url)) as listening:
        await listening.placed()
        minute = int(time() // 60) + 10
        made = (await api.post("/schedules", json={**words, "minute": minute})).json()
        path = f"/schedules/{made['jobId']}"
        put = await api.put(path, json={**words, "minute": minute + 1, "immediate": True})
        assert put.status_code == 200, put.text
        assert (await api.delete(path)).status_code == 200
        job_id = int(made["jobId"])
        await eventually(lambda: is_told(listening, job_id, "job.ended"))
    assert listening.of(job_id) == [
        *("job.created", "run.pending", "job.changed", "run.pending"),
        *("run.cancelled", "run.cancelled", "job.ended"),
    ]
