"""What an endpoint needs and a request does not carry; made once, when the application starts."""

import asyncio
from dataclasses import dataclass, field
from typing import Self, cast

from fastapi import FastAPI, Request
from redis.asyncio import Redis

from handler_service.announce import Announcer
from handler_service.create import GroupCommit
from handler_service.listeners import Listeners
from handler_service.trials import Trials
from shared.database import Pool
from shared.events import Teller
from shared.settings import HandlerSettings

DEFAULT_APPLICATION_ID = 1  # made by the first migration


@dataclass(frozen=True, slots=True)
class Context:
    """The handler's connections and settings."""

    settings: HandlerSettings
    pool: Pool
    redis: Redis
    announcer: Announcer
    group_commit: GroupCommit
    events: Teller
    listeners: Listeners
    trials: Trials
    application_id: int = DEFAULT_APPLICATION_ID
    # One figure at a time: each may keep a connection for a minute.
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Set once the handler was told to stop: it serves on, and wants no new connections.
    leaving: asyncio.Event = field(default_factory=asyncio.Event)

    def install(self, app: FastAPI) -> None:
        """Let endpoints find this context by `Context.of(request)`."""
        app.state.context = self

    @classmethod
    def of(cls, request: Request) -> Self:
        """Answer the context of the application that serves this request."""
        return cast("Self", request.app.state.context)
