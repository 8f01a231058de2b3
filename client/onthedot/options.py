"""What a caller may say about timers, jobs and lists: the keyword arguments of the client.

Durations are seconds, a `timedelta`, or ISO 8601 ("PT4H1S"); instants an aware `datetime`, or
RFC 3339. What is left out stays at the server's default, or as it was.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Required, TypedDict
from zoneinfo import ZoneInfo

Duration = float | timedelta | str
Instant = datetime | str
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
Delivery = Literal["at_least_once", "at_most_once"]
CatchUp = Literal["one", "all", "none"]
Overlap = Literal["allow", "skip", "queue"]
OnConflict = Literal["replace", "keep", "extend", "error"]
Recurring = Literal["none", "daily", "weekly"]
JobStatus = Literal[
    "upcoming", "executing", "succeeded", "failed", "uncertain", "cancelled", "skipped"
]
ExecutionState = Literal[
    "done", "failed", "uncertain", "cancelled", "skipped", "retrying", "abandoned"
]
DeadLetterState = Literal["failed", "uncertain"]
Group = Literal["hour", "day", "status", "user"]


class Backoff(TypedDict, total=False):
    """Waits that grow: `base`, `base × factor`, ... up to `max_delay`."""

    max_attempts: int
    backoff: Literal["exponential"]
    base: Duration
    factor: float
    max_delay: Duration
    jitter: float
    max_age: Duration | None


Retry = Backoff | Sequence[Duration] | Literal["standard", "none"]


class Dst(TypedDict, total=False):
    """What a local time does that the clocks skip (`gap`) or show twice (`fold`)."""

    gap: Literal["after", "skip"]
    fold: Literal["first", "second", "both"]


class When(TypedDict, total=False):
    """When: one of `delay`, `run_at`, `cron`, `every` and `rrule`, or none for at once."""

    delay: Duration | None
    run_at: Instant | None
    cron: str | None
    every: Duration | None
    rrule: str | None
    timezone: str | ZoneInfo | None
    dst: Dst | None
    anchor: Instant | None
    starts_at: Instant | None
    ends_at: Instant | None
    max_runs: int | None
    jitter: Duration | None
    catch_up: CatchUp | None
    overlap: Overlap | None


class Request(TypedDict, total=False):
    """The call to make: `payload` is any JSON, sent as JSON."""

    method: Method
    headers: Mapping[str, str] | None
    payload: Any
    timeout: Duration


class Webhook(Request, total=False):
    """The call, how it is delivered, and what to find it by."""

    retry: Retry
    delivery: Delivery
    max_lateness: Duration | None
    user: str | None
    labels: Mapping[str, str] | None


class TimerOptions(Webhook, total=False):
    """A timer but for its URL. The delay is of whole seconds, in one or several parts."""

    delay: timedelta | int | str
    hours: int
    minutes: int
    seconds: int
    key: str | None


class NewTimer(TimerOptions):
    """A timer of a batch."""

    url: Required[str]


class TimerChanges(Webhook, total=False):
    """What to change of a timer; a delay counts from now."""

    delay: timedelta | int | str
    hours: int
    minutes: int
    seconds: int
    url: str


class KeyedJobOptions(When, Webhook, total=False):
    """A job but for its key and its URL."""


class JobOptions(KeyedJobOptions, total=False):
    """A job but for its URL."""

    key: str | None


class NewJob(JobOptions):
    """A job of a batch."""

    url: Required[str]


class JobChanges(When, Webhook, total=False):
    """What to change of a job."""

    url: str


class Expectation(TypedDict, total=False):
    """What the answer to a test call should be like."""

    status: int | Sequence[int] | None
    headers: Mapping[str, str] | None
    body_contains: str | None
    json_subset: Any


class JobFilters(TypedDict, total=False):
    """Which jobs; `from_` and `to` bound the instant of their next or last run."""

    status: JobStatus
    user: str
    key: str
    labels: Mapping[str, str]
    host: str
    from_: Instant
    to: Instant


class ExecutionFilters(TypedDict, total=False):
    """Which attempts; `from_` and `to` bound the instant they ended at."""

    status: ExecutionState
    user: str
    host: str
    from_: Instant
    to: Instant


class DeadLetterFilters(TypedDict, total=False):
    """Which dead letters; `from_` and `to` bound the instant they ended at."""

    state: DeadLetterState
    from_: Instant
    to: Instant
    host: str


class ReplayFilters(DeadLetterFilters, total=False):
    """Which dead letters to replay."""

    job_id: int


class ScheduleOptions(TypedDict, total=False):
    """What else may be said of a schedule."""

    immediate: bool
    url: str
