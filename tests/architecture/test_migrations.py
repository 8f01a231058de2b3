"""Every revision may run while the version before it serves: it expands, and locks briefly.

Judged by the statements that a revision sends to the database, whichever way it was written. One
that contracts, because no version that may still run reads what it takes away, says so by
`CONTRACTS = "why it is safe by now"` and may drop and rename.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event

import migrations
from migrations.__main__ import migrate

# What landed before the rule: a revision that has run is not changed for its sake.
EXCEPTIONS = {
    "0002": "checks and an index in one transaction; nobody ran 0001 with more than a trial's rows",
}
FAULTS = {
    r"^drop table\b|^truncate\b|\bdrop column\b|^alter table \w+ rename\b": "takes away",
    r"^drop index (?!concurrently)": "drops an index, not concurrently",
    r"^create (unique )?index (?!concurrently)(?!.* on only )": "makes an index, not concurrently",
    r"\badd constraint (?!.*(not valid|using index))": "adds a constraint, not `not valid`",
    r"\badd column\b[^,]*\b(unique|primary key|references|check|generated|serial)": (
        "adds a column with a constraint that is checked at once"
    ),
    r"\badd column\b(?![^,]*\bdefault\b)[^,]*\bnot null\b": "adds a column without a default",
    r"\badd column\b[^,]*\bdefault\b(?! ('[^']*'|-?[\d.]+|true|false|null|now\(\)))": (
        "adds a column whose default is not constant: the table is rewritten"
    ),
    r"\balter( column)? \w+ (set data )?type\b": "changes a type: the table is rewritten",
    r"^(update|delete from)\b": "changes rows; that is for the application, in batches",
    r"\b(vacuum full|cluster|lock table)\b": "locks everyone out",
}
RENAMES_AN_INDEX = re.compile(r"^alter index \w+ rename to \w+$")
SETS_NOT_NULL = re.compile(r"\balter(?: column)? (\w+) set not null\b")


def faults(statements: Sequence[str]) -> list[str]:
    """What is wrong with a revision that sends these statements, in this order."""
    made: set[str] = set()  # tables that nobody can be using yet
    checked: set[str] = set()  # columns that a check, since validated, forbids to be null
    found = []
    for statement in map(_plain, statements):
        if create := re.match(r"create table (?:if not exists )?(\w+)", statement):
            made.add(create[1])
        checked.update(re.findall(r"\bcheck \(+(\w+) is not null\)+ not valid$", statement))
        if not made.isdisjoint(re.findall(r"(?:table|on(?: only)?|from|update) (\w+)", statement)):
            continue
        if RENAMES_AN_INDEX.match(statement):
            continue
        found += [
            f"{said}: {statement}" for rule, said in FAULTS.items() if re.search(rule, statement)
        ]
        for column in SETS_NOT_NULL.findall(statement):
            if column not in checked:
                found.append(f"checks every row for null while it locks: {statement}")
    return found


def _plain(statement: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", statement)).strip().lower()


@contextmanager
def sent() -> Iterator[list[str]]:
    """What is sent to any database during this block that changes it."""
    statements: list[str] = []

    def keep(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not re.match(
            r"\s*(select|set|show|with|insert)\b|.*\balembic_version\b",
            statement,
            re.IGNORECASE | re.DOTALL,
        ):
            statements.append(statement)

    event.listen(Engine, "before_cursor_execute", keep)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", keep)


def test_every_revision_expands_and_locks_briefly(empty_database_url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    revisions = list(ScriptDirectory.from_config(config).walk_revisions())[::-1]
    assert len(revisions) >= 3
    for revision in revisions:
        with sent() as statements:
            migrate(empty_database_url, revision.revision)
        assert statements, revision
        wrong = faults(statements)
        contracts = getattr(revision.module, "CONTRACTS", "")
        if contracts:
            wrong = [fault for fault in wrong if not fault.startswith("takes away")]
        if revision.revision in EXCEPTIONS:
            assert wrong, f"{revision.revision} needs no exception"
        else:
            assert wrong == [], revision.revision


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE jobs DROP COLUMN url", "takes away"),
        ("alter table jobs rename column url to address", "takes away"),
        ("alter table jobs rename to tasks", "takes away"),
        ("DROP TABLE job_labels", "takes away"),
        ("drop index jobs_by_instant", "not concurrently"),
        ("CREATE INDEX jobs_x ON jobs (url)", "not concurrently"),
        ("create unique index jobs_x on jobs (url)", "not concurrently"),
        ("ALTER TABLE jobs ADD CONSTRAINT c CHECK (version > 0)", "not `not valid`"),
        ("alter table jobs add constraint c unique (key)", "not `not valid`"),
        ("alter table jobs add column a integer not null", "without a default"),
        ("alter table jobs add column a integer, add column b text not null", "without a default"),
        ("alter table jobs add column a uuid default gen_random_uuid()", "not constant"),
        ("alter table jobs add column a bigint generated always as identity", "checked at once"),
        ("alter table jobs add column a integer references applications", "checked at once"),
        ("ALTER TABLE jobs ALTER COLUMN version TYPE bigint", "changes a type"),
        ("ALTER TABLE jobs ALTER COLUMN key SET NOT NULL", "for null"),
        ("update jobs set version = 2", "changes rows"),
        ("lock table jobs", "locks everyone out"),
    ],
)
def test_what_locks_for_long_or_takes_away_is_a_fault(statement: str, said: str) -> None:
    assert said in "".join(faults([statement]))
    # Of a table that is made by the same revision, anything may be said.
    table = "job_labels" if "job_labels" in statement else "jobs"
    if "index" not in statement or " on " in statement.lower():
        assert faults([f"create table {table} (id bigint)", statement]) == []


def test_what_only_expands_is_no_fault() -> None:
    assert (
        faults(
            [
                "alter table jobs add column a text, add column b integer not null default 1",
                "alter table jobs add column c boolean default false not null",
                "create index concurrently jobs_a on jobs (a)",
                "create index executions_a on only executions (a)",
                "drop index concurrently jobs_a",
                "alter index jobs_a rename to jobs_b",
                "alter table jobs add constraint a check (a is not null) not valid",
                "alter table jobs validate constraint a",
                "alter table jobs alter column a set not null",
                "create table t (id bigint primary key, a text not null unique)",
                "create index t_a on t (a)",
            ]
        )
        == []
    )
