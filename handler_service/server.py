"""uvicorn waits for every answer before it stops: so those without end are ended first."""

import socket

import uvicorn
from fastapi import FastAPI

from handler_service.context import Context


class Server(uvicorn.Server):
    """Serves the application until a signal comes, and then without its listeners."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of events, then finish what is under way."""
        context: Context = self._app.state.context
        context.listeners.end()
        await super().shutdown(sockets)
