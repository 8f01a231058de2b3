"""Expectations: whether the answer to a test call is what its caller expects, and why not."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pydantic_core import from_json

from handler_service.schemas.trials import ExpectIn
from shared.trials import Called

QUOTED_MAX = 100  # characters of what was found instead


class Expectation(NamedTuple):
    """One thing that was expected."""

    name: str
    met: bool
    detail: str


def judge(expected: ExpectIn, called: Called) -> list[Expectation]:
    """Hold an answer against each thing that is expected of it, in the order of the contract."""
    return [
        Expectation(name, met=difference is None, detail=difference or "As expected.")
        for name, difference in _differences(expected, called)
    ]


def _differences(expected: ExpectIn, called: Called) -> Iterator[tuple[str, str | None]]:
    there_is_none = "There was no answer." if called.status is None else None
    if expected.status is not None:
        yield "status", there_is_none or _status(expected.status, called)
    for name, value in (expected.headers or {}).items():
        yield f"headers/{name}", there_is_none or _header(name, value, called)
    if expected.body_contains is not None:
        yield "body_contains", there_is_none or _contains(expected.body_contains, called)
    if "json_subset" in expected.model_fields_set:
        yield "json_subset", there_is_none or _subset(expected.json_subset, called)


def _status(expected: list[int], called: Called) -> str | None:
    if called.status in expected:
        return None
    return f"Expected {' or '.join(map(str, expected))}; the receiver answered {called.status}."


def _header(name: str, expected: str, called: Called) -> str | None:
    found = [value for each, value in called.headers if each == name.lower()]
    if not found:
        return "The answer has no such header field."
    if expected in (*found, ", ".join(found)):
        return None
    return f"Expected {_quote(expected)}; found {_quote(', '.join(found))}."


def _contains(expected: str, called: Called) -> str | None:
    if expected.encode() in called.body:
        return None
    return f"Is not in the body{_as_far_as_read(called)}."


def _subset(expected: Any, called: Called) -> str | None:
    if not called.is_whole:
        return "The body was not read to its end, and is no JSON as far as it was."
    try:
        found = from_json(called.body, allow_inf_nan=False)
    except ValueError:
        return "The body is no JSON."
    return difference(expected, found)


def difference(expected: Any, found: Any, place: str = "#") -> str | None:
    """Say where a document first lacks what is expected of it; None: it lacks nothing.

    Of an object, each member that is given must be there, and so on within; others may be there
    too. An array must have as many items, and each is compared with the one in its place. Anything
    else must be equal: numbers by value (1 is 1.0), nothing across kinds (1 is not true).
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        return _first(_of_members(expected, found, place))
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return f"{place}: expected {len(expected)} items; found {len(found)}."
        pairs = enumerate(zip(expected, found, strict=True))
        return _first(difference(*pair, f"{place}/{index}") for index, pair in pairs)
    if _kind(expected) == _kind(found) and expected == found:
        return None
    return f"{place}: expected {_quote(expected)}; found {_quote(found)}."


def _of_members(
    expected: dict[str, Any], found: dict[str, Any], place: str
) -> Iterator[str | None]:
    for name, value in expected.items():
        there = f"{place}/{name.replace('~', '~0').replace('/', '~1')}"
        yield difference(value, found[name], there) if name in found else f"{there} is missing."


def _first(told: Iterable[str | None]) -> str | None:
    return next((each for each in told if each), None)


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def _quote(value: Any) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "an array"
        case str():
            text = f'"{value}"'
        case None | True | False:
            text = {None: "null", True: "true", False: "false"}[value]
        case _:
            text = str(value)
    return text if len(text) <= QUOTED_MAX else f"{text[:QUOTED_MAX]}…"


def _as_far_as_read(called: Called) -> str:
    return "" if called.is_whole else ", as far as it was read"
