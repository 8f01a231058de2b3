"""Instants on the wire: RFC 3339 in, UTC with milliseconds out."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

from handler_service.schemas.request_parts import refuse

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
# RFC 3339, 5.6. What is finer than the microsecond, which is as exact as we are, is cut off.
RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d{0,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def read_instant(text: Any) -> datetime:
    """Read an instant, in UTC."""
    if isinstance(text, str) and (match := RFC_3339.fullmatch(text)):
        second, fraction, zone = match.groups(default="0")
        try:
            instant = datetime.fromisoformat(f"{second}.{fraction}{zone}".upper())
            return instant.astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # no such day, or one outside the years 1 to 9999
    raise refuse(
        "instant",
        'Must be an instant like "2026-11-21T09:00:00.000Z" (RFC 3339; in a query, write + as %2B)',
    )


def is_to_the_microsecond(text: str) -> bool:
    """Whether an instant is written with more than the milliseconds that we answer."""
    match = RFC_3339.fullmatch(text)
    return match is not None and len(match.group(2) or "") > 3


def microseconds(instant: datetime) -> int:
    """Answer the epoch microseconds of an instant."""
    return (instant - EPOCH) // MICROSECOND


def from_microseconds(number: int) -> datetime:
    """Answer the instant at so many epoch microseconds."""
    return EPOCH + number * MICROSECOND


def write_instant(number: int, *, timespec: str = "milliseconds") -> str:
    """Write epoch microseconds, in UTC."""
    return from_microseconds(number).isoformat(timespec=timespec).replace("+00:00", "Z")


def maybe(number: int | None) -> str | None:
    """Write an instant that there may not be."""
    return None if number is None else write_instant(number)


FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
US_MAX = microseconds(LAST)
Instant = Annotated[datetime, BeforeValidator(read_instant)]
