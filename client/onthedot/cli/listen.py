"""`onthedot listen`: receives webhooks on this machine, and says whether they are genuine."""

import json
import signal
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from onthedot.cli.command import command
from onthedot.cli.exits import ExitCode
from onthedot.cli.session import Session
from onthedot.errors import OnthedotError, WebhookError
from onthedot.models import write_instant
from onthedot.webhooks import Verifier

LOOPBACK = "127.0.0.1"
BODY_BYTES_MAX = 16_777_216
SHOWN_CHARACTERS_MAX = 200
SILENCE_SECONDS_MAX = 60.0


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    command(app, "listen")(listen)


def listen(
    session: Session,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Where to listen; 0: any.")
    ] = 9_000,
    status: Annotated[
        int, typer.Option("--status", min=200, max=599, help="What to answer.")
    ] = 204,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            "--secret-file",
            metavar="FILE",
            help="The signing secrets, a line each; else the server is asked for them.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="End after so many webhooks.")
    ] = None,
) -> None:
    """Receive webhooks on this machine, and print each: how late it was, whether it is genuine.

    Listens on loopback only, on any path, until Ctrl-C.
    """
    secrets = Secrets(session, secret_file)
    secrets.read()
    try:
        receiver = Receiver(session, port, status, secrets, count)
    except OSError as error:
        session.output.error(f"Cannot listen on port {port}: {error.strerror}.")
        session.output.detail("--port", "Name another one, or 0 for any.")
        raise typer.Exit(ExitCode.FAILED) from None
    with receiver:
        where = f"http://{LOOPBACK}:{receiver.server_port}"
        session.output.say(f"Listening on {where}, any path. Ctrl-C ends it.")
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            receiver.serve_forever(poll_interval=0.05)
        finally:
            signal.signal(signal.SIGTERM, before)


class Secrets:
    """The signing secrets: of a file, or of the server, asked again when one does not hold."""

    def __init__(self, session: Session, file: Path | None) -> None:
        self._session = session
        self._file = file
        self._verifier: Verifier | None = None

    def read(self) -> None:
        """Read the secrets, which is refused here and now if it cannot be done."""
        if self._file is None:
            self._verifier = Verifier(*self._session.client.signing_secret().all)
            return
        try:
            self._verifier = Verifier(*self._file.read_text(encoding="utf-8").split())
        except (OSError, ValueError) as error:
            raise typer.BadParameter(str(error), param_hint="--secret-file") from None

    def verdict(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Answer why a webhook is not genuine; None: it is."""
        first = self._fault(headers, body)
        if first is None or "webhook-signature" not in headers:
            return first
        try:
            self.read()  # it may have been rotated meanwhile
        except (OnthedotError, typer.BadParameter):
            return first
        return self._fault(headers, body)

    def _fault(self, headers: Mapping[str, str], body: bytes) -> str | None:
        if self._verifier is None:
            return "no secret is known"
        try:
            self._verifier.verify(headers, body)
        except WebhookError as error:
            return str(error)
        return None


class Receiver(ThreadingHTTPServer):
    """Accepts everything, one line printed at a time."""

    daemon_threads = True

    def __init__(
        self, session: Session, port: int, status: int, secrets: Secrets, count: int | None
    ) -> None:
        super().__init__((LOOPBACK, port), _Request)
        self.status = status
        self._session = session
        self._secrets = secrets
        self._left = count
        self._printing = threading.Lock()

    def tell(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Print a webhook; after the last that is wanted, stop."""
        arrived_at = datetime.now(UTC)
        with self._printing:
            if self._left == 0:
                return
            fault = self._secrets.verdict(headers, body)
            seen = _seen(method, path, headers, body, arrived_at, fault)
            if self._session.output.is_json:
                self._session.output.document(seen)
            else:
                self._session.output.line(_line(seen, arrived_at))
            self._session.output.flush()
            if self._left is not None:
                self._left -= 1
        if self._left == 0:
            threading.Thread(target=self.shutdown).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that break."""


class _Request(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"
    timeout = SILENCE_SECONDS_MAX

    def _accept(self) -> None:
        length = self.headers.get("content-length", "0")
        if "transfer-encoding" in self.headers:
            self.close_connection = True
            self.send_error(411)
            return
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            self.send_error(413)
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.tell(self.command, self.path, headers, body)
        self.send_response(self.server.status)
        if self.server.status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _accept  # noqa: N815

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing else."""


def _seen(
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    arrived_at: datetime,
    fault: str | None,
) -> dict[str, Any]:
    return {
        "arrived_at": write_instant(arrived_at),
        "method": method,
        "path": path,
        "webhook_id": headers.get("webhook-id"),
        "scheduled_for": headers.get("onthedot-scheduled-for"),
        "late_ms": _late_ms(headers.get("onthedot-scheduled-for", ""), arrived_at),
        "attempt": headers.get("onthedot-attempt"),
        "genuine": fault is None,
        "fault": fault,
        "body": _json_or_text(body),
    }


def _line(seen: Mapping[str, Any], arrived_at: datetime) -> str:
    late = seen["late_ms"]
    body = seen["body"]
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    parts = (
        f"{arrived_at.astimezone():%H:%M:%S.%f}"[:-3],
        f"{seen['method']} {seen['path']}",
        f"webhook-id {seen['webhook_id'] or 'none'}",
        "late: unknown" if late is None else f"late {late:.1f} ms",
        f"attempt {seen['attempt'] or 'none'}",
        "signature holds" if seen["genuine"] else f"NOT GENUINE: {seen['fault']}",
        text[:SHOWN_CHARACTERS_MAX],
    )
    return "  ".join(parts)


def _late_ms(scheduled_for: str, arrived_at: datetime) -> float | None:
    """Answer how long after its instant a webhook came, by the clock of this machine."""
    try:
        late = arrived_at - datetime.fromisoformat(scheduled_for)
    except (ValueError, TypeError):  # no instant, or one without a time zone
        return None
    return round(late / timedelta(milliseconds=1), 1)


def _json_or_text(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt
