"""Jobs: whose they are, when they recur, and what finds them.

Only adds, but for the index that claims read, which is made anew under its name with the job in it.
Nobody waits for any of it: it was one transaction once, under which creates waited until its
indexes were built, and deadlocked with it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations import online

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
# On each table that was there before.
COLUMNS = {
    "jobs": {
        "user_id": "text",
        "key": "text",
        "labels": "jsonb",
        "recurrence": "jsonb",
        "delay_seconds": "double precision",
        "max_lateness_seconds": "double precision",
        "contract": "text",
        "last_run_for": "timestamptz",
        "runs_made": "integer not null default 1",
        "runs_begun": "integer not null default 0",
        "version": "integer not null default 1",
    },
    "schedules": {
        "is_next": "boolean not null default false",
        "spread_seconds": "double precision",
    },
}
HOST = r"""lower(substring(url from '^[^:]+://(\[[^]]*\]|[^/?#:]*)') collate "C")"""


def upgrade() -> None:
    with online.steps():
        make_new_tables()
        for table, columns in COLUMNS.items():
            online.add_columns(table, **columns)
        online.add_check("jobs", "jobs_max_lateness_seconds", "max_lateness_seconds >= 0")
        online.add_check(
            "schedules",
            "schedules_next_is_pending",
            "not is_next or (state = 'pending' and attempt = 0)",
        )
        index_jobs()
        online.create_index("schedules_one_next", "schedules (job_id) where is_next", unique=True)
        online.create_index("schedules_next_due", "schedules (due_at) where is_next")
        online.replace_index("schedules_due", "schedules (due_at, job_id)", when_it_is="due_at")
        online.create_index(
            "executions_by_end",
            "executions (state, finished_at, job_id, scheduled_for, attempt) include (replayed_at)",
        )


def index_jobs() -> None:
    online.create_index(
        "jobs_key",
        "jobs (application_id, key) where key is not null and state <> 'ended'",
        unique=True,
    )
    online.create_index("jobs_by_instant", "jobs (application_id, run_at, id)")
    online.create_index(
        "jobs_of_user", "jobs (application_id, user_id, run_at, id) where user_id is not null"
    )
    online.create_index("jobs_of_host", f"jobs (application_id, {HOST}, run_at, id)")
    online.create_index("jobs_that_recur", "jobs (application_id, id) where recurrence is not null")
    online.create_index(
        "jobs_of_contract", "jobs (application_id, contract, id) where contract is not null"
    )


def make_new_tables() -> None:
    op.create_table(
        "job_labels",
        sa.Column("application_id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("run_at", INSTANT, nullable=False),
        sa.Column("job_id", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "name", name="job_labels_of_job"),
        if_not_exists=True,
    )
    op.create_index(
        "job_labels_by_instant",
        "job_labels",
        ["application_id", "name", "value", "run_at", "job_id"],
        if_not_exists=True,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("application_id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("headers", postgresql.JSONB, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("application_id", "key", name="idempotency_keys_of_application"),
        if_not_exists=True,
    )
    op.create_index(
        "idempotency_keys_by_age", "idempotency_keys", ["created_at"], if_not_exists=True
    )


def downgrade() -> None:
    op.drop_table("idempotency_keys")
    op.drop_index("executions_by_end", "executions")
    op.drop_index("schedules_due", "schedules")
    op.create_index("schedules_due", "schedules", ["due_at"])
    # What the version before cannot know: the next occurrences of jobs that recur.
    op.execute("delete from schedules where is_next")
    op.drop_column("schedules", "spread_seconds")
    op.drop_column("schedules", "is_next")
    op.drop_table("job_labels")
    for index in ("jobs_of_host", "jobs_by_instant"):
        op.drop_index(index, "jobs")
    for column in reversed(COLUMNS["jobs"]):
        op.drop_column("jobs", column)
