"""`/jobs/{id}`: change it, end it, pause and resume it, call it now."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic_core import PydanticCustomError

from handler_service import answers, bodies, idempotency, job_lock, planning, present_jobs
from handler_service.context import Context
from handler_service.jobs import ETAG, answer_job
from handler_service.openapi import header_parameter, json_body, problems
from handler_service.paths import JobId
from handler_service.planning import Going, Planned
from handler_service.present_jobs import Present
from handler_service.problems import (
    InvalidRequest,
    JobHasBegun,
    JobHasChanged,
    JobHasEnded,
    JobNotFound,
)
from handler_service.reads import clock
from handler_service.rows import COLUMNS, changed_webhook_values, job_bytes_max
from handler_service.schemas import instants
from handler_service.schemas.job_out import JobOut
from handler_service.schemas.jobs import JobEditIn, TriggeredOut
from handler_service.schemas.request_parts import refuse
from handler_service.schemas.when import FIELDS, KINDS, RECURRING, check_one_way
from handler_service.transaction import Creator
from handler_service.violations import Violation
from shared.database import Connection
from shared.events import of_job, of_run, of_runs
from shared.recurrence import Recurrence
from shared.runs import moves
from shared.runs.lifecycle import JobState
from shared.runs.moves import Edit, Run

# A claim that moves the next occurrence at that very moment hides it once; and seldom twice.
TRIES = 5
NOT_FOUND, TOO_LATE, ENDED = JobNotFound(17), JobHasBegun(17), JobHasEnded(17)
IF_MATCH = header_parameter("If-Match", "The version that it must have, as in its ETag.", '"1"')
_PAUSE = b"""
update jobs set state = 'paused', version = version + 1, updated_at = now()
where id = %(job_id)s and state = 'active'
"""
_ACTIVATE = b"""
update jobs set state = 'active', version = version + 1, updated_at = now()
where id = %(job_id)s and state = 'paused'
"""
_LOCK_HELD = b"""
select from schedules where job_id = %(job_id)s and due_at = 'infinity' for update
"""
# Nothing is left to run of it: it is ended in name too, and gives its key away.
_END = b"""
update jobs set state = 'ended', version = version + 1, updated_at = now()
where id = %(job_id)s and state <> 'ended'
    and not exists (select from schedules where schedules.job_id = jobs.id)
