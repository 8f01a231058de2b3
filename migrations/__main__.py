"""`python -m migrations [revision]`: bring the database to a revision, by default the newest.

Several at once are safe: one migrates, the others wait for it and find nothing left to do. A lock
that somebody holds is waited for briefly and then asked for again, for whoever waits for a strong
lock keeps all those waiting who come after.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg.errors import DeadlockDetected, LockNotAvailable
from pydantic import ValidationError
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError
from sqlalchemy.pool import NullPool

from shared.settings import Settings, explain
from shared.telemetry import configure_logging

# Any number that nobody else uses: whoever holds this advisory lock migrates.
ADVISORY_LOCK = 7_046_029_254_386_353_131
TURN_SECONDS = 0.2
# Below the handlers' CREATE_WAIT_SECONDS: a create that waits behind us is late, not refused.
LOCK_SECONDS = 2.0
# Between two tries, so that all who waited behind the last one are through; five minutes in all.
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, *(10.0,) * 28)
IN_THE_WAY = (LockNotAvailable, DeadlockDetected)
# Who holds locks, as far as we may know; what it asks for is not ours to write down.
OLDEST_TRANSACTIONS = """
select pid, application_name, extract(epoch from now() - xact_start)::integer as seconds
from pg_stat_activity
where datname = current_database() and xact_start < now() - interval '1 second'
order by xact_start limit 3
"""

log = structlog.stdlib.get_logger("migrations")


def migrate(
    url: str, revision: str = "head", *, lock_seconds: float = LOCK_SECONDS
) -> tuple[str | None, str | None]:
    """Go to a revision (`base` is empty); answer the one before and the one after.

    Raises OperationalError when a lock could not be had in five minutes; what was done by then
    stays, and to start again is safe.
    """
    address = make_url(url).set(drivername="postgresql+psycopg")
    engine = create_engine(address, poolclass=NullPool, connect_args={"connect_timeout": 10})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with engine.connect() as connection, _turn(connection):
        # Whatever the role's own limits are: to validate or index a big table takes its time.
        connection.execute(text("set statement_timeout = 0"))
        connection.commit()
        before = _current(connection)
        config.attributes["connection"] = connection
        go = command.upgrade if _is_ahead(config, before, revision) else command.downgrade
        for pause_seconds in (*PAUSES_SECONDS, None):
            connection.execute(text(f"set lock_timeout = '{lock_seconds * 1000:.0f}ms'"))
            connection.commit()
            try:
                go(config, revision)
                break
            except OperationalError as refusal:
                if pause_seconds is None or not isinstance(refusal.orig, IN_THE_WAY):
                    raise
                connection.rollback()
                _tell_who_is_in_the_way(connection, again_in_seconds=pause_seconds)
                sleep(pause_seconds)
        connection.commit()
        return before, _current(connection)


@contextmanager
def _turn(connection: Connection) -> Iterator[None]:
    """Migrate alone.

    Asked for again and again, not waited for: an index that is made while others write waits for
    every statement that runs, and one that waited here would wait for it in turn.
    """
    key = {"key": ADVISORY_LOCK}
    while not connection.scalar(text("select pg_try_advisory_lock(:key)"), key):
        connection.commit()
        sleep(TURN_SECONDS)
    connection.commit()
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.rollback()
            connection.execute(text("select pg_advisory_unlock(:key)"), key)


def _tell_who_is_in_the_way(connection: Connection, *, again_in_seconds: float) -> None:
    oldest = connection.execute(text(OLDEST_TRANSACTIONS)).mappings().all()
    connection.rollback()
    log.warning(
        "database.locked",
        again_in_seconds=again_in_seconds,
        oldest_transactions=[dict(row) for row in oldest],
    )


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
    except (DBAPIError, PendingRollbackError, CommandError) as failure:
        # Of a session that was lost midway, alembic's attempt to end its transaction is told.
        cause = failure.__context__ if isinstance(failure, PendingRollbackError) else failure
        reason = cause.orig if isinstance(cause, DBAPIError) else cause
        log.error("database.not_migrated", reason=str(reason).strip())
        return 1
    log.info("database.migrated", before=before, after=after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
