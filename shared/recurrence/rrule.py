"""RRULEs of RFC 5545, as local times: dateutil expands them, from a period of our choice.

Left alone, dateutil walks from DTSTART to the year 9999 and can be neither begun later nor stopped:
a rule that never occurs took 7.7 seconds. So what it would infer from DTSTART is made explicit, it
begins with the period that is asked about (in step with INTERVAL), and its steps are counted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Any, Literal

from dateutil.rrule import DAILY, HOURLY, MINUTELY, MONTHLY, WEEKLY, YEARLY, rrule

from shared.recurrence.rule import InvalidRule

Frequency = Literal[0, 1, 2, 3, 4, 5]  # dateutil's numbers, YEARLY to MINUTELY
# How often a check lets dateutil step by the INTERVAL (years, months, ...) in search of the next
# occurrence. Whoever asks later may go four times as far, over 44 years of days: a leap day on a
# given weekday lets one wait for 40.
STEPS_MAX = {YEARLY: 100, MONTHLY: 480, WEEKLY: 1_000, DAILY: 4_000, HOURLY: 4_000, MINUTELY: 4_000}
LATER_STEPS_FACTOR = 4
# How many occurrences before the wanted one a period may hold, for a check and later.
CROWD_MAX = 5_000
SKIPPED_MAX = 4 * CROWD_MAX

_HOUR, _MINUTE, _DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
_LENGTHS_MAX = {
    YEARLY: 366 * _DAY,
    MONTHLY: 31 * _DAY,
    WEEKLY: 7 * _DAY,
    DAILY: _DAY,
    HOURLY: _HOUR,
    MINUTELY: _MINUTE,
}


@dataclass(frozen=True, slots=True)
class Rrule:
    """A parsed rule with its DTSTART, a local time.

    `until_wall` is the last local time that counts, `until` the last instant (naive, in UTC). By
    FREQ=HOURLY or MINUTELY without BYHOUR it follows real time when the clocks change.
    """

    freq: Frequency
    interval: int
    start: datetime
    by: dict[str, Any]
    until_wall: datetime | None
    until: datetime | None
    follows_real_time: bool

    def first_from(
        self, low: datetime, *, steps_factor: int = LATER_STEPS_FACTOR
    ) -> datetime | None:
        """Answer the first local time at or after another (whole seconds).

        None when there is none, or none within the steps that are taken. Raises InvalidRule when
        a period holds too many; never for a rule that passed `refuse_crowds`.
        """
        low = max(low, self.start)
        try:
            for skipped, wall in enumerate(self._walk(low, steps_factor)):
                if wall >= low:
                    return wall
                if skipped > SKIPPED_MAX:
                    raise crowded()
        except (_TooFar, OverflowError):
            pass  # too far, or the year 10,000
        return None

    def refuse_crowds(self, low: datetime) -> None:
        """Raise InvalidRule when a period holds so many local times that finding one takes long."""
        end = max(low, self.start) + _LENGTHS_MAX[self.freq]
        crowd = takewhile(lambda wall: wall < end, self._walk(low, 1))
        try:
            if next(islice(crowd, CROWD_MAX, None), None) is not None:
                raise crowded()
        except (_TooFar, OverflowError):
            return

    def nth(self, count: int) -> datetime | None:
        """Answer the local time that is the last of so many; None if there are not so many."""
        walls = (wall for wall in self._walk(self.start, 1) if wall >= self.start)
        try:
            return next(islice(walls, count - 1, None), None)
        except (_TooFar, OverflowError):
            return None

    def _walk(self, low: datetime, steps_factor: int) -> Iterator[datetime]:
        return iter(
            rrule(
                self.freq,
                dtstart=_period_of(self, max(low, self.start)),
                interval=_Step.of(self.interval, STEPS_MAX[self.freq] * steps_factor),
                until=self.until_wall,
                **self.by,
            )
        )


class _TooFar(Exception):  # noqa: N818  # an answer, not an error
    """The rule did not occur within the steps that are taken."""


class _Step(int):
    """An INTERVAL that stops dateutil after so many steps.

    dateutil adds its interval, or in weeks multiplies it, once for each period at least; and an int
    on the left of a sum lets the subclass on its right speak first.
    """

    left: int

    @staticmethod
    def of(interval: int, steps_max: int) -> "_Step":
        step = _Step(interval)
        step.left = steps_max
        return step

    def __radd__(self, other: int) -> int:
        self._spend()
        return other + int(self)

    def __mul__(self, other: int) -> int:
        self._spend()
        return int(self) * other

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _TooFar


def _period_of(rule: Rrule, low: datetime) -> datetime:
    """Find the begin of the last period in step with INTERVAL that begins at `low` or before."""
    start, step = rule.start, rule.interval
    if rule.freq == YEARLY:
        year = start.year + (low.year - start.year) // step * step
        return datetime(year, 1, 1)  # noqa: DTZ001  # local times have no zone
    if rule.freq == MONTHLY:
        months = (low.year - start.year) * 12 + low.month - start.month
        month = start.year * 12 + start.month - 1 + months // step * step
        return datetime(month // 12, month % 12 + 1, 1)  # noqa: DTZ001
    begin, width = _PERIODS[rule.freq](rule)
    return begin + (low - begin) // (width * step) * (width * step)


def _week(rule: Rrule) -> tuple[datetime, timedelta]:
    return _midnight(rule.start) - (rule.start.weekday() - rule.by["wkst"]) % 7 * _DAY, 7 * _DAY


def _midnight(wall: datetime) -> datetime:
    return wall.replace(hour=0, minute=0, second=0)


_PERIODS: dict[int, Callable[[Rrule], tuple[datetime, timedelta]]] = {
    WEEKLY: _week,
    DAILY: lambda rule: (_midnight(rule.start), _DAY),
    HOURLY: lambda rule: (rule.start.replace(minute=0, second=0), _HOUR),
    MINUTELY: lambda rule: (rule.start.replace(second=0), _MINUTE),
}


def crowded() -> InvalidRule:
    """The refusal of a rule that is too dense for its FREQ."""
    return InvalidRule(
        "rrule",
        "It occurs too often within its FREQ to be looked up quickly: use a shorter FREQ, `cron` "
        "or `every`.",
    )
