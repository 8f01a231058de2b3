"""The schema's history: forward, back and forward again, and the same as the model."""

import threading

import psycopg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, create_engine, make_url
from sqlalchemy.pool import NullPool

from handler_service.health import SCHEMA_REVISION
from migrations.__main__ import migrate
from shared.runs.model import HOST, metadata


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
    engine = create_engine(
        make_url(empty_database_url).set(drivername="postgresql+psycopg"), poolclass=NullPool
    )
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
