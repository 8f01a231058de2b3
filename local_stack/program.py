"""Starts a program that does not outlive us."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

GUARD = Path(__file__).with_name("guard.py")

# Servers see nothing of our environment. On macOS, Postgres refuses to start without a locale.
SERVER_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}

# Linux counts a child as orphaned when the *thread* that forked it ends. This one ends with Python
# itself, so it doesn't matter from which thread a child is started.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run, and what it is given."""

    command: tuple[str | Path, ...]
    log: Path
    directory: Path
    environment: Mapping[str, str]
    lock: int  # a descriptor that it inherits, see `locks`
    last_signal: signal.Signals = signal.SIGTERM  # what it receives if we die
    may_be_root: bool = True
    stdin: IO[bytes] | int = subprocess.DEVNULL


def spawn(program: Program) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that the terminal's Ctrl-C doesn't reach it."""
    user = "any" if program.may_be_root else "ordinary"
    guard = [sys.executable, "-I", "-S", GUARD, os.getpid(), program.last_signal.value, user]
    with program.log.open("ab") as log:
        return _SPAWNER.submit(
            subprocess.Popen,
            [str(word) for word in (*guard, *program.command)],
            stdin=program.stdin,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=program.directory,
            env=dict(program.environment),
            pass_fds=(program.lock,),
            start_new_session=True,
        ).result()
