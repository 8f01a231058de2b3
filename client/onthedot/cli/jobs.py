"""`onthedot jobs`."""

from typing import Annotated, Any

import typer

from onthedot.cli import attempts, fields, listing
from onthedot.cli.command import command
from onthedot.cli.exits import ExitCode, field_of
from onthedot.cli.output import instant, without_secrets
from onthedot.cli.session import Session
from onthedot.models import Job

group = typer.Typer(
    help="Jobs: a call at once, at an instant, or again and again.", no_args_is_help=True
)
Version = Annotated[
    int | None,
    typer.Option("--version", metavar="N", help="Only if it has this version still."),
]
NULLABLE = (
    "headers",
    "payload",
    "max_lateness",
    "user",
    "labels",
    "max_runs",
    "jitter",
    "starts_at",
    "ends_at",
    "anchor",
    "cron",
    "every",
    "rrule",
    "timezone",
    "dst",
)


@command(group, "create", takes=fields.JOB)
def create(
    session: Session,
    url: fields.Url,
    said: dict[str, Any],
    idempotency_key: fields.IdempotencyKey = None,
) -> None:
    """Have a URL called."""
    made = session.client.jobs.create(url, idempotency_key=idempotency_key, **fields.job(said))
    _show(session, made)


@command(group, "get")
def get(session: Session, job: fields.Job) -> None:
    """Show a job and how it fares."""
    _show(session, found(session, job))


@command(group, "list", takes=fields.JOB_FILTERS)
def list_(
    session: Session,
    said: dict[str, Any],
    order: Annotated[
        fields.Order | None, typer.Option("--order", help="The earliest first, or the latest.")
    ] = None,
    limit: fields.Limit = listing.LIMIT,
    is_all: fields.All = False,
) -> None:
    """List jobs by the instant of their next or last run."""
    jobs = session.client.jobs.list(
        order=None if order is None else order.value,
        page_size=listing.page_size(limit, is_all=is_all),
        **fields.job(said),
    )
    listing.show(
        session,
        jobs,
        ("id", "key", "when", "status", "next run", "url"),
        lambda job: (
            *(job.id, job.key, when(job), job.status if job.state != "paused" else "paused"),
            *(job.next_run_at, job.url),
        ),
        limit=limit,
        is_all=is_all,
    )


@command(group, "update", takes=(*fields.TIMES, *fields.WEBHOOK))
def update(
    session: Session,
    job: fields.Job,
    said: dict[str, Any],
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="What to call.")] = None,
    clear: Annotated[
        list[str] | None,
        typer.Option("--clear", metavar="FIELD", help=f"Set to nothing: {', '.join(NULLABLE)}."),
    ] = None,
    version: Version = None,
) -> None:
    """Change what has not begun of a job; what is not named stays."""
    changes = fields.job(said) | ({} if url is None else {"url": url})
    for name in clear or ():
        if name.replace("-", "_") not in NULLABLE:
            raise typer.BadParameter(f"{name!r} cannot be cleared.", param_hint="--clear")
        changes[name.replace("-", "_")] = None
    if not changes:
        raise typer.BadParameter("Say what to change.")
    job_id = id_of(session, job)
    _show(session, session.client.jobs.update(job_id, version=version, **changes))


@command(group, "delete")
def delete(session: Session, job: fields.Job, version: Version = None) -> None:
    """Cancel what is pending of a job and end it; its history stays."""
    job_id = id_of(session, job)
    session.client.jobs.delete(job_id, version=version)
    session.output.say(f"Job {job_id} is ended.")


@command(group, "pause")
def pause(session: Session, job: fields.Job) -> None:
    """Call nothing more of a job until it is resumed."""
    _show(session, session.client.jobs.pause(id_of(session, job)))


@command(group, "resume")
def resume(session: Session, job: fields.Job) -> None:
    """Go on with a paused job."""
    _show(session, session.client.jobs.resume(id_of(session, job)))


@command(group, "trigger")
def trigger(
    session: Session, job: fields.Job, idempotency_key: fields.IdempotencyKey = None
) -> None:
    """Call a job now, beside its plan."""
    job_id = id_of(session, job)
    session.output.answer(session.client.jobs.trigger(job_id, idempotency_key=idempotency_key))


@command(group, "touch")
def touch(
    session: Session, key: Annotated[str, typer.Argument(metavar="KEY", help="The job's key.")]
) -> None:
    """Restart the delay of a job: it is called unless it is touched again in time."""
    try:
        touched = session.client.jobs.touch(key.removeprefix("key:"))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    _show(session, touched)


@command(group, "preview", takes=fields.TIMES)
def preview(
    session: Session,
    said: dict[str, Any],
    count: Annotated[int, typer.Option("--count", min=1, max=100, help="How many.")] = 10,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="INSTANT", help="From when on; else from now on."),
    ] = None,
) -> None:
    """Show the next instants of a recurrence, and what the clocks do to them."""
    answer = session.client.jobs.preview(count=count, after=after, **fields.job(said))
    if session.output.is_json:
        for occurrence in answer.data:
            session.output.document(occurrence.document())
        return
    session.output.table(
        ("at", "local time", "note"),
        [(each.at, each.local, each.note) for each in answer.data],
    )


