"""The events that the services log, found in their source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from documentation.markdown import code, head, table
from documentation.modules import PACKAGES, services_of

ROOT = Path(__file__).parent.parent
# By the method that logs.
LEVELS = {level: level for level in ("debug", "info", "warning", "error", "critical")} | {
    "exception": "error"
}
NAME = re.compile(r"[a-z_]+\.[a-z_]+")
OPENING = """
To stderr, a line each: as JSON, or for people on a terminal (`LOG_FORMAT`). Every line has
`event`, `level`, `logger` and `timestamp`; those of libraries too. What a handler says about a
request has its `request_id`, which the answer repeats as `x-request-id` and a caller may choose
by the same header. `run_id` is the `webhook-id` of a run. `…` stands for fields that vary:
settings at a start, counts by kind.

URLs, headers and payloads belong to callers and are never logged, but for a destination's scheme,
host and port, which breakers name.
"""


class Event(NamedTuple):
    """One place that logs."""

    name: str
    level: str
    fields: frozenset[str]
    package: str


def page() -> str:
    """Render every event: its name, level, fields, and who logs it."""
    found: dict[tuple[str, str], list[Event]] = {}
    for event in events():
        found.setdefault((event.name, event.level), []).append(event)
    rows = [
        (
            code(name),
            level,
            ", ".join(
                code(field) for field in sorted(frozenset().union(*(e.fields for e in same)))
            ),
            services_of({event.package for event in same}),
        )
        for (name, level), same in sorted(found.items())
    ]
    header = ("event", "level", "fields", "of")
    return "\n".join([head("Log events", OPENING.strip()), table(header, rows)])


def events() -> Iterator[Event]:
    """Find every place in the services that logs an event."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                match node:
                    case ast.Call(
                        func=ast.Attribute(value=ast.Name(id="log" | "logger"), attr=level)
                    ) if level in LEVELS:
                        fields = frozenset(word.arg or "…" for word in node.keywords)
                        for name in _names(node.args[0], tree):
                            yield Event(name, LEVELS[level], fields, package)


def _names(said: ast.expr, tree: ast.Module) -> set[str]:
    """The event's name; where a variable holds it, the keys that the module has such names for."""
    if isinstance(said, ast.Name):
        tables = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
        return {name for each in tables for key in each.keys if key for name in _names(key, tree)}
    if (
        isinstance(said, ast.Constant)
        and isinstance(said.value, str)
        and NAME.fullmatch(said.value)
    ):
        return {said.value}
    if isinstance(said, ast.IfExp):
        return _names(said.body, tree) | _names(said.orelse, tree)
    return set()
