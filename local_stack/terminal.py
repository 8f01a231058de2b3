"""Writes to the person at the terminal."""

import io
import os
from typing import TextIO

NAME_WIDTH = 10

COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)  # cyan, green, yellow, magenta, blue, bright
BOLD, RED = 1, 31


def tolerate(stream: TextIO) -> None:
    """Have letters that a terminal lacks written as escapes; by default they raise."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


class Terminal:
    """Where lines are written to, until nobody is there to read them."""

    def __init__(self, stream: TextIO, *, colours: bool) -> None:
        self.is_gone = False
        tolerate(stream)
        self._stream = stream
        self._colours = colours

    def say(self, text: str) -> None:
        """Write something of our own."""
        self._write(self._paint(text, BOLD))

    def complain(self, text: str) -> None:
        """Write what went wrong."""
        self._write(self._paint(text, RED))

    def show(self, text: str) -> None:
        """Write something as it is."""
        self._write(text)

    def quote(self, name: str, line: str, number: int) -> None:
        """Write a line of a process's log, behind its name."""
        prefix = self._paint(f"{name:<{NAME_WIDTH}} |", COLOURS[number % len(COLOURS)])
        self._write(f"{prefix} {line}")

    def _paint(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def _write(self, text: str) -> None:
        if self.is_gone:
            return
        try:
            print(text, file=self._stream, flush=True)
        except OSError:
            self.is_gone = True
            # Or else Python, when it ends, tries once more to write what is left.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
