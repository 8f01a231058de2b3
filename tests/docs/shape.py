"""Whether an answer is like the one that a page shows: in keys and words, not in numbers."""

import re
from collections.abc import Iterator
from typing import Any

MORE = "…"
# What tells one answer from another; a page goes on with what it was told.
NAMES = {"id", "job_id", "jobId", "scheduled_for", "next_cursor", "replay", "secret"}
# Numbers that a page is about.
EXACT = {
    *("status", "http_status", "attempt", "version", "time_left", "delay"),
    *("matched", "replayed", "created", "replaced", "accepted", "done"),
}
VARIES = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|v1,\S+|whsec_\S+|[0-9a-f]{32}|\d[\d.,]*\d|\d")


def unlike(shown: Any, actual: Any, at: str = "") -> Iterator[str]:
    """Say where an answer differs from what is shown; `…` stands for more of the same."""
    match shown, actual:
        case dict(), dict():
            yield from _unlike_members(shown, actual, at)
        case list(), list():
            yield from _unlike_items(shown, actual, at)
        case _ if not _is_like(shown, actual, at.rpartition("/")[2]):
            yield f"{at} is {actual!r}, not {shown!r}"


def _is_like(shown: Any, actual: Any, name: str) -> bool:
    match shown, actual:
        case str(), str():
            return name in NAMES or mask(shown) == mask(actual)
        case (bool() | None, _) | (_, bool() | None):
            return shown is actual
        case (int() | float(), int() | float()):
            return name not in EXACT or shown == actual
    return False


def _unlike_members(shown: dict[str, Any], actual: dict[str, Any], at: str) -> Iterator[str]:
    missing = shown.keys() - actual.keys() - {MORE}
    if missing or (MORE not in shown and actual.keys() != shown.keys()):
        yield f"{at} has {sorted(actual)}, not {sorted(shown)}"
    for name in shown.keys() & actual.keys():
        yield from unlike(shown[name], actual[name], f"{at}/{name}")


def _unlike_items(shown: list[Any], actual: list[Any], at: str) -> Iterator[str]:
    wanted = sum(each != MORE for each in shown)
    if len(actual) < wanted or (wanted == len(shown) and len(actual) != wanted):
        yield f"{at} has {len(actual)} items, not {wanted}"
    for number, (one, other) in enumerate(zip(shown, actual, strict=False)):
        if one != MORE:
            yield from unlike(one, other, f"{at}/{number}")


def names_in(shown: Any, actual: Any) -> Iterator[tuple[str, str]]:
    """Pair the names that a page shows with those that were answered."""
    match shown, actual:
        case dict(), dict():
            for name in shown.keys() & actual.keys():
                if name in NAMES and isinstance(shown[name], (str, int)):
                    yield str(shown[name]), str(actual[name])
                else:
                    yield from names_in(shown[name], actual[name])
        case list(), list():
            for one, other in zip(shown, actual, strict=False):
                yield from names_in(one, other)


def mask(text: str) -> str:
    """Leave the words, and none of the numbers, ids and signatures."""
    return " ".join(VARIES.sub("#", text).split())
