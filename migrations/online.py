"""Changes to tables that are in use: short ones, and long ones that nobody waits for.

A revision that touches an existing table makes its changes by these, in `steps`. Each is a
transaction of its own, for one that locks two tables deadlocks with those who write both. So a
revision may end half-way; each step first looks whether it was made, and to start again is safe.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic import op
from sqlalchemy import text


@contextmanager
def steps() -> Iterator[None]:
    """Make each change of this block by itself, outside of the revision's transaction."""
    with op.get_context().autocommit_block():
        yield


def add_columns(table: str, **columns: str) -> None:
    """Add the columns that are missing, `name="type default ..."`, all under one short lock."""
    there = "select column_name from information_schema.columns where table_name = :table"
    made = set(
        op.get_bind().scalars(
            text(f"{there} and table_schema = current_schema()"), {"table": table}
        )
    )
    missing = [f"add column {name} {kind}" for name, kind in columns.items() if name not in made]
    if missing:
        op.execute(f"alter table {table} {', '.join(missing)}")


def add_check(table: str, name: str, condition: str) -> None:
    """Add a check: for new rows at once, then for those that are there, while others write."""
    is_valid = _ask(
        "select convalidated from pg_constraint "
        "where conname = :name and conrelid = cast(:table as regclass)",
        name=name,
        table=table,
    )
    if is_valid is None:
        op.execute(f"alter table {table} add constraint {name} check ({condition}) not valid")
    if not is_valid:
        with _patiently():
            op.execute(f"alter table {table} validate constraint {name}")


def create_index(name: str, on: str, *, unique: bool = False) -> None:
    """Create an index, such as `on="jobs (run_at) where ..."`, while others write.

    It waits for every transaction that is open: a dump, say.
    """
    table = on.split(maxsplit=1)[0]
    is_valid = _ask(
        "select indisvalid from pg_index where indexrelid = to_regclass(:name)", name=name
    )
    if _ask("select relkind = 'p' from pg_class where oid = cast(:table as regclass)", table=table):
        _create_partitioned_index(name, table, on, is_valid=is_valid)
        return
    with _patiently():
        if is_valid is False:  # what an attempt left that was interrupted
            op.execute(f"drop index concurrently {name}")
        if not is_valid:
            op.execute(f"create {'unique ' if unique else ''}index concurrently {name} on {on}")


def replace_index(name: str, on: str, *, when_it_is: str) -> None:
    """Put another index in the place of the one that is on the columns `when_it_is`."""
    columns = _ask("select pg_get_indexdef(to_regclass(:name))", name=name)
    replacement = f"{name}_new"
    if columns is None or f"({when_it_is})" in columns:
        create_index(replacement, on)
        with _patiently():
            op.execute(f"drop index concurrently if exists {name}")
        op.execute(f"alter index {replacement} rename to {name}")


def _create_partitioned_index(name: str, table: str, on: str, *, is_valid: bool | None) -> None:
    """Index each partition while others write; the parent's is valid once all are attached."""
    if is_valid is None:
        op.execute(f"create index {name} on only {on}")
    partitions = text(
        "select inhrelid::regclass::text from pg_inherits "
        "where inhparent = cast(:table as regclass) and not exists ("
        "select from pg_inherits as of_index join pg_index on indexrelid = of_index.inhrelid "
        "where of_index.inhparent = to_regclass(:name) and indrelid = pg_inherits.inhrelid)"
    )
    for partition in op.get_bind().scalars(partitions, {"table": table, "name": name}).all():
        index = f"{partition}_{name.removeprefix(f'{table}_')}"
        create_index(index, on.replace(table, partition, 1))
        op.execute(f"alter index {name} attach partition {index}")


@contextmanager
def _patiently() -> Iterator[None]:
    """Wait for a lock as long as it takes: who only reads or writes does not wait behind it.

    After a failure nothing is put back: whoever tries again sets it, and the session may be gone.
    """
    before = _ask("select current_setting('lock_timeout')")
    op.execute("set lock_timeout = 0")
    yield
    op.execute(f"set lock_timeout = '{before}'")


def _ask(sql: str, **values: str) -> Any:
    return op.get_bind().scalar(text(sql), values)
