"""The profile file: names for servers and their keys, readable by its owner alone."""

import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import tomli_w
import typer

from onthedot.address import checked, headers

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Profile:
    """A server, and the key for it."""

    url: str
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Profiles:
    """All profiles, and the name of the one in use; None: none."""

    current: str | None
    by_name: dict[str, Profile]


def path() -> Path:
    """Answer where the file is: in the user's directory for settings."""
    return Path(typer.get_app_dir("onthedot")) / "profiles.toml"


def read() -> Profiles:
    """Read the file, which need not be there; a usage error says what is wrong with it."""
    try:
        with path().open("rb") as file:
            said = tomllib.load(file)
    except FileNotFoundError:
        return Profiles(None, {})
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise typer.BadParameter(f"{path()}: {error}") from None
    try:
        found = {
            name: Profile(str(each["url"]), None if each.get("key") is None else str(each["key"]))
            for name, each in said.get("profiles", {}).items()
        }
    except (AttributeError, KeyError, TypeError):
        raise typer.BadParameter(f"{path()}: each of [profiles.…] needs a url") from None
    current = said.get("current")
    return Profiles(current if isinstance(current, str) else None, found)


def write(profiles: Profiles) -> None:
    """Write the file as a whole, so that nobody reads half of it, nor but its owner any."""
    document: dict[str, object] = {
        "profiles": {
            name: {"url": each.url} | ({} if each.key is None else {"key": each.key})
            for name, each in profiles.by_name.items()
        }
    }
    if profiles.current is not None:
        document = {"current": profiles.current, **document}
    path().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path().with_suffix(f".{os.getpid()}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            tomli_w.dump(document, file)
        draft.replace(path())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def is_readable_by_others() -> bool:
    """Whether the file is open for more than its owner."""
    try:
        return os.name == "posix" and bool(path().stat().st_mode & 0o077)
    except FileNotFoundError:
        return False


def check(name: str, profile: Profile) -> None:
    """Refuse a profile that could not be used."""
    if not NAME.fullmatch(name):
        raise typer.BadParameter("Must have letters, digits, dots and dashes.", param_hint="NAME")
    try:
        checked(profile.url)
        headers(profile.key)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
