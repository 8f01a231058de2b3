"""`make receiver`: shows each webhook that arrives, how late it is, and whether it is genuine."""

import contextlib
import errno
import signal
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
from pydantic import SecretStr, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local_stack import signature, signing_secret
from local_stack.ports import LOOPBACK, choose
from local_stack.problems import TAKEN, PortTakenError
from local_stack.settings import ReceiverSettings, explain
from local_stack.terminal import tolerate

BODY_BYTES_MAX = 16_777_216
SHOWN_BYTES_MAX = 200


class Receiver:
    """An ASGI application that accepts everything."""

    def __init__(self, data_directory: Path, given: SecretStr | None) -> None:
        self._data_directory = data_directory
        self._is_given = given is not None
        self._secret = None if given is None else given.get_secret_value()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 204, after printing what came."""
        arrived_at = datetime.now(UTC)
        request = Request(scope, receive)
        body = b""
        async for piece in request.stream():
            body += piece[: BODY_BYTES_MAX - len(body)]
        print(printable(self._line(request, body, arrived_at)), flush=True)
        await Response(status_code=204)(scope, receive, send)

    def _line(self, request: Request, body: bytes, arrived_at: datetime) -> str:
        headers = request.headers
        parts = (
            f"{arrived_at.astimezone():%H:%M:%S.%f}"[:-3],
            f"{request.method} {request.url.path}",
            f"webhook-id: {headers.get('webhook-id', 'none')}",
            lateness(headers.get("onthedot-scheduled-for", ""), arrived_at),
            f"attempt: {headers.get('onthedot-attempt', 'none')}",
            f"signature: {self._verdict(headers, body)}",
            body[:SHOWN_BYTES_MAX].decode(errors="replace"),
        )
        return "  ".join(parts)

    def _verdict(self, headers: Mapping[str, str], body: bytes) -> str:
        if self._secret is not None and signature.holds(self._secret, headers, body):
            return "holds"
        if not self._is_given:
            # None yet, or that of a database which a later `make up` has replaced.
            self._secret = signing_secret.read(self._data_directory)
        if self._secret is None:
            return f"not checked (no secret at {signing_secret.path_in(self._data_directory)})"
        return "holds" if signature.holds(self._secret, headers, body) else "DOES NOT HOLD"


def lateness(scheduled_for: str, arrived_at: datetime) -> str:
    """Say how long after its instant a webhook came, by the clock of this machine."""
    try:
        late = arrived_at - datetime.fromisoformat(scheduled_for)
    except (ValueError, TypeError):  # no instant, or one without a time zone
        return "late: unknown"
    return f"late: {late / timedelta(milliseconds=1):.1f} ms"


def printable(text: str) -> str:
    """Replace what could play with the terminal, line ends included."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def main() -> int:
    """Receive until Ctrl-C; 0 then, 1 if the port is taken, 2 for a wrong variable."""
    try:
        settings = ReceiverSettings()
    except ValidationError as refusal:
        print(explain(refusal, ReceiverSettings), file=sys.stderr)
        return 2
    port = settings.receiver_port
    try:
        listener = socket.create_server((LOOPBACK, port))
    except OSError as error:
        reason = TAKEN if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
        remedy = f"make receiver RECEIVER_PORT={choose()}"
        print(PortTakenError(port, remedy, reason), file=sys.stderr)
        return 1
    tolerate(sys.stdout)
    print(f"Receiving on http://{LOOPBACK}:{port}, any path. Ctrl-C ends it.", flush=True)
    # uvicorn stops in good order on either signal, and then raises it once more.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        config = uvicorn.Config(
            Receiver(settings.data_dir.expanduser(), settings.signing_secret),
            access_log=False,
            log_level="warning",
            lifespan="off",
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