@command(group, "validate", takes=fields.JOB)
def validate(session: Session, url: fields.Url, said: dict[str, Any]) -> None:
    """Say every criterion of a job, met or not; create nothing. Exits by 1 if one is not met."""
    verdict = session.client.jobs.validate(url, **fields.job(said))
    if session.output.is_json:
        session.output.document(verdict.document())
    else:
        session.output.table(
            ("criterion", "met", "detail"),
            [
                (each.name, "unknown" if each.met is None else each.met, each.detail)
                for each in verdict.criteria
            ],
        )
        for fault in verdict.errors:
            session.output.detail(field_of(fault.pointer), fault.detail)
    if not verdict.valid:
        raise typer.Exit(ExitCode.FAILED)


@command(group, "test", takes=fields.REQUEST)
def call_now(
    session: Session,
    url: fields.Url,
    said: dict[str, Any],
    status: Annotated[
        list[int] | None,
        typer.Option("--expect-status", metavar="STATUS", help="Expect this; again for others."),
    ] = None,
    body: Annotated[
        str | None, typer.Option("--expect-body", metavar="TEXT", help="Expect this in the body.")
    ] = None,
) -> None:
    """Make a call now, as an executor would. Exits by 1 if what is expected is not met."""
    expect: dict[str, Any] = {}
    if status:
        expect["status"] = status
    if body is not None:
        expect["body_contains"] = body
    trial = session.client.jobs.test(url, expect=expect or None, **fields.job(said))  # type: ignore[arg-type]
    rows = {
        "status": trial.status,
        "error": trial.error,
        "took": f"{trial.duration_ms:.0f} ms",
        **{f"header {name}": value for name, value in trial.headers.items()},
        "body": trial.body,
        **{
            f"expected {each.name}": "met" if each.met else f"not met: {each.detail}"
            for each in trial.expectations
        },
    }
    session.output.answer(trial, rows=rows)
    if not trial.met:
        raise typer.Exit(ExitCode.FAILED)


@command(group, "history")
def history(
    session: Session,
    job: fields.Job,
    limit: fields.Limit = listing.LIMIT,
    is_all: fields.All = False,
) -> None:
    """List every attempt of a job, newest first."""
    size = listing.page_size(limit, is_all=is_all)
    executions = session.client.jobs.executions(id_of(session, job), page_size=size)
    listing.show(session, executions, attempts.COLUMNS, attempts.row, limit=limit, is_all=is_all)


@command(group, "cancel", takes=fields.JOB_FILTERS)
def cancel(
    session: Session,
    said: dict[str, Any],
    is_dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    is_agreed: fields.Yes = False,
) -> None:
    """Cancel every job that fits the filters, of which there must be one."""
    filters = fields.job(said)
    if not is_dry_run and not is_agreed:
        matched = session.client.jobs.cancel(dry_run=True, **filters).matched
        agreed(session, f"Cancel {matched} job(s)?")
    answer = session.client.jobs.cancel(dry_run=is_dry_run, **filters)
    session.output.answer(answer)


def found(session: Session, job: str) -> Job:
    """Read a job by its id or key."""
    if job.isascii() and job.isdigit():
        return session.client.jobs.get(int(job))
    try:
        return session.client.jobs.get_by_key(job.removeprefix("key:"))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def id_of(session: Session, job: str) -> int:
    """Answer the id of a job; who has a key is looked up."""
    return int(job) if job.isascii() and job.isdigit() else found(session, job).id


def agreed(session: Session, question: str) -> None:
    """Ask on the terminal, and go on if the answer is yes; without one, --yes must be said."""
    if not session.output.can_ask:
        raise typer.BadParameter(f"{question} There is no terminal to ask on: say --yes.")
    if not typer.confirm(question, err=True):
        session.output.say("Nothing was done.")
        raise typer.Exit(ExitCode.FAILED)


def when(job: Job) -> str:
    """Say in a few words when a job runs."""
    if job.cron is not None:
        zone = "" if job.timezone in {None, "UTC"} else f" {job.timezone}"
        return f"cron {job.cron}{zone}"
    if job.every is not None:
        return f"every {job.every:g} s"
    if job.rrule is not None:
        return f"rrule {job.rrule}"
    return "once"


def _show(session: Session, job: Job) -> None:
    document = job.document()
    last = job.last_run
    rows = {
        **{name: value for name, value in document.items() if name not in {"last_run", "retry"}},
        "headers": without_secrets(job.headers),
        "retry": {name: value for name, value in job.retry.document().items() if value is not None},
        "last_run": None
        if last is None
        else f"{last.state} at {instant(last.finished_at)}, attempt {last.attempt}"
        + (f", {last.error}" if last.error else ""),
    }
    session.output.answer(job, rows=rows)
