"""Every change of the clocks from 2020 to 2040, against an oracle that walks each real minute.

The oracle knows nothing of our code: zoneinfo tells it what the clocks show in each minute of UTC,
and a rule is a set of numbers for each field.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.recurrence import Fold, Gap, Recurrence, next_after, occurrences, preview

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
COMPARED_MAX = 80
EXAMPLES = 40  # thirty times as many were tried when this was written


class Change(NamedTuple):
    zone: str
    at: datetime
    before: timedelta
    after: timedelta


def shown(zone: ZoneInfo, instant: datetime) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    there = instant.astimezone(zone).utcoffset()
    assert there is not None
    return there


def changes_of(name: str) -> Iterator[Change]:
    zone = ZoneInfo(name)
    week, before = datetime(2020, 1, 1, tzinfo=UTC), offset(zone, datetime(2020, 1, 1, tzinfo=UTC))
    while week.year < 2041:
        low, high = week, week + 7 * DAY
        after = offset(zone, high)
        if before != after:
            while high - low > MINUTE:
                middle = low + (high - low) // MINUTE // 2 * MINUTE
                low, high = (middle, high) if offset(zone, middle) == before else (low, middle)
            yield Change(name, high, before, after)
        week, before = week + 7 * DAY, after


@lru_cache(maxsize=1)
def all_changes() -> list[Change]:
    """Those of every zone, once for zones whose clocks go alike."""
    alike: dict[tuple[tuple[datetime, timedelta, timedelta], ...], list[Change]] = {}
    for name in sorted(available_timezones() - {"localtime", "Factory"}):
        changes = list(changes_of(name))
        alike.setdefault(tuple(change[1:] for change in changes), changes)
    return [change for changes in alike.values() for change in changes]


class Fields(NamedTuple):
    """A cron expression as text, beside what each field means."""

    expression: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    follows_real_time: bool

    def match(self, wall: datetime) -> bool:
        return (
            wall.minute in self.minutes
            and wall.hour in self.hours
            and wall.day in self.days
            and (wall.weekday() + 1) % 7 in self.weekdays
        )


def numbers(least: int, greatest: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    every = frozenset(range(least, greatest + 1))
    return st.one_of(
        st.just(("*", every)),
        st.sampled_from((2, 3, 5, 7, 15, 20)).map(
            lambda step: (f"*/{step}", frozenset(range(least, greatest + 1, step)))
        ),
        st.sets(st.integers(least, greatest), min_size=1, max_size=4).map(
            lambda some: (",".join(map(str, sorted(some))), frozenset(some))
        ),
        st.tuples(st.integers(least, greatest), st.integers(least, greatest)).map(
            lambda pair: (f"{min(pair)}-{max(pair)}", frozenset(range(min(pair), max(pair) + 1)))
        ),
    )


@st.composite
def fields(draw: st.DrawFn) -> Fields:
    minute, minutes = draw(numbers(0, 59))
    hour, hours = draw(st.one_of(numbers(0, 23), numbers(0, 3)))
    if hour == "*":
        hours = frozenset(range(24))
    elif hour.startswith("*/"):
        hours = frozenset(range(0, 24, int(hour[2:])))
    weekday, weekdays = draw(st.one_of(st.just(("*", frozenset(range(7)))), numbers(0, 6)))
    return Fields(
        f"{minute} {hour} * * {weekday}",
        minutes,
        hours,
        frozenset(range(1, 32)),
        weekdays,
        minute.startswith("*") or hour.startswith("*"),
    )


def by_brute_force(
    rule: Fields, zone: ZoneInfo, begin: datetime, end: datetime, *, gap: Gap, fold: Fold
) -> list[datetime]:
    """Every instant in [begin, end], minute by minute."""
    instants_of: dict[datetime, list[datetime]] = {}
    shifted = set()
    instant, previous = begin, None
    while instant <= end:
        wall = shown(zone, instant)
        instants_of.setdefault(wall, []).append(instant)
        if previous is not None and not rule.follows_real_time and gap is Gap.AFTER:
            skipped = previous + MINUTE
            while skipped < wall:
                if rule.match(skipped):
                    shifted.add(instant)
                skipped += MINUTE
        instant, previous = instant + MINUTE, wall
    wanted = Fold.BOTH if rule.follows_real_time else fold
    kept = {Fold.FIRST: slice(0, 1), Fold.SECOND: slice(-1, None), Fold.BOTH: slice(None)}[wanted]
    found = {at for wall, both in instants_of.items() if rule.match(wall) for at in both[kept]}
    return sorted(found | shifted)


@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_no_occurrence_is_missing_or_doubled_around_any_change(data: st.DataObject) -> None:
    change = data.draw(st.sampled_from(all_changes()))
    rule = data.draw(fields())
    gap, fold = data.draw(st.sampled_from(Gap)), data.draw(st.sampled_from(Fold))
    zone = ZoneInfo(change.zone)
    # What repeats at the window's edges would look like a single time to the oracle.
    begin, end = change.at - 26 * HOUR, change.at + 26 * HOUR
    after = data.draw(st.integers(-24 * 60, 24 * 60).map(lambda n: change.at + n * MINUTE))
    expected = by_brute_force(rule, zone, begin, end, gap=gap, fold=fold)
    expected = [at for at in expected if at > after and at <= change.at + 25 * HOUR]
    found = occurrences(
        Recurrence(cron=rule.expression, timezone=change.zone, gap=gap, fold=fold),
        after,
        until=change.at + 25 * HOUR,
        most=COMPARED_MAX,
    )
    assert found == expected[:COMPARED_MAX]


@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_each_next_instant_is_strictly_later_wherever_one_asks(data: st.DataObject) -> None:
    change = data.draw(st.sampled_from(all_changes()))
    rule = Recurrence(
        cron=data.draw(fields()).expression,
        timezone=change.zone,
        gap=data.draw(st.sampled_from(Gap)),
        fold=data.draw(st.sampled_from(Fold)),
    )
    after = change.at + timedelta(
        microseconds=data.draw(st.integers(-3 * 3600 * 10**6, 3 * 3600 * 10**6))
    )
    following = next_after(rule, after)
    assume(following is not None)
    assert following is not None
    assert following > after
    assert following.tzinfo is UTC
    # Between the two there is none: whoever asks from in between gets the same answer.
    microsecond = timedelta(microseconds=1)
    between = data.draw(st.integers(0, (following - after) // microsecond - 1))
    middle = after + between * microsecond
    assert next_after(rule, middle) == following


def test_a_daily_job_at_the_changed_hour_runs_once_at_each_change() -> None:
    for change in all_changes():
        # In the middle of what is skipped or repeated.
        middle = (change.at + (change.before + change.after) / 2).replace(tzinfo=None)
        middle = middle.replace(second=0, microsecond=0)
        daily = Recurrence(cron=f"{middle.minute} {middle.hour} * * *", timezone=change.zone)
        at = occurrences(daily, change.at - 20 * HOUR, until=change.at + 20 * HOUR, most=9)
        if change.after > change.before:
            assert at == [change.at], change
        else:
            assert at == [middle.replace(tzinfo=UTC) - change.before], change


def test_an_hourly_job_is_an_hour_apart_by_real_time_at_each_change_of_hours() -> None:
    for change in all_changes():
        if (change.after - change.before) % HOUR:
            continue  # half an hour: the wall clock decides
        hourly = Recurrence(cron="0 * * * *", timezone=change.zone)
        at = occurrences(hourly, change.at - 5 * HOUR, until=change.at + 5 * HOUR, most=20)
        assert len(at) == 10
        assert {later - earlier for earlier, later in pairwise(at)} == {HOUR}


@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_an_rrule_lands_where_the_same_cron_expression_does(data: st.DataObject) -> None:
    change = data.draw(st.sampled_from(all_changes()))
    minutes = sorted(data.draw(st.sets(st.integers(0, 59), min_size=1, max_size=3)))
    hours = data.draw(st.none() | st.sets(st.integers(0, 4), min_size=1, max_size=3))
    gap, fold = data.draw(st.sampled_from(Gap)), data.draw(st.sampled_from(Fold))
    listed = ",".join(map(str, minutes))
    if hours is None:
        freq, hour = "HOURLY", "*"
    else:
        hour = ",".join(map(str, sorted(hours)))
        freq = f"{data.draw(st.sampled_from(('DAILY', 'HOURLY')))};BYHOUR={hour}"
    rrule = Recurrence(
        rrule=f"FREQ={freq};BYMINUTE={listed};BYSECOND=0",
        anchor=datetime(2019, 1, 1, tzinfo=UTC),
        timezone=change.zone,
        gap=gap,
        fold=fold,
    )
    cron = Recurrence(cron=f"{listed} {hour} * * *", timezone=change.zone, gap=gap, fold=fold)
    begin, end = change.at - 25 * HOUR, change.at + 25 * HOUR
    found = occurrences(rrule, begin, until=end, most=60)
    assert found == occurrences(cron, begin, until=end, most=60)
    assert found


@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_preview_tells_what_next_after_does_and_what_it_leaves_out(data: st.DataObject) -> None:
    change = data.draw(st.sampled_from(all_changes()))
    rule = data.draw(fields())
    gap, fold = data.draw(st.sampled_from(Gap)), data.draw(st.sampled_from(Fold))
    recurrence = Recurrence(cron=rule.expression, timezone=change.zone, gap=gap, fold=fold)
    begin = change.at - 3 * HOUR
    rows = preview(recurrence, begin, count=40)
    at = [row.at for row in rows if row.at is not None]
    assert at == occurrences(recurrence, begin, until=begin + 9999 * DAY, most=len(at))
    zone = ZoneInfo(change.zone)
    for row in rows:
        assert rule.match(row.local)
        if row.note == "dropped":
            assert row.at is None
            assert gap is Gap.SKIP
            assert change.before < change.after or row.local > shown(zone, change.at)
        elif row.note == "shifted":
            assert row.at is not None
            assert shown(zone, row.at) > row.local
            assert gap is Gap.AFTER
        else:
            assert row.at is not None
            assert shown(zone, row.at) == row.local
            assert (row.note == "doubled") == (
                (rule.follows_real_time or fold is Fold.BOTH)
                and row.local.replace(tzinfo=zone).astimezone(UTC) != row.at
            )


@pytest.mark.parametrize(
    "zone",
    [
        "Australia/Lord_Howe",  # half an hour
        "Antarctica/Troll",  # two hours
        "Africa/Casablanca",  # around Ramadan
        "Africa/Cairo",  # at midnight, into the day before
        "America/Nuuk",
        "Asia/Gaza",
        "Asia/Beirut",  # at midnight, into the next day
    ],
)
def test_the_unusual_zones_are_among_those_that_are_tried(zone: str) -> None:
    tried = {change[1:] for change in all_changes()}
    own = {change[1:] for change in changes_of(zone)}
    assert own
    assert own <= tried
