"""`onthedot profile`."""

import sys
from dataclasses import replace
from typing import Annotated

import typer

from onthedot.cli import profiles
from onthedot.cli.command import command
from onthedot.cli.profiles import Profile, Profiles
from onthedot.cli.session import Session

group = typer.Typer(
    help="Profiles: names for servers and their keys, in a file of your own.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The profile's name.")]


@command(group, "set")
def set_(
    session: Session,
    name: Name,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="The server's address.")
    ] = None,
    asks_key: Annotated[
        bool,
        typer.Option("--key", help="Ask for the key; without a terminal, read a line of it."),
    ] = False,
    drops_key: Annotated[bool, typer.Option("--no-key", help="Forget its key.")] = False,
) -> None:
    """Add or change a profile. The first one is in use from then on."""
    kept = profiles.read()
    known = kept.by_name.get(name)
    if url is None and known is None:
        raise typer.BadParameter("Give the address of a new profile.", param_hint="--url")
    if url is not None and known is not None and known.url != url and known.key is not None:
        # A key is for the server that it was given for.
        known = replace(known, key=None)
        session.output.say("Its key was for another server, and is forgotten: --key.")
    key = None if known is None or drops_key else known.key
    if asks_key:
        key = _ask()
    profile = Profile(url or (known.url if known else ""), key)
    profiles.check(name, profile)
    profiles.write(Profiles(kept.current or name, {**kept.by_name, name: profile}))
    session.output.say(f"Profile {name} is kept in {profiles.path()}.")


@command(group, "use")
def use(session: Session, name: Name) -> None:
    """Use a profile from now on."""
    kept = profiles.read()
    _expect(kept, name)
    profiles.write(replace(kept, current=name))
    session.output.say(f"Profile {name} is in use.")


@command(group, "list")
def list_(session: Session) -> None:
    """List profiles; keys are not shown."""
    kept = profiles.read()
    if session.output.is_json:
        for name, each in kept.by_name.items():
            session.output.document(
                {
                    "name": name,
                    "url": each.url,
                    "has_key": each.key is not None,
                    "in_use": name == kept.current,
                }
            )
        return
    session.output.table(
        ("", "name", "server", "key"),
        [
            ("*" if name == kept.current else "", name, each.url, "kept" if each.key else "none")
            for name, each in sorted(kept.by_name.items())
        ],
    )


@command(group, "remove")
def remove(session: Session, name: Name) -> None:
    """Forget a profile and its key."""
    kept = profiles.read()
    _expect(kept, name)
    rest = {each: profile for each, profile in kept.by_name.items() if each != name}
    profiles.write(Profiles(None if kept.current == name else kept.current, rest))
    session.output.say(f"Profile {name} is forgotten.")


def _expect(kept: Profiles, name: str) -> None:
    if name not in kept.by_name:
        known = ", ".join(sorted(kept.by_name)) or "none yet"
        raise typer.BadParameter(f"There is no profile {name!r} (there are: {known}).")


def _ask() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Key", hide_input=True, err=True))
    return sys.stdin.readline().strip()
