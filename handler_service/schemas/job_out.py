"""A job on the wire, as it is answered."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from handler_service.schemas.body import answer
from handler_service.schemas.request_parts import Method
from shared.runs.lifecycle import Delivery

State = Literal["active", "paused", "ended"]
Status = Literal[
    "upcoming", "executing", "retrying", "succeeded", "failed", "uncertain", "cancelled", "skipped"
]
End = Literal["done", "failed", "uncertain", "cancelled", "skipped"]
RETRY_EXAMPLE = {
    "max_attempts": 5,
    "backoff": "exponential",
    "base": 5.0,
    "factor": 3.0,
    "max_delay": 3600.0,
    "delays": None,
    "jitter": 0.2,
    "max_age": None,
}
LAST_RUN_EXAMPLE = {
    "scheduled_for": "2026-11-21T09:00:00.000Z",
    "state": "done",
    "attempt": 1,
    "started_at": "2026-11-21T09:00:00.001Z",
    "finished_at": "2026-11-21T09:00:00.083Z",
    "lateness_ms": 1.379,
    "http_status": 204,
    "error": None,
}
EXAMPLE = {
    "id": 17,
    "url": "https://example.com/reports",
    "method": "POST",
    "headers": {"authorization": "Bearer a-token-of-yours"},
    "payload": {"report": "daily"},
    "run_at": "2026-11-22T09:00:00.000Z",
    "delay": None,
    "cron": "0 9 * * *",
    "every": None,
    "rrule": None,
    "timezone": "UTC",
    "anchor": None,
    "starts_at": None,
    "ends_at": None,
    "max_runs": None,
    "jitter": None,
    "catch_up": "one",
    "overlap": "allow",
    "dst": {"gap": "after", "fold": "first"},
    "user": "anna",
    "key": "daily-report",
    "labels": {"team": "sales"},
    "timeout": 15.0,
    "retry": RETRY_EXAMPLE,
    "delivery": "at_least_once",
    "max_lateness": None,
    "state": "active",
    "status": "upcoming",
    "next_run_at": "2026-11-22T09:00:00.000Z",
    "last_run": LAST_RUN_EXAMPLE,
    "created_at": "2026-11-20T14:03:21.402Z",
    "updated_at": "2026-11-20T14:03:21.402Z",
    "version": 1,
}
ONCE_EXAMPLE = EXAMPLE | {
    "id": 18,
    "run_at": "2026-11-21T09:00:00.000Z",
    "cron": None,
    "timezone": None,
    "catch_up": None,
    "overlap": None,
    "dst": None,
    "key": None,
    "state": "ended",
    "status": "succeeded",
    "next_run_at": None,
}


class RetryOut(BaseModel):
    """When a failed attempt is followed by another: by a backoff, or after each of some delays."""

    model_config = answer(RETRY_EXAMPLE)

    max_attempts: int = Field(description="Attempts in all.")
    backoff: Literal["exponential"] | None = Field(description="Null: the delays are listed.")
    base: float | None = Field(description="The wait after the first attempt, in seconds.")
    factor: float | None = Field(description="By what each wait is longer.")
    max_delay: float | None = Field(description="The longest wait, in seconds, before jitter.")
    delays: list[float] | None = Field(description="Each wait, in seconds; null: a backoff.")
    jitter: float = Field(description="The share by which a wait may be longer or shorter.")
    max_age: float | None = Field(
        description="No attempt but the first begins later than this, in seconds; null: no end."
    )


class DstOut(BaseModel):
    """What becomes of a local time that is skipped, or that comes twice."""

    model_config = answer({"gap": "after", "fold": "first"})

    gap: Literal["after", "skip"] = Field(description="A local time that is skipped.")
    fold: Literal["first", "second", "both"] = Field(description="A local time that comes twice.")


class LastRunOut(BaseModel):
    """How the newest run that is over ended."""

    model_config = answer(LAST_RUN_EXAMPLE)

    scheduled_for: str = Field(description="The instant it was planned for.")
    state: End = Field(description="How it ended.")
    attempt: int = Field(description="The attempt that ended it, from 1; 0: it was never sent.")
    started_at: str | None = Field(description="When that began; null: never, or nobody knows.")
    finished_at: str = Field(description="When that ended.")
    lateness_ms: float | None = Field(description="How late that began, in milliseconds.")
    http_status: int | None = Field(description="What the receiver answered, if it did.")
    error: str | None = Field(description="What went wrong.")


class JobOut(BaseModel):
    """A job: what is called, when and how, and how it fares. Durations are in seconds."""

    model_config = answer(EXAMPLE, ONCE_EXAMPLE)

    id: int = Field(description="The job's id.")
    url: str = Field(description="What is called.")
    method: Method = Field(description="The method it is called with.")
    headers: dict[str, str] | None = Field(description="Header fields sent beside ours, as given.")
    payload: Any = Field(
        description="What is sent, as given. Null: the body says which job fired (or null is sent)."
    )
    run_at: str = Field(description="The instant of its next run, or of its last if none is left.")
    delay: float | None = Field(description="Of a job with a key: what its delay is restarted by.")
    cron: str | None = Field(description="Recurs by this expression.")
    every: float | None = Field(description="Recurs at this interval.")
    rrule: str | None = Field(description="Recurs by this rule (RFC 5545).")
    timezone: str | None = Field(
        description="Whose wall clock the recurrence is read on; null: it runs once."
    )
    anchor: str | None = Field(description="From when the interval or the rule counts.")
    starts_at: str | None = Field(description="It does not recur before this.")
    ends_at: str | None = Field(description="It does not recur after this.")
    max_runs: int | None = Field(description="It recurs so often; null: without an end.")
    jitter: float | None = Field(description="Its runs are spread within so long; null: not.")
    catch_up: Literal["one", "all", "none"] | None = Field(
        description="What becomes of missed occurrences; null: it runs once."
    )
    overlap: Literal["allow", "skip", "queue"] | None = Field(
        description="What an occurrence does while the last one is at it; null: it runs once."
    )
    dst: DstOut | None = Field(description="What it does as clocks change; null: it runs once.")
    user: str | None = Field(description="Whose it is.")
    key: str | None = Field(description="Your own name for it.")
    labels: dict[str, str] | None = Field(description="Labels, to filter by.")
    timeout: float = Field(description="How long one attempt may take.")
    retry: RetryOut = Field(description="When a failed attempt is followed by another.")
    delivery: Delivery = Field(
        description="What to do when it is unknown whether a request was processed."
    )
    max_lateness: float | None = Field(
        description="A run that would begin later than this is skipped; null: it begins."
    )
    state: State = Field(description="`ended`: nothing of it is left to run.")
    status: Status = Field(description="Where its newest run stands.")
    next_run_at: str | None = Field(
        description="When the next attempt of it is due; null: none is, or the job is paused."
    )
    last_run: LastRunOut | None = Field(description="Its newest run that is over; null: none is.")
    created_at: str = Field(description="When it was created.")
    updated_at: str = Field(description="When it was changed.")
    version: int = Field(description="Grows with each change; also the ETag.")


class JobList(BaseModel):
    """Jobs, in the order of their instants."""

    model_config = answer({"data": [EXAMPLE], "next_cursor": None})

    data: list[JobOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the page after this one.")
