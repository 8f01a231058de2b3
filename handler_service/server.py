"""How a handler leaves: it is taken out of rotation before it ceases to listen.

A balancer learns late that a handler stops: from its own probe, or, in Kubernetes, from a list of
endpoints that reaches each node after SIGTERM was sent. And connections that clients keep alive
stay with the handler that they have. So after SIGTERM it serves on for `DRAIN_SECONDS`, while
`/readyz` answers 503 and each answer says `connection: close`; whoever asks again comes by a new
connection, and that goes to another handler. A `preStop` hook that sleeps is the usual other way.
It is not needed here, and would not do: a handler that does not know that it is about to leave
keeps its clients' connections until it closes them under requests that are on their way.
"""

import signal
import socket
from time import monotonic
from types import FrameType

import uvicorn
from fastapi import FastAPI

from handler_service.context import Context

CLOSE = (b"connection", b"close")


class Server(uvicorn.Server):
    """Serves the application until a signal comes, and then without its listeners.

    SIGTERM lets it drain first. SIGINT, a person's Ctrl-C, does not, and ends a drain that goes on.
    """

    def __init__(self, app: FastAPI, config: uvicorn.Config, *, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds
        self._serves_until: float | None = None  # by the monotonic clock; None: no end in sight

    @property
    def _context(self) -> Context:
        context: Context = self._app.state.context
        return context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to leave, or leave now."""
        is_draining = self.should_exit and self._drain_seconds > 0
        if sig != signal.SIGTERM:
            self._drain_seconds = 0.0
        if not is_draining:  # else uvicorn would take the second signal for an order to drop all
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: answer whether to cease to listen."""
        if not await super().on_tick(counter):
            return False
        if self._serves_until is None:
            self._serves_until = monotonic()
            self._context.leaving.set()
        # Renewed with the date, each second, for all answers alike: this costs a request nothing.
        if CLOSE not in self.server_state.default_headers:
            self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        return monotonic() >= self._serves_until + self._drain_seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of events, which have no end, then finish what is under way."""
        self._context.listeners.end()
        await super().shutdown(sockets)
