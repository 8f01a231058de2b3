"""A receiver that keeps every webhook it gets, and tells a GET what came since so many.

It runs inside a container of the services' own image, so it needs nothing but Python.
"""

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 9000

received: list[dict[str, object]] = []


class Receiver(BaseHTTPRequestHandler):
    """Accepts every POST with a 204; one to /slow/0.3/... after so many seconds."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        at = time.time()
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        received.append(
            {
                "at": at,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": body.decode(),
            }
        )
        match self.path.split("/"):
            case ["", "slow", seconds, *_]:
                time.sleep(float(seconds))
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        """Answer what came, but for as many as the path says: /0 asks for all."""
        body = json.dumps(received[int(self.path[1:]) :]).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet: what came is answered to a GET."""


class Server(ThreadingHTTPServer):
    """With room for a herd: who finds the queue full tries to connect again a second later."""

    request_queue_size = 1024


if __name__ == "__main__":
    Server(("0.0.0.0", PORT), Receiver).serve_forever()
