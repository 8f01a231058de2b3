"""Retry policies, delivery certainty, replay, and the rotation of signing secrets.

Only adds, so that the previous version runs on while this one starts.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("applications", sa.Column("previous_signing_secret", sa.LargeBinary))
    op.add_column("applications", sa.Column("previous_secret_until", INSTANT))
    op.create_check_constraint(
        "applications_previous_secret_ends",
        "applications",
        "(previous_signing_secret is null) = (previous_secret_until is null)",
    )
    op.add_column("jobs", sa.Column("retry", postgresql.JSONB))
    op.add_column(
        "jobs", sa.Column("delivery", sa.Text, nullable=False, server_default="at_least_once")
    )
    op.create_check_constraint(
        "jobs_delivery", "jobs", "delivery in ('at_least_once', 'at_most_once')"
    )
    op.create_check_constraint(
        "jobs_retry_has_an_end", "jobs", "(retry ->> 'max_attempts')::integer between 1 and 100"
    )
    op.add_column("schedules", sa.Column("marked_at", INSTANT))
    op.add_column("schedules", sa.Column("replayed_at", INSTANT))
    op.add_column(
        "schedules",
        sa.Column(
            "attempts_forgiven", sa.SmallInteger, nullable=False, server_default=sa.text("0")
        ),
    )
    op.create_check_constraint(
        "schedules_marked_if_executing", "schedules", "marked_at is null or state = 'executing'"
    )
    op.create_check_constraint(
        "schedules_forgives_what_was_spent",
        "schedules",
        "attempts_forgiven between 0 and attempt",
    )
    op.add_column(
        "executions",
        sa.Column("fence", sa.Integer, nullable=False, server_default=sa.text("0")),
    )
    op.add_column("executions", sa.Column("replayed_at", INSTANT))
    op.create_index(
        "executions_dead_letters",
        "executions",
        ["finished_at", "job_id", "scheduled_for"],
        postgresql_where=sa.text("state in ('failed', 'uncertain') and replayed_at is null"),
    )


def downgrade() -> None:
    op.drop_index("executions_dead_letters", "executions")
    for table, columns in (
        ("executions", ("replayed_at", "fence")),
        ("schedules", ("attempts_forgiven", "replayed_at", "marked_at")),
        ("jobs", ("delivery", "retry")),
        ("applications", ("previous_secret_until", "previous_signing_secret")),
    ):
        for column in columns:
            op.drop_column(table, column)
