"""Whether a job may be put twice under its key, without its URL being called twice."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

# Longer than a call with all its retries takes.
SAFE_DELAY = timedelta(minutes=10)
_DURATION: TypeAdapter[timedelta] = TypeAdapter(timedelta)
_INSTANT: TypeAdapter[datetime] = TypeAdapter(datetime)
_RECURRING = ("cron", "every", "rrule")
_ENDING = ("max_runs", "ends_at")


def may_be_put_twice(job: Mapping[str, Any]) -> bool:
    """Whether a second PUT of this body changes nothing that the first one made.

    Replacing a job that is over makes another run. One that is due soon may be over before the
    second request comes, and so may a recurrence that ends, so they are not sent. Of `error` the
    second would be told that the first was there.
    """
    match job.get("on_conflict"):
        case "keep":
            return True
        case "error":
            return False
    if _says(job, _RECURRING):
        rule = str(job.get("rrule") or "").upper()
        return not (_says(job, _ENDING) or "COUNT=" in rule or "UNTIL=" in rule)
    try:
        if job.get("run_at") is not None:
            return _instant(job["run_at"], job.get("timezone")) - datetime.now(UTC) >= SAFE_DELAY
        return _DURATION.validate_python(job.get("delay")) >= SAFE_DELAY
    except (ValidationError, ValueError, OSError, OverflowError):
        return False  # the server says what is wrong with it


def _says(job: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    return any(job.get(name) is not None for name in names)


def _instant(run_at: str, timezone: str | None) -> datetime:
    read = _INSTANT.validate_python(run_at)
    return read if read.tzinfo is not None else read.replace(tzinfo=ZoneInfo(timezone or "UTC"))
