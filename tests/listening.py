"""A client of /events, as an EventSource reads it (WHATWG HTML, 9.2.6)."""

import asyncio
import json
from typing import Any, NamedTuple, Self

import httpx

from tests.eventually import eventually


class Heard(NamedTuple):
    id: str
    kind: str
    data: dict[str, Any]

    @property
    def brief(self) -> tuple[str, Any]:
        return self.kind, self.data.get("job_id")


class Listening:
    """Listens until it is stopped, or the stream ends."""

    def __init__(self, url: str, *, last_event_id: str | None = None, query: str = "") -> None:
        self._url = f"{url}/events{query}"
        self._headers = {} if last_event_id is None else {"last-event-id": last_event_id}
        self._task: asyncio.Task[None] | None = None
        self.last_event_id = last_event_id
        self.heard: list[Heard] = []
        self.comments = 0
        self.has_ended = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def placed(self) -> None:
        """Wait until it is known from where on it listens."""

        def has_id() -> None:
            assert self.last_event_id is not None

        await eventually(has_id)

    async def hears(self, count: int, *, within: float = 10.0) -> list[Heard]:
        def enough() -> None:
            assert len(self.heard) >= count, self.heard

        await eventually(enough, within=within)
        return self.heard

    def of(self, job_id: int) -> list[str]:
        return [each.kind for each in self.heard if each.data.get("job_id") == job_id]

    async def _listen(self) -> None:
        async with (
            httpx.AsyncClient(timeout=30) as http,
            http.stream("GET", self._url, headers=self._headers) as response,
        ):
            assert response.status_code == 200, await response.aread()
            assert response.headers["content-type"].startswith("text/event-stream")
            kind, data = "", ""
            async for line in response.aiter_lines():
                name, _, value = line.partition(": ")
                if line.startswith(":"):
                    self.comments += 1
                elif name == "id":
                    self.last_event_id = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    data = value
                elif not line and data:
                    assert self.last_event_id is not None
                    self.heard.append(Heard(self.last_event_id, kind, json.loads(data)))
                    kind, data = "", ""
        self.has_ended = True
