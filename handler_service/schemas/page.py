"""Which part of a list to answer."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from handler_service.schemas.body import Body, MayBeLeftOut
from handler_service.schemas.request_parts import refuse

PAGE_ITEMS_MAX = 200


def read_digits(text: Any) -> Any:
    """Read a number as strictly as JSON is read: nothing but digits."""
    if isinstance(text, str):
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise refuse("digits", "Must be an integer, written in digits")
        return int(text)
    return text


Limit = Annotated[int, Field(ge=1, le=PAGE_ITEMS_MAX), BeforeValidator(read_digits)]
Cursor = Annotated[str, Field(max_length=128, examples=["MTc"])]


class Page(Body):
    """Where in a list to go on, and how far."""

    limit: Limit = Field(50, description="Items on a page.")
    cursor: MayBeLeftOut[Cursor] = Field(None, description="`next_cursor` of the page before.")
