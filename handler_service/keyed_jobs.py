"""`/jobs/by-key/{key}`: create or change a job by a name of the caller's own; restart its delay."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Request, Response
from psycopg.errors import UniqueViolation

from handler_service import bodies, job_edits, planning, present_jobs
from handler_service.context import Context
from handler_service.job_edits import IF_MATCH
from handler_service.jobs import MADE, answer_job, planned_jobs
from handler_service.openapi import json_body, problems
from handler_service.present_jobs import Present
from handler_service.problems import (
    InvalidRequest,
    JobHasBegun,
    JobHasChanged,
    JobHasNoDelay,
    JobNotFound,
    KeyTaken,
    Unavailable,
)
from handler_service.reads import clock
from handler_service.rows import job_bytes_max
from handler_service.schemas.instants import microseconds
from handler_service.schemas.job_out import JobOut
from handler_service.schemas.jobs import KeyedJobIn
from handler_service.violations import Violation
from shared.database import Connection
from shared.events import of_job
from shared.recurrence import Recurrence
from shared.runs import moves
from shared.runs.lifecycle import JobState
from shared.runs.moves import Edit, NewJob

TRIES = 5  # two who create it at one moment: one of them finds it the next time
KEY = "daily-report"
NO_DELAY = JobHasNoDelay(KEY)

router = APIRouter(tags=["jobs"])
KeyName = Annotated[
    str,
    Path(
        description="A name of your own.",
        examples=[KEY],
        min_length=1,
        max_length=255,
        pattern=r"^[A-Za-z0-9._:@~+=-]*$",
    ),
]


@router.get(
    "/jobs/by-key/{key}",
    response_model=JobOut,
    summary="Read a job by its key",
    operation_id="getJobByKey",
    response_description="The job",
    responses=problems(JobNotFound(KEY), 422, 503) | {200: {"headers": MADE}},
)
async def get_job_by_key(request: Request, key: KeyName) -> Response:
    """Read the job that has a key and was not ended."""
    context = Context.of(request)
    return await answer_job(context, await _expect(context, key))


@router.put(
    "/jobs/by-key/{key}",
    response_model=JobOut,
    summary="Create a job under a key, or change the one that has it",
    operation_id="putJobByKey",
    openapi_extra=json_body(KeyedJobIn) | IF_MATCH,
    response_description="There was one: it is as `on_conflict` says",
    responses=problems(400, KeyTaken(KEY), JobHasChanged(3), 413, 415, 422, 503)
    | {
        200: {"headers": MADE},
        201: {"model": JobOut, "description": "There was none: it is made", "headers": MADE},
    },
)
async def put_job_by_key(request: Request, key: KeyName) -> Response:
    """Create the job, or replace, keep or extend the one that has the key.

    Replacing one whose run is over makes another run of it. One that is being called right now is
    left alone: 409. With If-Match none is made.
    """
    context = Context.of(request)
    wanted = await bodies.read(request, KeyedJobIn, bytes_max=job_bytes_max(context))
    if wanted.key is not None and wanted.key != key:
        raise InvalidRequest([Violation("#/key", "Must be the key of the path; leave it out.")])
    new = None
    for _ in range(TRIES):
        job_id = await present_jobs.id_of_key(
            context.pool, key, application_id=context.application_id
        )
        if job_id is not None and wanted.on_conflict == "error":
            raise KeyTaken(key)
        if job_id is not None and wanted.on_conflict == "keep":
            return await answer_job(context, job_id)
        if job_id is None:
            present_jobs.expect_version(request, None)
        if new is None:
            [planned] = await planned_jobs(context, [wanted], places=["#"])
            new = planned._replace(key=key)
        if job_id is None:
            try:
                job_id = (await context.group_commit.create(new)).job_id
            except UniqueViolation:
                continue
            return await answer_job(context, job_id, status=201)
        if await _change(context, job_id, wanted, new, request):
            return await answer_job(context, job_id)
    raise Unavailable("Others change the job with this key all the time; try again.")


@router.post(
    "/jobs/by-key/{key}/touch",
    response_model=JobOut,
    summary="Restart the delay of a job",
    operation_id="touchJobByKey",
    response_description="Its delay counts from now",
    responses=problems(JobNotFound(KEY), NO_DELAY, 422, 503) | {200: {"headers": MADE}},
)
async def touch_job_by_key(request: Request, key: KeyName) -> Response:
    """Restart a job's delay: it is called unless it is touched again in time (a dead-man timer).

    When its run is over, it gets another one.
    """
    context = Context.of(request)
    job_id = await _expect(context, key)
    async with present_jobs.held(context, job_id) as (connection, present):
        delay_seconds = _delay_of(present, key)
        await _restart(connection, present, delay_seconds, context.application_id)
    context.announcer.due_in(delay_seconds)
    context.events.tell([of_job("job.changed", context.application_id, job_id)])
    return await answer_job(context, job_id)


async def replace(connection: Connection, present: Present, new: NewJob) -> None:
    """Write every column of a job anew, what the caller left out included.

    Under the job's lock. One whose run is over gets another; raises JobHasBegun while it executes.
    """
    values = {name: getattr(new, name) for name in Edit._fields if name in NewJob._fields}
    if new.run_at is not None:
        values["delay_seconds"] = None
    values["runs_begun"] = 0
    rule = None if new.recurrence is None else Recurrence.read(orjson.loads(new.recurrence))
    spread = None if rule is None else rule.spread_seconds(present.job_id) or None

    async def change(present: Present) -> Edit:
        going = job_edits.going(present)
        if rule is not None and going is not None:
            first = await planning.first_of(rule, await clock(connection), going)
            if first is None:
                raise JobHasBegun(present.job_id)
            values["run_at"] = microseconds(first)
        return Edit(list(values), **values, spread_seconds=spread)

    await _edit_or_rearm(connection, present, change, new.application_id)


async def _expect(context: Context, key: str) -> int:
    job_id = await present_jobs.id_of_key(context.pool, key, application_id=context.application_id)
    if job_id is None:
        raise JobNotFound(key)
    return job_id


async def _change(
    context: Context, job_id: int, wanted: KeyedJobIn, new: NewJob, request: Request
) -> bool:
    """Replace or extend a job; False when it was ended meanwhile, and its key given away."""
    async with present_jobs.held(context, job_id) as (connection, present):
        if present.state == JobState.ENDED:
            return False
        present_jobs.expect_version(request, present.version)
        if wanted.on_conflict == "extend":
            assert new.key is not None  # noqa: S101  # given by the path
            if present.recurrence is not None:
                raise JobHasNoDelay(new.key)
            says_delay = wanted.delay is not None
            delay_seconds = new.delay_seconds if says_delay else _delay_of(present, new.key)
            await _restart(connection, present, delay_seconds, context.application_id)
        else:
            await replace(connection, present, new)
            delay_seconds = new.delay_seconds
    context.announcer.due_in(delay_seconds)
    context.events.tell([of_job("job.changed", context.application_id, job_id)])
    return True


def _delay_of(present: Present, key: str) -> float:
    if present.delay_seconds is None:
        raise JobHasNoDelay(key)
    return present.delay_seconds


async def _restart(
    connection: Connection, present: Present, delay_seconds: float, application_id: int
) -> None:
    async def change(_: Present) -> Edit:
        return Edit(["delay_seconds"], delay_seconds=delay_seconds)

    await _edit_or_rearm(connection, present, change, application_id)


async def _edit_or_rearm(
    connection: Connection,
    present: Present,
    change: Callable[[Present], Awaitable[Edit]],
    application_id: int,
) -> None:
    whose = {"job_id": present.job_id, "application_id": application_id}
    try:
        await job_edits.make(connection, present, change, application_id=application_id)
    except JobHasBegun:
        edit = await change(await present_jobs.find(connection, **whose))
        if not await moves.rearm(connection, edit=edit, **whose):
            raise
