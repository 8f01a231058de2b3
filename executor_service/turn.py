"""A turn at pruning: one executor at a time, in short steps that stand in nobody's way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from psycopg.rows import TupleRow

from shared import database

TURN_SECONDS_MAX = 600.0  # then the next hour goes on
STEP_SECONDS_MAX = 10.0
# An advisory lock. Jobs are locked by their ids (handler_service/job_lock.py), which are positive.
LOCK = "select pg_try_advisory_xact_lock(-4001)"
# Behind us others would wait: a writer of history behind who reads it for long (a dump).
PATIENCE = "set local lock_timeout = '200ms'"


class NotOurTurn(Exception):  # noqa: N818  # no error
    """Another executor prunes now."""


class Turn:
    """The steps of one executor, as long as no other is at it and there is time."""

    def __init__(self, pool: database.Pool) -> None:
        self._pool = pool
        self._deadline = monotonic() + TURN_SECONDS_MAX

    @property
    def is_over(self) -> bool:
        """Whether the rest is left for the next hour."""
        return monotonic() > self._deadline

    @asynccontextmanager
    async def step(
        self, *, seconds: float = STEP_SECONDS_MAX
    ) -> AsyncIterator[database.Connection]:
        """Lend a connection for one transaction, in which no lock is waited for long.

        Takes twice as long as the transaction: others have the database in between. Raises
        NotOurTurn.
        """
        began = monotonic()
        async with (
            database.connection(self._pool, seconds=seconds) as connection,
            connection.transaction(),
        ):
            [is_ours] = await row(connection, LOCK)
            if not is_ours:
                raise NotOurTurn
            await connection.execute(PATIENCE)
            yield connection
        await asyncio.sleep(monotonic() - began)


async def row(connection: database.Connection, statement: str, **values: object) -> TupleRow:
    """Answer the row of a statement that always has one."""
    cursor = await connection.execute(statement.encode(), values)
    found = await cursor.fetchone()
    assert found is not None  # noqa: S101  # aggregates and selects without a table have one
    return found
