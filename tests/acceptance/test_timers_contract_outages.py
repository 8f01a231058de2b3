"""What `/timers` answers while something behind it is broken: 503 or a slower yes, no false yes."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import psycopg
import pytest

from tests.conftest import url_of
from tests.eventually import eventually
from tests.processes import Service, Services, free_port
from tests.receiver import Receiver
from tests.servers import Servers

URL = "https://example.com/hook"
SECRET = "hunter2"
FINE = {"hours": 1, "url": URL}


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A session of our own in the handler's database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@asynccontextmanager
async def client_of(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=service.url, timeout=30, limits=limits) as http:
        yield http


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["code"] == "unavailable"
    assert answer.json()["type"] == "urn:onthedot:problem:unavailable"


def stored(database: psycopg.Connection[Any], url: str = "%") -> int:
    """How many timers there are; each with its run, or something is half-written."""
    row = database.execute(
        "select count(*), count(job_id) from jobs left join schedules on job_id = jobs.id "
        "where url like %s",
        (url,),
    ).fetchone()
    assert row is not None
    assert row[0] == row[1]
    return int(row[0])


def break_connections(database: psycopg.Connection[Any]) -> int:
    """End every other session in this database; answer how many there were."""
    cursor = database.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )
    return cursor.rowcount


def waiting_for_a_lock(database: psycopg.Connection[Any], sessions: int) -> None:
    row = database.execute(
        "select count(*) from pg_stat_activity "
        "where datname = current_database() and wait_event_type = 'Lock'"
    ).fetchone()
    assert row is not None
    assert row[0] >= sessions


@contextmanager
def frozen(database_url: str) -> Iterator[None]:
    """Nobody can write to `jobs` for as long."""
    with psycopg.connect(database_url) as connection:
        connection.execute("lock table jobs in exclusive mode")
        yield


async def every_request(http: httpx.AsyncClient, timer_id: int) -> dict[str, httpx.Response]:
    """One of each kind, all at once."""
    asked = {
        "create": http.post("/timers", json=FINE),
        "batch": http.post("/timers/batch", json={"timers": [FINE]}),
        "read": http.get(f"/timers/{timer_id}"),
        "list": http.get("/timers"),
        "delete": http.delete(f"/timers/{timer_id}"),
    }
    return dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))


async def create(http: httpx.AsyncClient, **timer: object) -> int:
    answer = await http.post("/timers", json={**FINE, **timer})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def works_again(http: httpx.AsyncClient) -> None:
    answers = await every_request(http, 1)
    assert {answer.status_code for answer in answers.values()} <= {200, 201, 204, 404}, answers


async def test_broken_connections_under_load_lose_nothing_that_was_confirmed(
    api: httpx.AsyncClient, database: psycopg.Connection[Any]
) -> None:
    async def one(number: int) -> httpx.Response:
        return await api.post("/timers", json={**FINE, "url": f"{URL}?{number}"})

    answers: list[httpx.Response] = []
    broken = 0
    for start in range(0, 400, 100):
        creating = [asyncio.create_task(one(number)) for number in range(start, start + 100)]
        await asyncio.sleep(0)
        broken += await asyncio.to_thread(break_connections, database)
        answers += await asyncio.gather(*creating)
    assert broken >= 4

    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() <= {201, 503}
    assert statuses[201] > 0
    for answer in answers:
        if answer.status_code == 503:
            assert_unavailable(answer)
    confirmed = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    assert len(set(confirmed)) == len(confirmed)
    found = database.execute("select count(*) from jobs where id = any(%s)", (confirmed,))
    assert found.fetchone() == (len(confirmed),)
    assert len(confirmed) <= stored(database) <= 400
    await eventually(lambda: works_again(api))


async def test_a_database_that_takes_no_writes_is_told_by_503(
    api: httpx.AsyncClient, database: psycopg.Connection[Any]
) -> None:
    timer_id = await create(api)
    name = database.info.dbname
    database.execute(f"alter database {name} set default_transaction_read_only = on".encode())
    break_connections(database)
    await eventually(lambda: reads(api, timer_id))

    answers = await every_request(api, timer_id)
    for kind in ("create", "batch", "delete"):
        assert_unavailable(answers[kind])
    assert answers["read"].status_code == answers["list"].status_code == 200
    assert stored(database) == 1

    database.execute(f"alter database {name} reset default_transaction_read_only".encode())
    break_connections(database)
    await eventually(lambda: works_again(api))


async def reads(http: httpx.AsyncClient, timer_id: int) -> None:
    assert (await http.get(f"/timers/{timer_id}")).status_code == 200


async def test_a_database_that_takes_no_connections_is_told_by_503(
    api: httpx.AsyncClient, database: psycopg.Connection[Any], running_servers: Servers
) -> None:
    timer_id = await create(api)
    name = database.info.dbname
    with psycopg.connect(running_servers.database_url, autocommit=True) as server:
        server.execute(f"alter database {name} allow_connections false".encode())
        break_connections(database)
        answers = await asyncio.gather(
            *(every_request(api, timer_id) for _ in range(2)), api.get("/readyz")
        )
        for answer in [*answers[0].values(), *answers[1].values()]:
            assert_unavailable(answer)
        assert answers[2].status_code == 503
        assert (await api.get("/healthz")).status_code == 200
        assert stored(database) == 1
        server.execute(f"alter database {name} allow_connections true".encode())
    await eventually(lambda: works_again(api))


async def test_a_handler_starts_without_its_database_and_serves_once_it_is_there(
    services: Services, template: str, running_servers: Servers
) -> None:
    name = f"{template}_later"
    url = url_of(running_servers.database_url, name)
    handler = await services.handler(until_ready=False, DATABASE_URL=url)
    with psycopg.connect(running_servers.database_url, autocommit=True) as server:
        async with client_of(handler) as http:
            await eventually(lambda: alive(http))
            for answer in (await every_request(http, 1)).values():
                assert_unavailable(answer)
            server.execute(f"create database {name} template {template}".encode())
            await eventually(lambda: works_again(http))
        await handler.stop()
        server.execute(f"drop database {name} with (force)".encode())


async def alive(http: httpx.AsyncClient) -> None:
    try:
        assert (await http.get("/healthz")).status_code == 200
    except httpx.TransportError as error:
        raise AssertionError(str(error)) from None


async def test_a_database_that_is_not_migrated_is_told_by_503(
    api: httpx.AsyncClient, database: psycopg.Connection[Any]
) -> None:
    timer_id = await create(api)
    database.execute("alter table jobs rename to jobs_of_another_version")
    for answer in (await every_request(api, timer_id)).values():
        assert_unavailable(answer)
    database.execute("alter table jobs_of_another_version rename to jobs")
    await works_again(api)


async def test_a_database_that_stands_still_is_told_by_503_in_time(
    services: Services, database: psycopg.Connection[Any], database_url: str
) -> None:
    handler = await services.handler(CREATE_WAIT_SECONDS="1.5")
    async with client_of(handler) as http:
        timer_id = await create(http)
        with frozen(database_url):
            under_way = []
            for sessions in (1, 2):
                timer = {**FINE, "url": f"{URL}?under-way"}
                under_way.append(asyncio.create_task(http.post("/timers", json=timer)))
                await eventually(lambda n=sessions: waiting_for_a_lock(database, n))
            loop = asyncio.get_running_loop()
            began = loop.time()
            queued = await asyncio.gather(
                *(http.post("/timers", json={**FINE, "url": f"{URL}?queued"}) for _ in range(50)),
                http.post("/timers/batch", json={"timers": [FINE, FINE]}),
            )
            assert 1 < loop.time() - began < 8
            for answer in [*queued, *await asyncio.gather(*under_way)]:
                assert_unavailable(answer)
            assert (await http.get(f"/timers/{timer_id}")).status_code == 200
        await works_again(http)
        # What had not begun to be written when its caller was told is never written.
        assert stored(database, "%queued") == 0
        assert stored(database, "%under-way") <= 2


async def test_too_many_waiting_creates_are_turned_away_at_once(
    services: Services, database: psycopg.Connection[Any], database_url: str
) -> None:
    handler = await services.handler(CREATES_WAITING_MAX="5", CREATE_WAIT_SECONDS="20")
    async with client_of(handler) as http:
        with frozen(database_url):
            # Two are being written, each alone in its group; five may wait behind them.
            creating = []
            for sessions in (1, 2):
                creating.append(asyncio.create_task(http.post("/timers", json=FINE)))
                await eventually(lambda n=sessions: waiting_for_a_lock(database, n))
            creating += [asyncio.create_task(http.post("/timers", json=FINE)) for _ in range(20)]
            await eventually(lambda: ended(creating, 15))
            for task in creating:
                if task.done():
                    assert_unavailable(task.result())
        answers = await asyncio.gather(*creating)
        assert Counter(answer.status_code for answer in answers) == {201: 7, 503: 15}
        assert stored(database) == 7


def ended(tasks: list[asyncio.Task[httpx.Response]], count: int) -> None:
    assert sum(task.done() for task in tasks) >= count


@pytest.fixture
def poison(database: psycopg.Connection[Any]) -> dict[str, object]:
    """A timer that the handler takes and Postgres refuses."""
    database.execute("alter table jobs add constraint jobs_no_poison check (method <> 'PATCH')")
    return {
        "hours": 1,
        "method": "PATCH",
        "url": f"{URL}?token={SECRET}",
        "headers": {"authorization": f"Bearer {SECRET}"},
        "payload": {"password": SECRET},
    }


def assert_failed(answer: httpx.Response) -> None:
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:onthedot:problem:internal",
        "title": "Something went wrong on our side",
        "status": 500,
        "detail": "This was not your fault. The failure is in our log.",
        "code": "internal",
    }


async def test_a_row_that_postgres_refuses_does_not_fail_those_it_came_with(
    services: Services,
    database: psycopg.Connection[Any],
    database_url: str,
    poison: dict[str, object],
) -> None:
    handler = await services.handler(CREATE_WAIT_SECONDS="20")
    async with client_of(handler) as http:
        with frozen(database_url):
            # While two writes hang on the lock, all others gather into one group.
            first = []
            for sessions in (1, 2):
                first.append(asyncio.create_task(http.post("/timers", json=FINE)))
                await eventually(lambda n=sessions: waiting_for_a_lock(database, n))
            timers = [FINE] * 20 + [poison] + [FINE] * 20 + [poison] + [FINE] * 20
            creating = [asyncio.create_task(http.post("/timers", json=timer)) for timer in timers]
            # By the time of an answer to something else most of them have come.
            assert (await http.get("/healthz")).status_code == 200
        answers = await asyncio.gather(*creating)
        for answer, timer in zip(answers, timers, strict=True):
            if timer is poison:
                assert_failed(answer)
            else:
                assert answer.status_code == 201, answer.text
        assert {answer.status_code for answer in await asyncio.gather(*first)} == {201}
        assert stored(database) == 62
        ids = [answer.json()["id"] for answer in answers if answer.status_code == 201]
        assert len(set(ids)) == 60


async def test_a_batch_with_a_row_that_postgres_refuses_creates_nothing(
    api: httpx.AsyncClient, database: psycopg.Connection[Any], poison: dict[str, object]
) -> None:
    assert_failed(await api.post("/timers/batch", json={"timers": [FINE, poison, FINE]}))
    assert stored(database) == 0
    await works_again(api)


async def test_a_failure_is_logged_once_without_what_was_in_the_request(
    services: Services, database: psycopg.Connection[Any], poison: dict[str, object]
) -> None:
    handler = await services.handler()
    async with client_of(handler) as http:
        assert_failed(await http.post("/timers", json=poison))
        assert_failed(await http.post("/timers/batch", json={"timers": [poison]}))
        break_connections(database)
        await asyncio.gather(*(http.post("/timers", json=poison) for _ in range(5)))
    log = handler.log.read_text()
    events = [json.loads(line) for line in log.splitlines()]
    failures = [event for event in events if event["event"] == "request.failed"]
    assert {event["constraint"] for event in failures} == {"jobs_no_poison"}
    assert {event["error"] for event in failures} == {"CheckViolation"}
    assert 2 <= len(failures) <= 7
    assert SECRET not in log


async def test_no_password_reaches_the_log(services: Services, database_url: str) -> None:
    """Not even when a server refuses us, or cannot be reached."""
    password = f"{SECRET}-of-the-database"
    given = psycopg.conninfo.conninfo_to_dict(database_url)
    address = f"{given['host']}:{given['port']}/{given['dbname']}"
    refused = f"postgresql://nobody:{password}@{address}"
    unreachable = f"postgresql://nobody:{password}@127.0.0.1:{free_port()}/nowhere"

    async def start_without_a_database(url: str) -> None:
        handler = await services.handler(
            until_ready=False,
            DATABASE_URL=url,
            REDIS_URL=f"redis://:{password}@127.0.0.1:{free_port()}/0",
            LOG_LEVEL="debug",
        )
        async with client_of(handler) as http:
            await eventually(lambda: alive(http))
            answers = await asyncio.gather(
                http.post("/timers", json=FINE), http.get("/timers"), http.get("/readyz")
            )
            assert {answer.status_code for answer in answers} == {503}
        await handler.stop()
        assert handler.log.read_text()
        assert password not in handler.log.read_text()

    await asyncio.gather(*map(start_without_a_database, (refused, unreachable)))


async def test_clients_that_vanish_leave_the_others_alone(
    services: Services, database: psycopg.Connection[Any], database_url: str
) -> None:
    handler = await services.handler(CREATE_WAIT_SECONDS="20")
    body = json.dumps({**FINE, "url": f"{URL}?vanished"}).encode()
    head = b"POST /timers HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    whole = head + b"content-length: %d\r\n\r\n" % len(body) + body
    async with client_of(handler) as http:
        with frozen(database_url):
            vanishing = []
            for sent in [whole, whole[:-5], whole[:30]] * 20:
                _, writer = await asyncio.open_connection("127.0.0.1", handler.port)
                writer.write(sent)
                await writer.drain()
                vanishing.append(writer)
            staying = [asyncio.create_task(http.post("/timers", json=FINE)) for _ in range(20)]
            await eventually(lambda: waiting_for_a_lock(database, 1))
            for writer in vanishing:
                writer.transport.abort()
        answers = await asyncio.gather(*staying)
        assert {answer.status_code for answer in answers} == {201}
        assert stored(database, URL) == 20
        assert stored(database, "%vanished") <= 20
        await works_again(http)


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
async def test_without_redis_creates_are_as_good_as_ever(
    services: Services, database: psycopg.Connection[Any], *, silent: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1_024) as nobody:
        port = nobody.getsockname()[1] if silent else free_port()
        await creates_at_speed(services, database, f"redis://127.0.0.1:{port}/0")


async def creates_at_speed(
    services: Services, database: psycopg.Connection[Any], redis_url: str
) -> None:
    handler = await services.handler(REDIS_URL=redis_url)
    async with client_of(handler) as http:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(50):
            await create(http, hours=0, seconds=1)
        batch = {"timers": [{"seconds": 1, "url": URL}] * 10}
        for _ in range(10):
            assert (await http.post("/timers/batch", json=batch)).status_code == 201
        assert loop.time() - began < 8, "one silence of Redis for each create"
        assert stored(database) == 150

        ready = await http.get("/readyz", timeout=5)
        assert ready.status_code == 200
        assert ready.json() == {"status": "ready", "postgres": "ok", "redis": "unreachable"}
    await handler.stop()


async def test_every_character_of_a_payload_arrives(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    payload = {"nul": "\x00", "\x00": "".join(map(chr, range(0xD800))), "high": "\U0010ffff\ue000"}
    text = {"content-type": "text/plain; charset=utf-8"}
    await create(api, hours=0, seconds=1, url=receiver.url("/json"), payload=payload)
    await create(api, hours=0, seconds=1, url=receiver.url("/null"), payload=None)
    await create(
        api, hours=0, seconds=1, url=receiver.url("/text"), payload="a\x00b☃", headers=text
    )
    await create(
        api,
        hours=0,
        seconds=1,
        url=receiver.url("/é☃?q=ü#fragment"),
        timeout=0.5,
        headers={"x-tabs": "a\tb", "x-braces": "{message}"},
    )
    await eventually(lambda: arrived(receiver, 4))
    by_path = {call.path: call for call in receiver.calls}
    assert json.loads(by_path["/json"].body) == payload
    assert by_path["/null"].body == b"null"
    assert by_path["/text"].body == "a\x00b☃".encode()
    encoded = by_path["/%C3%A9%E2%98%83?q=%C3%BC"]
    assert encoded.headers["x-tabs"] == "a\tb"
    assert encoded.headers["x-braces"] == "{message}"


def arrived(receiver: Receiver, calls: int) -> None:
    assert len(receiver.calls) >= calls
