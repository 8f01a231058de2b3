"""Jobs: whose they are, when they recur, and what finds them.

Only adds, but for the index that claims read, which is made anew under its name with the job in it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
JOBS = (
    sa.Column("user_id", sa.Text),
    sa.Column("key", sa.Text),
    sa.Column("labels", postgresql.JSONB),
    sa.Column("recurrence", postgresql.JSONB),
    sa.Column("delay_seconds", sa.Double),
    sa.Column("max_lateness_seconds", sa.Double),
    sa.Column("contract", sa.Text),
    sa.Column("last_run_for", INSTANT),
    sa.Column("runs_made", sa.Integer, nullable=False, server_default=sa.text("1")),
    sa.Column("runs_begun", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("version", sa.Integer, nullable=False, server_default=sa.text("1")),
)
HOST = r"""lower(substring(url from '^[^:]+://(\[[^]]*\]|[^/?#:]*)') collate "C")"""


def upgrade() -> None:
    for column in JOBS:
        op.add_column("jobs", column)
    op.create_check_constraint("jobs_max_lateness_seconds", "jobs", "max_lateness_seconds >= 0")
    op.create_index(
        "jobs_key",
        "jobs",
        ["application_id", "key"],
        unique=True,
        postgresql_where=sa.text("key is not null and state <> 'ended'"),
    )
    op.create_index("jobs_by_instant", "jobs", ["application_id", "run_at", "id"])
    op.create_index(
        "jobs_of_user",
        "jobs",
        ["application_id", "user_id", "run_at", "id"],
        postgresql_where=sa.text("user_id is not null"),
    )
    op.create_index("jobs_of_host", "jobs", ["application_id", sa.text(HOST), "run_at", "id"])
    op.create_index(
        "jobs_that_recur",
        "jobs",
        ["application_id", "id"],
        postgresql_where=sa.text("recurrence is not null"),
    )
    op.create_index(
        "jobs_of_contract",
        "jobs",
        ["application_id", "contract", "id"],
        postgresql_where=sa.text("contract is not null"),
    )
    op.create_table(
        "job_labels",
        sa.Column("application_id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("run_at", INSTANT, nullable=False),
        sa.Column("job_id", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "name", name="job_labels_of_job"),
    )
    op.create_index(
        "job_labels_by_instant",
        "job_labels",
        ["application_id", "name", "value", "run_at", "job_id"],
    )
    op.add_column(
        "schedules",
        sa.Column("is_next", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    op.add_column("schedules", sa.Column("spread_seconds", sa.Double))
    op.create_check_constraint(
        "schedules_next_is_pending",
        "schedules",
        "not is_next or (state = 'pending' and attempt = 0)",
    )
    op.create_index(
        "schedules_one_next",
        "schedules",
        ["job_id"],
        unique=True,
        postgresql_where=sa.text("is_next"),
    )
    op.create_index(
        "schedules_next_due", "schedules", ["due_at"], postgresql_where=sa.text("is_next")
    )
    op.drop_index("schedules_due", "schedules")
    op.create_index("schedules_due", "schedules", ["due_at", "job_id"])
    op.create_index(
        "executions_by_end",
        "executions",
        ["state", "finished_at", "job_id", "scheduled_for", "attempt"],
        postgresql_include=["replayed_at"],
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
    )
    op.create_index("idempotency_keys_by_age", "idempotency_keys", ["created_at"])


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
    for column in reversed(JOBS):
        op.drop_column("jobs", column.name)
