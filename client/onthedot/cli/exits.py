"""How a command ends: its exit codes, and what a person is told about an error."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from onthedot.cli.output import Output
from onthedot.cli.session import Session
from onthedot.errors import (
    NoAnswerError,
    NotAllowedError,
    NotFoundError,
    OnthedotError,
    ProblemError,
    TooManyRequestsError,
    UnavailableError,
    UnreachableError,
)


class ExitCode(IntEnum):
    """What a script may rely on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    DIFFERS = 5
    INTERRUPTED = 130
    READER_LEFT = 141


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "refused by the server or at the prompt, or a check that was asked for failed",
    ExitCode.USAGE: "the command, an option or a file makes no sense",
    ExitCode.NOT_FOUND: "there is no such thing",
    ExitCode.UNREACHABLE: "the server cannot be reached, or does not answer now (429 and 5xx too)",
    ExitCode.DIFFERS: "`apply --check` found something to change",
    ExitCode.INTERRUPTED: "interrupted by Ctrl-C",
    ExitCode.READER_LEFT: "who read the output has left (a pipe to `head`)",
}
_CODES: dict[type[OnthedotError], str] = {
    UnreachableError: "unreachable",
    NoAnswerError: "no_answer",
}
REMEDY = "Name another by --server, ONTHEDOT_URL or `onthedot profile set`."


@contextmanager
def errors_told(session: Session) -> Iterator[None]:
    """Tell what goes wrong on stderr, and exit by the code that stands for it."""
    try:
        yield
    except OnthedotError as error:
        tell(session.output, error, server=session.server)
        raise typer.Exit(code_of(error)) from None
    except (KeyboardInterrupt, typer.Abort):
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # Whatever is still buffered goes nowhere, instead of into a traceback at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.READER_LEFT) from None


def code_of(error: OnthedotError) -> ExitCode:
    """Answer the exit code that stands for an error."""
    match error:
        case NotFoundError():
            return ExitCode.NOT_FOUND
        case UnreachableError() | NoAnswerError() | UnavailableError() | TooManyRequestsError():
            return ExitCode.UNREACHABLE
        case _:
            return ExitCode.FAILED


def tell(output: Output, error: OnthedotError, *, server: str, key: str | None = None) -> None:
    """Say what went wrong: with which job, the field, what is wrong with it, and what to do."""
    if output.is_json:
        told = _document(error) if key is None else {"key": key, **_document(error)}
        print(json.dumps({"error": told}), file=sys.stderr)
        return
    if key is not None:
        output.say(f"{key}:")
    match error:
        case ProblemError(errors=(_, *_)):
            output.error(error.title or "The request was refused")
            for violation in error.errors:
                output.detail(field_of(violation.pointer), violation.detail)
        case NotAllowedError():
            output.error(error.detail)
            output.detail("key", "Give one by ONTHEDOT_API_KEY or `onthedot profile set`.")
        case UnreachableError():
            output.error(f"{server}: {error}")
            output.detail("server", f"Is Onthedot running there? {REMEDY}")
        case NoAnswerError():
            output.error(f"{server}: {error}")
            output.detail("request", "Look whether it was done before you send it again.")
        case ProblemError():
            output.error(error.detail)
        case _:
            output.error(f"{server}: {error}")
    # What was the caller's mistake needs no look into the server's log.
    if isinstance(error, ProblemError) and error.status >= 500 and error.request_id:
        output.detail("request", error.request_id)


def field_of(pointer: str) -> str:
    """Say a JSON pointer as a person does: `#/retry/base` is `retry.base`."""
    return pointer.removeprefix("#").strip("/").replace("/", ".") or "request"


def _document(error: OnthedotError) -> dict[str, object]:
    if not isinstance(error, ProblemError):
        return {
            "code": _CODES.get(type(error), "unexpected"),
            "detail": str(error),
        }
    return {
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
        "errors": [each._asdict() for each in error.errors],
        "request_id": error.request_id,
    }
