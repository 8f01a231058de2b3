"""The command line as it is run: in this process for its results, in a terminal for its looks."""

import json
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pexpect
from typer.testing import CliRunner

from onthedot.cli.app import app

ROOT = Path(__file__).parents[2]
COLUMNS = 100
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|[\x08\r]")


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Each line of stdout, as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def document(self) -> dict[str, Any]:
        [document] = self.documents
        return document


class Commands:
    """Runs commands with these variables, and none of the machine's."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = dict(variables)

    def run(self, *arguments: object, given: str | bytes | None = None, **variables: str) -> Ran:
        """Run a command that has no terminal."""
        done = CliRunner().invoke(
            app,
            [str(each) for each in arguments],
            input=given,
            env={**self.variables, **variables},
            prog_name="onthedot",
        )
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return Ran(done.exit_code, done.stdout, done.stderr)

    def json(self, *arguments: object, **options: Any) -> dict[str, Any]:
        """Run a command, which must end well, and answer its one document."""
        ran = self.run(*arguments, "--json", **options)
        assert ran.code == 0, ran
        return ran.document

    def terminal(self, *arguments: object) -> "Terminal":
        """Run a command in a terminal of 100 columns."""
        command = ["-m", "onthedot", *map(str, arguments)]
        return Terminal(sys.executable, command, self.variables)


class Terminal:
    """A real terminal (a pty), and what a person sees on it."""

    def __init__(self, program: str, arguments: list[str], variables: Mapping[str, str]) -> None:
        self.child = pexpect.spawn(
            program,
            arguments,
            dimensions=(50, COLUMNS),
            encoding="utf-8",
            timeout=60,
            cwd=str(ROOT),
            env={
                "PATH": "/usr/bin:/bin",
                "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
                "PYTHONPATH": str(ROOT / "client"),
                **variables,
            },
            # As in a terminal; what runs in the background of a script ignores Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._seen = ""

    def sees(self, text: str) -> str:
        """Wait until this text stands there; answer all that stands there until then."""
        self.child.expect_exact(text)
        self._seen += str(self.child.before) + str(self.child.after)
        return self.text

    def types(self, text: str) -> None:
        """Type on the keyboard."""
        self.child.send(text)

    def ends(self) -> int:
        """Wait for the end; answer the exit code."""
        self.child.expect(pexpect.EOF)
        self._seen += str(self.child.before)
        self.child.close()
        assert self.child.exitstatus is not None, self.child.signalstatus
        return int(self.child.exitstatus)

    @property
    def raw(self) -> str:
        """All that came, colours included."""
        return self._seen

    @property
    def text(self) -> str:
        """All that came, as a person reads it."""
        return _CONTROL.sub("", self._seen)
