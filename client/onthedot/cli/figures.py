"""`onthedot stats`, `forecast`, `ledger` and `events`."""

from itertools import islice
from typing import Annotated, Any

import typer

from onthedot.cli import fields, values
from onthedot.cli.command import command
from onthedot.cli.output import instant
from onthedot.cli.session import Session
from onthedot.models import StatsRow

GROUPS = ("hour", "day", "status", "user")


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    command(app, "stats", takes=fields.BETWEEN)(stats)
    command(app, "forecast")(forecast)
    command(app, "ledger")(ledger)
    command(app, "events")(events)


def stats(
    session: Session,
    said: dict[str, Any],
    group_by: Annotated[
        str, typer.Option("--by", metavar="GROUPS", help="Some of hour, day, status, user: a,b.")
    ] = "",
) -> None:
    """Show counts and lateness of what ended: of the last day, or between --from and --to."""
    groups = [name.strip() for name in group_by.split(",") if name.strip()]
    if not set(groups) <= set(GROUPS):
        raise typer.BadParameter(f"Must be some of {', '.join(GROUPS)}.", param_hint="--by")
    answer = session.client.stats(group_by=groups, **said)  # type: ignore[arg-type]
    if session.output.is_json:
        session.output.document(answer.document())
        return
    session.output.say(f"From {instant(answer.from_)} to {instant(answer.to)}:")
    columns = (
        *groups,
        *("done", "failed", "uncertain", "cancelled", "skipped", "attempts"),
        *("late p50", "p95", "p99"),
    )
    session.output.table(columns, [_stats_row(row, groups) for row in answer.data])


def forecast(
    session: Session,
    bucket: Annotated[
        Any, typer.Option("--bucket", metavar="DURATION", parser=values.duration, help="Of a row.")
    ] = "10m",
    horizon: Annotated[
        Any,
        typer.Option("--horizon", metavar="DURATION", parser=values.duration, help="In all."),
    ] = "6h",
) -> None:
    """Show how many runs are due, and when."""
    answer = session.client.forecast(bucket=bucket, horizon=horizon)
    if session.output.is_json:
        session.output.document(answer.document())
        return
    most = max((each.runs for each in answer.data), default=0) or 1
    session.output.table(
        ("from", "runs", ""),
        [(each.at, each.runs, "█" * round(each.runs / most * 40)) for each in answer.data],
    )
    session.output.say(f"Overdue: {answer.overdue}.")
    if not answer.complete:
        session.output.say("So much recurs that not all of it was reckoned; there will be more.")


def ledger(session: Session) -> None:
    """Show where every run is that was accepted, and that it adds up."""
    session.output.answer(session.client.ledger())


def events(
    session: Session,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Of this type only; again for others."),
    ] = None,
    job_id: Annotated[
        int | None, typer.Option("--job", metavar="ID", help="Of this job only.")
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="EVENT_ID", help="What came after this event.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many.")] = None,
) -> None:
    """Show each change as it happens, until Ctrl-C."""
    heard = session.client.events(types=types or (), job_id=job_id, last_event_id=after)
    for event in islice(heard, count):
        if session.output.is_json:
            session.output.document(event.document())
        else:
            parts = [
                instant(event.at) if event.at else "",
                event.type,
                f"job {event.job_id}" if event.job_id else "",
                f"run {instant(event.scheduled_for)}" if event.scheduled_for else "",
                f"attempt {event.attempt}" if event.attempt else "",
            ]
            session.output.line("  ".join(part for part in parts if part))
        session.output.flush()


def _stats_row(row: StatsRow, groups: list[str]) -> tuple[object, ...]:
    ended, late = row.ended, row.lateness_ms
    return (
        *(getattr(row, name) for name in groups),
        *(ended.done, ended.failed, ended.uncertain, ended.cancelled, ended.skipped, row.attempts),
        *(None if each is None else f"{each:.1f} ms" for each in (late.p50, late.p95, late.p99)),
    )
