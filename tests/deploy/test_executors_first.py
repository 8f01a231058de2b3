"""A handler waits for executors of an earlier version to leave, and for nobody else."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.database import Pool
from tests.conftest import MakeExecutor
from tests.deploy.render import CHART, ROOT

SCRIPT = CHART / "files/executors_first.py"


@asynccontextmanager
async def waiting(database_url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The init container's process, started as the container starts it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SCRIPT.read_text(),
        cwd=ROOT,
        env={"DATABASE_URL": database_url},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 20)).decode()


async def test_a_handler_waits_until_the_last_earlier_executor_has_left(
    database_url: str, pool: Pool, make_executor: MakeExecutor
) -> None:
    await make_executor()  # of version 0
    async with waiting(database_url) as process:
        assert "waits: executors of 0 are alive" in await said(process)
        async with pool.connection() as connection:
            await connection.execute("delete from executors")
        assert await asyncio.wait_for(process.wait(), 20) == 0


@pytest.mark.parametrize("version", ["0.1.0", "0.10.0", "1.0"])
async def test_a_handler_waits_for_no_executor_of_its_version_or_a_later_one(
    database_url: str, pool: Pool, make_executor: MakeExecutor, version: str
) -> None:
    await make_executor(silent_seconds=6)  # of version 0, and gone
    await make_executor()
    async with pool.connection() as connection:
        await connection.execute(
            "update executors set version = %s where heartbeat_at > now() - interval '5 seconds'",
            (version,),
        )
    async with waiting(database_url) as process:
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert await said(process) == ""


async def test_before_the_first_migration_a_handler_waits_for_nobody(
    empty_database_url: str,
) -> None:
    async with waiting(empty_database_url) as process:
        assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_while_postgres_is_away_a_handler_waits_and_does_not_tell_the_password() -> None:
    async with waiting("postgresql://user:not-told@127.0.0.1:9/none") as process:
        line = await said(process)
        assert "waits: Postgres does not answer" in line
        assert "not-told" not in line
