"""How figures are counted: reads of all there is, one at a time, at one moment, not for long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.errors import LockNotAvailable, QueryCanceled

from handler_service.context import Context
from handler_service.problems import TooMuchToCount
from shared.database import Connection

WAIT_SECONDS_MAX = 10.0
ONE_MOMENT = "set transaction isolation level repeatable read, read only"
# The pool's plans are pinned for lists.
SETTINGS = """
select
    set_config('enable_seqscan', 'on', true),
    set_config('enable_hashjoin', 'on', true),
    set_config('enable_bitmapscan', 'on', true),
    set_config('lock_timeout', '5s', true),
    set_config('statement_timeout', %s, true)
"""


@asynccontextmanager
async def snapshot(context: Context, *, seconds: float) -> AsyncIterator[Connection]:
    """Lend a connection whose reads all see one moment, each for so long.

    Raises TooMuchToCount when one takes longer, or others are counting all the time.
    """
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            await context.counting.acquire()
    except TimeoutError:
        raise TooMuchToCount("Other figures are being counted; try again.") from None
    try:
        async with context.pool.connection() as connection, connection.transaction():
            await connection.execute(ONE_MOMENT)
            await connection.execute(SETTINGS.encode(), (f"{seconds:.0f}s",))
            yield connection
    except QueryCanceled:
        raise TooMuchToCount(
            f"Counting took longer than {seconds:.0f} seconds and was given up; ask for less, or "
            "when the database has less to do."
        ) from None
    except LockNotAvailable:
        raise TooMuchToCount("A table is locked; try again in a while.") from None
    finally:
        context.counting.release()
