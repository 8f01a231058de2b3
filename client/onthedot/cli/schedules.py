"""`onthedot schedules`."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from onthedot.cli import fields, listing
from onthedot.cli.command import command
from onthedot.cli.session import Session
from onthedot.models import Schedule
from onthedot.options import ScheduleOptions

group = typer.Typer(
    help="Schedules: a text at a minute, once, daily or weekly (an older contract).",
    no_args_is_help=True,
)


class Recurring(StrEnum):
    """Whether it comes again."""

    NONE = "none"
    DAILY = "daily"
    WEEKLY = "weekly"


Id = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id.")]
Payload = Annotated[str, typer.Option("--payload", metavar="TEXT", help="The text to send.")]
Minute = Annotated[
    int, typer.Option("--minute", min=0, metavar="N", help="Minutes since 1970-01-01T00:00Z.")
]
RecurringOption = Annotated[Recurring, typer.Option("--recurring", help="Whether it comes again.")]
Immediate = Annotated[bool, typer.Option("--immediate", help="Send it now too.")]
UrlOption = Annotated[str | None, typer.Option("--url", metavar="URL", help="What to call.")]
COLUMNS = ("id", "minute", "at", "recurring", "payload")


@command(group, "create")
def create(
    session: Session,
    payload: Payload,
    minute: Minute,
    url: UrlOption = None,
    recurring: RecurringOption = Recurring.NONE,
    immediate: Immediate = False,
) -> None:
    """Have a text sent at a minute."""
    _show(
        session,
        session.client.schedules.create(
            payload, minute, recurring.value, **_options(url, immediate=immediate)
        ),
    )


@command(group, "get")
def get(session: Session, job_id: Id) -> None:
    """Show a schedule."""
    _show(session, session.client.schedules.get(job_id))


@command(group, "list")
def list_(
    session: Session, limit: fields.Limit = listing.LIMIT, is_all: fields.All = False
) -> None:
    """List schedules of which something is outstanding, newest last."""
    schedules = session.client.schedules.list()
    listing.show(session, schedules, COLUMNS, _row, limit=limit, is_all=is_all)


@command(group, "update")
def update(
    session: Session,
    job_id: Id,
    payload: Payload,
    minute: Minute,
    recurring: RecurringOption,
    url: UrlOption = None,
    immediate: Immediate = False,
) -> None:
    """Change a schedule, all of it."""
    _show(
        session,
        session.client.schedules.put(
            job_id, payload, minute, recurring.value, **_options(url, immediate=immediate)
        ),
    )


@command(group, "delete")
def delete(session: Session, job_id: Id) -> None:
    """End a schedule."""
    session.client.schedules.delete(job_id)
    session.output.say(f"Schedule {job_id} is ended.")


def _options(url: str | None, *, immediate: bool) -> ScheduleOptions:
    options: ScheduleOptions = {}
    if immediate:
        options["immediate"] = True
    if url is not None:
        options["url"] = url
    return options


def _show(session: Session, schedule: Schedule) -> None:
    rows = dict(zip(COLUMNS, _row(schedule), strict=True))
    session.output.answer(schedule, rows=rows)


def _row(schedule: Schedule) -> tuple[object, ...]:
    at = datetime.fromtimestamp(schedule.minute * 60, UTC)
    return schedule.job_id, schedule.minute, at, schedule.recurring, schedule.payload
