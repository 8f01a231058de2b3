"""Everything is lost but a dump that was taken under load; what is restored from it goes on."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import redis

from local_stack.binaries import Binaries, postgres_bindir
from tests.chaos.checker import AT_MOST_ONCE
from tests.chaos.load import Load, Mix
from tests.eventually import eventually
from tests.processes import Services
from tests.receiver import Call, Receiver

pytestmark = pytest.mark.timeout(240)  # on a busy machine, so many processes start slowly
RECURS = "/ok/recurs"


class Timer(NamedTuple):
    """What a dump holds of a timer."""

    job_id: int
    path: str
    is_outstanding: bool
    is_marked: bool

    @property
    def calls_to_come(self) -> int:
        """None if it had ended, or is for at most once and was about to be sent."""
        may_have_been_sent = self.is_marked and AT_MOST_ONCE in self.path.split("/")
        return int(self.is_outstanding and not may_have_been_sent)


@dataclass(frozen=True)
class Witness:
    """What is known from outside: timers by their paths, each of which is its own."""

    accepted_before: frozenset[str]
    accepted_after: frozenset[str]


async def test_a_restored_dump_loses_what_came_after_it_and_fires_once_what_had_not_ended_in_it(
    database_url: str, redis_url: str, services: Services, receiver: Receiver, tmp_path: Path
) -> None:
    dump = tmp_path / "dump"
    witness = await lose_all_but_a_dump(services, receiver, database_url, dump)
    await asyncio.to_thread(destroy, database_url, redis_url)
    await run("pg_restore", "--exit-on-error", f"--dbname={database_url}", str(dump))
    timers, recurring_id = read_jobs(database_url)
    kept = {timer.path for timer in timers}
    assert witness.accepted_before <= kept
    assert witness.accepted_after.isdisjoint(kept)
    assert {timer.is_outstanding for timer in timers} == {True, False}  # some of either kind

    calls_before = len(receiver.calls)
    handler, *_ = await asyncio.gather(
        services.handler(), *(services.executor(MISSED_AFTER_SECONDS="1") for _ in range(2))
    )
    async with httpx.AsyncClient(base_url=handler.url, timeout=30) as http:
        await eventually(lambda: was_called(receiver.calls[calls_before:], RECURS))
        assert (await http.delete(f"/jobs/{recurring_id}")).status_code == 204
        await eventually(lambda: is_drained(database_url), within=60, every=0.1)
        assert (await http.get("/ledger")).json()["adds_up"]
        created = await http.post("/timers", json={"hours": 1, "url": receiver.url()})
        assert created.json()["id"] > max(timer.job_id for timer in timers)

    calls = receiver.calls[calls_before:]
    times = Counter(call.path for call in calls)
    wrong = [timer for timer in timers if times[timer.path] != timer.calls_to_come]
    assert wrong == []
    assert set(times) <= kept | {RECURS}
    assert all(call.arrived_at >= call.planned_at for call in calls)
    # Of the occurrences that were missed the newest is called, the others are not.
    assert set(Counter(call.webhook_id for call in calls).values()) == {1}
    with psycopg.connect(database_url) as connection:
        skipped = connection.execute(
            "select count(*) from executions where state = 'skipped' and job_id = %s",
            (recurring_id,),
        )
        assert skipped.fetchone() > (0,)


async def lose_all_but_a_dump(
    services: Services, receiver: Receiver, database_url: str, dump: Path
) -> Witness:
    """Run everything under load, dump the database in its midst, and kill everything."""
    handler, *_ = await asyncio.gather(services.handler(), services.executor(), services.executor())
    async with httpx.AsyncClient(base_url=handler.url, timeout=30) as http:
        recurs = {"every": 1, "url": receiver.url(RECURS)}
        assert (await http.post("/jobs", json=recurs)).status_code == 201
    load = Load(handler.port, Mix(per_second=60, delay_seconds_max=4), receiver.url)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await eventually(lambda: has(receiver.calls, 60), within=60)
        before = frozenset(timer.path for timer in load.accepted)
        await run("pg_dump", "--format=custom", f"--file={dump}", database_url)
        dumped = len(load.accepted)
        await eventually(lambda: has(load.accepted, dumped + 60), within=60)
        load.stop()
        for service in services.started:
            await service.kill()
    after = frozenset(timer.path for timer in load.accepted[dumped:])
    return Witness(before, after)


async def run(program: str, *arguments: str) -> None:
    """Run one of Postgres's programs, of the version that the tests' own server has."""
    bindir = postgres_bindir(Binaries().pg_bindir)
    process = await asyncio.create_subprocess_exec(
        *(str(bindir / program), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


def destroy(database_url: str, redis_url: str) -> None:
    """Leave an empty database of the same name, and an empty Redis."""
    base, _, name = database_url.partition("?")[0].rpartition("/")
    with psycopg.connect(f"{base}/postgres", autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)".encode())
        connection.execute(f"create database {name}".encode())
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()


def read_jobs(database_url: str) -> tuple[list[Timer], int]:
    """Answer the timers, and the job that recurs."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select id, url, schedules.job_id is not null, marked_at is not null "
            "from jobs left join schedules on schedules.job_id = jobs.id where recurrence is null"
        ).fetchall()
        [(recurring_id,)] = connection.execute("select id from jobs where recurrence is not null")
    return [
        Timer(job_id, urlsplit(url).path, *states) for job_id, url, *states in rows
    ], recurring_id


def has(what: Sequence[object], count: int) -> None:
    assert len(what) >= count, len(what)


def was_called(calls: Sequence[Call], path: str) -> None:
    assert path in {call.path for call in calls}


async def is_drained(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        cursor = await connection.execute("select count(*) from schedules")
        assert await cursor.fetchone() == (0,)
