"""Becomes another program, one that will not outlive the process that started it.

`processes.spawn` runs this file as a script, between the fork and the program:

    python -I -S guard.py STARTER_PID LAST_SIGNAL any|ordinary PROGRAM [ARGUMENT ...]

A `preexec_fn` would do the same with less, but it runs Python in the fork of a process that may
have threads, and can deadlock there. `ordinary` asks for a user other than root, as whom Postgres
won't run.
"""

import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import ctypes

    LIBC: Any = ctypes.CDLL(None)
except ImportError:  # a Python built without libffi; the watcher below does instead
    LIBC = None

# From linux/prctl.h, linux/sched.h and linux/capability.h.
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CLONE_NEWUSER = 0x10000000
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1

NOBODY = 65534
WATCH_SECONDS = 0.5
DESCRIPTORS_MAX = 256


def main() -> None:
    """Give up root if asked to, bind this process's life to its starter's, become the program."""
    starter, last_signal = int(sys.argv[1]), int(sys.argv[2])
    user, program = sys.argv[3], sys.argv[4:]
    if user == "ordinary" and os.geteuid() == 0:
        leave_root()
    # After the change of user, which would undo it.
    end_with(starter, last_signal)
    try:
        os.execv(program[0], program)  # noqa: S606  # no shell is wanted
    except OSError as error:
        sys.exit(f"{program[0]}: {error.strerror}")


def leave_root() -> None:
    """Become `nobody`, yet keep access to root's files: a data directory may lie below /root.

    In a user namespace that is only a name: outside, this process stays the owner of its files.
    Containers often forbid namespaces. There the user really changes, and one capability is kept.
    """
    if sys.platform != "linux" or LIBC is None:
        sys.exit("Postgres does not run as root; start this as an ordinary user.")
    if _works(be_called_nobody):
        be_called_nobody()
    else:
        become_nobody()


def be_called_nobody() -> None:
    """Enter a user namespace in which our user has that name. Raises OSError where it can't be."""
    user, group = os.geteuid(), os.getegid()
    if LIBC.unshare(CLONE_NEWUSER) != 0:
        raise PermissionError("unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")


def become_nobody() -> None:
    """Change the user; keep the capability to open files regardless of their permissions."""
    LIBC.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    kept = 1 << CAP_DAC_OVERRIDE
    sets = struct.pack("6I", kept, kept, kept, 0, 0, 0)  # effective, permitted, inheritable
    LIBC.capset(struct.pack("Ii", CAPABILITY_VERSION_3, 0), sets)
    LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def end_with(starter: int, last_signal: int) -> None:
    """Have the program that this process becomes receive a signal when its starter is gone."""
    is_linux = sys.platform == "linux" and LIBC is not None
    if is_linux and LIBC.prctl(PR_SET_PDEATHSIG, last_signal, 0, 0, 0) == 0:
        # The starter may have died before the call, and then no signal would ever come.
        if os.getppid() != starter:
            sys.exit("The process that started this one is gone.")
    else:
        watch(starter, last_signal)


def watch(starter: int, last_signal: int) -> None:
    """Leave a small process behind that looks after both where the kernel doesn't (macOS)."""
    program = os.getpid()
    if between := os.fork():
        os.waitpid(between, 0)  # no server must find a child that it doesn't know
        return
    if os.fork():
        os._exit(0)
    os.closerange(0, DESCRIPTORS_MAX)  # the lock above all: it is the program's
    while _is_alive(program):
        if not _is_alive(starter):
            os.kill(program, last_signal)
            break
        time.sleep(WATCH_SECONDS)
    os._exit(0)


def _works(step: Callable[[], None]) -> bool:
    """Try in a process of its own what may fail half-way and can't be undone."""
    if trial := os.fork():
        return os.waitpid(trial, 0)[1] == 0
    try:
        step()
    except OSError:
        os._exit(1)
    os._exit(0)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
