"""A trial: timers are asked for all the while, something breaks, and each promise is checked.

Load and checker are those of `make chaos`; here they meet what is deployed.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from tests.chaos import report
from tests.chaos.checker import Arrival, Casualty, Evidence, Execution, Job, check
from tests.chaos.load import Load, Mix
from tests.chaos.stack import NOTICED_SECONDS, UNRECORDED_SECONDS
from tests.deployed.inbox import Inbox, Webhook, eventually

MIX = Mix(per_second=60, delay_seconds_max=4, slow_share=0.2)
CALLS_BEFORE = 60
ACCEPTED_AFTER = 120
PROGRESS_SECONDS_MAX = 60.0
DRAIN_SECONDS_MAX = 90.0
RESCUED_WITHIN_SECONDS = 60.0

# A poll, and what a machine adds that runs the stack and measures on the same two cores.
AT_ONCE = 10.0
# While others start, which takes all the processor time that there is. What lateness is where there
# is enough of it, the benchmarks measure; here, a run that waited for a rescue would be later.
WHILE_STARTING = 30.0
# Until a lease has lapsed and a rescue has come.
AFTER_A_RESCUE = 15.0
# Until Postgres is back, everyone has had a lease's time to record, and a rescue has come.
AFTER_AN_OUTAGE = 40.0


class Stack(Protocol):
    """What is tried."""

    host: str  # where a handler answers
    port: int
    receiver: str  # the URL of the inbox, as executors reach it

    def inbox(self) -> Inbox: ...

    def select(self, query: str) -> list[list[str]]: ...


class Holder(NamedTuple):
    """Who holds claims: a container, and the id under which its executor holds them."""

    container: str
    executor_id: str


class Trial:
    """What is asked for and what comes of it, from one moment on."""

    def __init__(self, stack: Stack) -> None:
        [[self._before]] = stack.select("select coalesce(max(id), 0) from jobs")
        self._stack = stack
        self._inbox = stack.inbox()
        self._casualties: list[Casualty] = []
        self.load = Load(stack.port, MIX, lambda path: f"{stack.receiver}{path}", host=stack.host)

    def holder(self) -> Holder:
        """Wait until an executor holds claims; answer who holds most of them."""

        def look() -> Holder:
            rows = self._stack.select(
                "select host, executors.id from executors join schedules"
                " on executor_id = executors.id where state = 'executing'"
                " group by 1, 2 order by count(*) desc limit 1"
            )
            assert rows, "nobody holds anything"
            return Holder(*rows[0])

        return eventually(look, within_seconds=PROGRESS_SECONDS_MAX)

    @contextmanager
    def falls(self, holder: Holder, *, sends_on_for_seconds: float = 0.0) -> Iterator[None]:
        """Make an executor fall in this block: what it sent lately may be sent again.

        One that is only cut off goes on sending what it holds until its lease ends.
        """
        since = time.time() - UNRECORDED_SECONDS
        yield
        until = time.time() + sends_on_for_seconds + NOTICED_SECONDS
        self._casualties.append(Casualty(holder.executor_id, since, until))

    def gets_calls(self, calls: int) -> None:
        """Wait until so many more calls have arrived."""
        wanted = len(self._inbox.all()) + calls

        def have_arrived() -> None:
            arrived = len(self._inbox.all())
            assert arrived >= wanted, f"{arrived} of {wanted} calls have arrived"

        eventually(have_arrived, within_seconds=PROGRESS_SECONDS_MAX)

    def accepts(self, timers: int) -> None:
        """Wait until so many more timers were accepted."""
        wanted = len(self.load.accepted) + timers

        def were_accepted() -> None:
            accepted = len(self.load.accepted)
            assert accepted >= wanted, f"{accepted} of {wanted} timers were accepted"

        eventually(were_accepted, within_seconds=PROGRESS_SECONDS_MAX)

    def drains(self) -> None:
        """Wait until nothing of it is outstanding."""

        def look() -> None:
            query = f"select count(*) from schedules where job_id > {self._before}"
            [[outstanding]] = self._stack.select(query)
            assert outstanding == "0", f"{outstanding} runs are outstanding"

        eventually(look, within_seconds=DRAIN_SECONDS_MAX)

    def evidence(self) -> Evidence:
        """Put what was accepted, what arrived and what was recorded side by side."""
        ours = f"> {self._before}"
        jobs = self._stack.select(
            "select id, (extract(epoch from run_at) * 1000000)::bigint, url"
            f" from jobs where id {ours}"
        )
        executions = self._stack.select(
            "select job_id, attempt, state, executor_id, extract(epoch from started_at)"
            f" from executions where job_id {ours} order by job_id, attempt, finished_at"
        )
        outstanding = self._stack.select(f"select job_id from schedules where job_id {ours}")
        arrivals = (_arrival(webhook) for webhook in self._inbox.all())
        return Evidence(
            accepted=self.load.accepted,
            arrivals=[arrival for arrival in arrivals if arrival.job_id > int(self._before)],
            jobs={int(job): Job(int(due), urlsplit(url).path) for job, due, url in jobs},
            executions=[
                Execution(int(job), int(attempt), state, executor, float(at) if at else None)
                for job, attempt, state, executor, at in executions
            ],
            outstanding=frozenset(int(job) for [job] in outstanding),
            casualties=self._casualties,
        )


UnderLoad = Callable[[float], AbstractContextManager[Trial]]


def judged(stack: Stack, name: str, record: Callable[[str, object], None]) -> UnderLoad:
    """Make a load around a block, after which nothing may have been later than so many seconds."""

    @contextmanager
    def load(lateness_seconds_max: float) -> Iterator[Trial]:
        trial = Trial(stack)
        with _asked_all_the_while(trial):
            yield trial
        trial.drains()
        verdict = check(trial.evidence(), lateness_seconds_max=lateness_seconds_max)
        record("chaos", report.row(name, verdict))
        assert verdict.is_kept, report.told(verdict.breaches)

    return load


@contextmanager
def _asked_all_the_while(trial: Trial) -> Iterator[None]:
    """Ask for timers before, during and after this block."""
    with ThreadPoolExecutor(1) as thread:
        load = thread.submit(lambda: asyncio.run(trial.load.run()))
        try:
            trial.gets_calls(CALLS_BEFORE)
            yield
            trial.accepts(ACCEPTED_AFTER)
        finally:
            trial.load.stop()
        load.result()


def await_rescue(stack: Stack, holder: Holder) -> None:
    """Wait until others have what this executor held."""

    def look() -> None:
        held = f"select count(*) from schedules where executor_id = '{holder.executor_id}'"
        assert stack.select(held) == [["0"]]

    eventually(look, within_seconds=RESCUED_WITHIN_SECONDS)


def _arrival(webhook: Webhook) -> Arrival:
    _, job_id, due_at = webhook.headers["webhook-id"].split("_")
    attempt = int(webhook.headers["onthedot-attempt"])
    signed_at = float(webhook.headers["webhook-timestamp"])
    return Arrival(int(job_id), int(due_at), attempt, webhook.path, webhook.at, signed_at)
