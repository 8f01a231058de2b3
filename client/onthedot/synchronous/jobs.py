# Made by `make docs` from asynchronous/jobs.py: change that one.
"""Jobs: a call at once, at an instant, after a delay, or again and again."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Unpack

from onthedot import call, wire
from onthedot.models import (
    Batch,
    Cancelled,
    Execution,
    Imported,
    Job,
    Preview,
    Trial,
    Triggered,
    Validation,
)
from onthedot.options import (
    Expectation,
    Instant,
    JobChanges,
    JobFilters,
    JobOptions,
    KeyedJobOptions,
    NewJob,
    OnConflict,
    Request,
    When,
)
from onthedot.repeatable import may_be_put_twice
from onthedot.synchronous.lines import lines
from onthedot.synchronous.pages import Pages
from onthedot.synchronous.transport import Transport


class Jobs:
    """`client.jobs`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, url: str, *, idempotency_key: str | None = None, **options: Unpack[JobOptions]
    ) -> Job:
        """Have a URL called; the job is durable once this returns.

        Without an `idempotency_key` of yours one is made, so that a retry makes no second job.
        """
        body = wire.fields({"url": url, **options})
        return self._transport.fetch(call.create("/jobs", body=body, key=idempotency_key), Job)

    def create_batch(
        self, jobs: Sequence[NewJob], *, idempotency_key: str | None = None
    ) -> list[Job]:
        """Create up to 1,000 jobs, all or none; answer them in order."""
        body = {"jobs": [wire.fields(job) for job in jobs]}
        made = self._transport.fetch(
            call.create("/jobs/batch", body=body, key=idempotency_key), Batch[Job]
        )
        return made.data

    def put(
        self,
        key: str,
        url: str,
        *,
        on_conflict: OnConflict = "replace",
        version: int | None = None,
        **options: Unpack[KeyedJobOptions],
    ) -> Job:
        """Create the job of this key; `on_conflict` says what becomes of one that has it.

        With a `version` only one that has it is changed, else ChangedError is raised. Sent again
        after an answer was lost only where that cannot call the URL a second time.
        """
        body = wire.fields({"url": url, "on_conflict": on_conflict, **options})
        is_repeatable = version is None and may_be_put_twice(body)
        return self._transport.fetch(
            call.change(
                *("PUT", call.by_key(key)), body=body, version=version, is_repeatable=is_repeatable
            ),
            Job,
        )

    def get(self, job_id: int) -> Job:
        """Read a job."""
        return self._transport.fetch(call.read(f"/jobs/{job_id}"), Job)

    def get_by_key(self, key: str) -> Job:
        """Read the job of this key; raises NotFoundError if none has it."""
        return self._transport.fetch(call.read(call.by_key(key)), Job)

    def list(
        self,
        *,
        order: Literal["asc", "desc"] | None = None,
        page_size: int = 50,
        cursor: str | None = None,
        **filters: Unpack[JobFilters],
    ) -> Pages[Job]:
        """List jobs that fit every filter, by the instant of their next or last run."""
        query = wire.filters({**filters, "order": order, "limit": page_size, "cursor": cursor})
        return Pages(self._transport, call.read("/jobs", query), Job)

    def update(
        self, job_id: int, *, version: int | None = None, **changes: Unpack[JobChanges]
    ) -> Job:
        """Change what has not begun of a job.

        Raises ConflictError where it is too late, ChangedError if the job has another `version`.
        """
        body = wire.fields(changes)
        return self._transport.fetch(
            call.change("PATCH", f"/jobs/{job_id}", body=body, version=version), Job
        )

    def delete(self, job_id: int, *, version: int | None = None) -> None:
        """Cancel what is pending of a job and end it; its history stays.

        Raises ConflictError where it is too late, ChangedError if the job has another `version`.
        """
        self._transport.send(call.change("DELETE", f"/jobs/{job_id}", version=version))

    def pause(self, job_id: int) -> Job:
        """Call nothing more of a job until it is resumed."""
        return self._move(f"/jobs/{job_id}/pause")

    def resume(self, job_id: int) -> Job:
        """Go on with a paused job; of what it missed it makes up as `catch_up` says."""
        return self._move(f"/jobs/{job_id}/resume")

    def touch(self, key: str) -> Job:
        """Restart the delay of a job: it is called unless it is touched again in time.

        Never retried once it was sent: the second would restart what has begun since the first.
        """
        return self._transport.fetch(call.change("POST", f"{call.by_key(key)}/touch"), Job)

    def trigger(self, job_id: int, *, idempotency_key: str | None = None) -> Triggered:
        """Call a job now, beside its plan."""
        return self._transport.fetch(
            call.create(f"/jobs/{job_id}/trigger", key=idempotency_key), Triggered
        )

    def preview(
        self, *, count: int = 10, after: Instant | None = None, **when: Unpack[When]
    ) -> Preview:
        """Answer the next occurrences, and what the clocks do to them; nothing is created."""
        said: dict[str, Any] = {**when, "count": count}
        if after is not None:
            said["after"] = after
        return self._transport.fetch(call.ask("/jobs/preview", wire.fields(said)), Preview)

    def validate(self, url: str, **options: Unpack[JobOptions]) -> Validation:
        """Say every criterion of a job, met or not; nothing is created."""
        body = wire.fields({"url": url, **options})
        return self._transport.fetch(call.ask("/jobs/validate", body), Validation)

    def test(
        self, url: str, *, expect: Expectation | None = None, **request: Unpack[Request]
    ) -> Trial:
        """Make a call now, as an executor would, and compare its answer with what is expected."""
        body = wire.fields({"url": url, **request})
        if expect is not None:
            body["expect"] = expect
        return self._transport.fetch(call.change("POST", "/jobs/test", body=body), Trial)

    def cancel(self, *, dry_run: bool = False, **filters: Unpack[JobFilters]) -> Cancelled:
        """Cancel every job that fits the filters, of which there must be one; or count them.

        After an UnavailableError some are cancelled; the same call cancels the others.
        """
        body = {**wire.filters(filters), "dry_run": dry_run}
        return self._transport.fetch(
            call.change("POST", "/jobs/cancel", body=body, is_repeatable=dry_run), Cancelled
        )

    def export(self) -> Iterator[dict[str, Any]]:
        """Go through every job that is still to run, each as `create` takes it.

        Raises NoAnswerError when it breaks off: what came until then is not all.
        """
        for line in self.export_lines():
            yield json.loads(line)

    def export_lines(self) -> Iterator[str]:
        """Go through the same as it is written: a line of JSON each, as `import_` takes it."""
        with self._transport.stream(call.read("/jobs/export")) as response:
            for line in lines(response, broken="The export broke off, it is not complete"):
                if line:
                    yield line

    def import_(
        self,
        jobs: Iterable[Mapping[str, Any] | str | bytes],
        *,
        idempotency_key: str | None = None,
    ) -> Imported:
        """Create up to 10,000 exported jobs, all or none; one that has a key of them is replaced.

        A job is a mapping, or a line of an export.
        """
        written = b"\n".join(_line(job) for job in jobs)
        return self._transport.fetch(
            call.create("/jobs/import", lines=written, key=idempotency_key), Imported
        )

    def executions(
        self, job_id: int, *, page_size: int = 50, cursor: str | None = None
    ) -> Pages[Execution]:
        """List every attempt of a job, newest first."""
        query = wire.filters({"limit": page_size, "cursor": cursor})
        return Pages(self._transport, call.read(f"/jobs/{job_id}/executions", query), Execution)

    def _move(self, path: str) -> Job:
        """Ask for what is the same when it is asked for twice."""
        return self._transport.fetch(call.change("POST", path, is_repeatable=True), Job)


def _line(job: Mapping[str, Any] | str | bytes) -> bytes:
    match job:
        case str():
            return job.encode()
        case bytes():
            return job
        case _:
            return json.dumps(wire.fields(job)).encode()
