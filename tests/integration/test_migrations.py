"""The schema's history: forward, back and forward again, and the same as the model."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic, sleep

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Engine, create_engine, event, make_url
from sqlalchemy.pool import NullPool

from handler_service.health import SCHEMA_REVISION
from migrations.__main__ import migrate
from shared.runs.model import HOST, metadata
from tests.eventually import eventually


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("select tablename from pg_tables where schemaname = 'public'")
        return {row[0] for row in rows}


def test_up_down_and_up_again_ends_where_it_began(empty_database_url: str) -> None:
    assert migrate(empty_database_url) == (None, SCHEMA_REVISION)
    made = tables(empty_database_url)
    assert {"jobs", "schedules", "executions", "executors", "applications"} <= made

    assert migrate(empty_database_url, "base") == (SCHEMA_REVISION, None)
    assert tables(empty_database_url) == {"alembic_version"}

    assert migrate(empty_database_url) == (None, SCHEMA_REVISION)
    assert tables(empty_database_url) == made
    assert migrate(empty_database_url) == (SCHEMA_REVISION, SCHEMA_REVISION)


def test_the_migrations_make_what_the_model_says(empty_database_url: str) -> None:
    migrate(empty_database_url)
    is_what_the_model_says(empty_database_url)


def is_what_the_model_says(url: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                # Partitions are made as days come; the model knows the table they belong to.
                "include_name": lambda name, kind, _: kind != "table" or name in metadata.tables,
                # Of an expression, what Postgres answers is never spelt as it was given.
                "include_object": lambda _, name, *__: name != "jobs_of_host",
            },
        )
        assert compare_metadata(context, metadata) == []
        connection.exec_driver_sql("truncate jobs")  # undone; of an empty table the plan is certain
        hosts = "explain (costs off) select 1 from jobs where application_id = 1 and "
        connection.exec_driver_sql("set enable_seqscan = off; set enable_bitmapscan = off")
        plan = connection.exec_driver_sql(f"{hosts}{HOST} = 'x'".replace("%", "%%")).fetchall()
        assert "jobs_of_host" in str(plan)
        checks = connection.exec_driver_sql(
            "select conname from pg_constraint where contype = 'c' and conrelid in "
            "(select oid from pg_class where relkind in ('r', 'p')) "
            "and connamespace = 'public'::regnamespace"
        )
        in_database = {row[0] for row in checks}
    in_model = {
        constraint.name
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert in_model == in_database


def test_several_migrations_at_once_make_one(empty_database_url: str) -> None:
    results: list[tuple[str | None, str | None]] = []
    threads = [
        threading.Thread(target=lambda: results.append(migrate(empty_database_url)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    befores = sorted(str(before) for before, _ in results)
    assert befores == [SCHEMA_REVISION, SCHEMA_REVISION, "None"]
    assert {after for _, after in results} == {SCHEMA_REVISION}


BEFORE_JOBS = "0002"  # whose migration changes tables that are in use
CREATE = """
with job as (
    insert into jobs (application_id, url, method, timeout_seconds, run_at)
    values (1, 'https://example.com/', 'POST', 15, now() + interval '1 day') returning id, run_at
)
insert into schedules (job_id, scheduled_for, due_at) select id, run_at, run_at from job
"""
# What a migration waits for at this moment, and what it does.
WAITING = """
select query from pg_stat_activity where datname = current_database()
and wait_event_type = 'Lock' and query ~* '^(alter|create)'
"""


class Creates:
    """Timers that are created without a pause, and how long each of them waited."""

    def __init__(self) -> None:
        self.waits_seconds: list[float] = []
        self.is_over = False

    def go_on(self, url: str) -> None:
        # A handler's patience: what waits longer is refused.
        with psycopg.connect(url, autocommit=True, options="-c statement_timeout=5s") as connection:
            while not self.is_over:
                began = monotonic()
                connection.execute(CREATE)
                self.waits_seconds.append(monotonic() - began)
                sleep(0.005)  # a client's pause

    async def are_made(self, count: int = 20) -> None:
        wanted = len(self.waits_seconds) + count

        def have_been() -> None:
            assert len(self.waits_seconds) >= wanted

        await eventually(have_been)


async def test_a_migration_gives_way_to_who_holds_a_lock_and_all_who_would_wait_behind_it(
    empty_database_url: str,
) -> None:
    url = empty_database_url
    migrate(url, BEFORE_JOBS)
    creates = Creates()
    with (
        ThreadPoolExecutor() as threads,
        psycopg.connect(url) as holder,
        psycopg.connect(url, autocommit=True) as looker,
    ):

        def waits_to(doing: str) -> None:
            waiting = [query.lower() for (query,) in looker.execute(WAITING)]
            assert any(doing in query for query in waiting), waiting

        def waits_no_more() -> None:
            assert looker.execute(WAITING).fetchall() == []

        holder.execute("select from jobs limit 1")  # and the transaction stays open
        creating = threads.submit(creates.go_on, url)
        migration = threads.submit(migrate, url, lock_seconds=0.2)
        try:
            for _ in range(2):
                await eventually(lambda: waits_to("alter table jobs"))
                await eventually(waits_no_more)
                await creates.are_made()
            assert not migration.done()
            holder.execute("rollback")
            # A dump, say, that has nothing to do with what is changed.
            holder.execute("begin isolation level repeatable read")
            holder.execute("select from executors")
            await eventually(lambda: waits_to(" index concurrently "))
            began = monotonic()
            while monotonic() < began + 0.6:  # longer than it would wait for a lock
                await creates.are_made()
                waits_to(" index concurrently ")
            holder.execute("rollback")
            assert migration.result(timeout=60) == (BEFORE_JOBS, SCHEMA_REVISION)
        finally:
            creates.is_over = True
            holder.execute("rollback")
        creating.result()
    assert max(creates.waits_seconds) < 3.0  # of the five that a handler allows
    is_what_the_model_says(url)


class InterruptedHereError(Exception):
    """The process ends here, as far as the database can tell."""


def test_a_migration_that_is_interrupted_goes_on_where_it_was(empty_database_url: str) -> None:
    url = empty_database_url
    migrate(url, BEFORE_JOBS)
    for index in ("schedules_due_new on schedules (due_at, job_id)", "jobs_key on jobs (id)"):
        leave_unfinished(url, index)
    made: list[str] = []

    def interrupt(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if re.match(r"\s*(alter|create|drop)", statement, re.IGNORECASE) and statement not in made:
            made.append(statement)
            if len(made) % 2:
                raise InterruptedHereError

    event.listen(Engine, "after_cursor_execute", interrupt)
    try:
        for _ in range(100):
            with suppress(InterruptedHereError):
                if migrate(url)[1] == SCHEMA_REVISION:
                    break
        else:
            raise AssertionError(f"it does not come to an end: {made}")
    finally:
        event.remove(Engine, "after_cursor_execute", interrupt)
    assert len(made) > 20
    is_what_the_model_says(url)


def leave_unfinished(url: str, index: str) -> None:
    """An index that was being made when its session ended: it is there, and not valid."""
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as other:
        holder.execute("begin isolation level repeatable read")
        holder.execute("select from executors")
        other.execute("set lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(f"create index concurrently {index}".encode())


def test_each_database_has_a_signing_secret_of_its_own(
    empty_database_url: str, database_url: str
) -> None:
    migrate(empty_database_url)
    secrets = []
    for url in (empty_database_url, database_url):
        with psycopg.connect(url) as connection:
            row = connection.execute("select name, signing_secret from applications").fetchone()
        assert row is not None
        assert row[0] == "default"
        assert len(row[1]) == 32
        secrets.append(row[1])
    assert secrets[0] != secrets[1]
