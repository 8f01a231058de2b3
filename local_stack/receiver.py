"""`make receiver`: shows each webhook that arrives, how late it is, and whether it is genuine."""

import asyncio
import contextlib
import errno
import signal
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

import uvicorn
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local_stack import signature, signing_secret
from local_stack.ports import choose
from local_stack.problems import TAKEN, PortTakenError
from local_stack.settings import ReceiverSettings, explain
from local_stack.signing_secret import Source
from local_stack.terminal import tolerate

BODY_BYTES_MAX = 16_777_216
SHOWN_BYTES_MAX = 200


class Receiver:
    """An ASGI application that accepts everything."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._secret: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 204, after printing what came."""
        arrived_at = datetime.now(UTC)
        request = Request(scope, receive)
        body = b""
        async for piece in request.stream():
            body += piece[: BODY_BYTES_MAX - len(body)]
        print(printable(await self._line(request, body, arrived_at)), flush=True)
        await Response(status_code=204)(scope, receive, send)

    async def _line(self, request: Request, body: bytes, arrived_at: datetime) -> str:
        headers = request.headers
        parts = (
            f"{arrived_at.astimezone():%H:%M:%S.%f}"[:-3],
            f"{request.method} {request.url.path}",
            f"webhook-id: {headers.get('webhook-id', 'none')}",
            lateness(headers.get("onthedot-scheduled-for", ""), arrived_at),
            f"attempt: {headers.get('onthedot-attempt', 'none')}",
            f"signature: {await self._verdict(headers, body)}",
            body[:SHOWN_BYTES_MAX].decode(errors="replace"),
        )
        return "  ".join(parts)

    async def _verdict(self, headers: Mapping[str, str], body: bytes) -> str:
        if self._secret is not None and signature.holds(self._secret, headers, body):
            return "holds"
        # None yet, or one that was rotated, or that of a database which `make up` has replaced.
        self._secret = await asyncio.to_thread(self._source.look_up)
        if self._secret is None:
            return f"not checked (no secret at {self._source.where})"
        return "holds" if signature.holds(self._secret, headers, body) else "DOES NOT HOLD"


def source_of(settings: ReceiverSettings) -> Source:
    """Choose where the secret is looked up: as given, else from a handler, else by the file."""
    if settings.signing_secret is not None:
        return Source("SIGNING_SECRET", settings.signing_secret.get_secret_value)
    if settings.handler_url is not None:
        return Source(settings.handler_url, partial(signing_secret.ask, settings.handler_url))
    directory = settings.data_dir.expanduser()
    path = signing_secret.path_in(directory)
    return Source(str(path), partial(signing_secret.read, directory))


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
    host, port = settings.receiver_host, settings.receiver_port
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        reason = TAKEN if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
        remedy = f"make receiver RECEIVER_PORT={choose()}"
        print(PortTakenError(port, remedy, reason), file=sys.stderr)
        return 1
    tolerate(sys.stdout)
    print(f"Receiving on http://{host}:{port}, any path. Ctrl-C ends it.", flush=True)
    # uvicorn stops in good order on either signal, and then raises it once more.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        config = uvicorn.Config(
            Receiver(source_of(settings)),
            access_log=False,
            log_level="warning",
            lifespan="off",
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
