"""Group commit: the creates that wait at one moment share one statement and one durable commit.

A request alone is written at once; while that write is under way the next ones gather, and go
together. Measured on 2 shared cores: one transaction per request 2,700 creates a second, coalesced
5,600 to 6,700.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from time import monotonic
from typing import NamedTuple

import structlog
from prometheus_client import Counter, Histogram
from psycopg import DataError, Error, IntegrityError

from handler_service.announce import Announcer
from handler_service.problems import Unavailable
from handler_service.transaction import Transaction
from shared import database
from shared.events import Event, Teller, of_job, of_run
from shared.runs import moves
from shared.runs.moves import Created, NewJob

WRITERS = 2  # statements under way at once: one commits while the next one gathers
ROWS_MAX = 500  # rows in one statement

CREATED = Counter("onthedot_jobs_created", "Jobs accepted, each durable.")
GROUP = Histogram(
    "onthedot_create_group_size", "Jobs written by one statement.", buckets=(1, 5, 20, 100, 500)
)

log = structlog.stdlib.get_logger(__name__)


class _Waiting(NamedTuple):
    job: NewJob
    since: float
    created: asyncio.Future[Created]


class GroupCommit:
    """Creates jobs, many requests at a time."""

    def __init__(
        self,
        pool: database.Pool,
        announcer: Announcer,
        teller: Teller,
        *,
        waiting_max: int,
        wait_seconds: float,
    ) -> None:
        self._pool = pool
        self._announcer = announcer
        self._teller = teller
        self._waiting_max = waiting_max
        self._wait_seconds = wait_seconds
        self._waiting: list[_Waiting] = []
        self._writers: set[asyncio.Task[None]] = set()
        # Half of the connections: what is slow there keeps neither reads nor other creates waiting.
        self._apart = asyncio.Semaphore(max(1, pool.max_size // 2))

    async def create(self, job: NewJob) -> Created:
        """Answer the job once its row is committed.

        Raises Unavailable when the write did not begin, or did not end, within the time to wait. In
        the first case nothing is left behind; in the second the job may exist.
        """
        if len(self._waiting) >= self._waiting_max:
            raise Unavailable("Too many jobs are waiting to be written; try again.")
        created: asyncio.Future[Created] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(job, monotonic(), created))
        if len(self._writers) < WRITERS:
            # In a context of its own: it writes for many requests, and logs for none of them.
            self._writers.add(asyncio.create_task(self._write(), context=Context()))
        return await created

    async def create_together(self, jobs: list[NewJob]) -> list[Created]:
        """Answer the jobs, in order, once all of them are committed: all or none."""
        async with asyncio.timeout(self._wait_seconds), self._pool.connection() as connection:
            created = await moves.create(connection, jobs)
        self.announce(jobs, created)
        return created

    @asynccontextmanager
    async def transaction(self, *, seconds: float | None = None) -> AsyncIterator[Transaction]:
        """Lend a transaction of a request's own: committed in the end, unless that raises.

        Raises TimeoutError when all of it, waiting for a connection included, takes longer than so
        many seconds, or the time to wait.
        """
        async with (
            asyncio.timeout(self._wait_seconds if seconds is None else seconds),
            self._apart,
            self._pool.connection() as connection,
            connection.transaction(),
        ):
            transaction = Transaction(connection, self.announce)
            yield transaction
        transaction.committed()

    async def close(self) -> None:
        """Finish what is being written."""
        await asyncio.gather(*self._writers, return_exceptions=True)

    async def _write(self) -> None:
        """Write what waits. It leaves at the very moment when it finds nothing more to write.

        Were it to leave a moment later, as by a callback, a create in between would count on it.
        """
        writer = asyncio.current_task()
        assert writer is not None  # noqa: S101  # only ever called in a task
        try:
            await asyncio.sleep(0)  # let the requests that are ready now join this group
            while self._waiting:
                await self._write_waiting()
        finally:
            self._writers.discard(writer)

    async def _write_waiting(self) -> None:
        group, self._waiting = self._waiting[:ROWS_MAX], self._waiting[ROWS_MAX:]
        begun_by = monotonic() - self._wait_seconds
        for late in [waiting for waiting in group if waiting.since < begun_by]:
            _settle(late.created, Unavailable("The database is too slow; try again."))
        if group := [waiting for waiting in group if not waiting.created.done()]:
            await self._write_group(group)

    async def _write_group(self, group: list[_Waiting]) -> None:
        jobs = [waiting.job for waiting in group]
        try:
            async with asyncio.timeout(self._wait_seconds), self._pool.connection() as connection:
                created = await moves.create(connection, jobs)
        except (DataError, IntegrityError) as error:
            await self._write_apart(group, error)
        except (Error, TimeoutError, OSError) as error:
            log.warning("jobs.not_created", error=type(error).__name__, jobs=len(group))
            for waiting in group:
                _settle(waiting.created, Unavailable())
        else:
            for waiting, each in zip(group, created, strict=True):
                _settle(waiting.created, each)
            self.announce(jobs, created)

    async def _write_apart(self, group: list[_Waiting], error: Exception) -> None:
        """Keep one row that the database refuses from refusing the others that came with it."""
        if len(group) == 1:
            _settle(group[0].created, error)
            return
        for waiting in group:
            await self._write_group([waiting])

    def announce(self, jobs: Sequence[NewJob], created: Sequence[Created]) -> None:
        """Count what was created; say so to the executors, and to whoever listens."""
        CREATED.inc(len(jobs))
        GROUP.observe(len(jobs))
        self._announcer.due_in(min(job.delay_seconds for job in jobs))
        if self._teller.is_wanted:
            self._teller.tell(_events(jobs, created))


def _events(jobs: Sequence[NewJob], created: Sequence[Created]) -> list[Event]:
    told = []
    for job, each in zip(jobs, created, strict=True):
        told.append(of_job("job.created", job.application_id, each.job_id))
        told.append(of_run("run.pending", job.application_id, each.job_id, each.run_at))
    return told


def _settle(created: asyncio.Future[Created], outcome: Created | Exception) -> None:
    if created.done():
        return
    if isinstance(outcome, Exception):
        created.set_exception(outcome)
    else:
        created.set_result(outcome)
