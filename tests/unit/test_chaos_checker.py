"""The chaos checker says when a promise is broken: a judge who acquits everybody is a defect."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.checker import (
    Accepted,
    Arrival,
    Casualty,
    Evidence,
    Execution,
    Job,
    Verdict,
    check,
)

ASKED_AT = 1_000_000.0
DUE = 1_000_002.0
DUE_US = 1_000_002_000_000
AT_LEAST_ONCE = "/ok/at_least_once/1"
AT_MOST_ONCE = "/ok/at_most_once/1"
FELL = Casualty("victim", since=DUE - 1, until=DUE + 1)
ABANDONED = Execution(1, 1, "abandoned", "victim")


def arrival(
    *,
    at: float = DUE + 0.002,
    attempt: int = 1,
    path: str = AT_LEAST_ONCE,
    signed_at: float | None = None,
) -> Arrival:
    return Arrival(1, DUE_US, attempt, path, at, at if signed_at is None else signed_at)


def done(*, attempt: int = 1, started_at: float = DUE + 0.001) -> Execution:
    return Execution(1, attempt, "done", "survivor", started_at)


def evidence(*, path: str = AT_LEAST_ONCE, **what_happened: Any) -> Evidence:
    """One timer that was accepted, came once and was recorded; then what is said otherwise."""
    usual = Evidence(
        accepted=[Accepted(1, path, 1.0, ASKED_AT)],
        arrivals=[arrival(path=path)],
        jobs={1: Job(DUE_US, path)},
        executions=[done()],
        outstanding=frozenset(),
    )
    return replace(usual, **what_happened)


def judge(case: Evidence) -> Verdict:
    return check(case, lateness_seconds_max=10.0)


def broken(case: Evidence) -> set[str]:
    return {breach.promise for breach in judge(case).breaches}


@pytest.mark.parametrize("path", [AT_LEAST_ONCE, AT_MOST_ONCE])
def test_a_timer_that_came_once_in_its_window_breaks_no_promise(path: str) -> None:
    verdict = judge(evidence(path=path))
    assert verdict.is_kept
    assert (verdict.accepted, verdict.fired) == (1, 1)
    assert (verdict.lost, verdict.duplicated, verdict.early, verdict.uncertain) == (0, 0, 0, 0)
    assert verdict.lateness_ms == pytest.approx((2, 2, 2), abs=0.01)


def test_a_timer_that_never_came_is_lost() -> None:
    verdict = judge(evidence(arrivals=[]))
    assert verdict.lost == 1
    assert "lost" in broken(evidence(arrivals=[]))


def test_a_timer_of_which_the_database_knows_nothing_is_lost() -> None:
    case = evidence(arrivals=[], jobs={}, executions=[])
    assert broken(case) == {"lost", "ledger"}


def test_a_timer_that_came_after_its_window_is_lost() -> None:
    case = evidence(arrivals=[arrival(at=DUE + 10.001)])
    assert broken(case) == {"lost"}
    assert broken(evidence(arrivals=[arrival(at=DUE + 9.999)])) == set()


def test_a_timer_that_came_before_its_instant_is_early_by_however_little() -> None:
    case = evidence(arrivals=[arrival(at=DUE - 0.000_01)])
    assert broken(case) == {"early"}
    assert judge(case).early == 1


def test_an_attempt_that_was_started_before_the_instant_is_early() -> None:
    assert broken(evidence(executions=[done(started_at=DUE - 0.001)])) == {"early"}


def test_an_instant_before_the_one_asked_for_is_early() -> None:
    case = evidence(accepted=[Accepted(1, AT_LEAST_ONCE, 3.0, ASKED_AT)])
    assert broken(case) == {"early"}


def test_a_timer_that_came_twice_without_any_fault_is_doubled() -> None:
    case = evidence(arrivals=[arrival(), arrival(at=DUE + 5, attempt=2)])
    assert broken(case) == {"doubled"}
    assert judge(case).duplicated == 1


def test_a_second_call_is_permitted_after_a_rescue_from_one_that_fell() -> None:
    case = evidence(
        arrivals=[arrival(), arrival(at=DUE + 5, attempt=2)],
        executions=[ABANDONED, done(attempt=2)],
        casualties=[FELL],
    )
    assert broken(case) == set()
    assert judge(case).duplicated == 1, "it is counted all the same"


def test_a_call_that_was_signed_before_its_sender_stalled_may_come_when_it_goes_on() -> None:
    late = FELL.until + 30
    case = evidence(
        arrivals=[arrival(at=DUE + 5, attempt=2), arrival(at=late, signed_at=DUE)],
        executions=[ABANDONED, done(attempt=2)],
        casualties=[FELL],
    )
    assert "doubled" not in broken(case)
    signed_late = [arrival(at=DUE + 5, attempt=2), arrival(at=late)]
    case = evidence(
        arrivals=signed_late, executions=[ABANDONED, done(attempt=2)], casualties=[FELL]
    )
    assert "doubled" in broken(case)


@pytest.mark.parametrize(
    ("reason", "otherwise"),
    [
        ("no rescue is recorded", {"executions": [done(attempt=2)]}),
        ("the rescue was of another attempt", {"executions": [ABANDONED._replace(attempt=2)]}),
        ("nobody fell", {"casualties": []}),
        ("another one fell", {"casualties": [FELL._replace(executor_id="other")]}),
        ("it fell later", {"casualties": [FELL._replace(since=DUE + 0.5)]}),
        ("it had fallen before", {"casualties": [FELL._replace(until=DUE)]}),
        ("both calls are one attempt", {"arrivals": [arrival(), arrival(at=DUE + 5)]}),
    ],
)
def test_a_second_call_is_doubled_when(reason: str, otherwise: dict[str, Any]) -> None:
    permitted: dict[str, Any] = {
        "arrivals": [arrival(), arrival(at=DUE + 5, attempt=2)],
        "executions": [ABANDONED, done(attempt=2)],
        "casualties": [FELL],
    }
    assert "doubled" in broken(evidence(**(permitted | otherwise))), reason


def test_at_most_once_that_came_twice_is_doubled_whoever_fell() -> None:
    case = evidence(
        path=AT_MOST_ONCE,
        arrivals=[
            arrival(path=AT_MOST_ONCE),
            arrival(path=AT_MOST_ONCE, at=DUE + 5, attempt=2),
        ],
        executions=[ABANDONED, done(attempt=2)],
        casualties=[FELL],
    )
    assert broken(case) == {"doubled"}


def test_at_most_once_that_came_twice_is_doubled_though_nobody_was_told_of_it() -> None:
    calls = [arrival(path=AT_MOST_ONCE), arrival(path=AT_MOST_ONCE, at=DUE + 5, attempt=2)]
    assert "doubled" in broken(evidence(path=AT_MOST_ONCE, accepted=[], arrivals=calls))


@pytest.mark.parametrize("calls", [[], [arrival(path=AT_MOST_ONCE)]])
def test_at_most_once_may_end_uncertain_with_one_that_fell(calls: list[Arrival]) -> None:
    uncertain = [Execution(1, 1, "uncertain", "victim")]
    case = evidence(path=AT_MOST_ONCE, arrivals=calls, executions=uncertain, casualties=[FELL])
    assert broken(case) == set()
    assert judge(case).uncertain == 1


def test_at_most_once_that_never_came_is_lost_unless_it_ended_uncertain() -> None:
    assert broken(evidence(path=AT_MOST_ONCE, arrivals=[])) == {"lost"}


def test_an_end_is_uncertain_without_a_cause_when_nobody_fell() -> None:
    uncertain = [Execution(1, 1, "uncertain", "survivor")]
    case = evidence(path=AT_MOST_ONCE, executions=uncertain, casualties=[FELL])
    assert broken(case) == {"ledger"}


def test_at_least_once_never_ends_uncertain() -> None:
    uncertain = [Execution(1, 1, "uncertain", "victim")]
    assert broken(evidence(executions=uncertain, casualties=[FELL])) == {"ledger"}
    assert "lost" in broken(evidence(arrivals=[], executions=uncertain, casualties=[FELL]))


@pytest.mark.parametrize(
    ("reason", "otherwise"),
    [
        ("it has no end", {"executions": []}),
        ("it has two ends", {"executions": [done(), done(attempt=2)]}),
        ("it has ended and is in the queue", {"outstanding": frozenset({1})}),
        ("it failed, though the receiver takes all", {"executions": [Execution(1, 1, "failed")]}),
    ],
)
def test_the_ledger_does_not_add_up_when(reason: str, otherwise: dict[str, Any]) -> None:
    assert broken(evidence(**otherwise)) == {"ledger"}, reason


def test_what_nobody_was_told_of_may_come_once_and_must_end_once() -> None:
    assert broken(evidence(accepted=[])) == set()
    assert judge(evidence(accepted=[])).duplicated == 0
    assert broken(evidence(accepted=[], executions=[])) == {"ledger"}
    twice = [arrival(), arrival(at=DUE + 1, attempt=2)]
    assert broken(evidence(accepted=[], arrivals=twice)) == {"doubled"}


@pytest.mark.parametrize(
    ("reason", "otherwise"),
    [
        ("its webhook-id holds another instant", {"jobs": {1: Job(DUE_US - 1, AT_LEAST_ONCE)}}),
        ("another path was planned", {"arrivals": [arrival(path="/ok/at_least_once/2")]}),
        ("another path was asked for", {"accepted": [Accepted(1, "/ok/2", 1.0, ASKED_AT)]}),
        ("no such job exists", {"jobs": {}}),
    ],
)
def test_a_call_is_misdirected_when(reason: str, otherwise: dict[str, Any]) -> None:
    assert "misdirected" in broken(evidence(**otherwise)), reason


def test_lateness_is_told_by_its_median_its_hundredth_worst_and_its_worst() -> None:
    jobs = range(1, 102)
    case = Evidence(
        accepted=[Accepted(job, f"/ok/at_least_once/{job}", 1.0, ASKED_AT) for job in jobs],
        arrivals=[
            Arrival(job, DUE_US, 1, f"/ok/at_least_once/{job}", DUE + job / 1_000, DUE)
            for job in jobs
        ],
        jobs={job: Job(DUE_US, f"/ok/at_least_once/{job}") for job in jobs},
        executions=[Execution(job, 1, "done") for job in jobs],
        outstanding=frozenset(),
    )
    verdict = judge(case)
    assert verdict.is_kept
    assert verdict.lateness_ms == pytest.approx((51, 100, 101), abs=0.01)
