"""Schedules: a text sent at a minute, once, daily or weekly; an older contract."""

from collections.abc import AsyncIterator
from typing import Unpack

import httpx
from pydantic import RootModel

from onthedot import call, wire
from onthedot.asynchronous.transport import AsyncTransport, parse
from onthedot.models import Schedule
from onthedot.options import Recurring, ScheduleOptions


class AsyncSchedules:
    """`client.schedules`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        payload: str,
        minute: int,
        recurring: Recurring = "none",
        *,
        idempotency_key: str | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Schedule:
        """Have a text sent at a minute, counted from 1970-01-01T00:00Z."""
        body = {"payload": payload, "minute": minute, "recurring": recurring, **options}
        return await self._transport.fetch(
            call.create("/schedules", body=body, key=idempotency_key), Schedule
        )

    async def list(self) -> AsyncIterator[Schedule]:
        """Go through the schedules of which something is outstanding, newest last."""
        cursor: str | None = None
        while True:
            query = wire.filters({"cursor": cursor})
            response = await self._transport.send(call.read("/schedules", query))
            for schedule in parse(response, RootModel[list[Schedule]]).root:
                yield schedule
            following = response.links.get("next", {}).get("url")
            if following is None:
                return
            cursor = httpx.URL(following).params["cursor"]

    async def get(self, job_id: str) -> Schedule:
        """Read a schedule, as long as something of it is outstanding."""
        return await self._transport.fetch(call.read(f"/schedules/{job_id}"), Schedule)

    async def put(
        self,
        job_id: str,
        payload: str,
        minute: int,
        recurring: Recurring,
        **options: Unpack[ScheduleOptions],
    ) -> Schedule:
        """Change a schedule, all of it; raises NotFoundError if there is none."""
        body = {"payload": payload, "minute": minute, "recurring": recurring, **options}
        return await self._transport.fetch(
            call.change(
                "PUT",
                f"/schedules/{job_id}",
                body=body,
                is_repeatable=not options.get("immediate", False),
            ),
            Schedule,
        )

    async def delete(self, job_id: str) -> Schedule:
        """End a schedule; answer what it was.

        Never retried once it was sent: the second would be told that there is none.
        """
        path = f"/schedules/{job_id}"
        return await self._transport.fetch(
            call.change("DELETE", path, is_repeatable=False), Schedule
        )
