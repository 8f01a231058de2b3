"""`onthedot timers`."""

from datetime import timedelta
from typing import Annotated, Any

import typer

from onthedot import wire
from onthedot.cli import fields, listing, values
from onthedot.cli.command import command
from onthedot.cli.session import Session
from onthedot.models import Timer

group = typer.Typer(help="Timers: a call after a delay of whole seconds.", no_args_is_help=True)
Id = Annotated[int, typer.Argument(metavar="ID", help="The timer's id.")]


def _whole_seconds(text: str) -> int:
    try:
        return wire.whole_seconds(values.duration(text))  # type: ignore[arg-type]  # parts are refused
    except ValueError:
        raise typer.BadParameter(
            "A timer counts whole seconds, like 4h1s; `jobs create` does not."
        ) from None


@command(group, "create", takes=(*fields.WEBHOOK, *fields.KEY))
def create(
    session: Session,
    url: fields.Url,
    delay: Annotated[
        int,
        typer.Option(
            "--in", metavar="DURATION", parser=_whole_seconds, help="After so long: 4h1s, 90."
        ),
    ],
    said: dict[str, Any],
    idempotency_key: fields.IdempotencyKey = None,
) -> None:
    """Have a URL called after a delay."""
    timer = session.client.timers.create(
        url, idempotency_key=idempotency_key, delay=delay, **fields.job(said)
    )
    session.output.answer(timer, rows=_rows(timer))


@command(group, "get")
def get(session: Session, timer_id: Id) -> None:
    """Show how long a timer has left."""
    timer = session.client.timers.get(timer_id)
    session.output.answer(timer, rows=_rows(timer))


@command(group, "list")
def list_(
    session: Session, limit: fields.Limit = listing.LIMIT, is_all: fields.All = False
) -> None:
    """List timers, newest first."""
    timers = session.client.timers.list(page_size=listing.page_size(limit, is_all=is_all))
    listing.show(
        session,
        timers,
        ("id", "time left"),
        lambda timer: (timer.id, _left(timer)),
        limit=limit,
        is_all=is_all,
    )


@command(group, "delete")
def delete(session: Session, timer_id: Id) -> None:
    """Cancel a timer that has not begun."""
    session.client.timers.delete(timer_id)
    session.output.say(f"Timer {timer_id} is cancelled.")


def _rows(timer: Timer) -> dict[str, object]:
    return {"id": timer.id, "time left": _left(timer)}


def _left(timer: Timer) -> str:
    return "due" if timer.time_left == 0 else str(timedelta(seconds=timer.time_left))
