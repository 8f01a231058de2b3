"""One change of a job at a time, where it takes more than one statement.

An edit replaces the row of a job's run. A statement that began before waits for the old row, finds
it gone, and does not see the new one: it would take a run that is pending for one that has begun.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.database import Connection


@asynccontextmanager
async def held(connection: Connection, job_id: int) -> AsyncIterator[None]:
    """Hold a job's lock for one transaction; what is read in it stands until it is committed.

    An advisory lock: locking the job's row would deadlock with moves, which lock the run first.
    """
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(%s::bigint)", (job_id,))
        yield
