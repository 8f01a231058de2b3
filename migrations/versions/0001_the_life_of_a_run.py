"""The tables of a run's life, and one application to own them.

The signing secret of the default application is made here, at first start: two random UUIDs are
244 bits from Postgres's strong random source, within the 24 to 64 bytes that Standard Webhooks
asks for.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "applications",
        sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("signing_secret", sa.LargeBinary, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False, server_default=NOW),
        sa.Column("updated_at", INSTANT, nullable=False, server_default=NOW),
        sa.UniqueConstraint("name", name="applications_name"),
        sa.CheckConstraint(
            "octet_length(signing_secret) between 24 and 64",
            name="applications_signing_secret_size",
        ),
    )
    op.execute(
        "insert into applications (name, signing_secret) values ('default', "
        "decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'))"
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("application_id", sa.Integer, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("headers", postgresql.JSONB),
        sa.Column("payload", sa.LargeBinary),
        sa.Column("timeout_seconds", sa.Double, nullable=False),
        sa.Column("run_at", INSTANT, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="active"),
        sa.Column("created_at", INSTANT, nullable=False, server_default=NOW),
        sa.Column("updated_at", INSTANT, nullable=False, server_default=NOW),
        sa.CheckConstraint("state in ('active', 'paused', 'ended')", name="jobs_state"),
        sa.CheckConstraint(
            "timeout_seconds > 0 and timeout_seconds <= 120", name="jobs_timeout_seconds"
        ),
        sa.CheckConstraint(
            "run_at < '10000-01-01 00:00:00+00'", name="jobs_run_at_has_four_digits"
        ),
    )
    op.create_table(
        "schedules",
        sa.Column("job_id", sa.BigInteger, nullable=False),
        sa.Column("scheduled_for", INSTANT, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("executor_id", postgresql.UUID),
        sa.Column("fence", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("attempt", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("state", sa.Text, nullable=False, server_default="pending"),
        sa.PrimaryKeyConstraint("job_id", "scheduled_for", name="schedules_run"),
        sa.CheckConstraint("state in ('pending', 'executing')", name="schedules_state"),
        sa.CheckConstraint(
            "(state = 'executing') = (executor_id is not null)", name="schedules_held_if_executing"
        ),
        sa.CheckConstraint(
            "fence >= attempt and attempt >= 0", name="schedules_fence_covers_attempts"
        ),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "5000",
            "autovacuum_vacuum_insert_scale_factor": "0",
            "autovacuum_vacuum_insert_threshold": "50000",
            "autovacuum_analyze_scale_factor": "0",
            "autovacuum_analyze_threshold": "20000",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index("schedules_due", "schedules", ["due_at"])
    op.create_table(
        "executions",
        sa.Column("job_id", sa.BigInteger, nullable=False),
        sa.Column("scheduled_for", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("lateness_ms", sa.Double),
        sa.Column("executor_id", postgresql.UUID),
        sa.Column("attempt", sa.SmallInteger, nullable=False),
        sa.Column("http_status", sa.SmallInteger),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("response", sa.LargeBinary),
        sa.PrimaryKeyConstraint(
            "job_id", "scheduled_for", "attempt", "finished_at", name="executions_of_job"
        ),
        sa.CheckConstraint(
            "state in ('done', 'failed', 'uncertain', 'cancelled', 'skipped', 'retrying', "
            "'abandoned')",
            name="executions_state",
        ),
        postgresql_partition_by="range (finished_at)",
    )
    # Executors make a partition for each day ahead of its time. Should none have run for long,
    # history still has somewhere to go: an outcome that cannot be recorded is worse than a row in
    # the wrong partition.
    op.execute("create table executions_default partition of executions default")
    op.create_table(
        "executors",
        sa.Column("id", postgresql.UUID, primary_key=True),
        sa.Column("heartbeat_at", INSTANT, nullable=False, server_default=NOW),
        sa.Column("started_at", INSTANT, nullable=False, server_default=NOW),
        sa.Column("lease_seconds", sa.Double, nullable=False),
        sa.Column("claim_ahead_seconds", sa.Double, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        postgresql_with={"fillfactor": "50", "autovacuum_vacuum_threshold": "500"},
    )


def downgrade() -> None:
    for table in ("executors", "executions", "schedules", "jobs", "applications"):
        op.drop_table(table)
