"""An `Idempotency-Key` while many ask at once, and while something breaks: one job, never two."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.acceptance.test_idempotency import (
    BATCH,
    FINE,
    ask,
    assert_first,
    assert_in_progress,
    assert_replayed,
    created_by,
)
from tests.acceptance.test_timers_contract_outages import (
    assert_unavailable,
    break_connections,
    client_of,
    frozen,
    stored,
    waiting_for_a_lock,
)
from tests.eventually import eventually
from tests.processes import Services
from tests.proxy import COMMITTED, HoldingProxy, LosingProxy, Proxy

MANY = 50


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A session of our own in the handlers' database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def pair(services: Services) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of two handlers of one database."""
    async with AsyncExitStack() as exits:
        handlers = await asyncio.gather(services.handler(), services.handler())
        yield [await exits.enter_async_context(client_of(handler)) for handler in handlers]


def kept(database: psycopg.Connection[Any]) -> int:
    row = database.execute("select count(*) from idempotency_keys").fetchone()
    assert row is not None
    return int(row[0])


def through(proxy: Proxy, database_url: str) -> str:
    """The database as it is reached by a proxy."""
    return make_conninfo(database_url, host="127.0.0.1", port=proxy.port)


def server_of(database_url: str) -> tuple[str, int]:
    given = conninfo_to_dict(database_url)
    return str(given["host"]), int(given["port"] or 5432)


def assert_one_made(answers: list[httpx.Response]) -> httpx.Response:
    """Of all who asked with one key one was first; others got its answer, or were told to wait."""
    [first] = [
        answer
        for answer in answers
        if answer.status_code == 201 and "idempotency-replayed" not in answer.headers
    ]
    for answer in answers:
        if answer.status_code == 409:
            assert_in_progress(answer)
        elif answer is not first:
            assert_replayed(answer, first)
    return first


@pytest.mark.parametrize(("path", "body"), [("/timers", FINE), ("/timers/batch", BATCH)])
async def test_of_many_at_once_on_one_handler_exactly_one_creates(
    api: httpx.AsyncClient, database: psycopg.Connection[Any], path: str, body: object
) -> None:
    for attempt in range(5):
        before = stored(database)
        answers = await asyncio.gather(
            *(ask(api, f"same-{attempt}", body, path=path) for _ in range(MANY))
        )
        first = assert_one_made(answers)
        assert_replayed(await ask(api, f"same-{attempt}", body, path=path), first)
        assert stored(database) - before == len(first.json().get("data", [first]))
    assert await created_by(api) == stored(database)


async def test_of_many_at_once_on_two_handlers_exactly_one_creates(
    pair: list[httpx.AsyncClient], database: psycopg.Connection[Any]
) -> None:
    for attempt in range(10):
        answers = await asyncio.gather(
            *(ask(pair[number % 2], f"same-{attempt}") for number in range(MANY))
        )
        first = assert_one_made(answers)
        for http in pair:
            assert_replayed(await ask(http, f"same-{attempt}"), first)
        assert stored(database) == kept(database) == attempt + 1
    assert sum([await created_by(http) for http in pair]) == 10


async def test_many_at_once_under_keys_of_their_own_are_all_made(
    pair: list[httpx.AsyncClient], database: psycopg.Connection[Any]
) -> None:
    answers = await asyncio.gather(*(ask(pair[n % 2], f"own-{n}") for n in range(200)))
    assert Counter(answer.status_code for answer in answers) == {201: 200}
    assert len({assert_first(answer).json()["id"] for answer in answers}) == 200
    assert stored(database) == kept(database) == 200


async def test_a_request_whose_first_is_in_progress_is_told_to_wait(
    pair: list[httpx.AsyncClient], database: psycopg.Connection[Any], database_url: str
) -> None:
    with frozen(database_url):
        asking = asyncio.create_task(ask(pair[0], "slow"))
        await eventually(lambda: waiting_for_a_lock(database, 1))
        for http in pair:
            assert_in_progress(await ask(http, "slow"))
            assert_in_progress(await ask(http, "slow", {**FINE, "hours": 2}))
    first = assert_first(await asking)
    assert_replayed(await ask(pair[1], "slow"), first)
    assert stored(database) == 1


async def test_an_answer_lost_after_the_commit_is_given_to_who_asks_again(
    services: Services, database: psycopg.Connection[Any], database_url: str
) -> None:
    host, port = server_of(database_url)
    async with LosingProxy(port, host=host) as proxy:
        handler = await services.handler(DATABASE_URL=through(proxy, database_url))
        async with client_of(handler) as http:
            proxy.lose = COMMITTED
            assert_unavailable(await ask(http, "lost"))
            assert proxy.lost == 1
            assert stored(database) == kept(database) == 1
            again = await asked_until_answered(http, "lost")
            assert again.headers["idempotency-replayed"] == "true"
            assert (await http.get(again.headers["location"])).json()["id"] == again.json()["id"]
            assert stored(database) == 1
        await handler.stop()


async def asked_until_answered(http: httpx.AsyncClient, key: str) -> httpx.Response:
    async def answered() -> httpx.Response:
        answer = await ask(http, key)
        assert answer.status_code == 201, answer.text
        return answer

    return await eventually(answered)


