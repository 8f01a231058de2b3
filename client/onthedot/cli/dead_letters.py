"""`onthedot dead-letters`."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from onthedot.cli import attempts, fields, listing
from onthedot.cli.command import command
from onthedot.cli.jobs import agreed
from onthedot.cli.session import Session

group = typer.Typer(
    help="Dead letters: runs that failed for good, or of which nobody knows.", no_args_is_help=True
)


class State(StrEnum):
    """How they ended."""

    FAILED = "failed"
    UNCERTAIN = "uncertain"


StateOption = Annotated[State | None, typer.Option("--state", help="How they ended.")]
Host = Annotated[
    str | None, typer.Option("--host", metavar="HOST", help="The host that was called.")
]


@command(group, "list", takes=fields.BETWEEN)
def list_(
    session: Session,
    said: dict[str, Any],
    state: StateOption = None,
    host: Host = None,
    limit: fields.Limit = listing.LIMIT,
    is_all: fields.All = False,
) -> None:
    """List dead letters, newest first; --from and --to bound when they ended."""
    letters = session.client.dead_letters.list(
        page_size=listing.page_size(limit, is_all=is_all), **_filters(said, state, host)
    )
    listing.show(session, letters, attempts.COLUMNS, attempts.row, limit=limit, is_all=is_all)


@command(group, "replay", takes=fields.BETWEEN)
def replay(
    session: Session,
    said: dict[str, Any],
    job_id: Annotated[
        int | None, typer.Argument(metavar="[JOB_ID]", help="Of this job only.")
    ] = None,
    scheduled_for: Annotated[
        str | None, typer.Argument(metavar="[SCHEDULED_FOR]", help="Only this run of it.")
    ] = None,
    state: StateOption = None,
    host: Host = None,
    is_of_all: Annotated[bool, typer.Option("--all", help="All that there are.")] = False,
    is_agreed: fields.Yes = False,
) -> None:
    """Send dead letters again, under their webhook-ids: one, a job's, or all that fit."""
    filters = _filters(said, state, host)
    if job_id is not None and scheduled_for is not None:
        if filters:
            raise typer.BadParameter("One run was named: leave the filters out.")
        session.output.answer(session.client.dead_letters.replay_run(job_id, scheduled_for))
        return
    if job_id is not None:
        filters["job_id"] = job_id
    if not filters and not is_of_all:
        raise typer.BadParameter("Say which: a job, a filter, or --all.")
    if job_id is None and not is_agreed:
        agreed(session, "Send every dead letter again that fits?")
    replayed = session.client.dead_letters.replay_all(**filters)
    if session.output.is_json:
        session.output.document({"replayed": replayed})
    else:
        session.output.line(f"{replayed} sent again")


def _filters(said: dict[str, Any], state: State | None, host: str | None) -> dict[str, Any]:
    filters: dict[str, Any] = {**said, "state": state and state.value, "host": host}
    return {name: value for name, value in filters.items() if value is not None}
