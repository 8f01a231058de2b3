"""Who created a job, for traces. Only adds."""

from alembic import op

from migrations import online

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with online.steps():
        online.add_columns("jobs", traceparent="text")


def downgrade() -> None:
    op.drop_column("jobs", "traceparent")
