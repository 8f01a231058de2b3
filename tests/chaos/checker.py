"""The checker: tells, from what was accepted and what arrived, which promises were broken.

After the manner of Jepsen's test of Chronos: each accepted timer is a target with a window, from
its due instant to as late as the scenario allows. A call in that window is matched to it; a target
that finds none was lost, a call that is left over is a duplicate. It knows no process and no
database, so that a test can show that it fails when it should.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

AT_MOST_ONCE = "at_most_once"
AT_LEAST_ONCE = "at_least_once"
FINAL = frozenset({"done", "failed", "uncertain"})


class Accepted(NamedTuple):
    """A timer that was answered with 201. Its path is its own, and names its delivery."""

    job_id: int
    path: str
    delay_seconds: float
    asked_at: float  # epoch seconds, as all moments here but `due_at`


class Job(NamedTuple):
    """What the database holds of a timer, whether its creator was told or not."""

    due_at: int  # epoch microseconds
    path: str


class Arrival(NamedTuple):
    """A call, as the receiver saw it."""

    job_id: int
    due_at: int  # epoch microseconds, from the webhook-id
    attempt: int
    path: str
    arrived_at: float
    signed_at: float  # whole seconds of its `webhook-timestamp`

    @property
    def begun_at(self) -> float:
        """The latest moment at which it was signed, and so handed to the sender.

        A process that is stopped between that and the first byte sends it when it goes on.
        """
        return min(self.arrived_at, self.signed_at + 1.0)


class Execution(NamedTuple):
    """A row of history."""

    job_id: int
    attempt: int
    state: str
    executor_id: str | None = None
    started_at: float | None = None


class Casualty(NamedTuple):
    """An executor that was killed, or stopped and woke to find its claims rescued.

    What it sent from `since` on may not have been recorded; what comes of it after `until` was
    begun when it held nothing any more.
    """

    executor_id: str
    since: float
    until: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known once the queue has drained."""

    accepted: Sequence[Accepted]
    arrivals: Sequence[Arrival]
    jobs: Mapping[int, Job]
    executions: Sequence[Execution]
    outstanding: frozenset[int]  # jobs with a row in `schedules`
    casualties: Sequence[Casualty] = ()


class Breach(NamedTuple):
    """A promise that was not kept: which, and how that is known."""

    promise: str
    job_id: int
    detail: str

    def __str__(self) -> str:
        return f"{self.promise}: job {self.job_id}: {self.detail}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the report says of one scenario."""

    accepted: int
    fired: int  # accepted, and called at least once
    lost: int
    duplicated: int  # calls beyond the first of a run, whether permitted or not
    early: int
    uncertain: int  # runs that ended so
    lateness_ms: tuple[float, float, float]  # p50, p99 and the most
    breaches: Sequence[Breach]

    @property
    def is_kept(self) -> bool:
        """Whether every promise was."""
        return not self.breaches


@dataclass
class _Run:
    """All that is known of one run."""

    job_id: int
    accepted: Accepted | None = None
    job: Job | None = None
    arrivals: list[Arrival] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    is_outstanding: bool = False

    @property
    def is_at_most_once(self) -> bool:
        told = self.accepted or self.job
        return told is not None and AT_MOST_ONCE in told.path.split("/")

    @property
    def ends(self) -> list[str]:
        return [row.state for row in self.executions if row.state in FINAL]

    @property
    def story(self) -> str:
        """What history says, for whoever has to find out why."""
        rows = ", ".join(f"{row.attempt} {row.state}" for row in self.executions)
        due_at = None if self.job is None else self.job.due_at
        return f"due {due_at}, attempts recorded: {rows or 'none'}"


def check(evidence: Evidence, *, lateness_seconds_max: float) -> Verdict:
    """Judge one scenario."""
    runs = _runs(evidence)
    lost: list[Breach] = []
    early: list[Breach] = []
    others: list[Breach] = []
    for run in runs:
        lost += _lost(run, lateness_seconds_max)
        early += _early(run)
        others += _doubled(run, evidence.casualties)
        others += _misdirected(run)
        others += _ended_wrongly(run, evidence.casualties)
    fired = [run for run in runs if run.accepted and run.arrivals]
    return Verdict(
        accepted=len(evidence.accepted),
        fired=len(fired),
        lost=len(lost),
        duplicated=sum(len(run.arrivals) - 1 for run in runs if run.arrivals),
        early=len(early),
        uncertain=sum("uncertain" in run.ends for run in runs),
        lateness_ms=_percentiles([_late_ms(run.arrivals[0]) for run in fired]),
        breaches=[*lost, *early, *others],
    )


def _runs(evidence: Evidence) -> list[_Run]:
    """Gather by job. A job that nobody was told of may exist or not, but obeys every other rule."""
    found: defaultdict[int, _Run] = defaultdict(lambda: _Run(0))
    for job_id, job in evidence.jobs.items():
        found[job_id].job = job
    for accepted in evidence.accepted:
        found[accepted.job_id].accepted = accepted
    for arrival in sorted(evidence.arrivals, key=lambda arrival: arrival.arrived_at):
        found[arrival.job_id].arrivals.append(arrival)
    for execution in evidence.executions:
        found[execution.job_id].executions.append(execution)
    for job_id in evidence.outstanding:
        found[job_id].is_outstanding = True
    for job_id, run in found.items():
        run.job_id = job_id
    return [found[job_id] for job_id in sorted(found)]


