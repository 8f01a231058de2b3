"""Asks the service in this container whether it is ready: the image's health check.

One image serves every command, and a health check is not told which of them runs: the container's
first process tells. It asks over a bare socket and reads no settings, because it runs every five
seconds for as long as the service does, and the libraries for either cost more than the question.
"""

import os
import socket
import sys

ANSWER_SECONDS_MAX = 3.0
LOOPBACK = "127.0.0.1"

# Where a service answers: the variables for host and port, and the port unless they say otherwise.
SERVICES = {
    "handler_service": ("HOST", "PORT", 8080),
    "executor_service": ("HEALTH_HOST", "HEALTH_PORT", 8081),
}


def where() -> tuple[str, int] | None:
    """Tell where the service of this container answers; None if what runs here has no such port."""
    with open("/proc/1/cmdline", "rb") as file:  # noqa: PTH123  # pathlib costs 4 ms
        command = file.read().decode(errors="replace")
    variables = os.environ  # noqa: TID251  # of the container, as the service was started with
    for name, (host, port, default) in SERVICES.items():
        if name in command:
            # A listener's 0.0.0.0 or :: is, to who connects to it, this very machine.
            return variables.get(host, LOOPBACK), int(variables.get(port, default))
    return None


def is_ready(address: tuple[str, int]) -> bool:
    """Whether `/readyz` answers 200 there."""
    try:
        with socket.create_connection(address, timeout=ANSWER_SECONDS_MAX) as connection:
            connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            return connection.makefile("rb").readline().split()[1:2] == [b"200"]
    except OSError:
        return False


if __name__ == "__main__":
    address = where()
    sys.exit(address is not None and not is_ready(address))
