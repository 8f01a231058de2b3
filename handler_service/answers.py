"""How an answer is written: JSON, and a page of a list with the way to the next one."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import orjson
from fastapi import Response

from handler_service.problems import InvalidRequest
from handler_service.violations import Violation


def json(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer a document."""
    return Response(
        orjson.dumps(body), status_code=status, headers=headers, media_type="application/json"
    )


def page(
    path: str, data: Sequence[object], *, next_cursor: str | None, query: Mapping[str, object]
) -> Response:
    """Answer a page of the list at `path`; `query` is what the next page is asked with again."""
    response = json({"data": data, "next_cursor": next_cursor})
    if next_cursor:
        following = f"{path}?{urlencode({**query, 'cursor': next_cursor}, doseq=True)}"
        response.headers["link"] = f'<{following}>; rel="next"'
    return response


def write_cursor(*place: int) -> str:
    """Write a place in a list, as numbers, so that nobody is tempted to make one up."""
    text = ".".join(map(str, place))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, *, maxima: Sequence[int]) -> list[int]:
    """Read a place of as many numbers, each from 1 to its maximum; refuse what is none."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        words = text.split(b".")
        place = [int(word) if word.isdigit() else 0 for word in words]
    except (binascii.Error, ValueError):
        place = []
    if len(place) != len(maxima) or not all(
        0 < number <= maximum for number, maximum in zip(place, maxima, strict=True)
    ):
        detail = "Is not a cursor of ours; take next_cursor of the page before."
        raise InvalidRequest([Violation("cursor", detail)])
    return place
