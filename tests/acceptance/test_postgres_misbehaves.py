"""Postgres loses an answer, hangs, or turns read-only: nothing is lost or doubled by it."""

import os
import signal
from collections import Counter
from time import monotonic
from typing import Any

import httpx
import psycopg
import redis.asyncio

from local_stack.postgres import Postgres
from local_stack.valkey import Valkey
from tests.acceptance.test_faults import (
    QUICK,
    all_recorded,
    arrived,
    assert_once_each,
    began,
    create,
    has_lasted,
    history,
    own_servers,
    own_services,
    says,
)
from tests.eventually import eventually
from tests.processes import Services
from tests.proxy import COMMITTED, CuttingProxy, LosingProxy
from tests.receiver import Receiver

__all__ = ["own_servers", "own_services"]


async def test_a_claim_whose_answer_was_lost_is_given_back_and_fires(
    own_servers: tuple[Postgres, Valkey], own_services: Services, receiver: Receiver
) -> None:
    """The claim is committed and nobody knows of it; its executor lives on, so no lease lapses."""
    postgres, _ = own_servers
    handler = await own_services.handler()
    async with LosingProxy(postgres.port) as proxy:
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        executor = await own_services.executor(DATABASE_URL=url)
        # Of all answers, only a claim's holds the URL to call; the one after it says: committed.
        proxy.lose_after = receiver.url("/lost").encode()
        proxy.lose = COMMITTED
        async with httpx.AsyncClient(base_url=handler.url) as http:
            ids = await create(http, receiver.url("/lost"), count=50, seconds=2)
        await eventually(lambda: arrived(receiver, ids))
        await eventually(lambda: all_recorded(postgres.url))
        assert proxy.lost == 1
        assert "claims.given_back" in executor.log.read_text()
        assert_once_each(receiver, ids)
        await executor.stop()


# While `slow` has a row, a claim takes its time to commit: a tenth of a second for each run.
SLOW_CLAIMS = """
create table slow as select;
create function take_time() returns trigger language plpgsql as $$
begin
    if exists (select from slow) then
        perform pg_sleep(0.1);
    end if;
    return null;
end $$;
create constraint trigger take_time after update on schedules deferrable initially deferred
for each row when (new.state = 'executing') execute function take_time()
"""


async def test_a_claim_that_is_committed_after_its_connection_broke_is_given_back_and_fires(
    own_servers: tuple[Postgres, Valkey], own_services: Services, receiver: Receiver
) -> None:
    """A look at what was claimed in our name comes too early while the claim is still at it."""
    postgres, _ = own_servers
    handler = await own_services.handler()
    async with (
        CuttingProxy(postgres.port) as proxy,
        await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as connection,
    ):
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        executor = await own_services.executor(DATABASE_URL=url)
        await connection.execute(SLOW_CLAIMS.encode())
        async with httpx.AsyncClient(base_url=handler.url) as http:
            ids = await create(http, receiver.url(), count=20, seconds=1)
        await eventually(lambda: is_claiming(connection))
        proxy.cut()
        await connection.execute("delete from slow")
        await eventually(lambda: arrived(receiver, ids))
        await eventually(lambda: all_recorded(postgres.url))
        assert "claims.given_back" in executor.log.read_text()
        assert_once_each(receiver, ids)
        await executor.stop()


async def is_claiming(connection: psycopg.AsyncConnection[Any]) -> None:
    cursor = await connection.execute("select from pg_stat_activity where wait_event = 'PgSleep'")
    assert cursor.rowcount == 1


async def test_a_postgres_that_hangs_makes_nobody_rescue_the_living(
    own_servers: tuple[Postgres, Valkey], own_services: Services, receiver: Receiver
) -> None:
    postgres, _ = own_servers
    handler = await own_services.handler()
    executors = await own_services.executors(2, **QUICK)
    async with httpx.AsyncClient(base_url=handler.url) as http:
        ids = await create(http, receiver.url("/slow/4"), count=100, seconds=1)
    await eventually(lambda: began(receiver, 100))
    processes = processes_of(postgres)
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    stopped_at = monotonic()
    for executor in executors:
        await eventually(lambda executor=executor: lease_is_lost(executor.url))
    await eventually(lambda: has_lasted(stopped_at, seconds=3.5))  # the lease is 2 s
    for pid in processes:
        os.kill(pid, signal.SIGCONT)
    await eventually(lambda: all_recorded(postgres.url))
    assert_once_each(receiver, ids)
    assert {row["state"] for row in await history(postgres.url)} == {"done"}


async def lease_is_lost(url: str) -> None:
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{url}/readyz")).status_code == 503


def processes_of(postgres: Postgres) -> list[int]:
    """The server and its children, those of the executors' connections among them."""
    assert postgres.process is not None
    server = postgres.process.pid
    children = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/stat") as stat:  # noqa: PTH123  # a race is fine
                    parent = int(stat.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == server:
                children.append(int(entry.name))
    return [*children, server]


async def test_what_was_answered_while_postgres_was_read_only_is_recorded_afterwards(
    own_servers: tuple[Postgres, Valkey], own_services: Services, receiver: Receiver
) -> None:
    postgres, _ = own_servers
    handler = await own_services.handler()
    executor = await own_services.executor()
    async with httpx.AsyncClient(base_url=handler.url) as http:
        ids = await create(http, receiver.url("/slow/1"), count=40, seconds=1)
    await eventually(lambda: began(receiver, 40))
    await read_only(postgres.url, "on")
    await eventually(lambda: says(executor.log, "record.postponed"))
    await read_only(postgres.url, "off")
    await eventually(lambda: all_recorded(postgres.url))
    assert_once_each(receiver, ids)
    rows = await history(postgres.url)
    assert Counter(row["job_id"] for row in rows if row["state"] == "done") == Counter(ids)


async def read_only(url: str, value: str) -> None:
    """Set for the server, and for the sessions that are open, as a failover does."""
    connection = await psycopg.AsyncConnection.connect(
        url, autocommit=True, options="-c default_transaction_read_only=off"
    )
    async with connection:
        await connection.execute(
            f"alter system set default_transaction_read_only = {value}".encode()
        )
        await connection.execute("select pg_reload_conf()")


async def test_nonsense_on_the_wake_up_channel_is_ignored(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    async with redis.asyncio.Redis.from_url(services.environment["REDIS_URL"]) as client:
        for nonsense in (b"\xff\xfe", "²".encode(), b"-1", b"9" * 400, b""):
            await client.publish("onthedot:wake-up", nonsense)
    ids = await create(api, receiver.url(), count=3, seconds=1)
    await eventually(lambda: arrived(receiver, ids))
    assert_once_each(receiver, ids)
