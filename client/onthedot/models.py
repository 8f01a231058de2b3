"""What Onthedot answers. Fields that this version does not know are kept, and do no harm.

Instants are aware datetimes, durations seconds. States are text: a later server may have more.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

Item = TypeVar("Item")


def write_instant(instant: datetime) -> str:
    """Write an instant as the server does: RFC 3339 in UTC, with milliseconds."""
    text = instant.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


Instant = Annotated[datetime, PlainSerializer(write_instant, when_used="json")]


class Answer(BaseModel):
    """What every answer is: read-only, and open for fields to come."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)

    def document(self) -> dict[str, Any]:
        """Answer it as the JSON that it came as."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Page(Answer, Generic[Item]):
    """One page of a list; `next_cursor` is None on the last."""

    data: list[Item]
    next_cursor: str | None = None


class Batch(Answer, Generic[Item]):
    """What a batch made, in its order."""

    data: list[Item]


class Timer(Answer):
    """A timer; `time_left` is in whole seconds, rounded up, and 0 once it is due."""

    id: int
    time_left: int


class Retry(Answer):
    """When a failed attempt is followed by another: by a backoff, or by listed `delays`."""

    max_attempts: int
    backoff: str | None = None
    base: float | None = None
    factor: float | None = None
    max_delay: float | None = None
    delays: list[float] | None = None
    jitter: float = 0.0
    max_age: float | None = None


class Dst(Answer):
    """What a local time does that the clocks skip, or show twice."""

    gap: str
    fold: str


class LastRun(Answer):
    """How the newest run of a job that is over ended."""

    scheduled_for: Instant
    state: str
    attempt: int
    started_at: Instant | None = None
    finished_at: Instant
    lateness_ms: float | None = None
    http_status: int | None = None
    error: str | None = None


class Job(Answer):
    """A job: what is called, when and how, and how it fares.

    `state` is active, paused or ended; `status` says where its newest run stands. `version` grows
    with each change: give it to `update` and `delete` to change nothing that others have changed.
    """

    id: int
    url: str
    method: str = "POST"
    headers: dict[str, str] | None = None
    payload: Any = None
    run_at: Instant
    delay: float | None = None
    cron: str | None = None
    every: float | None = None
    rrule: str | None = None
    timezone: str | None = None
    anchor: Instant | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    max_runs: int | None = None
    jitter: float | None = None
    catch_up: str | None = None
    overlap: str | None = None
    dst: Dst | None = None
    user: str | None = None
    key: str | None = None
    labels: dict[str, str] | None = None
    timeout: float
    retry: Retry
    delivery: str
    max_lateness: float | None = None
    state: str
    status: str
    next_run_at: Instant | None = None
    last_run: LastRun | None = None
    created_at: Instant
    updated_at: Instant
    version: int


class Triggered(Answer):
    """A run that was asked for, now."""

    job_id: int
    scheduled_for: Instant


class Occurrence(Answer):
    """One instant of a preview; `at` is None where the clocks drop it.

    `note` is `shifted`, `doubled`, `dropped` or None.
    """

    at: Instant | None
    local: str
    note: str | None = None


class Preview(Answer):
    """The next occurrences."""

    data: list[Occurrence]


class Fault(Answer):
    """One thing wrong with a job that was validated."""

    pointer: str
    detail: str


class Criterion(Answer):
    """One thing that a job must fulfil; `met` is None where that could not be asked."""

    name: str
    met: bool | None
    detail: str


class Validation(Answer):
    """Whether a job could be created and called."""

    valid: bool
    criteria: list[Criterion]
    errors: list[Fault] = []


class Met(Answer):
    """One expectation, and whether the answer is like that."""

    name: str
    met: bool
    detail: str


class Trial(Answer):
    """What a test call came to. `body` is base64 where `body_encoding` says so."""

    delivered: bool
    status: int | None
    headers: dict[str, str]
    body: str | None
    body_encoding: str
    body_is_whole: bool
    duration_ms: float
    error: str | None
    expectations: list[Met]
    met: bool


class Cancelled(Answer):
    """How many jobs fitted, and how many of them were cancelled."""

    matched: int
    cancelled: int


class Imported(Answer):
    """What came of the lines of an import."""

    created: int
    replaced: int


class Execution(Answer):
    """One attempt at a run; `lateness_ms` counts from the planned instant to its start."""

    job_id: int
    scheduled_for: Instant
    attempt: int
    state: str
    started_at: Instant | None = None
    finished_at: Instant
    lateness_ms: float | None = None
    http_status: int | None = None
    error: str | None = None
    response: str | None = None
    executor: str | None = None


class DeadLetter(Answer):
    """A run that failed for good, or of which nobody knows; `replay` is the path to replay it."""

    job_id: int
    scheduled_for: Instant
    state: str
    attempt: int
    started_at: Instant | None = None
    finished_at: Instant
    lateness_ms: float | None = None
    http_status: int | None = None
    error: str | None = None
    response: str | None = None
    host: str
    replay: str


class Replayed(Answer):
    """A dead letter that is sent again."""

    job_id: int
    scheduled_for: Instant
    attempt: int


class ReplayCount(Answer):
    """How many runs are sent again."""

    replayed: int


class Schedule(Answer):
    """A schedule of the older contract; `minute` counts from 1970-01-01T00:00Z."""

    job_id: str = Field(alias="jobId")
    payload: str
    minute: int
    recurring: str


class Ended(Answer):
    """Runs that ended, by how."""

    done: int
    failed: int
    uncertain: int
    cancelled: int
    skipped: int


class Lateness(Answer):
    """Percentiles in milliseconds, from the planned instant to the first attempt's start."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class StatsRow(Answer):
    """Figures of one group; which of the first four are there, `group_by` says."""

    hour: Instant | None = None
    day: Instant | None = None
    status: str | None = None
    user: str | None = None
    ended: Ended
    attempts: int
    lateness_ms: Lateness


class Stats(Answer):
    """Figures of what ended from `from_` on, before `to`."""

    from_: Instant = Field(alias="from")
    to: Instant
    data: list[StatsRow]


class Bucket(Answer):
    """How many runs are due in the time that begins at `at`."""

    at: Instant
    runs: int


class Forecast(Answer):
    """Runs to come, in buckets of so many seconds; not all are reckoned unless `complete`."""

    bucket: int
    overdue: int
    data: list[Bucket]
    complete: bool


class Ledger(Answer):
    """Every run that was accepted, and where it is."""

    accepted: int
    pending: int
    executing: int
    done: int
    failed: int
    uncertain: int
    cancelled: int
    skipped: int
    adds_up: bool


class PreviousSecret(Answer):
    """A secret that signs beside the present one for a while."""

    secret: str = Field(repr=False)
    until: Instant


class SigningSecret(Answer):
    """What webhooks are signed with."""

    secret: str = Field(repr=False)
    previous: PreviousSecret | None = None

    @property
    def all(self) -> list[str]:
        """Every secret that a webhook may be signed with now."""
        return [self.secret] + ([self.previous.secret] if self.previous else [])


class Readiness(Answer):
    """How the handler fares; it is ready without Redis, too."""

    status: str
    postgres: str
    redis: str


class Event(Answer):
    """A change of a run or a job; of type `gap`: some were missed, read the history.

    `id` is where to go on from: give it to `events` as `last_event_id`.
    """

    id: str
    type: str
    job_id: int | None = None
    scheduled_for: Instant | None = None
    attempt: int | None = None
    at: Instant | None = None
