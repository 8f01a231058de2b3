"""Runs what we built ourselves, the migrations and the services, as processes like any other."""

import http.client
import sys
from collections.abc import Mapping
from pathlib import Path

from local_stack.child import Child
from local_stack.ports import LOOPBACK
from local_stack.problems import ChildEndedError
from local_stack.program import Program

PROJECT = Path(__file__).resolve().parent.parent
ANSWER_SECONDS_MAX = 2.0


class Service(Child):
    """A handler or an executor; `port` is where it answers questions about its health."""

    def __init__(self, name: str, program: Program, *, port: int) -> None:
        super().__init__(name, program.log)
        self.port = port
        self._program = program

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{LOOPBACK}:{self.port}"

    def launch(self) -> bool:
        """Start it."""
        self._spawn(self._program)
        return True

    def answers(self) -> bool:
        """Whether it says that it is ready."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=ANSWER_SECONDS_MAX)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Task(Child):
    """A program that is ready once it has ended well, such as the migrations."""

    def __init__(self, name: str, program: Program) -> None:
        super().__init__(name, program.log)
        self._program = program

    def launch(self) -> bool:
        """Start it."""
        self._spawn(self._program)
        return True

    def is_ready(self) -> bool:
        """Whether it has ended. Raises ChildEndedError if it failed."""
        if self.is_running:
            return False
        if not self.answers():
            raise ChildEndedError(self.name, self.end, self.last_lines(), self.log)
        return True

    def answers(self) -> bool:
        """Whether it has ended well."""
        return self.process is not None and self.process.poll() == 0


def python_module(name: str, environment: Mapping[str, str], *, log: Path, lock: int) -> Program:
    """Describe `python -m name`, run by the Python that runs us."""
    return Program(
        command=(sys.executable, "-m", name),
        log=log,
        directory=PROJECT,
        environment={**environment, "PYTHONUNBUFFERED": "1"},
        lock=lock,
    )
