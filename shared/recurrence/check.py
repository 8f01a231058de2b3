"""Whether a rule may be kept: everything that is refused, with its remedy."""

from dataclasses import replace
from datetime import UTC, datetime

from shared.recurrence.instants import next_after, parsed
from shared.recurrence.rrule import Rrule
from shared.recurrence.rule import (
    EVERY_SECONDS_MAX,
    JITTER_SECONDS_MAX,
    InvalidRule,
    Recurrence,
    is_every,
)
from shared.recurrence.wall_clock import local, zone_named


def check(rule: Recurrence, *, now: datetime) -> None:
    """Raise InvalidRule for a rule that cannot be read, never occurs again, or costs too much.

    Bounded by construction, in time and memory, with no need of a process to kill: texts, lists,
    intervals and counts have limits; cronsim looks at 50 years; dateutil's steps are counted and
    cut off. Usual rules take a millisecond, the worst of 3,000 that were made to hurt 0.3 seconds:
    call it in a thread where requests are served. What passes may be given to `next_after` at any
    later time, which has four times the limits that held here.
    """
    _check_numbers(rule)
    _check_bounds(rule)
    zone = zone_named(rule.timezone)
    how = parsed(rule)
    start = max(now, rule.starts_at) if rule.starts_at is not None else now
    if isinstance(how, Rrule):
        low = local(zone, start.astimezone(UTC).replace(tzinfo=None, microsecond=0))
        if how.first_from(low, steps_factor=1) is None:
            raise InvalidRule("rrule", _NEVER)
        how.refuse_crowds(low)
    if next_after(replace(rule, ends_at=None), now) is None:
        raise InvalidRule(_way(rule), _NEVER)
    if next_after(rule, now) is None:
        raise InvalidRule("ends_at", "It ends before it occurs once: choose a later end.")


_NEVER = "It never occurs (again), or not for many years: name days and times to come."


def _way(rule: Recurrence) -> str:
    if rule.cron is not None:
        return "cron"
    return "rrule" if rule.rrule is not None else "every"


def _check_numbers(rule: Recurrence) -> None:
    ways = (rule.cron, rule.every_seconds, rule.rrule)
    if sum(way is not None for way in ways) != 1:
        raise InvalidRule("cron", "Give exactly one of `cron`, `every` and `rrule`.")
    if rule.every_seconds is not None and not is_every(rule.every_seconds):
        raise InvalidRule("every", f"Use 1 to {EVERY_SECONDS_MAX:.0f} seconds.")
    if not 0 <= rule.jitter_seconds <= JITTER_SECONDS_MAX:
        raise InvalidRule("jitter", f"Use 0 to {JITTER_SECONDS_MAX:.0f} seconds.")
    if rule.max_runs is not None and rule.max_runs < 1:
        raise InvalidRule("max_runs", "Use 1 or more, or leave it out for no limit.")


def _check_bounds(rule: Recurrence) -> None:
    for field in ("anchor", "starts_at", "ends_at"):
        instant: datetime | None = getattr(rule, field)
        if instant is not None and instant.tzinfo is None:
            raise InvalidRule(field, "Name an instant, with its offset from UTC.")
    if rule.starts_at is not None and rule.ends_at is not None and rule.ends_at < rule.starts_at:
        raise InvalidRule("ends_at", "Choose an end that is not before `starts_at`.")
    if rule.cron is None:
        _ = rule.origin
