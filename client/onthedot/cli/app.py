"""All commands, under one name."""

from typing import Annotated

import typer

from onthedot.cli import (
    apply,
    attempts,
    dead_letters,
    figures,
    jobs,
    listen,
    profile,
    schedules,
    timers,
    transfer,
)
from onthedot.cli.command import connected
from onthedot.cli.exits import MEANINGS
from onthedot.version import VERSION

_EXITS = "\n".join(f"* {code.value}: {meaning}" for code, meaning in MEANINGS.items())
app = typer.Typer(
    name="onthedot",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    # A traceback's local variables may hold a key.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(*, is_asked: bool) -> None:
    if is_asked:
        print(f"onthedot {VERSION}")
        raise typer.Exit


def _root(
    version: Annotated[  # its callback answers
        bool,
        typer.Option(
            "--version",
            callback=lambda value: _show_version(is_asked=value),
            is_eager=True,
            help="Show the version.",
        ),
    ] = False,
) -> None:
    """Have URLs called at the right moment, once: the command line of Onthedot.

    Results go to stdout, all else to stderr. Every command takes --json and the options of the
    connection, which may also stand first. A server is named by --server, --profile, ONTHEDOT_URL,
    or the profile in use; a key by --api-key, --profile, ONTHEDOT_API_KEY, or that profile.
    """


app.callback(epilog=f"Exit codes:\n\n{_EXITS}")(connected(_root))
app.add_typer(timers.group, name="timers")
app.add_typer(jobs.group, name="jobs")
app.add_typer(schedules.group, name="schedules")
app.add_typer(attempts.group, name="executions")
app.add_typer(dead_letters.group, name="dead-letters")
figures.register(app)
listen.register(app)
transfer.register(app)
apply.register(app)
app.add_typer(profile.group, name="profile")
