"""Keeps one data directory to one stack at a time."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from local_stack import private_files
from local_stack.child import FORCE_SECONDS_MAX, STOP_SECONDS_MAX
from local_stack.locks import holders, try_lock
from local_stack.problems import AlreadyRunningError, DirectoryUnusableError, StillLeavingError


class DataDirectory:
    """All that a stack keeps: `postgres/`, `redis/`, `logs/`, `signing-secret`, and two locks.

    The supervisor's lock is its own, and tells a second `make up` that it comes too late. The other
    one is inherited by the services: it tells the supervisor that follows one which was killed
    whether its services are still there, on their ports.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.logs = self.path / "logs"
        self.services_lock = -1

    def claim(self, *, say: Callable[[str], None], pause: Callable[[], None]) -> None:
        """Make the directory ours for as long as this process lives. Raises a StackError."""
        lock_path = self.path / "supervisor.lock"
        try:
            for directory in (self.path, self.logs):
                private_files.make_directory(directory)
            lock = try_lock(lock_path)
        except OSError as error:
            raise DirectoryUnusableError(self.path, error.strerror or str(error)) from error
        if lock is None:
            raise AlreadyRunningError(self.path, lock_path.read_text())
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self.services_lock = _lock_services(self.path / "services.lock", say, pause)


def _lock_services(path: Path, say: Callable[[str], None], pause: Callable[[], None]) -> int:
    """Wait until the services of an earlier start have gone; end those that never would."""
    begun = time.monotonic()
    lock = try_lock(path)
    if lock is None:
        say("Waiting for the services of an earlier start to leave ...")
    while lock is None:
        waited = time.monotonic() - begun
        if waited > STOP_SECONDS_MAX + FORCE_SECONDS_MAX:
            raise StillLeavingError("A service", waited)
        if waited > STOP_SECONDS_MAX:
            for pid in holders(path):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        pause()
        lock = try_lock(path)
    return lock
