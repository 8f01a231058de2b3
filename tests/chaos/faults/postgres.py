"""Postgres is killed, stopped, full, read-only, silent, or holds on to old rows."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic

import psycopg

from local_stack.postgres import Postgres
from tests.chaos.stack import Stack

SERVICES = "application_name like 'onthedot-%'"


async def killed(stack: Stack) -> None:
    """SIGKILL, and a start that recovers from the log."""
    async with down(stack):
        pass


@asynccontextmanager
async def down(stack: Stack) -> AsyncIterator[None]:
    """Kill Postgres; start it again after the block."""
    await asyncio.to_thread(stack.postgres.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(stack.postgres.start)


async def stopped(stack: Stack) -> None:
    """A fast stop, as an upgrade makes it, an outage, and a start."""
    await asyncio.to_thread(stack.postgres.stop)
    try:
        await asyncio.sleep(stack.scale.outage_seconds)
    finally:
        await asyncio.to_thread(stack.postgres.start)


async def terminates_every_connection(stack: Stack) -> None:
    """End the services' sessions, again and again."""
    async with stack.sql() as connection:
        for _ in range(5):
            await _terminate(connection)
            await asyncio.sleep(stack.scale.outage_seconds / 5)


async def _terminate(connection: psycopg.AsyncConnection) -> None:
    await connection.execute(
        f"select pg_terminate_backend(pid) from pg_stat_activity where {SERVICES}".encode()
    )


async def out_of_connections(stack: Stack) -> None:
    """Take every connection there is, those of the services included, and keep them a while."""
    async with AsyncExitStack() as hogs, stack.sql() as connection:
        ends_at = monotonic() + stack.scale.outage_seconds
        while monotonic() < ends_at:
            try:
                await hogs.enter_async_context(stack.sql())
            except psycopg.OperationalError:
                await _terminate(connection)
                await asyncio.sleep(0.05)


async def read_only(stack: Stack) -> None:
    """Refuse every write for a while, as after a failover."""
    async with stack.sql(options="-c default_transaction_read_only=off") as connection:
        await connection.execute("alter system set default_transaction_read_only = on")
        try:
            await connection.execute("select pg_reload_conf()")
            await asyncio.sleep(stack.scale.outage_seconds)
        finally:
            await connection.execute("alter system reset default_transaction_read_only")
            await connection.execute("select pg_reload_conf()")


async def silent(stack: Stack) -> None:
    """SIGSTOP the whole server, for longer than every lease; connections stay open."""
    with stopped_processes(stack.postgres):
        await asyncio.sleep(stack.scale.long_outage_seconds)


@contextlib.contextmanager
def stopped_processes(postgres: Postgres) -> Iterator[None]:
    """Stop the server and its children for this block: first it, so that no child is born."""
    assert postgres.process is not None
    server = postgres.process.pid
    os.kill(server, signal.SIGSTOP)
    children = _children_of(server)
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in [*children, server]:
            os.kill(pid, signal.SIGCONT)


def _children_of(server: int) -> list[int]:
    children = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # gone in the meantime
            continue
        if parent == server:
            children.append(int(status.parent.name))
    return children


async def holds_a_snapshot(stack: Stack) -> None:
    """A transaction that stays open: no row that it might still see is vacuumed away."""
    async with stack.sql() as reader, stack.sql() as connection:
        await reader.execute("begin isolation level repeatable read")
        await reader.execute("select count(*) from schedules")
        await asyncio.sleep(stack.scale.outage_seconds)
        await connection.execute("vacuum schedules")
        await asyncio.sleep(stack.scale.outage_seconds)
        await reader.execute("commit")
