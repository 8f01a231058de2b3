"""`onthedot export` and `onthedot import`: jobs as lines of JSON."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO
from uuid import uuid4

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from onthedot.cli import fields
from onthedot.cli.command import command
from onthedot.cli.exits import code_of, field_of, tell
from onthedot.cli.session import Session
from onthedot.errors import InvalidRequestError, NoAnswerError, OnthedotError, UnavailableError

# Well below what one request may have: 10,000 lines, 2,000 that replace, 8 MiB.
LINES_AT_ONCE = 1_000
BYTES_AT_ONCE = 4_194_304
STANDARD = "-"


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    command(app, "import")(import_)
    command(app, "export")(export)


@dataclass
class _Piece:
    """Lines that go in one request; `first` counts from 1, blank ones too."""

    first: int
    lines: list[bytes] = field(default_factory=list)
    size: int = 0

    def is_full(self, line: bytes) -> bool:
        return len(self.lines) == LINES_AT_ONCE or (
            bool(self.lines) and self.size + len(line) > BYTES_AT_ONCE
        )

    def add(self, line: bytes) -> None:
        self.lines.append(line.rstrip(b"\r\n"))
        self.size += len(line)


def import_(
    session: Session,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Of an export, a job a line; - is stdin.")
    ],
    from_line: Annotated[
        int, typer.Option("--from-line", min=1, metavar="N", help="Go on from this line.")
    ] = 1,
    idempotency_key: fields.IdempotencyKey = None,
) -> None:
    """Create the jobs of an export; one that has the key of a line is replaced.

    1,000 lines at a time, all or none of them. When some are refused, what came before is done;
    mend the lines that are named and go on from where it says. Where an answer was lost, it says
    the Idempotency-Key too: going on by it creates no job twice.
    """
    created = replaced = 0
    key = idempotency_key or str(uuid4())
    with _opened(file) as lines, _progress(session, lines) as advance:
        for piece in _pieces(lines, from_line):
            try:
                # A piece that begins at the same line has the same key, whoever sends it.
                done = session.client.jobs.import_(
                    piece.lines, idempotency_key=f"{key}:{piece.first}"
                )
            except OnthedotError as error:
                is_unknown = isinstance(error, (NoAnswerError, UnavailableError))
                _tell(session, error, piece)
                _say_where(session, piece, created, replaced, key if is_unknown else None)
                raise typer.Exit(code_of(error)) from None
            except KeyboardInterrupt:
                _say_where(session, piece, created, replaced, key)
                raise
            created += done.created
            replaced += done.replaced
            advance(piece.size)
    if session.output.is_json:
        session.output.document({"created": created, "replaced": replaced})
    else:
        session.output.line(f"{created} created, {replaced} replaced")


def export(
    session: Session,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Else stdout.")
    ] = None,
) -> None:
    """Write every job that is to run, one a line, as `import` takes it."""
    count = 0
    with ExitStack() as stack:
        if file is None:
            target = sys.stdout
        else:
            # Payloads and headers may hold secrets; and half an export passes for no whole one.
            draft = file.with_name(f".{file.name}.{os.getpid()}.draft")
            stack.callback(draft.unlink, missing_ok=True)
            try:
                descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except OSError as error:
                raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="-o") from None
            target = stack.enter_context(os.fdopen(descriptor, "w", encoding="utf-8"))
        for line in session.client.jobs.export_lines():
            target.write(line + "\n")
            count += 1
        target.flush()
        if file is not None:
            draft.replace(file)
    session.output.say(f"{count} job(s) exported.")


def _pieces(lines: BinaryIO, from_line: int) -> Iterator[_Piece]:
    piece = _Piece(from_line)
    for number, line in enumerate(lines, start=1):
        if number < from_line:
            continue
        if piece.is_full(line):
            yield piece
            piece = _Piece(number)
        piece.add(line)
    if any(line.strip() for line in piece.lines):
        yield piece


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        opened = Path(file).open("rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None
    with opened:
        yield opened


@contextmanager
def _progress(session: Session, lines: BinaryIO) -> Iterator[Callable[[int], None]]:
    """Show how far it is, on a terminal; of a pipe nobody knows the end."""
    total = os.fstat(lines.fileno()).st_size if lines is not sys.stdin.buffer else None
    with Progress(
        TextColumn("Importing"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=session.output.err,
        disable=not session.output.is_terminal,
    ) as progress:
        task = progress.add_task("import", total=total)
        yield lambda size: progress.advance(task, size)


def _tell(session: Session, error: OnthedotError, piece: _Piece) -> None:
    """Say what is wrong, and name lines as the file counts them."""
    if isinstance(error, InvalidRequestError) and error.errors and not session.output.is_json:
        session.output.error(error.title)
        for pointer, detail in error.errors:
            session.output.detail(_line_of(pointer, piece), detail)
    else:
        tell(session.output, error, server=session.server)


def _say_where(
    session: Session, piece: _Piece, created: int, replaced: int, unknown_under: str | None
) -> None:
    """Say how to go on; a piece of which nothing is known is sent again under its key."""
    by = f"--from-line {piece.first}"
    if unknown_under is not None:
        last = piece.first + len(piece.lines) - 1
        session.output.say(
            f"Whether lines {piece.first} to {last} were taken is unknown: all of them, or none."
        )
        by += f" --idempotency-key {unknown_under}"
    session.output.say(
        f"Lines before {piece.first} are done ({created} created, {replaced} replaced); "
        f"go on by {by}."
    )


def _line_of(pointer: str, piece: _Piece) -> str:
    """Turn `#/lines/3/url` of a request into `line 1004 url` of the file."""
    parts = pointer.removeprefix("#/").split("/")
    if len(parts) < 2 or parts[0] != "lines" or not parts[1].isdigit():
        return field_of(pointer)
    rest = " " + ".".join(parts[2:]) if parts[2:] else ""
    return f"line {piece.first + int(parts[1])}{rest}"
