"""A server on a real socket that answers each request as it was told to, or does not."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import NamedTuple

TIMER = b'{"id": 1, "time_left": 60}'


class Asked(NamedTuple):
    """One request, and when it came (seconds, monotonic)."""

    at: float
    line: str
    headers: dict[str, str]
    body: bytes


def answer(status: int, body: bytes = TIMER, **headers: str) -> bytes:
    kind = "application/json" if status < 400 else "application/problem+json"
    said = {"content-type": kind, "content-length": str(len(body)), **headers}
    lines = [f"HTTP/1.1 {status} Because", *(f"{name}: {said[name]}" for name in said)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def problem(status: int, code: str, **headers: str) -> bytes:
    body = f'{{"status": {status}, "code": "{code}", "detail": "Because.", "title": "No"}}'
    return answer(
        status, body.encode(), **{name.replace("_", "-"): headers[name] for name in headers}
    )


class Broken(bytes):
    """What a connection ends after."""


DROP = Broken(b"")
CUT = Broken(answer(200, TIMER)[:-5])


class Flaky(socketserver.ThreadingTCPServer):
    """Answers by a script, an item for each request; closes what is not a whole answer."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.script: list[bytes] = []
        self.asked: list[Asked] = []
        self.closes_after: int | None = None  # nobody can connect after so many requests

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def waits(self) -> list[float]:
        """Seconds between the requests."""
        return [
            later.at - earlier.at
            for earlier, later in zip(self.asked, self.asked[1:], strict=False)
        ]


class _Connection(socketserver.StreamRequestHandler):
    server: Flaky

    def handle(self) -> None:
        while line := self.rfile.readline().decode().strip():
            headers = {}
            while header := self.rfile.readline().decode().strip():
                name, _, value = header.partition(": ")
                headers[name.lower()] = value
            body = self.rfile.read(int(headers.get("content-length", 0)))
            self.server.asked.append(Asked(monotonic(), line, headers, body))
            said = self.server.script.pop(0) if self.server.script else DROP
            if len(self.server.asked) == self.server.closes_after:
                self.server.server_close()
                said = Broken(said)
            self.wfile.write(said)
            if isinstance(said, Broken):
                return


@contextmanager
def flaky() -> Iterator[Flaky]:
    with Flaky() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
