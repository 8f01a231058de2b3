"""Lists that fetch their pages as they are read."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Generic, TypeVar

from pydantic import BaseModel

from onthedot.asynchronous.transport import AsyncTransport
from onthedot.call import Call
from onthedot.models import Page

Item = TypeVar("Item", bound=BaseModel)


class AsyncPages(Generic[Item]):
    """The items of a list, over as many pages as it takes; each use begins anew."""

    def __init__(self, transport: AsyncTransport, call: Call, item: type[Item]) -> None:
        self._transport = transport
        self._call = call
        self._page = Page[item]  # type: ignore[valid-type]  # made at run time

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for page in self.pages():
            for item in page.data:
                yield item

    async def pages(self) -> AsyncIterator[Page[Item]]:
        """Go through the pages, for those who keep a cursor."""
        call = self._call
        while True:
            page = await self._transport.fetch(call, self._page)
            yield page
            if page.next_cursor is None:
                return
            call = replace(call, query={**call.query, "cursor": page.next_cursor})

    async def first(self) -> Page[Item]:
        """Fetch the first page alone."""
        return await self._transport.fetch(self._call, self._page)
