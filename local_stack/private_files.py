"""Keeps passwords and secrets in files that only their owner may read."""

import os
import secrets
from pathlib import Path

PASSWORD_BYTES = 24


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, for the owner alone; leave one that exists as it is."""
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)


def write(path: Path, text: str) -> None:
    """Write a private file whole or not at all, so that no reader ever meets half a secret."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)


def make_password(path: Path) -> None:
    """Write a new password; it needs no escaping in a URL."""
    write(path, secrets.token_urlsafe(PASSWORD_BYTES))
