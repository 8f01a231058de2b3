"""What is wrong with a request, told so that a caller knows where and what to do.

The validator's own messages speak of Python's types; these speak of JSON.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic_core import ErrorDetails

SAID = {
    "bool_type": "Must be true or false.",
    "dict_type": "Must be a JSON object.",
    "enum": "Must be {expected}.",
    "extra_forbidden": "Is unknown; leave it out.",
    "float_type": "Must be a number.",
    "greater_than": "Must be more than {gt}.",
    "greater_than_equal": "Must be {ge} or more.",
    "int_type": "Must be an integer, written without quotes or a decimal point.",
    "less_than_equal": "Must be {le} or less.",
    "list_type": "Must be a JSON array.",
    "literal_error": "Must be {expected}.",
    "missing": "Is required.",
    "model_type": "Must be a JSON object.",
    "string_too_long": "Must have {max_length} characters at most.",
    "string_too_short": "Must have {min_length} characters at least.",
    "string_type": "Must be a string.",
    "too_long": "Must have {max_length} items at most.",
    "too_short": "Must have {min_length} items at least.",
}


class Violation(NamedTuple):
    """One thing wrong with a request: where (JSON pointer, or parameter) and the remedy."""

    pointer: str
    detail: str


def in_body(errors: Sequence[ErrorDetails]) -> list[Violation]:
    """Name each place by a JSON pointer in a URI fragment (RFC 6901, section 6)."""
    return [Violation(_pointer(_location(error)), _detail(error)) for error in errors]


def in_query(errors: Sequence[ErrorDetails]) -> list[Violation]:
    """Name each parameter, which is where the place after "query" lies."""
    return [Violation(str(_location(error)[:2][-1]), _detail(error)) for error in errors]


def _location(error: ErrorDetails) -> list[Any]:
    # A rule about several fields names one of them itself, in its context.
    context = error.get("ctx", {})
    # Of a name in an object that is wrong itself, pydantic says so after it.
    place = [part for part in error["loc"] if part != "[key]"]
    return [*place, *([context["field"]] if "field" in context else [])]


def _pointer(location: Sequence[Any]) -> str:
    return "#" + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _detail(error: ErrorDetails) -> str:
    said = SAID.get(error["type"])
    if said is None:
        return f"{error['msg']}."
    return said.format_map({name: _plain(fact) for name, fact in error.get("ctx", {}).items()})


def _plain(fact: Any) -> Any:
    """A limit of 120.0 seconds is one of 120."""
    return int(fact) if isinstance(fact, float) and fact.is_integer() else fact
