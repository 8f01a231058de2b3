"""A job on the wire, as it is answered."""

from datetime import datetime
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field

from handler_service.job_reads import Job, LastRun
from handler_service.schemas.body import answer
from handler_service.schemas.instants import maybe, microseconds, write_instant
from handler_service.schemas.job_examples import (
    EXAMPLE,
    LAST_RUN_EXAMPLE,
    ONCE_EXAMPLE,
    RETRY_EXAMPLE,
)
from handler_service.schemas.request_parts import Method, says_json
from shared.recurrence import Recurrence
from shared.runs.lifecycle import Delivery
from shared.runs.policy import RetryPolicy

State = Literal["active", "paused", "ended"]
Status = Literal[
    "upcoming", "executing", "retrying", "succeeded", "failed", "uncertain", "cancelled", "skipped"
]
End = Literal["done", "failed", "uncertain", "cancelled", "skipped"]
RECURRENCE = (
    *("cron", "every", "rrule", "timezone", "anchor", "starts_at", "ends_at", "max_runs"),
    *("jitter", "catch_up", "overlap", "dst"),
)


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
        description="Whose wall clock the recurrence is read on; null: on none."
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
    dst: DstOut | None = Field(
        description="What it does as that clock changes; null: it is read on none."
    )
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


def job_out(job: Job) -> dict[str, object]:
    """Write a job as `JobOut` describes it."""
    return {
        "id": job.job_id,
        "url": job.url,
        "method": job.method,
        "headers": job.headers,
        "payload": payload_out(job),
        "run_at": write_instant(job.run_at),
        "delay": job.delay_seconds,
        **_recurrence(job.recurrence),
        "user": job.user_id,
        "key": job.key,
        "labels": job.labels,
        "timeout": job.timeout_seconds,
        "retry": _retry(RetryPolicy.read(job.retry)),
        "delivery": job.delivery,
        "max_lateness": job.max_lateness_seconds,
        "state": job.state,
        "status": job.status,
        "next_run_at": maybe(job.next_run_at),
        "last_run": None if job.last_run is None else _last_run(job.last_run),
        "created_at": write_instant(job.created_at),
        "updated_at": write_instant(job.updated_at),
        "version": job.version,
    }


def payload_out(job: Job) -> object:
    """Answer the payload as it was given: by the letter, were it a number of a hundred digits."""
    if job.payload is None:
        return None
    if says_json(job.headers):
        try:
            orjson.loads(job.payload)
        except ValueError:
            pass  # headers may be changed alone
        else:
            # On one line: a break outside of its strings is white space.
            return orjson.Fragment(job.payload.replace(b"\n", b" "))
    return job.payload.decode(errors="replace")


def _recurrence(document: dict[str, Any] | None) -> dict[str, object]:
    """Answer the fields of a recurrence; all of them null for a job that runs once."""
    if document is None:
        return dict.fromkeys(RECURRENCE)
    rule = Recurrence.read(document)
    is_local = rule.every_seconds is None  # an interval is the same by every clock
    return {
        "cron": rule.cron,
        "every": rule.every_seconds,
        "rrule": rule.rrule,
        "timezone": rule.timezone if is_local else None,
        "anchor": _instant(rule.anchor),
        "starts_at": _instant(rule.starts_at),
        "ends_at": _instant(rule.ends_at),
        "max_runs": rule.max_runs,
        "jitter": rule.jitter_seconds or None,
        "catch_up": rule.catch_up,
        "overlap": rule.overlap,
        "dst": {"gap": rule.gap, "fold": rule.fold} if is_local else None,
    }


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else write_instant(microseconds(instant))


def _retry(policy: RetryPolicy) -> dict[str, object]:
    backs_off = policy.delays is None
    return {
        "max_attempts": policy.max_attempts,
        "backoff": "exponential" if backs_off else None,
        "base": policy.base if backs_off else None,
        "factor": policy.factor if backs_off else None,
        "max_delay": policy.max_delay if backs_off else None,
        "delays": policy.delays,
        "jitter": policy.jitter,
        "max_age": policy.max_age,
    }


def _last_run(run: LastRun) -> dict[str, object]:
    return {
        **run._asdict(),
        "scheduled_for": write_instant(run.scheduled_for),
        "started_at": maybe(run.started_at),
        "finished_at": write_instant(run.finished_at),
    }
