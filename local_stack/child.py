"""Gives every process of ours the same verbs."""

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Self

from local_stack.logs import last_lines
from local_stack.problems import ChildEndedError, NotReadyError, StillLeavingError
from local_stack.program import Program, spawn

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
FORCE_SECONDS_MAX = 3.0
PAUSE_SECONDS = 0.02


class Child(ABC):
    """A process of ours, which `start`, `stop` and `kill` bring up and down any number of times."""

    stop_signal = signal.SIGTERM
    hurry_signal = signal.SIGKILL

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(
        self,
        *,
        seconds: float = START_SECONDS_MAX,
        pause: Callable[[], None] = lambda: time.sleep(PAUSE_SECONDS),
    ) -> None:
        """Start, and return once it is ready. Raises a StackError that says what is in the way.

        `pause` is called between looks; an exception out of it ends the wait, but not the process.
        """
        deadline = time.monotonic() + seconds
        while not (self.is_running or self.launch()):
            if time.monotonic() > deadline:
                raise StillLeavingError(self.name, seconds)
            pause()
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise NotReadyError(self.name, seconds, self.last_lines(), self.log)
            pause()

    @abstractmethod
    def launch(self) -> bool:
        """Start without waiting; False while processes of an earlier start are still leaving."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the running process does its work yet."""

    def is_ready(self) -> bool:
        """Whether it does its work. Raises ChildEndedError if it never will."""
        if not self.is_running:
            raise ChildEndedError(self.name, self.end, self.last_lines(), self.log)
        return self.answers()

    def stop(self, *, seconds: float = STOP_SECONDS_MAX) -> None:
        """Stop it in an orderly way, or, where that takes too long, by force."""
        self.send(self.stop_signal)
        if not self._leaves_within(seconds):
            self.force()

    def force(self) -> None:
        """Stop it at the price of whatever it has in hand."""
        self.send(self.hurry_signal)
        if not self._leaves_within(FORCE_SECONDS_MAX):
            self.kill()

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is gone."""
        if self.process is not None:
            self.process.send_signal(number)

    @property
    def is_running(self) -> bool:
        """Whether there is a process, ready or not."""
        return self.process is not None and self.process.poll() is None

    @property
    def end(self) -> str:
        """How the last process ended, for a sentence that begins with its name."""
        code = None if self.process is None else self.process.poll()
        if code is None:
            return "has not ended"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with status {code}"

    def last_lines(self) -> list[str]:
        """The newest lines that this process, not one before it, wrote to its log."""
        return last_lines(self.log, since=self._log_start)

    def _spawn(self, program: Program) -> None:
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self.process = spawn(program)

    def _leaves_within(self, seconds: float) -> bool:
        if self.process is None:
            return True
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
