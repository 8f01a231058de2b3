"""Claims, lapses, late records, cancels, edits and replays in any order: the ledger adds up.

A model checker by chance: hypothesis chooses what happens next among some executors, the moves are
made on a real Postgres, and after each step every run must be in exactly one place, have got there
by an arrow of LIFE, and have been sent no more often than was promised.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.database import Connection
from shared.runs import moves
from shared.runs.lifecycle import LIFE, OUTSTANDING, Delivery, RunState
from shared.runs.moves import Attempt, Claim, DeadLetters, Edit, NewJob
from shared.runs.policy import RetryPolicy

Answer = TypeVar("Answer")
EXECUTORS = 3
ARROWS = {(source, move.target) for move in LIFE for source in move.sources}
PLACES = """
select job_id, state, fence, attempt, attempts_forgiven, marked_at is not null, executor_id::text
from schedules
union all
select job_id, state, fence, attempt, 0, false, null from executions
where state in ('done', 'failed', 'uncertain', 'cancelled', 'skipped') and replayed_at is null
"""


class Place(NamedTuple):
    """Where a run is."""

    state: RunState
    fence: int
    attempt: int
    attempts_forgiven: int
    is_marked: bool
    executor_id: str | None


class Process:
    """An executor as it sees itself: it believes in its claims, and in its lease."""

    def __init__(self) -> None:
        self.id = str(uuid4())
        self.has_lease = True
        self.claims: list[Claim] = []
        self.marked: set[tuple[int, int]] = set()
        self.sent: set[tuple[int, int]] = set()


def key(claim: Claim) -> tuple[int, int]:
    return claim.job_id, claim.fence


class LifeInAnyOrder(RuleBasedStateMachine):
    """Three executors, a handful of runs, and everything that can happen to them."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.connection: Connection = self.run(self._connect())
        self.processes = [Process() for _ in range(EXECUTORS)]
        self.places: dict[int, Place] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.starts: Counter[int] = Counter()  # of each run, since it was created or replayed

    async def _connect(self) -> Connection:
        return await psycopg.AsyncConnection.connect(self.url, autocommit=True)

    def run(self, work: Awaitable[Answer]) -> Answer:
        async def do() -> Answer:
            return await work

        return self.runner.run(do())

    def sql(self, statement: str, *values: Any) -> list[Any]:
        async def execute() -> list[Any]:
            cursor = await self.connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []

        return self.run(execute())

    def teardown(self) -> None:
        self.run(self.connection.close())
        self.runner.close()

    @initialize()
    def begin(self) -> None:
        self.sql("truncate jobs, schedules, executions, executors")
        for process in self.processes:
            self._register(process)

    def _register(self, process: Process) -> None:
        self.sql(
            "insert into executors (id, lease_seconds, claim_ahead_seconds, host, version) "
            "values (%s, 5, 1.2, '', '')",
            process.id,
        )

    @rule(delivery=st.sampled_from(Delivery), max_attempts=st.integers(1, 3))
    def create(self, delivery: Delivery, max_attempts: int) -> None:
        retry = RetryPolicy(max_attempts=max_attempts).document()
        timer = NewJob(1, "http://x/", "POST", None, None, 5.0, 0.0, retry, delivery)
        [(job_id, _)] = self.run(moves.create(self.connection, [timer]))
        self.deliveries[job_id] = delivery

    @rule(number=st.integers(0, EXECUTORS - 1), most=st.integers(1, 4))
    def claim(self, number: int, most: int) -> None:
        process = self.processes[number]
        claims = self.run(
            moves.claim(
                self.connection,
                executor_id=process.id,
                late_seconds=1e6,
                ahead_seconds=1.2,
                most=most,
            )
        )
        assert process.has_lease or not claims
        for claim in claims:
            assert self.places[claim.job_id].state == RunState.PENDING
            assert claim.fence == self.places[claim.job_id].fence + 1
        process.claims += claims

    @rule(number=st.integers(0, EXECUTORS - 1), which=st.integers(0, 9))
    def mark(self, number: int, which: int) -> None:
        claim = self._unsent(number, which)
        if claim is not None and claim.is_at_most_once:
            if self.run(moves.mark(self.connection, [claim])):
                self.processes[number].marked.add(key(claim))
                assert self._is_current(claim)
            else:
                assert not self._is_current(claim)

    @rule(number=st.integers(0, EXECUTORS - 1), which=st.integers(0, 9))
    def send(self, number: int, which: int) -> None:
        """Send as an executor does: while its lease lives; at most once only what it marked."""
        process = self.processes[number]
        claim = self._unsent(number, which)
        if claim is None or not process.has_lease:
            return
        if claim.is_at_most_once and key(claim) not in process.marked:
            return
        assert self._is_current(claim), "a living lease holds what was claimed under it"
        process.sent.add(key(claim))
        self.starts[claim.job_id] += 1

    @rule(
        number=st.integers(0, EXECUTORS - 1),
        which=st.integers(0, 9),
        name=st.sampled_from(["deliver", "retry", "bury", "doubt"]),
    )
    def record(self, number: int, which: int, name: str) -> None:
        """Record what came of a request, however late."""
        process = self.processes[number]
        sent = [claim for claim in process.claims if key(claim) in process.sent]
        if not sent:
            return
        claim = sent[which % len(sent)]
        if claim.is_at_most_once and name == "retry":
            name = "doubt"
        attempt = Attempt(claim, 1.0, 1.0, 0.0, error="it said so", retry_in_seconds=0.0)
        move: Callable[..., Awaitable[list[int]]] = getattr(moves, name)
        was_current = self._is_current(claim)
        assert bool(self.run(move(self.connection, [attempt]))) == was_current
        if which % 2:  # else its answer is lost, and it is recorded again
            process.claims.remove(claim)

    @rule(number=st.integers(0, EXECUTORS - 1), which=st.integers(0, 9))
    def release(self, number: int, which: int) -> None:
        if claim := self._unsent(number, which):
            was_current = self._is_current(claim)
            assert bool(self.run(moves.release(self.connection, [claim]))) == was_current
            self.processes[number].claims.remove(claim)

    @rule(number=st.integers(0, EXECUTORS - 1))
    def fall_silent(self, number: int) -> None:
        process = self.processes[number]
        process.has_lease = False
        self.sql(
            "update executors set heartbeat_at = now() - interval '9 seconds' where id = %s",
            process.id,
        )

    @rule(number=st.integers(0, EXECUTORS - 1))
    def beat(self, number: int) -> None:
        """Renew the lease; one that finds itself forgotten goes on under a new id."""
        process = self.processes[number]
        renewed = self.sql(
            "update executors set heartbeat_at = now() where id = %s returning id", process.id
        )
        if renewed:
            process.has_lease = True
            return
        # It may still record what it sent; what it did not, it will not.
        process.claims = [claim for claim in process.claims if key(claim) in process.sent]
        process.id, process.has_lease = str(uuid4()), True
        self._register(process)

    @rule(number=st.integers(0, EXECUTORS - 1))
    def rescue(self, number: int) -> None:
        if self.processes[number].has_lease:
            self.run(moves.rescue(self.connection, executor_id=self.processes[number].id))

    @precondition(lambda self: self.places)
    @rule(which=st.integers(0, 99))
    def cancel(self, which: int) -> None:
        job_id = self._job(which)
        cancelled = self.run(moves.cancel(self.connection, job_id=job_id, application_id=1))
        assert bool(cancelled) == (self.places[job_id].state == RunState.PENDING)

    @precondition(lambda self: self.places)
    @rule(which=st.integers(0, 99), retimes=st.booleans())
    def edit(self, which: int, retimes: bool) -> None:
        job_id = self._job(which)
        edit = Edit(["delay_seconds"] if retimes else ["url"], url="http://y/", delay_seconds=0.0)
        edited = self.run(moves.edit(self.connection, job_id=job_id, application_id=1, edit=edit))
        place = self.places[job_id]
        assert (edited is not None) == (place.state == RunState.PENDING and place.attempt == 0)

    @precondition(lambda self: self.places)
    @rule(which=st.integers(0, 99))
    def replay(self, which: int) -> None:
        job_id = self._job(which)
        replayed = self.run(moves.replay(self.connection, DeadLetters(1, job_id), most=5))
        assert bool(replayed) == (
            self.places[job_id].state in {RunState.FAILED, RunState.UNCERTAIN}
        )
        if replayed:
            self.starts[job_id] = 0

    @rule()
    def time_passes(self) -> None:
        self.sql(
            "update schedules set due_at = now() - interval '8 seconds' where state = 'pending'"
        )

    @invariant()
    def the_ledger_adds_up(self) -> None:
        if self.connection.closed:
            return
        rows = self.sql(PLACES)
        places = {row[0]: Place(RunState(row[1]), *row[2:]) for row in rows}
        assert len(rows) == len(places), "a run is in one place"
        assert places.keys() == self.deliveries.keys(), "no run is lost"
        living = {row[0] for row in self.sql("select id::text from executors")}
        for job_id, place in places.items():
            before = self.places.get(job_id)
            if before is not None:
                self._check_step(before, place)
            assert place.executor_id is None or place.executor_id in living, "nothing is stranded"
            if self.deliveries[job_id] == Delivery.AT_MOST_ONCE:
                assert self.starts[job_id] <= 1, "started twice"
        self.places = places

    def _check_step(self, before: Place, after: Place) -> None:
        if before.state != after.state:
            assert (before.state, after.state) in ARROWS
        assert (
            before.state in OUTSTANDING
            or before.state == after.state
            or before.state
            in {
                RunState.FAILED,
                RunState.UNCERTAIN,
            }
        )
        if RunState.CANCELLED not in {before.state, after.state}:
            assert after.fence >= before.fence
        assert after.attempt >= before.attempt

    def _is_current(self, claim: Claim) -> bool:
        rows = self.sql(
            "select 1 from schedules where job_id = %s and state = 'executing' and fence = %s",
            claim.job_id,
            claim.fence,
        )
        return bool(rows)

    def _unsent(self, number: int, which: int) -> Claim | None:
        process = self.processes[number]
        unsent = [claim for claim in process.claims if key(claim) not in process.sent]
        return unsent[which % len(unsent)] if unsent else None

    def _job(self, which: int) -> int:
        return sorted(self.places)[which % len(self.places)]


def test_whatever_the_order_no_run_is_lost_doubled_or_stranded(database_url: str) -> None:
    class OnThisDatabase(LifeInAnyOrder):
        url = database_url

    run_state_machine_as_test(
        OnThisDatabase,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
