"""A timer from end to end: ask for a webhook in two seconds, receive it, show how late it was.

Needs `make up` in another terminal, and nothing but Python: `python examples/first_timer.py`.
"""

import json
import sys
import time
import urllib.request
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

HANDLER = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"


class Receiver(BaseHTTPRequestHandler):
    """Accepts one webhook and says when it came."""

    def do_POST(self) -> None:
        """Any 2xx accepts a webhook; anything else is tried again or is final."""
        arrived = time.time()
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(204)
        self.end_headers()
        planned = datetime.fromisoformat(self.headers["onthedot-scheduled-for"])
        late = (arrived - planned.timestamp()) * 1000
        print(f"timer {event['data']['id']} fired, {late:.1f} ms after its instant")

    def log_message(self, *_: object) -> None:
        """Say nothing else."""


with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
    timer = {"seconds": 2, "url": f"http://127.0.0.1:{receiver.server_port}/hook"}
    request = urllib.request.Request(  # noqa: S310  # our own address
        f"{HANDLER}/timers",
        data=json.dumps(timer).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        print("created", answer.read().decode())
    receiver.handle_request()
