"""When the next occurrence is: pure arithmetic, for whoever creates, previews or claims."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from shared.recurrence.cron import Cron, parse_cron
from shared.recurrence.rrule import Rrule
from shared.recurrence.rrule_text import parse_rrule, replace_count
from shared.recurrence.rule import MICROSECONDS, Fold, Recurrence
from shared.recurrence.wall_clock import Landing, land, local, zone_named

_MICROSECOND = timedelta(microseconds=1)
# What each call costs at most is bounded by the rules themselves; this bounds how many are made.
PREVIEWED_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Previewed:
    """One occurrence as a person sees it: the instant, and the wall clock time that the rule names.

    `shifted`: the clocks skip that local time, and it moved to the end of the gap. `dropped`: they
    skip it, and so does the job; `at` is None. `doubled`: the same local time for the second time.
    """

    at: datetime | None
    local: datetime
    note: str | None


def next_after(rule: Recurrence, after: datetime) -> datetime | None:
    """Answer the next occurrence, in UTC, strictly later than `after`; None when there is no more.

    Takes well under a millisecond for usual rules, and is bounded for any rule that passed `check`.
    Rules and instants that many jobs share are answered from memory. Raises InvalidRule for a rule
    that would not pass (any more: a zone may leave the time zone data).
    """
    after = after.astimezone(UTC)
    if rule.starts_at is not None and after < rule.starts_at:
        after = rule.starts_at.astimezone(UTC) - _MICROSECOND
    at = _next_of_kind(_kind(rule), after)
    return None if at is None or (rule.ends_at is not None and at > rule.ends_at) else at


def occurrences(rule: Recurrence, after: datetime, *, until: datetime, most: int) -> list[datetime]:
    """List at most `most` later than `after`, up to and including `until`, earliest first."""
    found: list[datetime] = []
    while len(found) < most:
        at = next_after(rule, found[-1] if found else after)
        if at is None or at > until:
            break
        found.append(at)
    return found


def last_within(rule: Recurrence, after: datetime, *, until: datetime) -> datetime | None:
    """Answer the latest occurrence later than `after`, up to and including `until`; None for none.

    It halves the time in between, some forty looks for a year, and does not go through what may be
    a million missed occurrences.
    """
    low = next_after(rule, after)
    if low is None or low > until:
        return None
    nothing_after = until.astimezone(UTC)
    while low < nothing_after:
        middle = low + (nothing_after - low) // 2
        at = next_after(rule, middle)
        if at is not None and at <= until:
            low = at
        else:
            nothing_after = middle
    return low


def preview(rule: Recurrence, after: datetime, *, count: int) -> list[Previewed]:
    """List the next `count` occurrences, with what the changes of the clocks make of them.

    Those that are dropped are listed and counted too. A rule that follows real time drops and
    shifts nothing. `max_runs` is the caller's to cut off.
    """
    if rule.starts_at is not None and after < rule.starts_at:
        after = rule.starts_at - _MICROSECOND
    after = after.astimezone(UTC)
    zone = zone_named(rule.timezone)
    found = []
    for landing in islice(_landings(rule, after, zone), min(count, PREVIEWED_MAX)):
        at = None if landing.at is None else landing.at.replace(tzinfo=UTC)
        if rule.ends_at is not None and _reaches(landing, zone) > rule.ends_at:
            break
        found.append(Previewed(at, landing.wall, landing.note))
    return found


def without_count(rule: Recurrence) -> Recurrence:
    """Replace the COUNT of an RRULE by the UNTIL that it comes to.

    To be called once, before a rule is kept: COUNT would be counted out from DTSTART again by each
    process that reads it. Raises InvalidRule as `check` does. Other rules are answered as they are.
    """
    if rule.rrule is None:
        return rule
    text = replace_count(rule.rrule, _start(rule, zone_named(rule.timezone)))
    return rule if text == rule.rrule else replace(rule, rrule=text)


def parsed(rule: Recurrence) -> Cron | Rrule | None:
    """Parse the text of a rule; None for an interval, which has none. Raises InvalidRule."""
    if rule.cron is not None:
        return parse_cron(rule.cron)
    if rule.rrule is not None:
        return parse_rrule(rule.rrule, _start(rule, zone_named(rule.timezone)))
    return None


def _kind(rule: Recurrence) -> Recurrence:
    """Leave out what differs from job to job and does not move an instant."""
    return Recurrence(
        cron=rule.cron,
        every_seconds=rule.every_seconds,
        rrule=rule.rrule,
        timezone=rule.timezone,
        anchor=None if rule.cron is not None else rule.origin,
        gap=rule.gap,
        fold=rule.fold,
    )


@lru_cache(maxsize=8_192)
def _next_of_kind(kind: Recurrence, after: datetime) -> datetime | None:
    for landing in _landings(kind, after, zone_named(kind.timezone)):
        if landing.at is not None:
            return landing.at.replace(tzinfo=UTC)
    return None


def _landings(rule: Recurrence, after: datetime, zone: ZoneInfo) -> Iterator[Landing]:
    """Yield every landing in order; ends with the year 9999."""
    naive = after.replace(tzinfo=None)
    try:
        how = parsed(rule)
        if how is None:
            yield from _at_intervals(rule, naive, zone)
            return
        gap, fold = (None, Fold.BOTH) if how.follows_real_time else (rule.gap, rule.fold)
        until = how.until if isinstance(how, Rrule) else None
        for landing in land(how.first_from, zone, naive, gap=gap, fold=fold):
            if until is not None and landing.at is not None and landing.at > until:
                return
            yield landing
    except OverflowError:
        return


def _at_intervals(rule: Recurrence, after: datetime, zone: ZoneInfo) -> Iterator[Landing]:
    """Whole microseconds, so that no occurrence drifts from `anchor + n × every`."""
    if rule.every_seconds is None:
        return
    every = timedelta(microseconds=round(rule.every_seconds * MICROSECONDS))
    anchor = rule.origin.astimezone(UTC).replace(tzinfo=None)
    at = anchor + ((after - anchor) // every + 1) * every
    while True:
        yield Landing(at, local(zone, at), None)
        at += every


def _reaches(landing: Landing, zone: ZoneInfo) -> datetime:
    """The instant by which a landing counts as reached, dropped or not."""
    if landing.at is not None:
        return landing.at.replace(tzinfo=UTC)
    return landing.wall.replace(tzinfo=zone).astimezone(UTC)


def _start(rule: Recurrence, zone: ZoneInfo) -> datetime:
    return local(zone, rule.origin.astimezone(UTC).replace(tzinfo=None))
