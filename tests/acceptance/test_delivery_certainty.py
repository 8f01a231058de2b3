"""At most once: a request is started once or not at all, and what is not known is not guessed."""

import asyncio
import signal
from typing import Any

import httpx
import psycopg
import pytest

from local_stack.postgres import Postgres
from local_stack.valkey import Valkey
from tests.acceptance.test_faults import (
    QUICK,
    all_recorded,
    arrived,
    began,
    history,
    own_servers,
    own_services,
    says,
)
from tests.eventually import eventually
from tests.processes import Services, free_port
from tests.proxy import LosingProxy
from tests.receiver import Receiver

__all__ = ["own_servers", "own_services"]


async def create(http: httpx.AsyncClient, url: str, *, count: int = 1, **options: Any) -> list[int]:
    timer = {"seconds": 1, "url": url, "delivery": "at_most_once", **options}
    answer = await http.post("/timers/batch", json={"timers": [timer] * count})
    assert answer.status_code == 201, answer.text
    return [timer["id"] for timer in answer.json()["data"]]


async def ended(url: str, ids: list[int]) -> dict[int, tuple[str, int]]:
    """How each run ended and on which attempt, once all have."""

    async def rows() -> dict[int, tuple[str, int]]:
        found = {
            row["job_id"]: (row["state"], row["attempt"])
            for row in await history(url)
            if row["state"] not in {"retrying", "abandoned"}
        }
        assert found.keys() >= set(ids)
        return found

    return await eventually(rows)


@pytest.mark.parametrize(
    ("path", "state", "requests"),
    [
        ("/ok", "done", 1),
        ("/status/503", "failed", 1),  # an answer is no doubt, and a second request not allowed
        ("/status/404", "failed", 1),
        ("/redirect", "failed", 1),
        ("/drop", "uncertain", 1),
        ("/hang", "uncertain", 1),
    ],
)
async def test_one_request_is_made_and_its_outcome_told_as_far_as_it_is_known(
    path: str,
    state: str,
    requests: int,
    api: httpx.AsyncClient,
    services: Services,
    receiver: Receiver,
) -> None:
    await services.executor()
    retry = {"base": 0.05, "factor": 1, "max_attempts": 3}
    [job_id] = await create(api, receiver.url(path), timeout=0.5, retry=retry)
    found = await ended(services.environment["DATABASE_URL"], [job_id])
    assert found[job_id] == (state, 1)
    assert len(receiver.calls_of(job_id)) == requests


async def test_what_never_connected_was_never_sent_and_is_tried_again(
    api: httpx.AsyncClient, services: Services
) -> None:
    """And a receiver that comes up in time gets it, once."""
    await services.executor()
    gone, late = free_port(), free_port()
    retry = [0.2, 0.2]
    [lost] = await create(api, f"http://127.0.0.1:{gone}/", retry=retry)
    [unknown] = await create(api, "http://no-such-name.invalid/", retry=retry)
    [kept] = await create(api, f"http://127.0.0.1:{late}/", retry=[1, 1, 1, 1])

    async def was_tried() -> None:
        rows = await history(services.environment["DATABASE_URL"])
        assert [row for row in rows if row["job_id"] == kept]

    await eventually(was_tried)
    async with Receiver(port=late) as receiver:
        found = await ended(services.environment["DATABASE_URL"], [lost, unknown, kept])
        assert found[lost] == found[unknown] == ("failed", 3)
        assert found[kept][0] == "done"
        assert len(receiver.calls) == 1


