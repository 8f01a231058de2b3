"""How an attempt is listed, and `onthedot executions`."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from onthedot.cli import fields, listing
from onthedot.cli.command import command
from onthedot.cli.output import cell
from onthedot.cli.session import Session
from onthedot.models import DeadLetter, Execution

group = typer.Typer(help="History: every attempt of every job.", no_args_is_help=True)
COLUMNS = ("job", "scheduled for", "attempt", "state", "late", "http", "error")


class State(StrEnum):
    """What an attempt did to its run."""

    DONE = "done"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    RETRYING = "retrying"
    ABANDONED = "abandoned"


@command(group, "list", takes=fields.BETWEEN)
def list_(
    session: Session,
    said: dict[str, Any],
    status: Annotated[State | None, typer.Option("--status", help="What it came to.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Whose job it was.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="The host that was called.")] = None,
    limit: fields.Limit = listing.LIMIT,
    is_all: fields.All = False,
) -> None:
    """List attempts, newest first; --from and --to bound when they ended."""
    filters = {**said, "status": None if status is None else status.value}
    filters |= {"user": user, "host": host}
    size = listing.page_size(limit, is_all=is_all)
    executions = session.client.executions.list(page_size=size, **filters)
    listing.show(session, executions, COLUMNS, row, limit=limit, is_all=is_all)


def row(attempt: Execution | DeadLetter) -> tuple[object, ...]:
    """Answer the cells of an attempt."""
    late = attempt.lateness_ms
    return (
        attempt.job_id,
        attempt.scheduled_for,
        attempt.attempt,
        cell(attempt.state),
        None if late is None else f"{late:.1f} ms",
        attempt.http_status,
        attempt.error,
    )
