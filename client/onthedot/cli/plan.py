"""What `onthedot apply` would do: compares jobs as they should be with those there are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError

from onthedot.models import Job

Changes = dict[str, tuple[Any, Any]]
_DURATION: TypeAdapter[timedelta] = TypeAdapter(timedelta)
_RECURRING = ("cron", "every", "rrule")
_INSTANTS = ("run_at", "starts_at", "ends_at", "anchor")
# What decides from when an interval or rule counts.
_COUNTED = {*_RECURRING, "starts_at", "timezone", "dst"}
_WAITS = ("delay", "every", "jitter", "timeout", "max_lateness")
# What the server takes where nothing is said.
_ALWAYS: dict[str, Any] = {
    "method": "POST",
    "headers": None,
    "payload": None,
    "timeout": 15.0,
    "retry": {},
    "delivery": "at_least_once",
    "max_lateness": None,
    "user": None,
    "labels": None,
}
_AGAIN: dict[str, Any] = {
    "cron": None,
    "every": None,
    "rrule": None,
    "starts_at": None,
    "ends_at": None,
    "max_runs": None,
    "jitter": None,
    "catch_up": "one",
    "overlap": "allow",
}
_DST = {"gap": "after", "fold": "first"}
_BACKOFF: dict[str, Any] = {
    "max_attempts": 5,
    "backoff": "exponential",
    "base": 5.0,
    "factor": 3.0,
    "max_delay": 3_600.0,
    "delays": None,
    "jitter": 0.2,
    "max_age": None,
}
_STANDARD_DELAYS = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]


class Action(StrEnum):
    """What is done with a job."""

    CREATE = "create"
    CHANGE = "change"
    PRUNE = "prune"
    KEEP = "keep"
    PAST = "past"  # left alone: its instant is over, and it would be called at once


@dataclass(frozen=True)
class Step:
    """One job and what is done with it; `changes` has the old and new value of each field."""

    action: Action
    key: str
    changes: Changes
    job: Job | None = None  # as it is


def steps(
    wanted: Mapping[str, Mapping[str, Any]],
    present: Mapping[str, Job],
    *,
    prunes: bool,
    now: datetime,
) -> list[Step]:
    """Compare jobs by their keys; what is present and not wanted is pruned, if asked for."""
    plan = [_step(key, job, present.get(key), now) for key, job in wanted.items()]
    if prunes:
        rest = sorted(set(present) - set(wanted))
        plan += [
            Step(Action.PRUNE, key, {}, present[key])
            for key in rest
            if present[key].state != "ended"
        ]
    return plan


def body(step: Step, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answer what to put; an interval or rule that has not changed counts on from where it did."""
    job = step.job
    if (
        job is None
        or job.anchor is None
        or (job.every is None and job.rrule is None)
        or wanted.get("anchor") is not None
        or _COUNTED & step.changes.keys()
    ):
        return wanted
    return {**wanted, "anchor": job.anchor}


def _step(key: str, wanted: Mapping[str, Any], present: Job | None, now: datetime) -> Step:
    if present is None:
        changes = {name: (None, value) for name, value in wanted.items()}
        action = Action.CREATE
    else:
        changes = differences(wanted, present)
        action = Action.CHANGE if changes else Action.KEEP
    if changes and _is_past(wanted, now) and (present is None or present.next_run_at is None):
        return Step(Action.PAST, key, {}, present)
    return Step(action, key, changes, present)


def _is_past(wanted: Mapping[str, Any], now: datetime) -> bool:
    run_at = _instant(wanted.get("run_at"))
    return isinstance(run_at, datetime) and run_at.tzinfo is not None and run_at <= now


def differences(wanted: Mapping[str, Any], present: Job) -> Changes:
    """Answer the fields of a job that are not as they are wanted, defaults included."""
    should = _should(wanted)
    there = _there(present, should)
    return {
        name: (there.get(name), should.get(name))
        for name in sorted(should.keys() | there.keys())
        if not _is_same(there.get(name), should.get(name))
    }


def _should(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Write a wanted job in the form that jobs are answered in."""
    said = {name: value for name, value in wanted.items() if value is not None}
    should = {**_ALWAYS, **said}
    should["retry"] = _retry(should["retry"])
    if any(name in said for name in _RECURRING):
        should = {**_AGAIN, **should}
        if "every" in said:
            should.pop("timezone", None)
            should.pop("dst", None)
        else:
            should["timezone"] = should.get("timezone", "UTC")
            should["dst"] = {**_DST, **should.get("dst", {})}
        should["jitter"] = should["jitter"] or None
    else:
        # The zone, if any, has told which instant is meant.
        should = {name: value for name, value in should.items() if name not in {"timezone", "dst"}}
    return {name: _canonical(name, value) for name, value in should.items()}


def _there(present: Job, should: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a job's fields that are to be compared: what is not said by choice is left out."""
    there = {name: getattr(present, name) for name in ("url", *_ALWAYS)}
    there["retry"] = {name: getattr(present.retry, name) for name in _BACKOFF}
    if any(getattr(present, name) is not None for name in _RECURRING):
        there |= {name: getattr(present, name) for name in _AGAIN}
        if present.every is None:
            there["timezone"] = present.timezone
            there["dst"] = present.dst and {name: getattr(present.dst, name) for name in _DST}
        if "anchor" in should:
            there["anchor"] = present.anchor
    else:
        there["delay"] = present.delay
        if "run_at" in should:
            there["run_at"] = present.run_at
    return {name: _canonical(name, value) for name, value in there.items()}


def _retry(said: Any) -> dict[str, Any]:
    match said:
        case "none":
            return {**_BACKOFF, "max_attempts": 1}
        case "standard":
            return _delays(_STANDARD_DELAYS) | {"jitter": _BACKOFF["jitter"]}
        case list():
            return _delays([_seconds(wait) for wait in said])
        case dict():
            waits = {name: _seconds(value) for name, value in said.items() if name != "backoff"}
            return {**_BACKOFF, **waits}
        case _:
            return {"": said}  # the server says what is wrong with it


def _delays(delays: list[Any]) -> dict[str, Any]:
    nothing = dict.fromkeys(_BACKOFF)
    return {**nothing, "max_attempts": len(delays) + 1, "delays": delays, "jitter": 0.0}


def _canonical(name: str, value: Any) -> Any:
    if value is None or value in ({}, []):
        return None
    if name in _WAITS:
        return _seconds(value)
    if name in _INSTANTS:
        return _instant(value)
    return value


def _seconds(value: Any) -> Any:
    """Write a duration in seconds; what is none stays, for the server to refuse."""
    if not isinstance(value, str):
        return value
    try:
        return _DURATION.validate_python(value).total_seconds()
    except ValidationError:
        return value


def _instant(value: Any) -> Any:
    """Read an instant, to the millisecond as the server answers it."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if not isinstance(value, datetime) or value.tzinfo is None:
        return value
    try:
        value = value.astimezone(UTC)
    except OverflowError:
        return value
    return value.replace(microsecond=value.microsecond // 1_000 * 1_000)


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        try:
            return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
        except OverflowError:
            return one == other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return bool(one == other)
