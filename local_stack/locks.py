"""Tells whether processes of an earlier start are still there, by a lock that they inherit.

A process id in a file goes stale, and may by then be a stranger's. A lock (flock) belongs to an
open file, which children share and the kernel closes: it is free exactly when the last is gone.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def try_lock(path: Path) -> int | None:
    """Lock a file; answer its descriptor, or None while another process holds the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def holders(path: Path) -> list[int]:
    """Answer who has the file open and may be holding its lock; on macOS nobody is found."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_holder = any(descriptor.samefile(path) for descriptor in (process / "fd").iterdir())
        except OSError:  # gone in the meantime, or another user's
            continue
        if is_holder:
            found.append(int(process.name))
    return found


@contextmanager
def bequeathed(path: Path) -> Iterator[int | None]:
    """Lock a file for this block, and beyond it for the children that inherit the descriptor."""
    descriptor = try_lock(path)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
