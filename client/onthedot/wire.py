"""Arguments as Python has them, written as the wire has them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

_DURATION: TypeAdapter[timedelta] = TypeAdapter(timedelta)
# Any JSON, or text by text: nobody's business but the caller's.
_AS_THEY_ARE = frozenset({"payload", "headers", "labels", "json_subset"})


def fields(said: Mapping[str, Any]) -> dict[str, Any]:
    """Write the fields of a body or a query; `from_` is `from` there.

    Raises ValueError for a datetime without a zone, but for a `run_at` beside a `timezone`.
    """
    may_be_local = {"run_at"} if said.get("timezone") else set()
    return {
        name.removesuffix("_"): value
        if name in _AS_THEY_ARE
        else _write(name, value, may_be_local=name in may_be_local)
        for name, value in said.items()
    }


def timer(said: Mapping[str, Any]) -> dict[str, Any]:
    """Write a timer, whose delay is of whole seconds."""
    rest = dict(said)
    if "delay" in rest:
        rest["seconds"] = rest.get("seconds", 0) + whole_seconds(rest.pop("delay"))
    return fields(rest)


def filters(said: Mapping[str, Any]) -> dict[str, Any]:
    """Write filters, of which labels are `name:value`, and leave out what is None."""
    rest = {name: value for name, value in said.items() if value is not None}
    labels = rest.pop("labels", None)
    written = fields(rest)
    if labels:
        written["label"] = [f"{name}:{value}" for name, value in labels.items()]
    return written


def instant(name: str, value: datetime | str) -> str:
    """Write an instant, to the microsecond."""
    return str(_write(name, value))


def whole_seconds(delay: timedelta | int | str) -> int:
    """Write the delay of a timer; raises ValueError, which says the remedy, for parts of one."""
    try:
        read = _DURATION.validate_python(delay) if isinstance(delay, str) else delay
    except ValidationError:
        raise ValueError(f"delay: {delay!r} is no duration; write it like PT4H1S") from None
    seconds = _seconds(read) if isinstance(read, timedelta) else read
    if not isinstance(seconds, int):
        raise ValueError("delay: a timer counts whole seconds; jobs.create takes parts of one")  # noqa: TRY004
    return seconds


def _write(name: str, value: Any, *, may_be_local: bool = False) -> Any:
    match value:
        case datetime():
            return _instant(name, value, may_be_local=may_be_local)
        case timedelta():
            return _seconds(value)
        case ZoneInfo():
            return value.key
        case Mapping():
            return {
                key: inner if key in _AS_THEY_ARE else _write(key, inner)
                for key, inner in value.items()
            }
        case Sequence() if not isinstance(value, str):
            return [_write(name, each) for each in value]
        case _:
            return value


def _instant(name: str, value: datetime, *, may_be_local: bool) -> str:
    if value.tzinfo is not None:
        # As the server answers it, so that what it answered is found by it again.
        precision = "microseconds" if value.microsecond % 1_000 else "milliseconds"
        text = value.astimezone(UTC).isoformat(timespec=precision)
        return text.replace("+00:00", "Z")
    if may_be_local:
        return value.isoformat()
    raise ValueError(f"{name}: give the datetime a zone, such as tzinfo=datetime.UTC")


def _seconds(duration: timedelta) -> float | int:
    seconds = duration.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds
