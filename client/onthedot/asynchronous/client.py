"""The client: one server, one key, and everything that can be asked of it."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

import httpx

from onthedot import call, wire
from onthedot.address import address
from onthedot.asynchronous.history import AsyncDeadLetters, AsyncExecutions
from onthedot.asynchronous.jobs import AsyncJobs
from onthedot.asynchronous.lines import lines
from onthedot.asynchronous.schedules import AsyncSchedules
from onthedot.asynchronous.timers import AsyncTimers
from onthedot.asynchronous.transport import AsyncTransport
from onthedot.errors import NoAnswerError, UnavailableError, UnreachableError
from onthedot.event_stream import EventReader
from onthedot.models import (
    Event,
    Forecast,
    Ledger,
    Readiness,
    SigningSecret,
    Stats,
)
from onthedot.options import Duration, Group, Instant
from onthedot.retries import Retries

TIMEOUT_SECONDS = 30.0
# The server says something every 15 seconds.
SILENCE_SECONDS_MAX = 45.0
RECONNECT_SECONDS_MAX = 30.0


class AsyncOnthedot:
    """A client of one Onthedot server; close it, or use it as a context manager.

    `timeout` is in seconds, for connecting and for each wait for an answer. `retries` says how
    often a request is sent again, only where that is safe. `http` is a client of your own, for
    proxies or certificates: it stays as it is, is told the address, key and timeout with each
    request, and is yours to close.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        retries: int | Retries = 3,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        place = address(base_url, api_key, timeout)
        policy = retries if isinstance(retries, Retries) else Retries(most=retries)
        self._transport = AsyncTransport(http, place, policy)
        self.timers = AsyncTimers(self._transport)
        self.jobs = AsyncJobs(self._transport)
        self.executions = AsyncExecutions(self._transport)
        self.dead_letters = AsyncDeadLetters(self._transport)
        self.schedules = AsyncSchedules(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection, but for those of a client of your own."""
        await self._transport.close()

    async def stats(
        self,
        *,
        from_: Instant | None = None,
        to: Instant | None = None,
        group_by: Sequence[Group] = (),
    ) -> Stats:
        """Answer counts and lateness of what ended, of the last day unless you say otherwise."""
        query = wire.filters({"from_": from_, "to": to, "group_by": ",".join(group_by) or None})
        return await self._transport.fetch(call.read("/stats", query), Stats)

    async def forecast(
        self,
        *,
        bucket: timedelta | int = 60,
        horizon: timedelta | int = 86_400,
    ) -> Forecast:
        """Answer how many runs are due, in buckets of whole seconds."""
        query = wire.filters({"bucket": bucket, "horizon": horizon})
        return await self._transport.fetch(call.read("/forecast", query), Forecast)

    async def ledger(self) -> Ledger:
        """Answer where every run is that was accepted."""
        return await self._transport.fetch(call.read("/ledger"), Ledger)

    async def ready(self) -> Readiness:
        """Answer how the handler fares; raises UnavailableError while it is not ready."""
        return await self._transport.fetch(call.read("/readyz"), Readiness)

    async def signing_secret(self, *, application_id: int = 1) -> SigningSecret:
        """Answer what webhooks are signed with; its `all` is what a Verifier takes."""
        path = f"/applications/{application_id}/signing-secret"
        return await self._transport.fetch(call.read(path), SigningSecret)

    async def rotate_signing_secret(
        self,
        *,
        overlap: Duration = timedelta(days=1),
        secret: str | None = None,
        application_id: int = 1,
    ) -> SigningSecret:
        """Replace the signing secret; for the overlap both sign. Never retried once sent."""
        body = wire.filters({"overlap": overlap, "secret": secret})
        path = f"/applications/{application_id}/signing-secret/rotate"
        return await self._transport.fetch(call.change("POST", path, body=body), SigningSecret)

    async def events(
        self,
        *,
        types: Sequence[str] = (),
        job_id: int | None = None,
        last_event_id: str | None = None,
    ) -> AsyncIterator[Event]:
        """Hear of each change as it happens, for ever; goes on by itself after a break.

        Give the `id` of the last event that you heard to hear what came after it. An event of type
        `gap` says that some were missed. Raises OnthedotError where the first connection fails;
        later ones are tried for as long as it takes.
        """
        query = wire.filters({"job_id": job_id, "type": list(types) or None})
        reader = EventReader(last_event_id)
        has_listened = False
        failed = 0
        while True:
            place = {"last-event-id": reader.last_event_id} if reader.last_event_id else {}
            listening = call.Call(
                method="GET", path="/events", query=query, headers=place, is_repeatable=True
            )
            silence = httpx.Timeout(TIMEOUT_SECONDS, read=SILENCE_SECONDS_MAX)
            try:
                async with self._transport.stream(listening, timeout=silence) as response:
                    has_listened = True
                    async for line in lines(response, broken="The events broke off"):
                        failed = 0
                        event = reader.read(line)
                        if event is not None:
                            yield event
            except (UnreachableError, NoAnswerError, UnavailableError):
                if not has_listened:
                    raise
            reader.break_off()
            failed += 1
            wait = min(RECONNECT_SECONDS_MAX, reader.retry_seconds * 2 ** min(failed - 1, 10))
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311  # spreads clients
