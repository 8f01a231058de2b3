"""Where a command's server is, with which key, and how it prints: options, environment, profile."""

import os
from dataclasses import dataclass, field
from functools import cached_property

import typer

from onthedot.cli import profiles
from onthedot.cli.output import Output
from onthedot.synchronous.client import TIMEOUT_SECONDS, Onthedot

URL_HERE = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Said:
    """What was said on the command line; None: nothing."""

    server: str | None = None
    api_key: str | None = field(default=None, repr=False)
    profile: str | None = None
    server_timeout: float | None = None
    as_json: bool | None = None

    def over(self, other: "Said") -> "Said":
        """Lay this over what was said further left."""
        mine = {name: value for name, value in vars(self).items() if value is not None}
        return Said(**{**vars(other), **mine})


class Session:
    """What a command needs: a client, made when it is first asked for, and an output."""

    def __init__(self, said: Said) -> None:
        self._said = said
        self.output = Output(is_json=bool(said.as_json))

    @cached_property
    def server(self) -> str:
        """The server's address: as said, of the environment, of the profile, or this machine.

        A profile that was said goes before the environment.
        """
        return self._said.server or self._of_environment("ONTHEDOT_URL") or self._profile.url

    @cached_property
    def client(self) -> Onthedot:
        """A client of that server; a usage error says what is wrong with the address or key."""
        try:
            return Onthedot(
                self.server, api_key=self._key, timeout=self._said.server_timeout or TIMEOUT_SECONDS
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    def close(self) -> None:
        """Close the client, if there is one."""
        if "client" in vars(self):
            self.client.close()

    @property
    def _key(self) -> str | None:
        said = self._said.api_key or self._of_environment("ONTHEDOT_API_KEY")
        if said is not None:
            return said
        # A profile's key is for its own server, and goes to no other.
        return self._profile.key if self.server == self._profile.url else None

    def _of_environment(self, name: str) -> str | None:
        # Who says a profile means its server and its key: not half of it, and half of another.
        return None if self._said.profile else _variable(name)

    @cached_property
    def _profile(self) -> profiles.Profile:
        kept = profiles.read()
        name = self._said.profile or _variable("ONTHEDOT_PROFILE") or kept.current
        if name is None:
            return profiles.Profile(URL_HERE)
        if name not in kept.by_name:
            known = ", ".join(sorted(kept.by_name)) or "none yet"
            raise typer.BadParameter(
                f"There is no profile {name!r} (there are: {known}).", param_hint="--profile"
            )
        if kept.by_name[name].key is not None and profiles.is_readable_by_others():
            self.output.say(f"Others can read {profiles.path()}: chmod 600 it.")
        return kept.by_name[name]


def _variable(name: str) -> str | None:
    return os.environ.get(name) or None  # noqa: TID251  # the command line's own settings
