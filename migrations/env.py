"""How alembic reaches the database: by the connection that `migrations.__main__` hands it."""

from alembic import context

from shared.runs.model import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
