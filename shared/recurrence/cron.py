"""Cron expressions, as local times: cronsim parses and walks them and never hears of a zone."""

import copy
from datetime import datetime
from functools import lru_cache

from cronsim import CronSim, CronSimError

from shared.recurrence.rule import InvalidRule
from shared.recurrence.wall_clock import SECOND

LENGTH_MAX = 200
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L for the last or LW for the last weekday",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT, 5L for the last Friday or FRI#2 for the second",
}
_SOME_TIME = datetime(2000, 1, 1)  # noqa: DTZ001  # a local time


class Cron:
    """A parsed expression: 5 fields, or 6 with seconds first; or a nickname such as `@daily`.

    As in Debian's cron, an expression whose minute or hour begins with `*` follows real time when
    the clocks change, and any other names times of day; and a day must match both of its fields if
    either begins with `*`, else one of them. Raises InvalidRule for anything else.
    """

    def __init__(self, expression: str) -> None:
        fields = _fields(expression)
        try:
            self._sim = CronSim(" ".join(fields), _SOME_TIME)
        except CronSimError as error:
            raise InvalidRule("cron", _remedy(str(error), fields)) from error
        minute, hour = fields[-5:-3]
        self.follows_real_time = minute.startswith("*") or hour.startswith("*")

    def first_from(self, low: datetime) -> datetime | None:
        """Answer the first local time at or after another (whole seconds); None: none in 50 years.

        Bounded by construction: cronsim goes from day to day, and gives up after 50 years.
        """
        sim = copy.copy(self._sim)
        try:
            sim.dt = low - SECOND
            return next(sim, None)
        except (OverflowError, ValueError):
            return None  # the year 10,000


@lru_cache(maxsize=1_024)
def parse_cron(expression: str) -> Cron:
    """Parse an expression, once for all the jobs that share it; raises InvalidRule."""
    return Cron(expression)


def _fields(expression: str) -> list[str]:
    if len(expression) > LENGTH_MAX:
        raise InvalidRule("cron", f"Use at most {LENGTH_MAX} characters.")
    text = expression.strip()
    if text.lower() == "@reboot":
        raise InvalidRule(
            "cron", "@reboot is no time: leave the recurrence out to run the job at once."
        )
    if text.startswith("@"):
        if text.lower() not in _NICKNAMES:
            raise InvalidRule("cron", f"Use five fields, or one of {', '.join(_NICKNAMES)}.")
        text = _NICKNAMES[text.lower()]
    fields = text.split()
    if len(fields) not in {5, 6}:
        raise InvalidRule(
            "cron",
            f"Use 5 fields (minute hour day-of-month month day-of-week) or 6 with seconds first, "
            f"not {len(fields)}.",
        )
    return fields


def _remedy(error: str, fields: list[str]) -> str:
    """Say in which field to write what; cronsim says `Bad minute`, or that of a day that is not."""
    name = error.removeprefix("Bad ")
    if name not in _FIELDS:
        return "Use 5 fields such as `30 9 * * MON-FRI`, or 6 with seconds first."
    text = fields[list(_FIELDS).index(name) - len(_FIELDS)]  # seconds may be missing
    return (
        f"The {name} `{text}` never matches or is not understood: use {_FIELDS[name]}, "
        "`*`, lists (1,2), ranges (1-5) and steps (*/5)."
    )
