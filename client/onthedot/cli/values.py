"""What people write on a command line, read: durations, instants, headers, labels, payloads."""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import typer

from onthedot import call

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_AGO = re.compile(r"([+-])(.+)")


def duration(text: str) -> float | str:
    """Read `90`, `4h1s`, `500ms` in seconds; ISO 8601 (`PT4H1S`) stays as it is."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return _seconds(float(text))
    if _WHOLE.fullmatch(text):
        total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        return _seconds(round(total, 6))
    if text[:1] in {"P", "p"}:
        return text.upper()
    raise typer.BadParameter(f"{text!r} is no duration; write 90, 4h1s, 500ms or PT4H1S.")


def instant(text: str) -> str:
    """Read `now`, or `-2h` and `+30m` from now; other instants are the server's to read."""
    text = text.strip()
    if text == "now":
        return _ahead(0)
    found = _AGO.fullmatch(text)
    if found is None:
        return text
    seconds = duration(found[2])
    if isinstance(seconds, str):
        raise typer.BadParameter(f"{text!r} is no instant; write -2h, +30m, or RFC 3339.")
    return _ahead(-seconds if found[1] == "-" else seconds)


def retry(text: str) -> Any:
    """Read `none`, `standard`, waits such as `5s,1m,1h`, or a backoff in JSON."""
    text = text.strip()
    if text in {"none", "standard"}:
        return text
    if text.startswith("{"):
        return as_json(text)
    return [duration(wait) for wait in text.split(",")]


def headers(said: list[str]) -> dict[str, str]:
    """Read headers of the form `Name: value`."""
    return dict(_pair(each, ":", "Name: value") for each in said)


def labels(said: list[str]) -> dict[str, str]:
    """Read labels of the form `name:value`."""
    return dict(_pair(each, ":", "name:value") for each in said)


def idempotency_key(text: str) -> str:
    """Read an Idempotency-Key."""
    try:
        return call.checked(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


class Payload(NamedTuple):
    """A payload that was said, be it null."""

    value: Any


def payload(text: str) -> Payload:
    """Read a payload: JSON; or `@` and a file of it."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"Cannot read {text[1:]}: {error}") from None
    return Payload(as_json(text))


def as_json(text: str) -> Any:
    """Read JSON."""
    try:
        return sendable(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(
            f"Is not valid JSON ({error}); a text needs quotes: '\"hello\"'."
        ) from None


def sendable(document: Any) -> Any:
    """Answer a document as a request can carry it; raises ValueError or TypeError if none can."""
    return json.loads(json.dumps(document, ensure_ascii=False, allow_nan=False).encode())


def _pair(text: str, separator: str, form: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not name.strip() or not found:
        raise typer.BadParameter(f"{text!r}: write it as {form!r}.")
    return name.strip(), value.strip()


def _ahead(seconds: float) -> str:
    try:
        instant = datetime.now(UTC) + timedelta(seconds=seconds)
    except OverflowError:
        raise typer.BadParameter("There is no such instant; say one that is nearer.") from None
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(value: float) -> float | int:
    if not math.isfinite(value):
        raise typer.BadParameter("Is longer than any number says.")
    return int(value) if value.is_integer() else value
