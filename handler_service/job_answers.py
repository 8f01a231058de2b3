"""How a job that was read is written on the wire."""

from datetime import datetime
from typing import Any

import orjson

from handler_service.job_reads import Job, LastRun
from handler_service.schemas.instants import microseconds, write_instant
from handler_service.schemas.request_parts import says_json
from shared.recurrence import Recurrence
from shared.runs.policy import RetryPolicy

RECURRENCE = (
    *("cron", "every", "rrule", "timezone", "anchor", "starts_at", "ends_at", "max_runs"),
    *("jitter", "catch_up", "overlap", "dst"),
)

def write_job(job: Job) -> dict[str, object]:
    """Write a job as `JobOut` describes it."""
    return {
        "id": job.job_id,
        "url": job.url,
        "method": job.method,
        "headers": job.headers,
        "payload": _payload(job),
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
        "next_run_at": write_maybe(job.next_run_at),
        "last_run": None if job.last_run is None else _last_run(job.last_run),
        "created_at": write_instant(job.created_at),
        "updated_at": write_instant(job.updated_at),
        "version": job.version,
    }


def etag(job: Job) -> str:
    """Write the version of a job as an entity tag (RFC 9110, 8.8.3)."""
    return f'"{job.version}"'


def write_maybe(instant: int | None) -> str | None:
    """Write an instant that there may not be."""
    return None if instant is None else write_instant(instant)


def _payload(job: Job) -> object:
    """Answer the payload as it was given: by the letter, were it a number of a hundred digits."""
    if job.payload is None:
        return None
    if says_json(job.headers):
        try:
            orjson.loads(job.payload)
        except ValueError:
            pass  # headers may be changed alone
        else:
            return orjson.Fragment(job.payload)
    return job.payload.decode(errors="replace")


def _recurrence(document: dict[str, Any] | None) -> dict[str, object]:
    """Answer the fields of a recurrence; all of them null for a job that runs once."""
    if document is None:
        return dict.fromkeys(RECURRENCE)
    rule = Recurrence.read(document)
    return {
        "cron": rule.cron,
        "every": rule.every_seconds,
        "rrule": rule.rrule,
        "timezone": rule.timezone,
        "anchor": _instant(rule.anchor),
        "starts_at": _instant(rule.starts_at),
        "ends_at": _instant(rule.ends_at),
        "max_runs": rule.max_runs,
        "jitter": rule.jitter_seconds or None,
        "catch_up": rule.catch_up,
        "overlap": rule.overlap,
        "dst": {"gap": rule.gap, "fold": rule.fold},
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
        "started_at": write_maybe(run.started_at),
        "finished_at": write_instant(run.finished_at),
    }
