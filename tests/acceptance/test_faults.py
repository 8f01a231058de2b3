"""Things break for real: processes are killed and stopped, servers die and come back."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import psycopg
import pytest
import redis.asyncio

from local_stack.postgres import Postgres
from local_stack.valkey import Valkey
from migrations.__main__ import migrate
from shared import wakeup
from tests.eventually import eventually
from tests.processes import Services
from tests.receiver import Receiver

# A short lease makes a rescue quick; the proportions are those of the defaults.
QUICK = {
    "POLL_SECONDS": "0.5",
    "CLAIM_AHEAD_SECONDS": "0.6",
    "LEASE_SECONDS": "2",
    "LEASE_MARGIN_SECONDS": "0.3",
}


@pytest.fixture
async def own_servers(tmp_path: Path) -> AsyncIterator[tuple[Postgres, Valkey]]:
    """A Postgres and a Redis that a test may kill."""
    postgres = Postgres(tmp_path / "postgres")
    valkey = Valkey(tmp_path / "redis", durable=False)
    await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(valkey.start))
    await asyncio.to_thread(migrate, postgres.url)
    yield postgres, valkey
    await asyncio.gather(asyncio.to_thread(postgres.stop), asyncio.to_thread(valkey.stop))


@pytest.fixture
async def own_services(
    own_servers: tuple[Postgres, Valkey], tmp_path: Path
) -> AsyncIterator[Services]:
    postgres, valkey = own_servers
    services = Services(postgres.url, valkey.url, tmp_path)
    yield services
    await services.stop()


async def create(http: httpx.AsyncClient, url: str, *, count: int, seconds: int) -> list[int]:
    batch = {"timers": [{"seconds": seconds, "url": url}] * count}
    answer = await http.post("/timers/batch", json=batch)
    assert answer.status_code == 201, answer.text
    return [timer["id"] for timer in answer.json()["data"]]


async def history(url: str) -> list[dict[str, Any]]:
    connection = await psycopg.AsyncConnection.connect(url, row_factory=psycopg.rows.dict_row)
    async with connection:
        cursor = await connection.execute("select * from executions order by job_id, attempt")
        return await cursor.fetchall()


async def outstanding(url: str) -> int:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("select count(*) from schedules")
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


def arrived(receiver: Receiver, ids: list[int]) -> None:
    missing = set(ids) - {call.job_id for call in receiver.calls}
    assert not missing, f"{len(missing)} timers have not arrived"


async def all_recorded(url: str) -> None:
    assert await outstanding(url) == 0


def assert_once_each(receiver: Receiver, ids: list[int]) -> None:
    assert Counter(call.job_id for call in receiver.calls) == Counter(ids)
    assert not [call for call in receiver.calls if call.arrived_at < call.planned_at]


async def test_what_became_overdue_while_no_executor_ran_fires_once_at_the_start(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    first = await services.executor(**QUICK)
    await first.kill()
    ids = await create(api, receiver.url(), count=300, seconds=1)
    await eventually(lambda: all_due(services))
    assert receiver.calls == []

    await services.executor(**QUICK)
    await eventually(lambda: arrived(receiver, ids))
    await eventually(lambda: all_recorded(services.environment["DATABASE_URL"]))
    assert_once_each(receiver, ids)


async def all_due(services: Services) -> None:
    url = services.environment["DATABASE_URL"]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("select count(*) from schedules where due_at > now()")
        row = await cursor.fetchone()
        assert row is not None
        assert row[0] == 0


async def test_what_a_killed_executor_held_is_rescued_by_the_others(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    victim, *_ = await services.executors(3, **QUICK)
    ids = await create(api, receiver.url("/slow/0.05"), count=900, seconds=2)
    await eventually(lambda: began(receiver, 50))
    await victim.kill()

    await eventually(lambda: arrived(receiver, ids))
    await eventually(lambda: all_recorded(services.environment["DATABASE_URL"]))
    rows = await history(services.environment["DATABASE_URL"])
    abandoned = {row["job_id"] for row in rows if row["state"] == "abandoned"}
    twice = {call.job_id for call in receiver.calls if len(receiver.calls_of(call.job_id)) > 1}
    assert twice <= abandoned, "only what was in flight at the kill may come twice"
    assert [row["job_id"] for row in rows if row["state"] == "done"] == sorted(ids)
    for job_id in twice:
        assert len({call.webhook_id for call in receiver.calls_of(job_id)}) == 1


async def test_a_single_attempt_that_a_killed_executor_held_is_made_all_the_same(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    """Whether it was sent nobody knows: at least once owes it one more."""
    victim = await services.executor(**QUICK | {"CLAIM_AHEAD_SECONDS": "1.5"})
    timer = {"seconds": 2, "url": receiver.url(), "retry": "none"}
    answer = await api.post("/timers/batch", json={"timers": [timer] * 20})
    ids = [timer["id"] for timer in answer.json()["data"]]
    await eventually(lambda: all_claimed(services), every=0.01)
    await victim.kill()
    assert receiver.calls == []
    await services.executor(**QUICK)
    await eventually(lambda: arrived(receiver, ids))
    url = services.environment["DATABASE_URL"]
    await eventually(lambda: all_recorded(url))
    assert_once_each(receiver, ids)
    states = [(row["state"], row["attempt"]) for row in await history(url)]
    assert Counter(states) == {("abandoned", 1): 20, ("done", 2): 20}


def began(receiver: Receiver, calls: int) -> None:
    assert len(receiver.calls) >= calls


async def test_a_single_executor_killed_and_restarted_loses_nothing(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    executor = await services.executor(**QUICK)
    ids = await create(api, receiver.url("/slow/0.05"), count=400, seconds=1)
    await eventually(lambda: began(receiver, 100))
    await executor.kill()
    await services.executor(**QUICK)
    await eventually(lambda: arrived(receiver, ids))
    await eventually(lambda: all_recorded(services.environment["DATABASE_URL"]))


async def test_a_stalled_executor_sends_nothing_that_it_no_longer_owns(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    stalled = await services.executor(**QUICK)
    ids = await create(api, receiver.url(), count=100, seconds=2)
    await eventually(lambda: all_claimed(services))
    stalled.send(signal.SIGSTOP)
    await services.executor(**QUICK)
    await eventually(lambda: arrived(receiver, ids))
    await eventually(lambda: all_recorded(services.environment["DATABASE_URL"]))

    stalled.send(signal.SIGCONT)
    await eventually(lambda: says(stalled.log, "lease.lost"))
    witness = await create(api, receiver.url(), count=1, seconds=1)
    await eventually(lambda: arrived(receiver, witness))
    assert_once_each(receiver, ids + witness)


async def test_what_waited_in_line_while_the_lease_was_lost_is_not_sent_under_the_new_one(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    """The executor is itself again, under another id, when the line moves on."""
    stalled = await services.executor(**QUICK, IN_FLIGHT_PER_DESTINATION_MAX="1")
    [slow] = await create(api, receiver.url("/slow/8"), count=1, seconds=1)
    await eventually(lambda: began(receiver, 1))
    waiting = await create(api, receiver.url(), count=20, seconds=1)
    await eventually(lambda: all_claimed(services))
    stalled.send(signal.SIGSTOP)
    await services.executor(**QUICK)
    await eventually(lambda: arrived(receiver, waiting))
    stalled.send(signal.SIGCONT)
    await eventually(lambda: says(stalled.log, "lease.lost"))
    await eventually(lambda: all_recorded(services.environment["DATABASE_URL"]))
    assert await stalled.stop() == 0
    expected = Counter(waiting) + Counter({slow: 2})  # in flight when the lease was lost
    assert Counter(call.job_id for call in receiver.calls) == expected


async def all_claimed(services: Services) -> None:
    url = services.environment["DATABASE_URL"]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("select distinct state from schedules")
        assert await cursor.fetchall() == [("executing",)]


def says(log: Path, word: str) -> None:
    assert word in log.read_text()


async def test_sigterm_under_load_hands_over_and_doubles_nothing(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    first, _second = await services.executors(2)
    ids = []
    for seconds in (1, 2, 3):
        ids += await create(api, receiver.url("/slow/0.02"), count=700, seconds=seconds)
    await eventually(lambda: began(receiver, 200))
    assert await first.stop() == 0

    await eventually(lambda: arrived(receiver, ids))
    await eventually(lambda: all_recorded(services.environment["DATABASE_URL"]))
    assert_once_each(receiver, ids)
    assert "executor.stopped" in first.log.read_text()


async def test_what_was_answered_before_a_stop_in_an_outage_is_recorded_after_it(
    own_servers: tuple[Postgres, Valkey], own_services: Services, receiver: Receiver
) -> None:
    """Who stops waits for Postgres as long as its lease and its grace: else all is sent again."""
    postgres, _ = own_servers
    handler = await own_services.handler()
    executor = await own_services.executor(**QUICK)
    async with httpx.AsyncClient(base_url=handler.url) as http:
        ids = await create(http, receiver.url("/slow/1"), count=20, seconds=1)
    await eventually(lambda: began(receiver, 20))
    await asyncio.to_thread(postgres.kill)
    await eventually(lambda: says(executor.log, "record.postponed"))
    await eventually(lambda: nothing_in_flight(receiver))
    stopping = asyncio.create_task(executor.stop())
    await eventually(lambda: says(executor.log, "executor.draining"))
    drains_since = monotonic()
    await eventually(lambda: has_lasted(drains_since, seconds=4))  # the lease is 2 s
    await asyncio.to_thread(postgres.start)
    assert await stopping == 0
    await all_recorded(postgres.url)
    assert [row["state"] for row in await history(postgres.url)] == ["done"] * 20
    assert_once_each(receiver, ids)


def nothing_in_flight(receiver: Receiver) -> None:
    assert receiver.in_flight == 0


def has_lasted(since: float, *, seconds: float) -> None:
    assert monotonic() - since >= seconds


async def test_an_executor_that_stops_gives_back_at_once_what_it_has_not_sent(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    executor = await services.executor(CLAIM_AHEAD_SECONDS="60")
    await create(api, receiver.url(), count=100, seconds=50)
    await eventually(lambda: all_claimed(services))
    assert await executor.stop() == 0
    url = services.environment["DATABASE_URL"]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("select state, count(*) from schedules group by 1")
        assert await cursor.fetchall() == [("pending", 100)]
        cursor = await connection.execute("select id from executors")
        assert await cursor.fetchall() == []
    assert receiver.calls == []


async def test_an_executor_stops_soon_in_a_storm_of_wake_ups(services: Services) -> None:
    """A claim that is under way loses a cancellation now and then; stopping must not hang on it."""
    executors = await services.executors(3)
    client = wakeup.connect(services.environment["REDIS_URL"])
    over = asyncio.Event()  # and no cancellation, which the client may lose (bpo-37658)
    storm = asyncio.create_task(storm_of_wake_ups(client, over))
    await eventually(lambda: polled(executors[0].url, 50))
    codes = await asyncio.gather(*(executor.stop() for executor in executors))
    over.set()
    await storm
    await client.aclose()
    assert codes == [0, 0, 0]


async def storm_of_wake_ups(client: redis.asyncio.Redis, over: asyncio.Event) -> None:
    while not over.is_set():
        await wakeup.publish(client, due_in_seconds=0)
        await asyncio.sleep(0.001)


async def polled(url: str, times: int) -> None:
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{url}/metrics")).text
    [count] = [
        line for line in text.splitlines() if line.startswith("onthedot_claim_seconds_count")
    ]
    assert float(count.split()[1]) >= times


async def test_without_redis_timers_are_created_and_arrive_at_most_a_poll_late(
    own_servers: tuple[Postgres, Valkey], own_services: Services, receiver: Receiver
) -> None:
    postgres, valkey = own_servers
    handler = await own_services.handler()
    await own_services.executors(2)
    await asyncio.to_thread(valkey.kill)

    async with httpx.AsyncClient(base_url=handler.url, timeout=30) as http:
        ids = await create(http, receiver.url(), count=200, seconds=2)
        await eventually(lambda: arrived(receiver, ids))
        late = max(call.arrived_at - call.planned_at for call in receiver.calls)
        assert late < 1.5

        await asyncio.to_thread(valkey.start)
        ids += await create(http, receiver.url(), count=200, seconds=1)
        await eventually(lambda: arrived(receiver, ids))
    await eventually(lambda: all_recorded(postgres.url))
    assert_once_each(receiver, ids)


async def test_a_restart_of_postgres_under_load_loses_and_doubles_nothing(
    own_servers: tuple[Postgres, Valkey], own_services: Services, receiver: Receiver
) -> None:
    postgres, _ = own_servers
    handler = await own_services.handler()
    await own_services.executors(2)
    async with httpx.AsyncClient(base_url=handler.url, timeout=30) as http:
        ids = []
        for seconds in (2, 3, 4, 6):
            ids += await create(http, receiver.url("/slow/0.02"), count=250, seconds=seconds)
        await eventually(lambda: began(receiver, 100))

        await asyncio.to_thread(postgres.kill)
        refused = await http.post("/timers", json={"seconds": 1, "url": receiver.url()})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        await asyncio.to_thread(postgres.start)

        await eventually(lambda: arrived(receiver, ids))
        await eventually(lambda: all_recorded(postgres.url))

        async def created() -> list[int]:
            answer = await http.post("/timers", json={"seconds": 1, "url": receiver.url()})
            assert answer.status_code == 201
            return [answer.json()["id"]]

        ids += await eventually(created)
    await eventually(lambda: arrived(receiver, ids))
    assert_once_each(receiver, ids)
    rows = await history(postgres.url)
    assert Counter(row["job_id"] for row in rows if row["state"] == "done") == Counter(ids)
    assert min(row["lateness_ms"] for row in rows) >= 0


async def test_a_slow_receiver_delays_only_its_own(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor(IN_FLIGHT_PER_DESTINATION_MAX="50", IN_FLIGHT_MAX="100")
    async with Receiver() as slow:
        await create(api, slow.url("/hang"), count=300, seconds=1)
        ids = await create(api, receiver.url(), count=300, seconds=2)
        await eventually(lambda: arrived(receiver, ids))
        late = sorted(call.arrived_at - call.planned_at for call in receiver.calls)
        assert late[-1] < 1.0
        assert slow.in_flight == 50
    assert_once_each(receiver, ids)


async def test_handlers_and_executors_may_start_before_the_database_is_migrated(
    empty_database_url: str, redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    services = Services(empty_database_url, redis_url, tmp_path)
    executor = await services.executor(until_ready=False)
    handler = await start_unready(services)
    await eventually(lambda: says(executor.log, "lease.not_renewed"))
    async with httpx.AsyncClient(base_url=handler.url) as http:
        assert (await http.get("/readyz")).json()["postgres"] == "not migrated"
        await asyncio.to_thread(migrate, empty_database_url)
        await handler.ready()
        await executor.ready()
        ids = await create(http, receiver.url(), count=1, seconds=1)
        await eventually(lambda: arrived(receiver, ids))
    await services.stop()


async def start_unready(services: Services) -> Any:
    handler = await services.handler(until_ready=False)

    async def answers() -> None:
        async with httpx.AsyncClient(base_url=handler.url) as http:
            try:
                assert (await http.get("/healthz")).status_code == 200
            except httpx.HTTPError as error:
                raise AssertionError(str(error)) from None

    await eventually(answers)
    return handler
