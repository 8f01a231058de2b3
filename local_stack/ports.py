"""Finds out which TCP ports of the loopback interface are free."""

import errno
import random
import socket
from collections.abc import Collection

LOOPBACK = "127.0.0.1"
PORT_MAX = 65_535

# Below the range from which Linux (32768) and macOS (49152) number outgoing connections. In there,
# a client that reconnects to a server that is down may be given the server's own port, connect to
# itself, and so keep the server from coming back.
LISTENING_PORTS = range(15_000, 32_000)
TRIES_MAX = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now. Raises PermissionError if root alone may."""
    with socket.socket() as probe:
        # As servers do: what is left of closed connections doesn't keep a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                return False
            raise
    return True


def choose(preferred: int | None = None, *, but_not: Collection[int] = ()) -> int:
    """Answer the preferred port if there is such a port and it is free, else any free one."""
    candidates = random.sample(LISTENING_PORTS, TRIES_MAX)
    if preferred is not None and preferred <= PORT_MAX:
        candidates.insert(0, preferred)
    for port in candidates:
        if port not in but_not and is_free(port):
            return port
    raise OSError(errno.EADDRINUSE, f"none of {TRIES_MAX} ports tried is free")
