"""How both services hold their connections to Postgres.

One psycopg pool per process. Moves run on it as the `.sql` files beside the model; reads are
SQLAlchemy selects, compiled once and run on the same pool, so that there is one set of connections
to size.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from psycopg import (
    AsyncConnection,
    Error,
    InterfaceError,
    InternalError,
    IsolationLevel,
    OperationalError,
)
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import UndefinedTable
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import CompoundSelect, Select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

# What a caller meets when Postgres is away, full, restarting or out of connections (PoolTimeout is
# an OperationalError too), or read-only after a failover (an InternalError).
Unavailable = (OperationalError, InternalError, InterfaceError, TimeoutError, OSError)
# Everything that Postgres may say to a loop that must go on all the same.
Failure = (Error, TimeoutError, OSError)
# What a service meets that starts before the first migration has run.
NotMigrated = UndefinedTable

# The planner flips from the index to sequential scans and hashes with the size of batch and table
# (measured on 50,000 due rows: 27 µs a row instead of 10), so the moves' connections forbid those.
PINNED_PLANS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
}


def open_pool(
    url: str, *, name: str, connections: int, pin_plans: bool, statement_seconds: float = 10.0
) -> Pool:
    """Describe a pool of autocommit connections; the caller opens and closes it.

    A connection that stays silent for `statement_seconds` is given up by the server (statement
    timeout) and, where the network swallows packets, by the kernel (TCP user timeout).
    """
    settings = {
        "timezone": "UTC",
        "statement_timeout": f"{statement_seconds:.0f}s",
        "lock_timeout": f"{statement_seconds:.0f}s",
        "idle_in_transaction_session_timeout": f"{statement_seconds:.0f}s",
        "jit": "off",
    } | (PINNED_PLANS if pin_plans else {})
    given = conninfo_to_dict(url)
    options = " ".join(f"-c {key}={value}" for key, value in settings.items())
    conninfo = make_conninfo(
        url,
        application_name=f"onthedot-{name}",
        connect_timeout=given.get("connect_timeout", 3),
        tcp_user_timeout=given.get("tcp_user_timeout", int(statement_seconds * 1000)),
        keepalives_idle=given.get("keepalives_idle", 5),
        keepalives_interval=given.get("keepalives_interval", 2),
        options=f"{given.get('options') or ''} {options}".strip(),
    )

    async def check(connection: Connection) -> None:
        """Find out about a connection that died with its server before it is handed out.

        The others have died with it, and are replaced at once: one by one, the pool would sleep
        between its checks for seconds.
        """
        try:
            await AsyncConnectionPool.check_connection(connection)
        except OperationalError:
            await pool.check()
            raise

    pool: Pool = AsyncConnectionPool(
        conninfo,
        connection_class=AsyncConnection[TupleRow],
        kwargs={"autocommit": True, "prepare_threshold": 0},
        configure=_configure,
        check=check,
        min_size=connections,
        max_size=connections,
        open=False,
        name=name,
        timeout=3.0,
        # After an outage the pool must not sleep out a long backoff: give up, ask again on need.
        reconnect_timeout=1.0,
    )
    return pool


@asynccontextmanager
async def connection(pool: Pool, *, seconds: float) -> AsyncIterator[Connection]:
    """Lend a connection for so long, waiting for it included; then raise TimeoutError.

    The limits that Postgres keeps itself are of no help when it does not answer at all.
    """
    async with asyncio.timeout(seconds), pool.connection() as lent:
        yield lent


async def _configure(connection: Connection) -> None:
    await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)


class Read:
    """A SQLAlchemy select, compiled once; run it with `rows` or `row` and its bound values.

    Its plan is kept with the connection, unless it `depends_on_values`: which index to go by, say.
    """

    def __init__(
        self, select: Select[Any] | CompoundSelect[Any], *, depends_on_values: bool = False
    ) -> None:
        self._prepare = False if depends_on_values else None
        compiled = select.compile(dialect=PGDialect_psycopg())  # type: ignore[no-untyped-call]
        self.sql = str(compiled)
        self._defaults: Mapping[str, Any] = compiled.params

    async def rows(self, source: Pool | Connection, /, **values: Any) -> list[TupleRow]:
        """Answer every row, by a connection of the pool or, in its transaction, by this one.

        Bound parameters keep the names that the select gave them.
        """
        if isinstance(source, AsyncConnectionPool):
            async with source.connection() as connection:
                return await self.rows(connection, **values)
        cursor = await source.execute(
            self.sql.encode(), {**self._defaults, **values}, prepare=self._prepare, binary=True
        )
        return await cursor.fetchall()

    async def row(self, source: Pool | Connection, /, **values: Any) -> TupleRow | None:
        """Answer the first row, or None."""
        rows = await self.rows(source, **values)
        return rows[0] if rows else None
