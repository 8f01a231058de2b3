"""The text of an RRULE: what is accepted of RFC 5545, and what it takes from DTSTART."""

import re
from datetime import datetime
from functools import lru_cache
from math import prod
from typing import Any

from dateutil.rrule import DAILY, HOURLY, MINUTELY, MONTHLY, WEEKLY, YEARLY, weekday

from shared.recurrence.rrule import Frequency, Rrule, crowded
from shared.recurrence.rule import InvalidRule

LENGTH_MAX = 1_000
INTERVAL_MAX = 10_000
COUNT_MAX = 1_000
TIMES_A_DAY_MAX = 1_440
TIMES_AN_HOUR_MAX = 30  # dateutil builds them anew for each hour that it steps to
POSITIONS_MAX = 10
_FREQUENCIES: dict[str, Frequency] = {
    "YEARLY": YEARLY,
    "MONTHLY": MONTHLY,
    "WEEKLY": WEEKLY,
    "DAILY": DAILY,
    "HOURLY": HOURLY,
    "MINUTELY": MINUTELY,
}
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_NUMBERS = {  # the least and the greatest, and whether they count from the end when negative
    "BYSECOND": (0, 59, False),
    "BYMINUTE": (0, 59, False),
    "BYHOUR": (0, 23, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYMONTH": (1, 12, False),
    "BYSETPOS": (1, 366, True),
}
_DAY_PARTS = ("byweekno", "byyearday", "bymonthday", "byweekday")
_BY_DAY = re.compile(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_UNTIL = re.compile(r"([0-9]{8})(?:T([0-9]{6})(Z?))?")


@lru_cache(maxsize=1_024)
def parse_rrule(text: str, start: datetime) -> Rrule:
    """Parse a rule and make explicit what it takes from DTSTART; raises InvalidRule.

    `start` is DTSTART as a local time. COUNT becomes the local time it ends with, which takes
    milliseconds: rules that are kept went through `replace_count` before.
    """
    parts = _parts(text)
    start = start.replace(microsecond=0)
    rule = _explicit(parts, start)
    if "COUNT" not in parts:
        return rule
    return _until(rule, _last_of(rule, parts))


def replace_count(text: str, start: datetime) -> str:
    """Write COUNT as the UNTIL it comes to, a local time; other rules stay as they are."""
    parts = _parts(text)
    if "COUNT" not in parts:
        return text
    last = _last_of(_explicit(parts, start.replace(microsecond=0)), parts)
    kept = [f"{name}={value}" for name, value in parts.items() if name != "COUNT"]
    return ";".join([*kept, f"UNTIL={last:%Y%m%dT%H%M%S}"])


def _parts(text: str) -> dict[str, str]:
    if len(text) > LENGTH_MAX:
        raise InvalidRule("rrule", f"Use at most {LENGTH_MAX} characters.")
    line = text.strip().upper().removeprefix("RRULE:")
    if len(line.split()) != 1 or ":" in line:
        raise InvalidRule(
            "rrule",
            "Give one RRULE without DTSTART, RDATE, EXDATE or EXRULE; `starts_at` is its DTSTART.",
        )
    parts: dict[str, str] = {}
    for pair in line.removesuffix(";").split(";"):
        name, is_pair, value = pair.partition("=")
        if not is_pair or not value or name in parts or name not in _KNOWN:
            raise InvalidRule(
                "rrule",
                "Use NAME=value pairs joined by `;`, each of these once: "
                f"{', '.join(sorted(_KNOWN))}.",
            )
        parts[name] = value
    _refuse_what_the_rfc_forbids(parts)
    return parts


_KNOWN = frozenset({"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", *_NUMBERS})


def _refuse_what_the_rfc_forbids(parts: dict[str, str]) -> None:
    """RFC 5545, 3.3.10: the table of what each FREQ may be combined with, and the notes to it."""
    freq = parts.get("FREQ", "")
    if freq == "SECONDLY":
        raise InvalidRule(
            "rrule", "FREQ=SECONDLY is refused: use `every` with an interval of a second or more."
        )
    if freq not in _FREQUENCIES:
        raise InvalidRule("rrule", f"Begin with FREQ=, one of {', '.join(_FREQUENCIES)}.")
    numbered = bool(re.search("[0-9]", parts.get("BYDAY", "")))
    for is_wrong, remedy in (
        ("BYWEEKNO" in parts and freq != "YEARLY", "Use BYWEEKNO with FREQ=YEARLY only."),
        (
            "BYYEARDAY" in parts and freq in {"MONTHLY", "WEEKLY", "DAILY"},
            "Use BYYEARDAY with FREQ=YEARLY.",
        ),
        ("BYMONTHDAY" in parts and freq == "WEEKLY", "Use BYMONTHDAY with FREQ=MONTHLY."),
        (
            numbered and (freq not in {"YEARLY", "MONTHLY"} or "BYWEEKNO" in parts),
            "Use a number in BYDAY (such as -1FR) with FREQ=MONTHLY or YEARLY, without BYWEEKNO.",
        ),
        (
            "BYSETPOS" in parts and not any(n.startswith("BY") and n != "BYSETPOS" for n in parts),
            "Use BYSETPOS together with another BY part.",
        ),
        (
            "BYSETPOS" in parts and freq in {"HOURLY", "MINUTELY"},
            f"Use BYMINUTE or BYSECOND in place of BYSETPOS with FREQ={freq}.",
        ),
        ("COUNT" in parts and "UNTIL" in parts, "Use COUNT or UNTIL, not both."),
    ):
        if is_wrong:
            raise InvalidRule("rrule", remedy)


def _explicit(parts: dict[str, str], start: datetime) -> Rrule:
    freq, interval = _FREQUENCIES[parts["FREQ"]], 1
    if "INTERVAL" in parts:
        interval = _number("INTERVAL", parts["INTERVAL"], 1, INTERVAL_MAX)
    by: dict[str, Any] = {
        name.lower(): sorted(_number_list(name, parts[name])) for name in _NUMBERS if name in parts
    }
    if len(by.get("bysetpos", ())) > POSITIONS_MAX:
        raise InvalidRule("rrule", f"Use at most {POSITIONS_MAX} positions in BYSETPOS.")
    if "BYDAY" in parts:
        by["byweekday"] = _weekdays(parts["BYDAY"], freq)
    follows_real_time = freq >= HOURLY and "byhour" not in by
    freq, interval = _lift(freq, interval, by, start)
    _infer(freq, by, start)
    times = prod(len(by.get(name, (0,))) for name in ("byhour", "byminute", "bysecond"))
    if times > (TIMES_A_DAY_MAX if freq < HOURLY else TIMES_AN_HOUR_MAX):
        raise crowded()
    by["wkst"] = _weekday_number(parts.get("WKST", "MO"))
    until_wall, until = _read_until(parts["UNTIL"]) if "UNTIL" in parts else (None, None)
    return Rrule(freq, interval, start, by, until_wall, until, follows_real_time)


def _lift(
    freq: Frequency, interval: int, by: dict[str, Any], start: datetime
) -> tuple[Frequency, int]:
    """Write minutes within named hours as times of day, which dateutil need not search for."""
    if freq == MINUTELY and ("byhour" in by or "byminute" in by):
        by["byminute"] = _in_step("MINUTELY", interval, 60, start.minute, by.get("byminute"))
        freq, interval = HOURLY, 1
    if freq == HOURLY and "byhour" in by:
        by["byhour"] = _in_step("HOURLY", interval, 24, start.hour, by["byhour"])
        freq, interval = DAILY, 1
    return freq, interval


def _in_step(name: str, interval: int, base: int, start: int, named: list[int] | None) -> list[int]:
    if base % interval:
        raise InvalidRule(
            "rrule",
            f"With FREQ={name} and BYHOUR or BYMINUTE, use an INTERVAL that divides {base}.",
        )
    kept = [n for n in range(start % interval, base, interval) if named is None or n in named]
    if not kept:
        raise InvalidRule("rrule", "It never occurs: its INTERVAL passes over what BY parts name.")
    return kept


def _infer(freq: Frequency, by: dict[str, Any], start: datetime) -> None:
    """Take from DTSTART what the rule leaves open (RFC 5545, 3.3.10)."""
    if not any(name in by for name in _DAY_PARTS):
        if freq == YEARLY:
            by.setdefault("bymonth", [start.month])
        if freq in {YEARLY, MONTHLY}:
            by["bymonthday"] = [start.day]
        if freq == WEEKLY:
            by["byweekday"] = [weekday(start.weekday())]
    elif "byweekno" in by and not any(name in by for name in _DAY_PARTS[1:]):
        # dateutil would take all the days of that week.
        by["byweekday"] = [weekday(start.weekday())]
    if freq < HOURLY:
        by.setdefault("byhour", [start.hour])
    if freq < MINUTELY:
        by.setdefault("byminute", [start.minute])
    by.setdefault("bysecond", [start.second])


def _number(name: str, text: str, least: int, greatest: int, *, negative: bool = False) -> int:
    if re.fullmatch(r"[+-]?[0-9]{1,6}", text):
        number = int(text)
        if least <= number <= greatest or (negative and least <= -number <= greatest):
            return number
    hint = f" or -{greatest} to -{least}" if negative else ""
    raise InvalidRule("rrule", f"Use numbers from {least} to {greatest}{hint} in {name}.")


def _number_list(name: str, text: str) -> set[int]:
    least, greatest, negative = _NUMBERS[name]
    return {_number(name, one, least, greatest, negative=negative) for one in text.split(",")}


def _weekdays(text: str, freq: Frequency) -> list[weekday]:
    days = set()
    greatest = 53 if freq == YEARLY else 5
    for one in text.split(","):
        match = _BY_DAY.fullmatch(one)
        number = int(match[1]) if match and match[1] else None
        if not match or number == 0 or (number is not None and abs(number) > greatest):
            raise InvalidRule(
                "rrule",
                f"Use weekdays such as MO,TH or numbered ones such as -1FR in BYDAY, up "
                f"to {greatest} for this FREQ.",
            )
        days.add((_WEEKDAYS.index(match[2]), number))
    return [weekday(day, number) for day, number in sorted(days, key=lambda d: (d[0], d[1] or 0))]


def _weekday_number(text: str) -> int:
    if text not in _WEEKDAYS:
        raise InvalidRule("rrule", f"Use one of {', '.join(_WEEKDAYS)} for WKST.")
    return _WEEKDAYS.index(text)


def _read_until(text: str) -> tuple[datetime | None, datetime | None]:
    """The last local time, or with a Z the last instant; a date alone counts to its end."""
    match = _UNTIL.fullmatch(text)
    try:
        if match:
            moment = datetime.strptime(match[1] + (match[2] or "235959"), "%Y%m%d%H%M%S")  # noqa: DTZ007
            return (None, moment) if match[3] else (moment, None)
    except ValueError:
        pass  # said below
    raise InvalidRule(
        "rrule", "Use UNTIL=20301231, 20301231T235959 (local) or 20301231T235959Z (UTC)."
    )


def _last_of(rule: Rrule, parts: dict[str, str]) -> datetime:
    count = _number("COUNT", parts["COUNT"], 1, COUNT_MAX)
    last = rule.nth(count)
    if last is None:
        raise InvalidRule(
            "rrule", "It does not occur so often, or not soon enough: use UNTIL or `max_runs`."
        )
    return last


def _until(rule: Rrule, last: datetime) -> Rrule:
    return Rrule(rule.freq, rule.interval, rule.start, rule.by, last, None, rule.follows_real_time)
