"""Every way in which the local stack can fail to come up, told to the person at the terminal.

StackError
├── AlreadyRunningError     another `make up` holds the data directory
├── StillLeavingError       a process of an earlier start won't go
├── PortTakenError
├── DirectoryUnusableError
├── BinariesMissingError
├── OtherMajorVersionError  the data was written by another Postgres
├── PasswordLostError
├── ChildEndedError         a process ended before it was ready
└── NotReadyError           a process did not become ready in time
"""

from collections.abc import Sequence
from pathlib import Path

TAKEN = "is taken by another program"


class StackError(Exception):
    """Something a person can mend; the message says what and how."""


class AlreadyRunningError(StackError):
    """One data directory serves one stack at a time."""

    def __init__(self, directory: Path, pid: str) -> None:
        super().__init__(
            f"Another `make up` (process {pid or 'unknown'}) is running on {directory}. "
            "Stop it, or run a second one beside it: make up DATA_DIR=.data2 PORT=8090"
        )


class StillLeavingError(StackError):
    """The lock that processes of an earlier start inherited is not free."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(
            f"{name} of an earlier start is still there after {seconds:.0f} s. "
            "Find it with `ps`, end it, and try again."
        )


class PortTakenError(StackError):
    """A port that was asked for by name can't be listened on."""

    def __init__(self, port: int, remedy: str, reason: str = TAKEN) -> None:
        super().__init__(f"Port {port} {reason}. Choose another one: {remedy}")


class DirectoryUnusableError(StackError):
    """The data directory can't be made, or not be written to."""

    def __init__(self, directory: Path, reason: str) -> None:
        super().__init__(
            f"DATA_DIR={directory} can't hold the data: {reason}. "
            "Choose another place: make up DATA_DIR=.data"
        )


class BinariesMissingError(StackError):
    """A server's program is not where we were told, or nowhere at all."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"Found no {what}. {remedy}")


class OtherMajorVersionError(StackError):
    """Postgres reads only the data of its own major version."""

    def __init__(self, data: Path, *, written_by: str, have: str, bindir: Path) -> None:
        super().__init__(
            f"{data} was written by PostgreSQL {written_by}, but {bindir} holds {have}.\n"
            f"  To keep its timers: make up PG_BINDIR=<the bin directory of a PostgreSQL "
            f"{written_by}>, and pg_dump from there to move on.\n"
            f"  To start without them: mv '{data}' '{data}-{written_by}'"
        )


class PasswordLostError(StackError):
    """The database exists, the file with its password doesn't."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is gone, and with it the password of the database beside it. Put it back, "
            f"or start without its timers: rm -r '{path.parent}'"
        )


class ChildEndedError(StackError):
    """A process ended before it was ready, or failed at what it had to do."""

    def __init__(self, name: str, how: str, last_lines: Sequence[str], log: Path) -> None:
        super().__init__(f"{name} {how}. {_told(last_lines, log)}")


class NotReadyError(StackError):
    """A process runs, but did not become ready in time."""

    def __init__(self, name: str, seconds: float, last_lines: Sequence[str], log: Path) -> None:
        super().__init__(f"{name} was not ready after {seconds:.0f} s. {_told(last_lines, log)}")


def _told(last_lines: Sequence[str], log: Path) -> str:
    if not last_lines:
        return f"It wrote nothing to {log}"
    return "\n    ".join((f"Its last lines in {log}:", *last_lines))
