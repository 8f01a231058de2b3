"""Reads the log files of processes.

Processes write to files, and not to us: a pipe that we are slow to read would hold them up.
"""

import os
from pathlib import Path

from local_stack.terminal import Terminal

READ_BYTES_MAX = 262_144
LOG_BYTES_MAX = 33_554_432
LINE_BYTES_MAX = 65_536
LAST_LINES = 15
LAST_BYTES_MAX = 16_384


def last_lines(log: Path, *, since: int) -> list[str]:
    """Answer the newest lines of a log that were written after its first `since` bytes."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            # A log that is shorter than it was has been emptied in between.
            file.seek(max(since if since <= size else 0, size - LAST_BYTES_MAX))
            return file.read().decode(errors="replace").splitlines()[-LAST_LINES:]
    except FileNotFoundError:
        return []


class Follower:
    """Shows how one log goes on, and keeps it from growing without end."""

    def __init__(self, name: str, log: Path, *, number: int) -> None:
        self.name = name
        self._log = log
        self._number = number
        self._position = log.stat().st_size if log.exists() else 0
        self._unfinished = b""

    def follow(self, terminal: Terminal) -> None:
        """Show the lines that have come since the last time."""
        try:
            with self._log.open("rb") as log:
                log.seek(self._position)
                news = log.read(READ_BYTES_MAX)
        except FileNotFoundError:
            return
        self._position += len(news)
        *lines, self._unfinished = (self._unfinished + news).split(b"\n")
        if len(self._unfinished) > LINE_BYTES_MAX:
            lines, self._unfinished = [*lines, self._unfinished], b""
        for line in lines:
            terminal.quote(self.name, line.decode(errors="replace"), self._number)
        if self._position > LOG_BYTES_MAX and len(news) < READ_BYTES_MAX:
            # All but what came this very moment has been shown. Its writer appends, and so goes on
            # at the new end.
            os.truncate(self._log, 0)
            self._position = 0