"""

router = APIRouter(tags=["jobs"])


@router.patch(
    "/jobs/{job_id:id}",
    response_model=JobOut,
    summary="Change a job",
    operation_id="editJob",
    openapi_extra=json_body(JobEditIn) | IF_MATCH,
    response_description="The job is changed",
    responses=problems(400, NOT_FOUND, TOO_LATE, JobHasChanged(3), 413, 415, 422, 503)
    | {200: {"headers": ETAG}},
)
async def edit_job(request: Request, job_id: JobId) -> Response:
    """Change what has not begun of a job: its run, or the next occurrence and all after it.

    After a 200 it is called as it is now; after a 409 it stays as it was. An occurrence that is
    under way goes on; what of it is attempted again is attempted as the job is then.
    """
    context = Context.of(request)
    wanted = await bodies.read(request, JobEditIn, bytes_max=job_bytes_max(context))
    async with present_jobs.held(context, job_id, request=request) as (connection, present):
        if present.state == JobState.ENDED:
            raise JobHasEnded(job_id)
        delay_seconds = 0.0

        async def change(present: Present) -> Edit:
            nonlocal delay_seconds
            edit, planned = await _edit(context, connection, wanted, present)
            delay_seconds = 0.0 if planned is None else planned.delay_seconds
            return edit

        await make(connection, present, change, application_id=context.application_id)
    context.events.tell([of_job("job.changed", context.application_id, job_id)])
    # Without a new instant too: a claim may have passed over the run while it was being changed.
    context.announcer.due_in(delay_seconds)
    return await answer_job(context, job_id)


@router.delete(
    "/jobs/{job_id:id}",
    status_code=204,
    summary="End a job",
    operation_id="deleteJob",
    openapi_extra=IF_MATCH,
    response_description="Nothing of it is called any more; now or before",
    responses=problems(NOT_FOUND, TOO_LATE, JobHasChanged(3), 503),
)
async def delete_job(request: Request, job_id: JobId) -> Response:
    """Cancel what is pending of a job and end it. Its history stays.

    A run that is executing goes on. When nothing else was pending, that is a 409. A job whose runs
    are over gives its key away.
    """
    context = Context.of(request)
    async with present_jobs.held(context, job_id, request=request) as (connection, present):
        cancelled = await _cancel(context, connection, job_id)
        has_ended = bool(cancelled)
        if not cancelled and present.state != JobState.ENDED:
            cursor = await connection.execute(_END, {"job_id": job_id})
            has_ended = bool(cursor.rowcount)
            if not has_ended:
                raise JobHasBegun(job_id)
    if has_ended:
        _tell_ended(context, job_id, cancelled)
    return Response(status_code=204)


@router.post(
    "/jobs/{job_id:id}/pause",
    response_model=JobOut,
    summary="Pause a job",
    operation_id="pauseJob",
    response_description="The job is paused",
    responses=problems(NOT_FOUND, ENDED, 503) | {200: {"headers": ETAG}},
)
async def pause_job(request: Request, job_id: JobId) -> Response:
    """Call nothing more of a job until it is resumed. A run that is executing goes on."""
    context = Context.of(request)
    # In two transactions: claims lock a run before its job, and so must whoever locks both.
    async with present_jobs.held(context, job_id) as (connection, present):
        if present.state == JobState.ENDED:
            raise JobHasEnded(job_id)
        cursor = await connection.execute(_PAUSE, {"job_id": job_id})
    async with context.pool.connection() as connection:
        await moves.hold(connection, [job_id])
    if cursor.rowcount:
        context.events.tell([of_job("job.paused", context.application_id, job_id)])
    return await answer_job(context, job_id)


@router.post(
    "/jobs/{job_id:id}/resume",
    response_model=JobOut,
    summary="Resume a job",
    operation_id="resumeJob",
    response_description="The job is active",
    responses=problems(NOT_FOUND, ENDED, 503) | {200: {"headers": ETAG}},
)
async def resume_job(request: Request, job_id: JobId) -> Response:
    """Go on with a paused job.

    A run whose instant is over runs now; of missed occurrences, as many as the job catches up with.
    """
    context = Context.of(request)
    async with present_jobs.held(context, job_id) as (connection, present):
        if present.state == JobState.ENDED:
            raise JobHasEnded(job_id)
        # Runs before their job, as everyone locks them; what is held, no claim touches.
        await connection.execute(_LOCK_HELD, {"job_id": job_id})
        cursor = await connection.execute(_ACTIVATE, {"job_id": job_id})
        await moves.resume(connection, job_id=job_id)
    if cursor.rowcount:
        context.events.tell([of_job("job.resumed", context.application_id, job_id)])
    context.announcer.due_in(0.0)
    return await answer_job(context, job_id)


@router.post(
    "/jobs/{job_id:id}/trigger",
    status_code=201,
    response_model=TriggeredOut,
    summary="Call a job now",
    operation_id="triggerJob",
    openapi_extra=idempotency.PARAMETER,
    response_description="A run of it is due now",
    responses=problems(NOT_FOUND, ENDED, 422, 503) | {201: {"headers": idempotency.REPLAYED}},
)
async def trigger_job(request: Request, job_id: JobId) -> Response:
    """Make a run that is due now, beside those that are planned; of a paused job too."""
    context = Context.of(request)

    async def make(creator: Creator) -> Response:
        async with creator.transaction() as transaction:
            whose = {"job_id": job_id, "application_id": context.application_id}
            scheduled_for = await moves.trigger(transaction.connection, **whose)
            if scheduled_for is None:
                await present_jobs.find(transaction.connection, **whose)
                raise JobHasEnded(job_id)
            transaction.after_commit(lambda: context.announcer.due_in(0.0))
            run = of_run("run.pending", context.application_id, job_id, scheduled_for)
            transaction.after_commit(lambda: context.events.tell([run]))
        body = {"job_id": job_id, "scheduled_for": instants.write_instant(scheduled_for)}
        return answers.json(body, status=201)

    return await idempotency.answer_once(request, context, b"", make)


def going(present: Present) -> Going | None:
    """Say where a job stands, if it recurs."""
    return None if present.recurrence is None else Going(present.run_at, present.last_run_for)


def _check_runs(planned: Planned, present: Present) -> None:
    most = None if planned.recurrence is None else planned.recurrence.max_runs
    if present.recurrence is not None and most is not None and most <= present.runs_begun:
        detail = f"Must be more than the {present.runs_begun} that it has had; or end the job."
        raise InvalidRequest([Violation("#/max_runs", detail)])


async def make(
    connection: Connection,
    present: Present,
    change: Callable[[Present], Awaitable[Edit]],
    *,
    application_id: int,
) -> None:
    """Make a change of what has not begun; raises JobHasBegun, and then nothing is changed.

    `change` says what changes of a job as it is, again if a claim moved its next occurrence on.
    """
    whose = {"job_id": present.job_id, "application_id": application_id}
    for _ in range(TRIES if present.recurrence is not None else 1):
        if await moves.edit(connection, edit=await change(present), **whose):
            return
        present = await present_jobs.find(connection, **whose)
    raise JobHasBegun(present.job_id)


async def cancel(context: Context, job_id: int) -> bool:
    """Cancel what is pending of a job and end it; False when nothing was."""
    async with context.pool.connection() as connection:
        cancelled = await _cancel(context, connection, job_id)
    if cancelled:
        _tell_ended(context, job_id, cancelled)
    return bool(cancelled)


async def _cancel(context: Context, connection: Connection, job_id: int) -> list[Run]:
    """Cancel until nothing is pending: what a claim makes meanwhile is not seen at first."""
    whose = {"job_id": job_id, "application_id": context.application_id}
    cancelled = await moves.cancel(connection, **whose)
    if not cancelled:  # or an edit was replacing its run just then
        async with job_lock.held(connection, job_id):
            cancelled = await moves.cancel(connection, **whose)
    while more := cancelled and await moves.cancel(connection, **whose):
        cancelled += more
    return cancelled


def _tell_ended(context: Context, job_id: int, cancelled: list[Run]) -> None:
    ended = of_job("job.ended", context.application_id, job_id)
    context.events.tell([*of_runs("run.cancelled", cancelled), ended])


async def _edit(
    context: Context, connection: Connection, wanted: JobEditIn, present: Present
) -> tuple[Edit, Planned | None]:
    """Say what changes, and when it runs then if that is said."""
    values = changed_webhook_values(context, wanted, present)
    given = [COLUMNS.get(name, name) for name in wanted.model_fields_set]
    changed = [name for name in given if name in values]
    planned = None
    if said := wanted.given_when():
        merged = _merged(said, present)
        now = await clock(connection)
        planned = await planning.plan(merged, now=now, going=going(present))
        _check_runs(planned, present)
        when = _when_values(said, present, planned)
        values |= when
        changed += [name for name in when if name != "spread_seconds"]
    return Edit(changed, **{name: values[name] for name in values if name in _GIVEN}), planned


_GIVEN = frozenset(Edit._fields) - {"changed"}


def _merged(said: dict[str, Any], present: Present) -> dict[str, Any]:
    """Lay what is said of when a job runs over what it says now."""
    merged: dict[str, Any] = dict.fromkeys(FIELDS)
    kinds = [name for name in KINDS if said.get(name) is not None]
    recurs_now = present.recurrence is not None
    if recurs_now and (not kinds or kinds[0] in RECURRING):
        assert present.recurrence is not None  # noqa: S101  # said by recurs_now
        merged |= planning.said_by(Recurrence.read(present.recurrence))
        if kinds:
            merged |= dict.fromkeys(KINDS)
            if kinds == ["cron"]:
                merged["anchor"] = None
            if kinds == ["every"]:
                merged |= {"timezone": None, "dst": None}
    merged |= said
    try:
        check_one_way(merged)
        if not any(merged[name] is not None for name in KINDS):
            raise refuse("when", "Needs a time: give one way to say when", field=KINDS[0])
    except PydanticCustomError as refusal:
        context = refusal.context or {}
        where = f"#/{context.get('field', '')}"
        raise InvalidRequest([Violation(where, f"{context['message']}.")]) from None
    return merged


def _when_values(said: dict[str, Any], present: Present, planned: Planned) -> dict[str, Any]:
    """Say what changes of a job's row and of its run's; the run stays where only policy changes."""
    rule = planned.recurrence
    document = rule and rule.document()
    if rule is not None and not set(said) - _POLICY and present.recurrence is not None:
        return {"recurrence": document}
    return {
        "run_at": planned.run_at,
        "delay_seconds": None if planned.run_at is not None else planned.delay_seconds,
        "recurrence": document,
        **({"runs_begun": 0} if rule and present.recurrence is None else {}),
        "spread_seconds": rule.spread_seconds(present.job_id) or None if rule else None,
    }


# What does not move an occurrence.
_POLICY = {"catch_up", "overlap", "max_runs"}