def _lost(run: _Run, lateness_seconds_max: float) -> Iterator[Breach]:
    """An accepted timer is called in its window; one for at most once may end uncertain instead."""
    if run.accepted is None:
        return
    if not run.arrivals:
        if not (run.is_at_most_once and run.ends == ["uncertain"]):
            yield Breach("lost", run.job_id, f"never called; {run.story}")
    elif (late_ms := _late_ms(run.arrivals[0])) > lateness_seconds_max * 1_000:
        yield Breach("lost", run.job_id, f"first called {late_ms:,.0f} ms late; {run.story}")


def _early(run: _Run) -> Iterator[Breach]:
    """Nothing comes before its instant, and that instant is not before the one asked for."""
    if run.job is None:
        return
    due_at = run.job.due_at
    starts = [row.started_at for row in run.executions if row.started_at is not None]
    if run.arrivals and run.arrivals[0].arrived_at * 1e6 < due_at:
        yield Breach("early", run.job_id, f"came at {run.arrivals[0].arrived_at:.6f}; {run.story}")
    elif starts and min(starts) * 1e6 < due_at - 1:  # a float holds a microsecond, hardly more
        yield Breach("early", run.job_id, f"started at {min(starts):.6f}; {run.story}")
    elif run.accepted and due_at < (run.accepted.asked_at + run.accepted.delay_seconds) * 1e6:
        yield Breach("early", run.job_id, f"planned before what was asked for; {run.story}")


def _doubled(run: _Run, casualties: Sequence[Casualty]) -> Iterator[Breach]:
    """A run is called again only if it was in flight with an executor that fell, and says so."""
    if len(run.arrivals) < 2:
        return
    if run.is_at_most_once:
        yield Breach("doubled", run.job_id, f"at most once came {len(run.arrivals)} times")
        return
    attempts = [arrival.attempt for arrival in run.arrivals]
    if len(set(attempts)) < len(attempts):
        yield Breach("doubled", run.job_id, f"attempts {attempts} arrived; {run.story}")
        return
    last = max(attempts)
    for arrival in run.arrivals:
        if arrival.attempt != last and not _was_abandoned(arrival, run.executions, casualties):
            detail = f"attempt {arrival.attempt} at {arrival.arrived_at:.3f} was not in flight"
            yield Breach("doubled", run.job_id, f"{detail} with one that fell; {run.story}")
            return


def _was_abandoned(
    arrival: Arrival, executions: Sequence[Execution], casualties: Sequence[Casualty]
) -> bool:
    """Whether history holds the rescue of this attempt from an executor that fell about then."""
    holders = {
        row.executor_id
        for row in executions
        if row.state == "abandoned" and row.attempt == arrival.attempt
    }
    return any(
        casualty.executor_id in holders and casualty.since <= arrival.begun_at <= casualty.until
        for casualty in casualties
    )


def _misdirected(run: _Run) -> Iterator[Breach]:
    """Each call is what was asked for under its id, and carries the one webhook-id of its run."""
    if run.job is None:
        if run.arrivals:
            yield Breach("misdirected", run.job_id, "was called, and no such job exists")
        return
    if run.accepted and run.accepted.path != run.job.path:
        detail = f"{run.accepted.path} was asked for, {run.job.path} is planned"
        yield Breach("misdirected", run.job_id, detail)
    for arrival in run.arrivals:
        if (arrival.due_at, arrival.path) != run.job:
            detail = f"{arrival.path} was called as due {arrival.due_at}, planned is {run.job}"
            yield Breach("misdirected", run.job_id, detail)
            return


def _ended_wrongly(run: _Run, casualties: Sequence[Casualty]) -> Iterator[Breach]:
    """The ledger adds up: one end for each run, and none that this receiver gave no cause for.

    It takes whatever comes. So nothing fails for good, and nothing is uncertain but what was for
    at most once, with an executor that fell.
    """
    if len(run.ends) != 1 or run.is_outstanding:
        where = "still in the queue" if run.is_outstanding else "not in the queue"
        yield Breach("ledger", run.job_id, f"{len(run.ends)} ends, {where}; {run.story}")
        return
    [end] = (row for row in run.executions if row.state in FINAL)
    if end.state == "failed":
        yield Breach("ledger", run.job_id, f"failed, though nobody refused it; {run.story}")
    elif end.state == "uncertain":
        fallen = {casualty.executor_id for casualty in casualties}
        if not run.is_at_most_once or end.executor_id not in fallen:
            yield Breach("ledger", run.job_id, f"uncertain without a cause; {run.story}")


def _late_ms(arrival: Arrival) -> float:
    return arrival.arrived_at * 1e3 - arrival.due_at / 1e3


def _percentiles(lateness_ms: Sequence[float]) -> tuple[float, float, float]:
    if not lateness_ms:
        return 0.0, 0.0, 0.0
    in_order = sorted(lateness_ms)
    p50, p99 = (in_order[int((len(in_order) - 1) * share)] for share in (0.5, 0.99))
    return p50, p99, in_order[-1]
