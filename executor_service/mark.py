"""Marks: an at-most-once run is marked durably before its first byte may leave.

Claims that are about to be fired at one moment share one statement and one commit, so that being
careful costs a commit for many and not for each.
"""

import asyncio
from typing import NamedTuple

import structlog
from prometheus_client import Counter, Histogram

from shared import database
from shared.runs import moves
from shared.runs.moves import Claim

BATCH_MAX = 500
MARK_SECONDS_MAX = 3.0

MARKED = Counter("onthedot_runs_marked", "At-most-once runs, marked before they were sent.")
MARKS = Histogram("onthedot_mark_batch_size", "Runs in one mark.", buckets=(1, 5, 20, 100, 500))

log = structlog.stdlib.get_logger(__name__)


class _Waiting(NamedTuple):
    claim: Claim
    is_marked: asyncio.Future[bool]


class Marker:
    """Marks runs for those who are about to send them."""

    def __init__(self, pool: database.Pool) -> None:
        self._pool = pool
        self._waiting: list[_Waiting] = []
        self._news = asyncio.Event()

    async def mark(self, claim: Claim) -> bool:
        """Answer whether the run is marked and still ours.

        False: do not send it, but give it back. It may be marked all the same, when Postgres did
        not answer in time; giving it back takes the mark away.
        """
        is_marked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(claim, is_marked))
        self._news.set()
        return await is_marked

    async def run(self) -> None:
        """Mark what comes, for ever; while one statement is under way the next batch gathers."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
                await self._mark(batch)

    async def _mark(self, batch: list[_Waiting]) -> None:
        claims = [waiting.claim for waiting in batch]
        try:
            async with database.connection(self._pool, seconds=MARK_SECONDS_MAX) as connection:
                marked = await moves.mark(connection, claims)
        except database.Failure as error:
            log.warning("mark.failed", runs=len(batch), error=type(error).__name__)
            marked = set()
        MARKED.inc(len(marked))
        MARKS.observe(len(batch))
        for claim, is_marked in batch:
            if not is_marked.done():  # who waited for it may have been cut off
                is_marked.set_result((claim.job_id, claim.scheduled_for) in marked)
