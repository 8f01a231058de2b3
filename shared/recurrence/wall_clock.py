"""Local times to instants, across every change of the clocks.

Neither cron nor RRULE is asked about zones: they name local times, and this module alone says when
those are.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from shared.recurrence.rule import Fold, Gap, InvalidRule

SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
# No change of the clocks skips or repeats more: crossing the date line takes a day.
CHANGE_MAX = 2 * _DAY
_ZONE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_ZONE_NAME_LENGTH_MAX = 64
# Files beside the zones: what they say differs from machine to machine, or is no time at all.
_NO_ZONES = frozenset({"localtime", "Factory", "posixrules"})


class Change(NamedTuple):
    """The clocks of a zone are set from one offset to another; `at` is naive, in UTC."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def wall_before(self) -> datetime:
        """What the clocks would have shown at the change, had they not been set."""
        return self.at + self.before

    @property
    def wall_after(self) -> datetime:
        """What the clocks show from the change on."""
        return self.at + self.after


class Landing(NamedTuple):
    """A local time that a rule names, and the naive UTC instant where it lands; None: dropped."""

    at: datetime | None
    wall: datetime
    note: str | None


# Answers the first local time at or after another that a rule names; None when there are no more.
FirstFrom = Callable[[datetime], datetime | None]


@lru_cache(maxsize=1_024)
def zone_named(name: str) -> ZoneInfo:
    """Look up a zone by its IANA name; raises InvalidRule, with the nearest names, for others."""
    is_name = len(name) <= _ZONE_NAME_LENGTH_MAX and _ZONE_NAME.fullmatch(name)
    if is_name and name not in _NO_ZONES:
        try:
            return ZoneInfo(name)
        except (LookupError, ValueError, OSError):
            pass  # said below
    near = get_close_matches(name[:_ZONE_NAME_LENGTH_MAX], _zone_names(), n=3, cutoff=0.7)
    hint = f"did you mean {' or '.join(near)}?" if near else "for example Europe/Berlin or UTC."
    raise InvalidRule("timezone", f"There is no such time zone; use an IANA name, {hint}")


def local(zone: ZoneInfo, instant: datetime) -> datetime:
    """What the clocks of a zone show at a naive UTC instant."""
    return instant.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None, fold=0)


def land(
    first_from: FirstFrom, zone: ZoneInfo, after: datetime, *, gap: Gap | None, fold: Fold
) -> Iterator[Landing]:
    """Yield where the local times of a rule land, strictly after a naive UTC instant, in order.

    Between two changes of the clocks local time is UTC plus an offset, so that each such stretch is
    walked by itself; what a change skips or repeats is decided on the way into the next. A gap of
    None says that the rule follows real time: what was skipped was never to be. All local times
    that one gap moves to its end make one landing. A repeated local time that lands twice is
    `doubled` the second time.
    """
    look = _remembering(first_from)
    since = after.replace(microsecond=0)
    offset, last, low = _stretch_at(zone, since)
    while True:
        if last is not None and fold is Fold.FIRST:
            low = max(low, last.wall_before)
        wall = look(low)
        if wall is not None and wall - offset > since + 3 * CHANGE_MAX:
            coming = next(_changes(zone, since, since + CHANGE_MAX), None)
            if coming is None:  # no local time is named before, and none will be repeated
                since = wall - offset - CHANGE_MAX
                offset, last, low = _stretch_at(zone, since)
                continue
        else:
            until = since if wall is None else wall - offset
            coming = next(_changes(zone, since, until + CHANGE_MAX), None)
        if wall is not None and (coming is None or wall < _end_of_stretch(coming, fold)):
            is_second = last is not None and wall < last.wall_before and fold is Fold.BOTH
            since, low = wall - offset, wall + SECOND
            yield Landing(since, wall, "doubled" if is_second else None)
            continue
        if coming is None:
            return
        since, offset, last = coming.at, coming.after, coming
        low = since + offset
        for landing in _into_gap(look, coming, gap):
            if landing.at is not None:
                low += SECOND
            yield landing


def _stretch_at(zone: ZoneInfo, since: datetime) -> tuple[timedelta, Change | None, datetime]:
    """Answer the offset, the change that was just before, and the first local time to look at."""
    offset = _offset_at(zone, since)
    last = max(_changes(zone, since - CHANGE_MAX, since), default=None)
    return offset, last, since + offset + SECOND


def _end_of_stretch(coming: Change, fold: Fold) -> datetime:
    """The local time at which a stretch ends: where it will be repeated, if the second counts."""
    if fold is Fold.SECOND:
        return min(coming.wall_before, coming.wall_after)
    return coming.wall_before


def _into_gap(look: FirstFrom, change: Change, gap: Gap | None) -> Iterator[Landing]:
    wall = look(change.wall_before) if gap is not None else None
    while wall is not None and wall < change.wall_after:
        if gap is Gap.AFTER:
            yield Landing(change.at, wall, "shifted")
            return
        yield Landing(None, wall, "dropped")
        wall = look(wall + SECOND)


def _remembering(first_from: FirstFrom) -> FirstFrom:
    """Ask once for what a stretch without any local time has answered already."""
    asked: datetime | None = None
    answered: datetime | None = None

    def look(low: datetime) -> datetime | None:
        nonlocal asked, answered
        if asked is None or low < asked or (answered is not None and answered < low):
            asked, answered = low, first_from(low)
        return answered

    return look


def _offset_at(zone: ZoneInfo, instant: datetime) -> timedelta:
    return local(zone, instant) - instant


def _changes(zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[Change]:
    """The changes later than one naive UTC instant, up to another."""
    for year in range(since.year, until.year + 1):
        for change in _changes_of_year(zone, year):
            if change.at > until:
                return
            if change.at > since:
                yield change


@lru_cache(maxsize=4_096)
def _changes_of_year(zone: ZoneInfo, year: int) -> tuple[Change, ...]:
    """Find them by looking at each day: `zoneinfo` does not tell them."""
    changes = []
    low = datetime(year, 1, 1) - SECOND  # noqa: DTZ001  # UTC, as all naive instants here
    end = datetime(year, 12, 31, 23, 59, 59)  # noqa: DTZ001
    before = _offset_at(zone, low)
    while low < end:
        high = min(low + _DAY, end)
        after = _offset_at(zone, high)
        if after != before:
            changes.append(Change(_first_with_another(zone, low, high, before), before, after))
        low, before = high, after
    return tuple(changes)


def _first_with_another(
    zone: ZoneInfo, low: datetime, high: datetime, before: timedelta
) -> datetime:
    while high - low > SECOND:
        middle = low + (high - low) // SECOND // 2 * SECOND
        if _offset_at(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


@lru_cache(maxsize=1)
def _zone_names() -> tuple[str, ...]:
    return tuple(sorted(available_timezones() - _NO_ZONES))
