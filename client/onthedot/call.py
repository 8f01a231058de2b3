"""A request as data: what the two transports send, and what is known about sending it again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import uuid4

IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})
IDEMPOTENCY_KEY = "idempotency-key"
NDJSON = "application/x-ndjson"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request. `is_repeatable`: sent twice, it does what it does when sent once."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    lines: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_repeatable: bool = False


def read(path: str, query: Mapping[str, Any] | None = None) -> Call:
    """Describe a GET."""
    return Call(method="GET", path=path, query=query or {}, is_repeatable=True)


def ask(path: str, body: Mapping[str, Any]) -> Call:
    """Describe a POST that only answers something."""
    return Call(method="POST", path=path, body=body, is_repeatable=True)


def create(
    path: str,
    *,
    body: Mapping[str, Any] | None = None,
    lines: bytes | None = None,
    key: str | None = None,
) -> Call:
    """Describe a POST that creates: under an Idempotency-Key it may be sent again."""
    headers = {IDEMPOTENCY_KEY: str(uuid4()) if key is None else checked(key)}
    return Call(
        method="POST", path=path, body=body, lines=lines, headers=headers, is_repeatable=True
    )


def checked(key: str) -> str:
    """Answer an Idempotency-Key; raises ValueError, which says the remedy, if it is none."""
    if not key or not all("!" <= letter <= "~" for letter in key):
        raise ValueError("idempotency_key: must be visible ASCII characters, without spaces")
    return key


def change(
    method: str,
    path: str,
    *,
    body: Mapping[str, Any] | None = None,
    version: int | None = None,
    is_repeatable: bool | None = None,
) -> Call:
    """Describe a change; by its method, PUT and DELETE may be sent again, others not.

    With a version neither: the second would be told that the first has changed it.
    """
    headers = {} if version is None else {"if-match": f'"{version}"'}
    if is_repeatable is None:
        is_repeatable = method in IDEMPOTENT and version is None
    return Call(method=method, path=path, body=body, headers=headers, is_repeatable=is_repeatable)


def by_key(key: str) -> str:
    """Answer the path of a job by its key."""
    if key in {".", ".."}:
        # A URL cannot carry these as a path's segment: they mean the one above.
        raise ValueError(f"key: {key!r} cannot be reached by a URL")
    return f"/jobs/by-key/{quote(key, safe='')}"
