"""A database with a million jobs and their history, for the plans of lists and their figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

MILLION = 1_000_000
DAYS = 40  # of history, one partition each
USERS, HOSTS, TEAMS = 1_000, 250, 100
RECURRING = 1_000
RUNS_OF_EACH = 50

# Of a hundred jobs: 60 done, 2 failed, 1 each uncertain, cancelled, skipped; 35 are still ahead.
# Whose they are, where they call and how they are labelled has nothing to do with each other.
JOBS = """
insert into jobs (
    id, application_id, url, method, timeout_seconds, run_at, created_at, user_id, key, labels,
    state, last_run_for
)
overriding system value
select
    n, 1, 'https://h' || mod(abs(hashint8extended(n, 1)), %(hosts)s) || '.example/hook', 'POST', 15,
    run_at, run_at - interval '1 hour',
    'user-' || mod(abs(hashint8extended(n, 2)), %(users)s),
    case when mod(n, 10) = 0 then 'key-' || n end,
    case
        when mod(abs(hashint8extended(n, 3)), 5) = 0 then jsonb_build_object(
            'team', 't' || mod(abs(hashint8extended(n, 4)), %(teams)s),
            'env', case when mod(abs(hashint8extended(n, 5)), 2) = 0 then 'prod' else 'test' end
        )
    end,
    case when mod(n, 100) = 63 then 'ended' else 'active' end,
    case when mod(n, 100) = 63 then run_at end
from (
    select
        n,
        date_trunc('second', now()) + case
            when mod(n, 100) < 65
                then -mod(abs(hashint8extended(n, 6)), %(days)s * 86400 - 7200) - 60
            else mod(abs(hashint8extended(n, 7)), 30 * 86400) + 60
        end * interval '1 second' as run_at
    from generate_series(1, %(count)s::bigint) as n
) as job
"""
RUNS = """
insert into schedules (job_id, scheduled_for, due_at, state, executor_id, fence)
select id, run_at, run_at, 'pending', null, 0 from jobs where mod(id, 100) >= 65
"""
# A hundred are executing, some were due at one instant.
EXECUTING = """
update schedules
set
    state = 'executing', executor_id = gen_random_uuid(), fence = 1,
    due_at = date_trunc('second', now())
        - mod(abs(hashint8extended(job_id, 8)), 7200) * interval '1 second'
where job_id in (select id from jobs where mod(id, 100) = 70 order by id limit 100)
"""
LABELS = """
insert into job_labels (application_id, name, value, run_at, job_id)
select 1, label.key, label.value, run_at, id from jobs, jsonb_each_text(labels) as label
"""
HISTORY = """
insert into executions (job_id, scheduled_for, attempt, state, started_at, finished_at, lateness_ms)
select
    id, run_at, 1,
    case mod(id, 100) when 60 then 'failed' when 61 then 'failed' when 62 then 'uncertain'
        when 63 then 'cancelled' when 64 then 'skipped' else 'done' end,
    run_at, run_at + interval '80 milliseconds', 1
from jobs
where mod(id, 100) < 65
"""
# Some recur: all their runs but the last are history that no list of jobs by status shows.
RECUR = """
update jobs
set
    recurrence = '{"every_seconds": 60}', runs_made = %(runs)s + 1,
    last_run_for = date_trunc('second', now()) - interval '1 minute'
where mod(id, 100) = 80 and id <= 100 * %(recurring)s
"""
RECURRED = """
insert into executions (job_id, scheduled_for, attempt, state, started_at, finished_at, lateness_ms)
select
    id, ran, 1, 'done', ran, ran, 1
from (
    select id, last_run_for - interval '1 minute' * (n - 1) as ran
    from jobs, generate_series(1, %(runs)s) as n
    where recurrence is not null
) as run
"""
INDEXES = """
select indexname, indexdef from pg_indexes
where tablename in ('jobs', 'job_labels', 'schedules', 'executions')
    and indexname not in (select conname from pg_constraint)
"""


def fill(url: str, *, count: int = MILLION, days: int = DAYS) -> None:
    """Fill a migrated database; its indexes are made afterwards, which takes half the time."""
    values = {
        "count": count,
        "days": days,
        "users": USERS,
        "hosts": HOSTS,
        "teams": TEAMS,
        "recurring": RECURRING,
        "runs": RUNS_OF_EACH,
    }
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        connection.execute("set local maintenance_work_mem = '256MB'")
        connection.execute("set local synchronous_commit = off")
        _make_partitions(connection, days)
        with _without_indexes(connection):
            for statement in (JOBS, RECUR, RUNS, EXECUTING, LABELS, HISTORY, RECURRED):
                used = {name: values[name] for name in values if f"%({name})s" in statement}
                connection.execute(statement.encode(), used)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze jobs, job_labels, schedules, executions")


@contextmanager
def _without_indexes(connection: psycopg.Connection[Any]) -> Iterator[None]:
    indexes = connection.execute(INDEXES).fetchall()
    for name, _ in indexes:
        connection.execute(f"drop index {name}".encode())
    yield
    for _, definition in indexes:
        # On every partition too, which is not what the definition says of their parent's.
        connection.execute(definition.replace(" ON ONLY ", " ON ").encode())


def _make_partitions(connection: psycopg.Connection[Any], days: int) -> None:
    connection.execute(
        b"""
        do $$
        declare day date;
        begin
            for day in select current_date - n from generate_series(-1, %d) as n loop
                execute format(
                    'create table if not exists %%I partition of executions '
                    'for values from (%%L) to (%%L)',
                    'executions_' || to_char(day, 'YYYY_MM_DD'), day::text || ' 00:00:00+00',
                    (day + 1)::text || ' 00:00:00+00'
                );
            end loop;
        end $$
        """
        % days
    )
