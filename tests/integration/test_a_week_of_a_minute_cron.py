"""A week of minute crons, through downtimes, pauses, kills and crashes: each minute ends once.

The week passes in minutes: the statements are those we ship, and their `now()` is found in a schema
of this test's own, before the one of Postgres.
"""

import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from psycopg.conninfo import make_conninfo

from executor_service.occur import let_occur
from shared import database
from shared.database import Connection, Pool
from shared.recurrence import CatchUp, Recurrence
from shared.runs import moves
from shared.runs.lifecycle import Delivery
from shared.runs.moves import Attempt, Claim, NewJob

MONDAY = datetime(2026, 10, 19, tzinfo=UTC)
WEEK = timedelta(days=7)
MINUTE = timedelta(minutes=1)
CLOCK = """
create schema sim;
create table sim.clock (at timestamptz);
insert into sim.clock values ('2026-10-19 00:00:00+00');
create function sim.now() returns timestamptz language sql stable as 'select at from sim.clock'
"""
ENDS = ("done", "failed", "uncertain", "cancelled", "skipped")


class Week:
    """What happens, minute by minute; chance says what."""

    def __init__(self, connection: Connection, chance: random.Random) -> None:
        self.connection = connection
        self.chance = chance
        self.now = MONDAY
        self.executor_id = ""
        self.events: Counter[str] = Counter()

    async def sets_the_clock(self, moment: datetime) -> None:
        self.now = moment
        await self.connection.execute("update sim.clock set at = %s", (moment,))

    async def starts_an_executor(self) -> None:
        self.executor_id = str(uuid4())
        await self.connection.execute(
            "insert into executors (id, heartbeat_at, lease_seconds, claim_ahead_seconds, host, "
            "version) values (%s, sim.now(), 5, 1.2, '', '')",
            (self.executor_id,),
        )

    async def polls(self) -> list[Claim]:
        """Heartbeat, rescue, and claim until nothing more is due, as executors do."""
        await self.connection.execute(
            "update executors set heartbeat_at = sim.now() where id = %s", (self.executor_id,)
        )
        await moves.rescue(self.connection, executor_id=self.executor_id)
        claims: list[Claim] = []
        while True:
            async with self.connection.transaction():
                occurred = await let_occur(
                    self.connection,
                    late_seconds=1e9,
                    ahead_seconds=1.2,
                    missed_after_seconds=30.0,
                    most=50,
                )
                claimed = await moves.claim(
                    self.connection,
                    executor_id=self.executor_id,
                    late_seconds=1e9,
                    ahead_seconds=1.2,
                    most=500,
                )
            claims += claimed
            if not occurred.dealt_with and not claimed:
                return claims

    async def crashes_in_a_claim(self) -> None:
        """Postgres, or the executor, goes before the commit."""
        async with self.connection.transaction(force_rollback=True):
            await let_occur(
                self.connection,
                late_seconds=1e9,
                ahead_seconds=1.2,
                missed_after_seconds=30.0,
                most=50,
            )

    async def records(self, claims: list[Claim]) -> None:
        moment = self.now.timestamp()
        for claim in claims:
            attempt = Attempt(claim, moment, moment, 0.0, http_status=204)
            if self.chance.random() < 0.2:
                failed = attempt._replace(http_status=503, error="status")
                if claim.attempt < 3:
                    retry = failed._replace(retry_in_seconds=20.0)
                    assert await moves.retry(self.connection, [retry])
                else:
                    assert await moves.bury(self.connection, [failed])
            else:
                assert await moves.deliver(self.connection, [attempt])

    async def lives_a_minute(self) -> None:
        event = self.chance.choices(
            ("nothing", "killed", "crashed", "down", "paused"), (90, 3, 3, 2, 2)
        )[0]
        self.events[event] += 1
        if event == "crashed":
            await self.crashes_in_a_claim()
        claims = await self.polls()
        if event == "killed":  # with all it held; some of it was sent, and nobody knows
            await self.starts_an_executor()
        else:
            await self.records(claims)
        if event == "down":
            await self.sets_the_clock(self.now + MINUTE * self.chance.randint(1, 300))
        elif event == "paused":
            await self.pauses_for(MINUTE * self.chance.randint(1, 120))
        await self.sets_the_clock(self.now + MINUTE)

    async def pauses_for(self, time: timedelta) -> None:
        job_ids = [row[0] for row in await self.rows("select id from jobs")]
        await self.connection.execute("update jobs set state = 'paused'")
        await moves.hold(self.connection, job_ids)
        # Executors live on meanwhile, and must leave alone what is held.
        await self.sets_the_clock(self.now + time)
        await self.records(await self.polls())
        await self.connection.execute("update jobs set state = 'active'")
        for job_id in job_ids:
            await moves.resume(self.connection, job_id=job_id)

    async def rows(self, query: str) -> list[tuple[object, ...]]:
        cursor = await self.connection.execute(query.encode())
        return await cursor.fetchall()


@pytest.fixture
async def simulated(database_url: str) -> AsyncIterator[Pool]:
    url = make_conninfo(database_url, options="-c search_path=sim,pg_catalog,public")
    pool = database.open_pool(url, name="test", connections=2, pin_plans=True)
    async with pool:
        async with pool.connection() as connection:
            for statement in CLOCK.split(";\n"):
                await connection.execute(statement.encode())
        yield pool


@pytest.mark.timeout(240)
async def test_every_minute_of_a_week_ends_in_exactly_one_state(simulated: Pool) -> None:
    async with simulated.connection() as connection:
        week = Week(connection, random.Random(7))
        rules = {catch_up: Recurrence(cron="* * * * *", catch_up=catch_up) for catch_up in CatchUp}
        jobs = [
            NewJob(
                1, "http://x/", "POST", None, None, 5.0, 0.0, None, Delivery.AT_LEAST_ONCE,
                run_at=int(MONDAY.timestamp() * 1e6),
                recurrence=rule.document(),
            )
            for rule in rules.values()
        ]  # fmt: skip
        created = await moves.create(connection, jobs)
        await week.starts_an_executor()
        while week.now < MONDAY + WEEK:
            await week.lives_a_minute()
        for _ in range(8):  # what is being retried or rescued comes to its end
            await week.sets_the_clock(week.now + timedelta(seconds=21))
            await week.records(await week.polls())
        assert min(week.events.values()) > 10, "the week had everything in it"

        for job, catch_up in zip(created, rules, strict=True):
            ends = await week.rows(
                "select scheduled_for, state from executions "
                f"where state in {ENDS} and job_id = {job.job_id} order by scheduled_for"
            )
            outstanding = await week.rows(
                f"select scheduled_for, is_next from schedules where job_id = {job.job_id}"
            )
            [(runs_made,)] = await week.rows(f"select runs_made from jobs where id = {job.job_id}")
            [(next_at, is_next)] = outstanding
            assert is_next
            instants = [row[0] for row in ends]
            minutes = (week.now - MONDAY) // MINUTE + 1
            # None is missing, none is there twice, and the next one is the one that comes.
            assert instants == [MONDAY + n * MINUTE for n in range(minutes)]
            assert next_at == MONDAY + minutes * MINUTE
            assert runs_made == len(ends) + len(outstanding)
            states = Counter(row[1] for row in ends)
            assert {"done", "failed"} <= states.keys() <= {"done", "failed", "skipped"}
            assert states["skipped"] > 100 or catch_up is CatchUp.ALL
