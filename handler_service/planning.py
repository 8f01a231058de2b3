"""Planning: from what a caller says of when a job runs to the instant of its first run."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from handler_service.problems import InvalidRequest
from handler_service.schemas import instants
from handler_service.schemas.when import FIELDS, KINDS, RECURRING, DstIn
from handler_service.violations import Violation
from shared.recurrence import (
    CatchUp,
    Fold,
    Gap,
    InvalidRule,
    Overlap,
    Recurrence,
    check,
    instant_of,
    next_after,
    without_count,
)

# An instant may lie back as far as a request may take to come, and its sender's clock be wrong.
PAST_SECONDS_MAX = 60.0
MILLISECOND = timedelta(milliseconds=1)
LAST_INSTANT = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


class Planned(NamedTuple):
    """When a job runs first: at `run_at`, or after `delay_seconds` of the database's clock."""

    run_at: int | None  # epoch microseconds
    delay_seconds: float
    recurrence: Recurrence | None = None

    @property
    def jitter_seconds(self) -> float | None:
        """Within how long after each instant its runs are spread; None: not."""
        return None if self.recurrence is None else self.recurrence.jitter_seconds or None


class Going(NamedTuple):
    """Where a job that recurs stands; instants in epoch microseconds."""

    next_for: int
    last_for: int | None  # no occurrence is made twice, nor one before it


async def plan(
    said: Mapping[str, Any], *, now: datetime, place: str = "#", going: Going | None = None
) -> Planned:
    """Plan a job; `said` has a value, or None, for each of `schemas.when.FIELDS`.

    `now` is the database's clock; `going` says where a job that recurs already stands. Raises
    InvalidRequest, which points below `place`.
    """
    if any(said[name] is not None for name in RECURRING):
        rule = await recurrence_of(said, now=now, place=place)
        # From memory, unless it goes on: the check has reckoned it.
        first = next_after(rule, now) if going is None else await first_of(rule, now, going)
        if first is None:
            raise _invalid(place, _kind(said), "Never occurs; choose a time that lies ahead.")
        # Announced when it is soon; its place in the jitter is Postgres's to say.
        delay_seconds = (first - now).total_seconds()
        return Planned(instants.microseconds(first), delay_seconds, rule)
    if said["run_at"] is not None:
        return _once(said, now, place)
    delay_seconds = said["delay"] or 0.0
    if delay_seconds > (LAST_INSTANT - now).total_seconds():
        raise _invalid(place, "delay", "Must end in the year 9999 at the latest.")
    return Planned(None, delay_seconds)


def needs_the_clock(said: Mapping[str, Any]) -> bool:
    """Whether planning this takes more than the delay, which Postgres adds to its own clock."""
    return any(said[name] is not None for name in KINDS if name != "delay")


def said_by(recurrence: Recurrence) -> dict[str, Any]:
    """Answer a recurrence in a caller's words, for a change to be laid over."""
    said = dict.fromkeys(FIELDS)
    said |= {
        "cron": recurrence.cron,
        "every": recurrence.every_seconds,
        "rrule": recurrence.rrule,
        "anchor": recurrence.anchor,
        "starts_at": recurrence.starts_at,
        "ends_at": recurrence.ends_at,
        "max_runs": recurrence.max_runs,
        "jitter": recurrence.jitter_seconds or None,
        "catch_up": recurrence.catch_up,
        "overlap": recurrence.overlap,
    }
    if recurrence.every_seconds is None:
        said["timezone"] = recurrence.timezone
        said["dst"] = DstIn(gap=recurrence.gap, fold=recurrence.fold)
    return said


async def recurrence_of(said: Mapping[str, Any], *, now: datetime, place: str = "#") -> Recurrence:
    """Make a sound recurrence of what a caller says; raises InvalidRequest."""
    dst = said["dst"] or DstIn()
    anchor = said["anchor"] or said["starts_at"] or now
    rule = Recurrence(
        cron=said["cron"],
        every_seconds=None if said["every"] is None else round(said["every"], 3),
        rrule=said["rrule"],
        timezone=said["timezone"] or "UTC",
        # Planned instants are whole milliseconds: as exact as they are answered.
        anchor=None if said["cron"] is not None else _whole_milliseconds(anchor),
        starts_at=said["starts_at"],
        ends_at=said["ends_at"],
        max_runs=said["max_runs"],
        jitter_seconds=said["jitter"] or 0.0,
        gap=dst.gap,
        fold=dst.fold,
        catch_up=said["catch_up"] or CatchUp.ONE,
        overlap=said["overlap"] or Overlap.ALLOW,
    )
    try:
        return await asyncio.to_thread(_checked, rule, now)
    except InvalidRule as refusal:
        raise _invalid(place, refusal.field, refusal.message) from None


async def first_of(rule: Recurrence, now: datetime, going: Going) -> datetime | None:
    """Answer when a job that recurs is next, by a sound rule: after what was made of it.

    What is due and was not made yet, as it waits or is put off, stays if the rule still has it.
    """
    stands = instants.from_microseconds(going.next_for)
    last = instants.FIRST
    if going.last_for is not None:
        last = instants.from_microseconds(going.last_for)

    def first() -> datetime | None:
        if last < stands <= now and next_after(rule, stands - MILLISECOND) == stands:
            return stands
        return next_after(rule, max(now, last))

    return await asyncio.to_thread(first)


def _checked(rule: Recurrence, now: datetime) -> Recurrence:
    rule = without_count(rule)
    check(rule, now=now)
    return rule


def _once(said: Mapping[str, Any], now: datetime, place: str) -> Planned:
    run_at: datetime | None = said["run_at"]
    assert run_at is not None  # noqa: S101  # asked by the caller
    if run_at.tzinfo is None:
        dst = said["dst"] or DstIn()
        if dst.fold is Fold.BOTH:
            raise _invalid(place, "dst/fold", "Must be first or second: this job runs once.")
        run_at = _instant(run_at, said["timezone"], dst.gap, dst.fold, place)
    delay_seconds = (run_at - now).total_seconds()
    if delay_seconds < -PAST_SECONDS_MAX:
        message = "Lies in the past; choose an instant ahead, or leave it out to run at once."
        raise _invalid(place, "run_at", message)
    if run_at > LAST_INSTANT:
        raise _invalid(place, "run_at", "Must lie in the year 9999 at the latest.")
    return Planned(instants.microseconds(run_at), max(0.0, delay_seconds))


def _instant(wall: datetime, timezone: str, gap: Gap, fold: Fold, place: str) -> datetime:
    try:
        run_at = instant_of(wall, timezone, gap=gap, fold=fold)
    except InvalidRule as refusal:
        raise _invalid(place, refusal.field, refusal.message) from None
    if run_at is None:
        raise _invalid(place, "run_at", "The clocks skip that local time; choose another.")
    return run_at


def _kind(said: Mapping[str, Any]) -> str:
    return next(name for name in RECURRING if said[name] is not None)


def _whole_milliseconds(instant: datetime) -> datetime:
    return instant - timedelta(microseconds=instant.microsecond % 1_000)


def _invalid(place: str, field: str, message: str) -> InvalidRequest:
    return InvalidRequest([Violation(f"{place}/{field}", message)])
