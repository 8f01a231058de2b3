# Made by `make docs` from asynchronous/pages.py: change that one.
"""Lists that fetch their pages as they are read."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Generic, TypeVar

from pydantic import BaseModel

from onthedot.call import Call
from onthedot.models import Page
from onthedot.synchronous.transport import Transport

Item = TypeVar("Item", bound=BaseModel)


class Pages(Generic[Item]):
    """The items of a list, over as many pages as it takes; each use begins anew."""

    def __init__(self, transport: Transport, call: Call, item: type[Item]) -> None:
        self._transport = transport
        self._call = call
        self._page = Page[item]  # type: ignore[valid-type]  # made at run time

    def __iter__(self) -> Iterator[Item]:
        for page in self.pages():
            yield from page.data

    def pages(self) -> Iterator[Page[Item]]:
        """Go through the pages, for those who keep a cursor."""
        call = self._call
        while True:
            page = self._transport.fetch(call, self._page)
            yield page
            if page.next_cursor is None:
                return
            call = replace(call, query={**call.query, "cursor": page.next_cursor})

    def first(self) -> Page[Item]:
        """Fetch the first page alone."""
        return self._transport.fetch(self._call, self._page)
