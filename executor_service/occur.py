"""Occurrences: what becomes of each next occurrence that is due, and which one comes after it.

A job that recurs has one next occurrence in the queue. When it is due, one of four things happens,
in the transaction of the claim: it occurs, and the one after it is made; it is passed over, with
others that were missed; it waits for the run before it; or its job is not active any more.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog
from prometheus_client import Counter

from shared import database
from shared.events import Event, of_job, of_run, of_runs
from shared.recurrence import CatchUp, Overlap, Recurrence, next_after, occurrences
from shared.runs import moves
from shared.runs.lifecycle import JobState
from shared.runs.moves import Head, Occurrence, PassedOver

# Rows that one statement may add to history: what was missed over weeks is passed over in steps.
PASSED_MAX = 1_000
# How many of the occurrences that were missed are made up for.
CAUGHT_UP_MAX = {CatchUp.NONE: 0, CatchUp.ONE: 1, CatchUp.ALL: 100}
# How soon what waits for the run before it is looked at again.
WAIT_SECONDS = 1.0
MISSED = "catch_up: the occurrence was missed"
OVERLAPS = "overlap: the run before it has not ended"

OCCURRED = Counter(
    "onthedot_occurrences", "Next occurrences that came due, by what became of them.", ["move"]
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

log = structlog.stdlib.get_logger(__name__)


class Early(NamedTuple):
    """Whether the run before it is still at it then is to be seen when it is due."""

    head: Head


class Waiting(NamedTuple):
    """It comes after the run that is still at it."""

    head: Head


class NotActive(NamedTuple):
    """Its job was paused or ended, or cannot go on: there is no telling what comes next."""

    head: Head
    is_broken: bool = False


Decision = Occurrence | PassedOver | Early | Waiting | NotActive


class Occurred(NamedTuple):
    """How many next occurrences were dealt with, and when the first of the others is due."""

    dealt_with: int
    due_in_seconds: float | None


async def let_occur(
    connection: database.Connection,
    *,
    late_seconds: float,
    ahead_seconds: float,
    missed_after_seconds: float,
    most: int,
    told: list[Event] | None = None,
) -> Occurred:
    """Deal with the next occurrences due in a window around now, in the caller's transaction.

    What occurs may be claimed by the caller's next statement. `told` gathers what is to be told
    once the caller has committed.
    """
    heads = await moves.heads(
        connection, late_seconds=late_seconds, ahead_seconds=ahead_seconds, most=most
    )
    if not heads:
        return Occurred(0, None)
    # Most rules are reckoned in microseconds, and some in milliseconds: not in the event loop.
    decisions = await asyncio.to_thread(
        lambda: [decide(head, missed_after_seconds=missed_after_seconds) for head in heads]
    )
    owners = {head.job_id: head.application_id for head in heads}
    moved = await _move(connection, decisions, owners)
    if told is not None:
        told += moved
    early = [each.head for each in decisions if isinstance(each, Early)]
    due_in = min(((head.due_at - head.now) / 1e6 for head in early), default=None)
    return Occurred(len(heads) - len(early), due_in)


def decide(head: Head, *, missed_after_seconds: float) -> Decision:
    """Say what becomes of a next occurrence that is due."""
    if head.job_state != JobState.ACTIVE:
        return NotActive(head)
    try:
        rule = Recurrence.read(head.recurrence)
        spread_seconds = rule.spread_seconds(head.job_id)
        if put_off := _put_off(head, rule):
            return put_off
        passed, next_for = _missed(head, rule, spread_seconds, missed_after_seconds)
        if passed:
            return _pass_over(head, passed, next_for, spread_seconds, MISSED)
        next_for = _after(rule, head.scheduled_for)
    except Exception:
        # It was reckoned when the job was made; so this is a row that another hand wrote, or a
        # time zone that is gone. Its job stops, and says so, and holds up nobody else's.
        log.exception("recurrence.cannot_be_reckoned", job_id=head.job_id)
        return NotActive(head, is_broken=True)
    if head.is_busy and rule.overlap is Overlap.SKIP:
        return _pass_over(head, [head.scheduled_for], next_for, spread_seconds, OVERLAPS)
    if rule.max_runs is not None and head.runs_begun + 1 >= rule.max_runs:
        next_for = None
    queues = rule.overlap is Overlap.QUEUE
    return Occurrence(head.job_id, head.scheduled_for, next_for, spread_seconds, queues)


def _put_off(head: Head, rule: Recurrence) -> Decision | None:
    """Say what keeps an occurrence beside a run that is still at it from being decided on now."""
    if not head.is_busy or rule.overlap is Overlap.ALLOW:
        return None
    if head.due_at > head.now:
        return Early(head)
    return Waiting(head) if rule.overlap is Overlap.QUEUE else None


def _missed(
    head: Head, rule: Recurrence, spread_seconds: float, missed_after_seconds: float
) -> tuple[list[int], int | None]:
    """Say which occurrences from this one on are to be passed over, and the first one that is not.

    Missed is what is overdue by `missed_after_seconds`. Then all that is due by now counts, and the
    newest of it are caught up with, as many as the job wants; the others are passed over, in steps.
    One that waited for a run was not missed meanwhile.
    """
    spread, patience = int(spread_seconds * 1e6), int(missed_after_seconds * 1e6)
    waited = rule.overlap is Overlap.QUEUE
    due_at = max(head.scheduled_for + spread, head.due_at if waited else 0)
    if due_at >= head.now - patience:
        return [], None
    kept = CAUGHT_UP_MAX[rule.catch_up]
    horizon = head.now - spread - (patience if rule.catch_up is CatchUp.NONE else 0)
    later = occurrences(
        rule, _instant(head.scheduled_for), until=_instant(horizon), most=PASSED_MAX + kept
    )
    missed = [head.scheduled_for, *map(_microseconds, later)]
    size = len(missed) - kept if len(later) < PASSED_MAX + kept else PASSED_MAX
    if size <= 0:
        return [], None
    passed, rest = missed[:size], missed[size:]
    return passed, rest[0] if rest else _after(rule, passed[-1])


def _pass_over(
    head: Head, passed: Sequence[int], next_for: int | None, spread_seconds: float, reason: str
) -> PassedOver:
    return PassedOver(head.job_id, head.scheduled_for, passed, next_for, spread_seconds, reason)


def _after(rule: Recurrence, microseconds: int) -> int | None:
    found = next_after(rule, _instant(microseconds))
    return None if found is None else _microseconds(found)


def _instant(microseconds: int) -> datetime:
    return EPOCH + microseconds * MICROSECOND


def _microseconds(instant: datetime) -> int:
    return (instant - EPOCH) // MICROSECOND


async def _move(
    connection: database.Connection,
    decisions: Sequence[Decision],
    owners: Mapping[int, int],
) -> list[Event]:
    """Make the moves that were decided; answer what there is to tell of it."""
    told: list[Event] = []
    occurring = [each for each in decisions if isinstance(each, Occurrence)]
    waiting = [each.head for each in decisions if isinstance(each, Waiting)]
    if occurring:
        moved = set(await moves.occur(connection, occurring))
        OCCURRED.labels("occur").inc(len(moved))
        for planned in occurring:
            if planned.job_id in moved:
                told += _planned(planned, owners[planned.job_id])
    for each in decisions:
        if isinstance(each, PassedOver) and await moves.pass_over(connection, each):
            OCCURRED.labels("pass_over").inc(len(each.passed))
            owner = owners[each.job_id]
            told += [of_run("run.skipped", owner, each.job_id, passed) for passed in each.passed]
            told += _planned(each, owner)
    if waiting:
        await moves.wait(connection, waiting, seconds=WAIT_SECONDS)
    stopped = [each for each in decisions if isinstance(each, NotActive)]
    return told + await _stop(connection, stopped)


def _planned(moved: Occurrence | PassedOver, owner: int) -> list[Event]:
    if moved.next_for is None:
        return []
    return [of_run("run.pending", owner, moved.job_id, moved.next_for)]


async def _stop(connection: database.Connection, stopped: Sequence[NotActive]) -> list[Event]:
    """Hold what a paused job left in the queue, and cancel what an ended one did."""
    told: list[Event] = []
    broken = {each.head.job_id: each.head.application_id for each in stopped if each.is_broken}
    if broken:
        paused = await moves.pause_recurring(connection, list(broken))
        told += [of_job("job.paused", broken[job_id], job_id) for job_id in paused]
    for each in stopped:
        if each.head.job_state == JobState.ENDED:
            cancelled = await moves.cancel(connection, job_id=each.head.job_id, application_id=None)
            told += of_runs("run.cancelled", cancelled)
    held = [each.head.job_id for each in stopped if each.head.job_state != JobState.ENDED]
    if held:
        await moves.hold(connection, held)
    return told
