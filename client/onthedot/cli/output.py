"""What is printed: results on stdout, as tables or JSON; all else on stderr."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from onthedot.models import Answer, write_instant

# Wide enough for any row: who reads a file or a pipe breaks lines themselves.
PIPE_COLUMNS = 4_000
_SECRET = re.compile(r"token|secret|key|auth|cookie|password", re.IGNORECASE)
HIDDEN = "(hidden)"
_LONG = frozenset({"url", "error", "detail", "payload"})
COLOURS = {
    "succeeded": "green",
    "done": "green",
    "active": "green",
    "failed": "red",
    "uncertain": "red",
    "retrying": "yellow",
    "paused": "yellow",
    "abandoned": "yellow",
}


class Output:
    """Prints for a person or for a program; without a terminal there are no colours."""

    def __init__(self, *, is_json: bool) -> None:
        self.is_json = is_json
        self._out = _console(sys.stdout)
        self.err = _console(sys.stderr, stderr=True)
        # Not as rich sees it, who takes FORCE_COLOR for one.
        self.is_terminal = sys.stderr.isatty()
        self.can_ask = self.is_terminal and sys.stdin.isatty()

    def document(self, document: Mapping[str, Any]) -> None:
        """Print a result as one line of JSON."""
        print(json.dumps(document, ensure_ascii=False, separators=(",", ":")))

    def answer(self, answer: Answer, *, rows: Mapping[str, object] | None = None) -> None:
        """Print one thing: its fields below each other, those that say something."""
        if self.is_json:
            self.document(answer.document())
            return
        said = answer.document() if rows is None else rows
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in said.items():
            if value is not None:
                grid.add_row(name, cell(value))
        self._out.print(grid)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table; the cells are of any text, and play no tricks."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            # What is long gives way first; ids and instants are whole, or of no use.
            table.add_column(column.upper(), no_wrap=column not in _LONG, overflow="ellipsis")
        for row in rows:
            table.add_row(*(cell(value) for value in row))
        self._out.print(table)

    def line(self, text: str | Text) -> None:
        """Print one line of a result."""
        self._out.print(text if isinstance(text, Text) else Text(printable(text)), soft_wrap=True)

    def flush(self) -> None:
        """Let who reads a pipe see what was printed until now."""
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Say something about the result, on stderr."""
        self.err.print(Text(printable(text)), soft_wrap=True)

    def error(self, text: str) -> None:
        """Say what went wrong."""
        self.err.print(Text.assemble(("Error: ", "bold red"), printable(text)), soft_wrap=True)

    def detail(self, name: str, text: str) -> None:
        """Say more about it."""
        said = Text.assemble(("  " + printable(name), "bold"), ": ", printable(text))
        self.err.print(said, soft_wrap=True)


def cell(value: object) -> Text:
    """Write a value for a table."""
    match value:
        case str():
            return Text(printable(value), style=COLOURS.get(value, ""))
        case None:
            text = ""
        case datetime():
            text = instant(value)
        case bool():
            text = "yes" if value else "no"
        case float():
            text = f"{value:g}"
        case dict() | list():
            text = json.dumps(value, ensure_ascii=False)
        case _:
            text = str(value)
    return Text(printable(text))


def instant(value: datetime) -> str:
    """Write an instant to the second, or to the millisecond where it has any."""
    text = write_instant(value.astimezone(UTC))
    return text.replace(".000Z", "Z")


def without_secrets(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    """Hide the values of headers that hold credentials."""
    if headers is None:
        return None
    return {name: HIDDEN if _SECRET.search(name) else value for name, value in headers.items()}


def printable(text: str) -> str:
    """Replace what could play with the terminal, line ends included."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command end as it does whoever has printed; rich would exit by 1."""
        raise  # noqa: PLE0704  # the BrokenPipeError that is being handled


def _console(stream: Any, *, stderr: bool = False) -> Console:
    width = None if stream.isatty() else PIPE_COLUMNS
    return _Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)
