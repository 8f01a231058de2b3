"""Whether an answer is like the one that a page shows: in keys and words, not in numbers."""

import re
from collections.abc import Iterator
from typing import Any

MORE = "…"
# What tells one answer from another; a page goes on with what it was told.
NAMES = {"id", "job_id", "jobId", "scheduled_for", "next_cursor", "replay", "secret"}
# Numbers that a page is about.
EXACT = {"status", "http_status", "attempt", "matched", "cancelled", "replayed", "imported"}
VARIES = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|v1,\S+|whsec_\S+|[0-9a-f]{32}|\d[\d.,]*\d|\d")


def unlike(shown: Any, actual: Any, at: str = "") -> Iterator[str]:
    """Say where an answer differs from what is shown; `…` stands for more of the same."""
    match shown, actual:
        case dict(), dict():
            missing = shown.keys() - actual.keys() - {MORE}
            if missing or (MORE not in shown and actual.keys() != shown.keys()):
                yield f"{at} has {sorted(actual)}, not {sorted(shown)}"
            for name in shown.keys() & actual.keys():
                yield from unlike(shown[name], actual[name], f"{at}/{name}")
        case list(), list():
            if len(actual) < len([each for each in shown if each != MORE]):
                yield f"{at} has {len(actual)} items, not {len(shown)}"
            if MORE not in shown and len(actual) != len(shown):
                yield f"{at} has {len(actual)} items, not {len(shown)}"
            for number, (one, other) in enumerate(zip(shown, actual, strict=False)):
                if one != MORE:
                    yield from unlike(one, other, f"{at}/{number}")
        case str(), str():
            if at.rpartition("/")[2] not in NAMES and mask(shown) != mask(actual):
                yield f"{at} is {actual!r}, not {shown!r}"
        case (bool(), _) | (None, _) | (_, bool()) | (_, None):
            if shown is not actual:
                yield f"{at} is {actual!r}, not {shown!r}"
        case (int() | float(), int() | float()):
            if at.rpartition("/")[2] in EXACT and shown != actual:
                yield f"{at} is {actual}, not {shown}"
        case _:
            yield f"{at} is {actual!r}, not {shown!r}"


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