async def test_a_handler_killed_between_commit_and_answer_has_made_it_once(
    services: Services, database: psycopg.Connection[Any], database_url: str
) -> None:
    host, port = server_of(database_url)
    async with HoldingProxy(port, host=host, hold=COMMITTED) as proxy:
        handler = await services.handler(DATABASE_URL=through(proxy, database_url))
        other = await services.handler()
        async with client_of(handler) as http, client_of(other) as another:
            asking = asyncio.create_task(ask(http, "killed"))
            await asyncio.wait_for(proxy.held.wait(), 10)
            await handler.kill()
            with pytest.raises(httpx.TransportError):
                await asking
            assert stored(database) == kept(database) == 1
            again = await ask(another, "killed")
            assert again.headers["idempotency-replayed"] == "true"
            assert stored(database) == 1
            assert (await another.get(again.headers["location"])).status_code == 200


async def test_a_handler_killed_before_the_commit_has_made_nothing(
    services: Services, database: psycopg.Connection[Any], database_url: str
) -> None:
    handler, other = await asyncio.gather(services.handler(), services.handler())
    async with client_of(handler) as http, client_of(other) as another:
        with frozen(database_url):
            asking = asyncio.create_task(ask(http, "killed"))
            await eventually(lambda: waiting_for_a_lock(database, 1))
            await handler.kill()
            with pytest.raises(httpx.TransportError):
                await asking
            # Postgres goes on with what it was told, and finds nobody to answer to.
            assert_in_progress(await ask(another, "killed"))
        first = await asked_until_answered(another, "killed")
        assert_first(first)
        assert_replayed(await ask(another, "killed"), first)
        assert stored(database) == kept(database) == 1


async def test_connections_broken_under_load_make_nothing_twice(
    api: httpx.AsyncClient, database: psycopg.Connection[Any]
) -> None:
    keys = [f"broken-{number}" for number in range(60)]
    asking = [asyncio.create_task(ask(api, key)) for key in keys]
    broken = 0
    while not all(task.done() for task in asking):
        broken += await asyncio.to_thread(break_connections, database)
        await asyncio.wait(asking, timeout=0.02)
    answers = [task.result() for task in asking]
    assert broken >= 2
    assert {answer.status_code for answer in answers} <= {201, 503}
    for key, answer in zip(keys, answers, strict=True):
        again = await asked_until_answered(api, key)
        if answer.status_code == 201:
            assert_replayed(again, answer)
        else:
            assert_unavailable(answer)
    assert stored(database) == kept(database) == 60


async def test_a_database_that_stands_still_is_told_by_503_in_time(
    services: Services, database: psycopg.Connection[Any], database_url: str
) -> None:
    handler = await services.handler(CREATE_WAIT_SECONDS="1")
    async with client_of(handler) as http:
        with frozen(database_url):
            began = monotonic()
            asked = [(f"still-{number}", "/timers", FINE) for number in range(8)]
            asked.append(("still-batch", "/timers/batch", BATCH))
            answers = await asyncio.gather(
                *(ask(http, key, body, path=path) for key, path, body in asked)
            )
            assert 0.9 < monotonic() - began < 3
            for answer in answers:
                assert_unavailable(answer)
            # They hold half of the connections, and no more of them.
            reading = [asyncio.create_task(ask(http, f"more-{number}")) for number in range(24)]
            await eventually(lambda: waiting_for_a_lock(database, 2))
            began = monotonic()
            assert (await http.get("/timers")).status_code == 200
            assert monotonic() - began < 0.5
            await asyncio.gather(*reading)
        assert kept(database) == stored(database) == 0
        for key, path, body in asked:
            assert_first(await ask(http, key, body, path=path))


async def test_a_database_that_is_away_is_told_by_503_and_asked_again_it_is_made_once(
    api: httpx.AsyncClient, database: psycopg.Connection[Any]
) -> None:
    for table in ("jobs", "idempotency_keys"):  # not migrated yet, or by another version
        database.execute(f"alter table {table} rename to elsewhere".encode())
        assert_unavailable(await ask(api, "away"))
        database.execute(f"alter table elsewhere rename to {table}".encode())
    name = database.info.dbname
    database.execute(f"alter database {name} set default_transaction_read_only = on".encode())
    break_connections(database)
    await eventually(lambda: refused(api))
    database.execute(f"alter database {name} reset default_transaction_read_only".encode())
    break_connections(database)
    await asked_until_answered(api, "away")
    assert stored(database) == kept(database) == 1


async def refused(http: httpx.AsyncClient) -> None:
    assert_unavailable(await ask(http, "away"))


async def test_who_writes_a_key_without_its_lock_is_not_written_over(
    api: httpx.AsyncClient, database: psycopg.Connection[Any], database_url: str
) -> None:
    with frozen(database_url):
        asking = asyncio.create_task(ask(api, "theirs"))
        await eventually(lambda: waiting_for_a_lock(database, 1))
        database.execute(
            "insert into idempotency_keys (application_id, key, fingerprint, status, headers, body)"
            " values (1, 'theirs', 'another', 201, '{}', 'theirs')"
        )
    assert_in_progress(await asking)
    assert stored(database) == 0
    assert database.execute("select body from idempotency_keys").fetchall() == [(b"theirs",)]


async def test_nothing_is_announced_or_counted_before_it_is_committed(
    services: Services, database: psycopg.Connection[Any], database_url: str
) -> None:
    handler = await services.handler(CREATE_WAIT_SECONDS="1")
    async with client_of(handler) as http:
        with psycopg.connect(database_url) as holder:  # the job is made, its answer is not kept yet
            holder.execute("lock table idempotency_keys in exclusive mode")
            asking = asyncio.create_task(ask(http, "early", BATCH, path="/timers/batch"))
            await eventually(lambda: waiting_for_a_lock(database, 1))
            assert await created_by(http) == 0
            assert_unavailable(await asking)
        assert stored(database) == 0
        assert await created_by(http) == 0
        assert_first(await ask(http, "early", BATCH, path="/timers/batch"))
        assert await created_by(http) == stored(database) == 2
