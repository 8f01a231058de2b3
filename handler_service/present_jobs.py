"""A job as a change finds it, under the job's lock."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from fastapi import Request
from sqlalchemy import BigInteger, Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from handler_service import job_lock
from handler_service.context import Context
from handler_service.paths import ID_MAX
from handler_service.problems import JobHasChanged, JobNotFound
from handler_service.read_parts import microseconds, ours
from shared.database import Connection, Pool, Read
from shared.runs.lifecycle import JobState
from shared.runs.model import jobs

_PRESENT = Read(
    select(
        jobs.c.id,
        jobs.c.method,
        jobs.c.headers,
        jobs.c.payload.is_not(None),
        jobs.c.recurrence,
        jobs.c.state,
        jobs.c.version,
        jobs.c.delay_seconds,
        jobs.c.contract,
        microseconds(jobs.c.run_at),
        microseconds(jobs.c.last_run_for),
        jobs.c.runs_begun,
    ).where(jobs.c.id == bindparam("job_id", type_=BigInteger), ours)
)
_OF_KEY = Read(
    select(jobs.c.id).where(
        ours, jobs.c.key == bindparam("key", type_=Text), jobs.c.state != JobState.ENDED
    )
)
_OF_KEYS = Read(
    select(jobs.c.key, jobs.c.id).where(
        ours,
        jobs.c.key == func.any(bindparam("keys", type_=ARRAY(Text))),
        jobs.c.state != JobState.ENDED,
    )
)


class Present(NamedTuple):
    """What a change has to know of a job."""

    job_id: int
    method: str
    headers: dict[str, str] | None
    has_payload: bool
    recurrence: dict[str, Any] | None
    state: str
    version: int
    delay_seconds: float | None
    contract: str | None
    run_at: int  # epoch microseconds; of a job that recurs, its next occurrence
    last_run_for: int | None  # epoch microseconds
    runs_begun: int


@asynccontextmanager
async def held(
    context: Context, job_id: int, *, request: Request | None = None
) -> AsyncIterator[tuple[Connection, Present]]:
    """Hold a job against other changes of a person for one transaction, and answer it.

    Raises JobNotFound; and JobHasChanged, when the request's If-Match names another version.
    """
    if job_id > ID_MAX:  # nor is there a lock of that number
        raise JobNotFound(job_id)
    async with context.pool.connection() as connection, job_lock.held(connection, job_id):
        present = await find(connection, job_id, application_id=context.application_id)
        if request is not None:
            expect_version(request, present.version)
        yield connection, present


async def find(source: Pool | Connection, job_id: int, *, application_id: int) -> Present:
    """Answer a job; raises JobNotFound."""
    row = None
    if job_id <= ID_MAX:
        row = await _PRESENT.row(source, job_id=job_id, application_id=application_id)
    if row is None:
        raise JobNotFound(job_id)
    return Present._make(row)


async def id_of_key(source: Pool | Connection, key: str, *, application_id: int) -> int | None:
    """Answer the job that has a key and was not ended."""
    row = await _OF_KEY.row(source, key=key, application_id=application_id)
    return None if row is None else int(row[0])


async def ids_of_keys(
    source: Pool | Connection, keys: Iterable[str], *, application_id: int
) -> dict[str, int]:
    """Answer the jobs that have one of these keys and were not ended, by their keys."""
    rows = await _OF_KEYS.rows(source, keys=list(keys), application_id=application_id)
    return dict(rows)


def expect_version(request: Request, version: int | None) -> None:
    """Hold a request to its If-Match (RFC 9110, 13.1.1), if it has one; None: there is no job."""
    wanted = request.headers.get("if-match")
    if wanted is None:
        return
    tags = {tag.strip() for tag in wanted.split(",")}
    if version is None or not tags & {"*", f'"{version}"'}:
        raise JobHasChanged(version)
