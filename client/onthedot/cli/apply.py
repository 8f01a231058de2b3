"""`onthedot apply`: makes the jobs there are those of a file, and shows what that changes."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from onthedot.cli import manifest
from onthedot.cli.command import command
from onthedot.cli.exits import ExitCode, code_of, tell
from onthedot.cli.jobs import agreed
from onthedot.cli.manifest import NAMESPACE_LABEL, Manifest
from onthedot.cli.output import instant, printable, without_secrets
from onthedot.cli.plan import Action, Step, body, steps
from onthedot.cli.session import Session
from onthedot.errors import NotFoundError, OnthedotError, UnreachableError
from onthedot.models import Job

SHOWN_CHARACTERS_MAX = 120
NOTHING = "nothing"
_ORDER = tuple(Job.model_fields)
_SIGNS = {
    Action.CREATE: ("+", "green"),
    Action.CHANGE: ("~", "yellow"),
    Action.PRUNE: ("-", "red"),
}


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    command(app, "apply")(apply)


def apply(
    session: Session,
    file: Annotated[
        Path, typer.Option("--file", "-f", metavar="FILE", help="The jobs, in YAML or JSON.")
    ],
    is_dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
    is_check: Annotated[
        bool, typer.Option("--check", help="As --dry-run; exit by 5 if something would change.")
    ] = False,
    prunes: Annotated[
        bool, typer.Option("--prune", help="End jobs of the namespace that the file has not.")
    ] = False,
    adopts: Annotated[
        bool, typer.Option("--adopt", help="Take over jobs that have a key of the file.")
    ] = False,
    is_agreed: Annotated[bool, typer.Option("--yes", "-y", help="Prune without asking.")] = False,
) -> None:
    """Make the jobs of a namespace those of a file, by their keys; show the difference first.

    Each job gets the label onthedot/namespace. Only what carries it is ever pruned, and a job is
    changed or pruned only if it is still as it was shown. A run_at that is past calls nothing:
    such a job is left alone. Where some are refused, the others are done, and the exit code is the
    highest of all.
    """
    wanted = manifest.read(file)
    present = _present(session, wanted)
    _refuse_strangers(present, wanted, adopts=adopts)
    plan = steps(wanted.jobs, present, prunes=prunes, now=datetime.now(UTC))
    _show(session, plan)
    changes = [step for step in plan if step.action in _SIGNS]
    if is_dry_run or is_check:
        if changes and is_check:
            raise typer.Exit(ExitCode.DIFFERS)
        return
    pruned = [step for step in plan if step.action is Action.PRUNE]
    if pruned and not is_agreed:
        agreed(session, f"End {len(pruned)} job(s)?")
    _carry_out(session, changes, wanted)


def _present(session: Session, wanted: Manifest) -> dict[str, Job]:
    """Answer the jobs of the namespace, and those that have a key of the file, by key."""
    labels = {NAMESPACE_LABEL: wanted.namespace}
    listed = session.client.jobs.list(labels=labels, page_size=200)
    # One that was ended is listed with a key that it has no more; one that is over keeps it.
    present = {job.key: job for job in listed if job.key is not None and job.state != "ended"}
    for key in wanted.jobs.keys() - present.keys():
        try:
            present[key] = session.client.jobs.get_by_key(key)
        except NotFoundError:
            continue
    return present


def _refuse_strangers(present: dict[str, Job], wanted: Manifest, *, adopts: bool) -> None:
    if adopts:
        return
    strangers = sorted(
        key
        for key, job in present.items()
        if (job.labels or {}).get(NAMESPACE_LABEL) != wanted.namespace
    )
    if strangers:
        raise typer.BadParameter(
            f"Others have made the jobs of these keys: {', '.join(strangers)}. "
            "Choose other keys, or take them over by --adopt."
        )


def _carry_out(session: Session, changes: Sequence[Step], wanted: Manifest) -> None:
    """Do each step; one that is refused does not keep the others from being done.

    Where there is no server any more, the others are not tried.
    """
    worst = ExitCode.OK
    for done, step in enumerate(changes):
        try:
            _do(session, step, wanted)
        except OnthedotError as error:
            worst = max(worst, code_of(error))
            tell(session.output, error, server=session.server, key=step.key)
            if isinstance(error, UnreachableError):
                session.output.say(f"{done} of {len(changes)} were tried; apply it again.")
                break
    if worst is not ExitCode.OK:
        raise typer.Exit(worst)
    if changes and not session.output.is_json:
        session.output.say("Done.")


def _do(session: Session, step: Step, wanted: Manifest) -> None:
    """Do what was shown, if the job is as it was shown."""
    jobs = session.client.jobs
    if step.job is None:
        jobs.put(step.key, on_conflict="error", **body(step, wanted.jobs[step.key]))
    elif step.action is Action.PRUNE:
        jobs.delete(step.job.id, version=step.job.version)
    else:
        jobs.put(step.key, version=step.job.version, **body(step, wanted.jobs[step.key]))


def _show(session: Session, plan: Sequence[Step]) -> None:
    output = session.output
    if output.is_json:
        for step in plan:
            output.document(_document(step))
        return
    for step in plan:
        if step.action not in _SIGNS:
            continue
        sign, colour = _SIGNS[step.action]
        output.line(Text(f"{sign} {printable(step.key)}", style=colour))
        shown = {
            name: (_short(name, step.changes[name][0]), _short(name, step.changes[name][1]))
            for name in _ORDER
            if name in step.changes
        }
        width = max(map(len, shown), default=0)
        for name, (old, new) in shown.items():
            if step.action is Action.CHANGE:
                output.line(f"    {name:<{width}}  {old} → {new}")
            elif new != NOTHING:
                output.line(f"    {name:<{width}}  {new}")
    counts = {action: sum(step.action is action for step in plan) for action in Action}
    output.say(
        f"{counts[Action.CREATE]} to create, {counts[Action.CHANGE]} to change, "
        f"{counts[Action.PRUNE]} to end, {counts[Action.KEEP]} as they should be."
        + (f" {counts[Action.PAST]} left alone, as run_at is past." if counts[Action.PAST] else "")
    )


def _short(name: str, value: Any) -> str:
    """Write a value on one line, without credentials."""
    match value:
        case None:
            text = NOTHING
        case str():
            text = value
        case dict() if name == "headers":
            text = _json(without_secrets(value))
        case dict() if name == "labels":
            rest = {label: value[label] for label in value if label != NAMESPACE_LABEL}
            text = _json(rest) if rest else NOTHING
        case datetime():
            text = instant(value)
        case _:
            text = _json(value)
    text = printable(text)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 1] + "…"


def _document(step: Step) -> dict[str, Any]:
    return {
        "action": step.action.value,
        "key": step.key,
        "changes": {
            name: {"old": _plain(name, old), "new": _plain(name, new)}
            for name, (old, new) in step.changes.items()
        },
    }


def _plain(name: str, value: Any) -> Any:
    """Make a value one of JSON, without credentials."""
    if name == "headers" and isinstance(value, dict):
        value = without_secrets(value)
    return json.loads(_json(value))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=instant)
