"""`python -m migrations [revision]`: bring the database to a revision, by default the newest.

Several at once are safe: one migrates, the others wait for it and find nothing left to do.
"""

import sys
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from pydantic import ValidationError
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from shared.settings import Settings, explain
from shared.telemetry import configure_logging

# Any number that nobody else uses: whoever holds this advisory lock migrates.
ADVISORY_LOCK = 7_046_029_254_386_353_131

log = structlog.stdlib.get_logger("migrations")


def migrate(url: str, revision: str = "head") -> tuple[str | None, str | None]:
    """Go to a revision (`base` is empty); answer the one before and the one after."""
    address = make_url(url).set(drivername="postgresql+psycopg")
    engine = create_engine(address, poolclass=NullPool, connect_args={"connect_timeout": 10})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with engine.connect() as connection:
        connection.execute(text("select pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()
        try:
            before = _current(connection)
            config.attributes["connection"] = connection
            forward = _is_ahead(config, before, revision)
            (command.upgrade if forward else command.downgrade)(config, revision)
            connection.commit()
            return before, _current(connection)
        finally:
            connection.rollback()
            connection.execute(text("select pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})


def _current(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    return revision


def _is_ahead(config: Config, current: str | None, wanted: str) -> bool:
    """Whether `wanted` lies forward of `current` (or is it)."""
    if wanted == "base":
        return False
    if current is None or wanted == "head":
        return True
    script = ScriptDirectory.from_config(config)
    behind = {revision.revision for revision in script.iterate_revisions(current, "base")}
    return wanted == current or wanted not in behind


def main() -> int:
    """Migrate the database of DATABASE_URL; 0 when it stands where it was asked to."""
    try:
        settings = Settings()
    except ValidationError as refusal:
        print(explain(refusal), file=sys.stderr)  # noqa: T201  # before logging is configured
        return 2
    configure_logging(form=settings.log_format, level=settings.log_level, service="migrations")
    wanted = sys.argv[1] if len(sys.argv) > 1 else "head"
    try:
        before, after = migrate(settings.database_url.get_secret_value(), wanted)
    except (OperationalError, CommandError) as failure:
        reason = failure.orig if isinstance(failure, OperationalError) else failure
        log.error("database.not_migrated", reason=str(reason).strip())
        return 1
    log.info("database.migrated", before=before, after=after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
