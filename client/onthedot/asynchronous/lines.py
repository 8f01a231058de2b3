"""Answers that come line by line, for as long as they take."""

from collections.abc import AsyncIterator

import httpx

from onthedot.errors import NoAnswerError


async def lines(response: httpx.Response, *, broken: str) -> AsyncIterator[str]:
    """Go through the lines of an answer; raises NoAnswerError, as `broken` says, if it breaks off.

    Only a line feed ends one: JSON may hold the other characters that Unicode breaks lines at.
    """
    rest = b""
    try:
        async for chunk in response.aiter_bytes():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield _text(line)
    except httpx.RequestError as error:
        raise NoAnswerError(f"{broken}: {error}") from error
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(errors="replace")