async def test_each_request_has_a_connection_of_its_own(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    """A kept one that the receiver closes just then would leave doubt where none need be."""
    await services.executor()
    for seconds in (1, 2):
        await create(api, receiver.url(), count=10, seconds=seconds)
    await eventually(lambda: began(receiver, 20))
    assert receiver.connections == len(receiver.calls) == 20


async def test_a_run_is_marked_durably_before_its_first_byte(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    ids = await create(api, receiver.url("/slow/5"), count=20, timeout=30)
    await eventually(lambda: arrived(receiver, ids))
    url = services.environment["DATABASE_URL"]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "select job_id, extract(epoch from marked_at)::float8 from schedules"
        )
        marks = dict(await cursor.fetchall())
    for call in receiver.calls:
        assert call.job_id not in marks or marks[call.job_id] < call.arrived_at
    assert marks
    await eventually(lambda: all_recorded(url))


async def test_a_kill_leaves_doubt_about_what_was_in_flight_and_about_nothing_else(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    victim = await services.executor(**QUICK)
    flying = await create(api, receiver.url("/slow/60"), count=30, timeout=90)
    later = await create(api, receiver.url(), count=30, seconds=4)
    await eventually(lambda: arrived(receiver, flying))
    await eventually(lambda: claimed(services, later))
    await victim.kill()
    await services.executor(**QUICK)
    found = await ended(services.environment["DATABASE_URL"], flying + later)
    assert {found[job_id] for job_id in flying} == {("uncertain", 1)}
    assert {found[job_id] for job_id in later} == {("done", 1)}
    assert len(receiver.calls) == len(flying + later)


async def claimed(services: Services, ids: list[int]) -> None:
    url = services.environment["DATABASE_URL"]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "select count(*) from schedules where state = 'executing' and job_id = any(%s)", (ids,)
        )
        row = await cursor.fetchone()
    assert row is not None
    assert row[0] == len(ids)


async def test_a_stalled_executor_sends_nothing_twice_and_its_late_results_are_refused(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    # It claims early, so that it can be stopped between a claim and its instant.
    stalled = await services.executor(**QUICK | {"CLAIM_AHEAD_SECONDS": "1.5"})
    flying = await create(api, receiver.url("/slow/5"), count=30, timeout=30)
    waiting = await create(api, receiver.url(), count=30, seconds=4)
    await eventually(lambda: arrived(receiver, flying))
    await eventually(lambda: claimed(services, waiting))
    stalled.send(signal.SIGSTOP)
    await services.executor(**QUICK)
    found = await ended(services.environment["DATABASE_URL"], flying + waiting)
    stalled.send(signal.SIGCONT)
    await eventually(lambda: says(stalled.log, "lease.lost"))
    await eventually(lambda: answered(receiver))
    assert {found[job_id][0] for job_id in flying} == {"uncertain"}
    assert {found[job_id] for job_id in waiting} == {("done", 1)}
    await stalled.stop()
    assert await ended(services.environment["DATABASE_URL"], flying + waiting) == found
    assert len(receiver.calls) == len(flying + waiting)


def answered(receiver: Receiver) -> None:
    assert receiver.in_flight == 0


async def test_what_cannot_be_marked_is_not_sent_and_what_needs_no_mark_is(
    own_servers: tuple[Postgres, Valkey], own_services: Services, receiver: Receiver
) -> None:
    postgres, _ = own_servers
    handler = await own_services.handler()
    executor = await own_services.executor(LEASE_SECONDS="30", STOP_GRACE_SECONDS="5")
    async with httpx.AsyncClient(base_url=handler.url) as http:
        careful = await create(http, receiver.url("/careful"), count=10, seconds=3)
        plain = await create(
            http, receiver.url("/plain"), count=10, seconds=3, delivery="at_least_once"
        )
    await eventually(lambda: claimed(own_services, careful + plain))
    await asyncio.to_thread(postgres.kill)
    await eventually(lambda: arrived(receiver, plain))
    await eventually(lambda: says(executor.log, "mark.failed"))
    await eventually(lambda: says(executor.log, "record.postponed"))
    assert not [call for call in receiver.calls if call.path == "/careful"]
    await asyncio.to_thread(postgres.start)
    await eventually(lambda: arrived(receiver, careful), within=60)
    found = await ended(postgres.url, careful + plain)
    assert {found[job_id] for job_id in careful + plain} == {("done", 1)}
    assert len(receiver.calls) == len(careful + plain)


async def test_a_mark_whose_answer_was_lost_is_taken_back_and_the_run_is_sent_once(
    own_servers: tuple[Postgres, Valkey], own_services: Services, receiver: Receiver
) -> None:
    postgres, _ = own_servers
    handler = await own_services.handler()
    async with LosingProxy(postgres.port) as proxy:
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        executor = await own_services.executor(DATABASE_URL=url)
        async with httpx.AsyncClient(base_url=handler.url) as http:
            [job_id] = await create(http, receiver.url())
        # The answer to a mark is a row of two columns, the first of them the job.
        proxy.lose = b"\x00\x02\x00\x00\x00\x08" + job_id.to_bytes(8, "big")
        found = await ended(postgres.url, [job_id])
        assert proxy.lost == 1
        assert found[job_id] == ("done", 1)
        assert len(receiver.calls) == 1
        await executor.stop()


async def test_a_person_may_send_again_what_is_uncertain(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    [job_id] = await create(api, receiver.url("/drop"), timeout=0.5)
    found = await ended(services.environment["DATABASE_URL"], [job_id])
    assert found[job_id] == ("uncertain", 1)
    answer = await api.post("/dead-letters/replay", json={"state": "uncertain"})
    assert answer.json() == {"replayed": 1}
    await eventually(lambda: began(receiver, 2))
    first, second = receiver.calls
    assert first.webhook_id == second.webhook_id
    assert [call.headers["onthedot-attempt"] for call in (first, second)] == ["1", "2"]
