"""Hands the default application's signing secret to `make receiver`: by a file, or by a handler."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from local_stack import private_files

CONNECT_SECONDS_MAX = 5
OF_A_HANDLER = "/applications/1/signing-secret"

# The form of the Standard Webhooks specification. Postgres breaks base64 into lines.
OF_FIRST_APPLICATION = """
    select 'whsec_' || translate(encode(signing_secret, 'base64'), E'\\n', '')
      from applications order by id limit 1
"""


@dataclass(frozen=True)
class Source:
    """Where a receiver may look up the secret, and how; None while there is none."""

    where: str
    look_up: Callable[[], str | None]


def path_in(data_directory: Path) -> Path:
    """Answer where the secret is kept."""
    return data_directory / "signing-secret"


def fetch(database_url: str) -> str | None:
    """Read it from the database; None where there is no application."""
    with psycopg.connect(database_url, connect_timeout=CONNECT_SECONDS_MAX) as connection:
        row = connection.execute(OF_FIRST_APPLICATION).fetchone()
    return None if row is None else str(row[0])


def keep(data_directory: Path, secret: str) -> None:
    """Write it to where `read` finds it."""
    private_files.write(path_in(data_directory), secret + "\n")


def read(data_directory: Path) -> str | None:
    """Read what the newest `make up` wrote, if any."""
    try:
        return path_in(data_directory).read_text().strip() or None
    except OSError:
        return None


def ask(handler_url: str) -> str | None:
    """Ask a handler; None while it does not tell. Proxy variables are not heeded."""
    handler = urlsplit(handler_url)
    connection = HTTPConnection(handler.netloc, timeout=CONNECT_SECONDS_MAX)
    try:
        connection.request("GET", OF_A_HANDLER)
        return str(json.load(connection.getresponse())["secret"])
    except (OSError, HTTPException, ValueError, KeyError):
        return None
    finally:
        connection.close()
