"""Whether a job may be put twice under its key, without its URL being called twice."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

# Longer than a call with all its retries takes.
SAFE_DELAY = timedelta(minutes=10)
_DURATION: TypeAdapter[timedelta] = TypeAdapter(timedelta)
_NOT_AT_ONCE = ("run_at", "cron", "every", "rrule")


def may_be_put_twice(job: Mapping[str, Any]) -> bool:
    """Whether a second PUT of this body changes nothing that the first one made.

    Replacing a job whose run is over makes another run. One that is due soon may have run before
    the second request comes, so it is not sent.
    """
    if job.get("on_conflict") == "keep":
        return True
    if any(job.get(name) is not None for name in _NOT_AT_ONCE):
        return True
    try:
        return _DURATION.validate_python(job.get("delay")) >= SAFE_DELAY
    except ValidationError:
        return False
