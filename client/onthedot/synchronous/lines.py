# Made by `make docs` from asynchronous/lines.py: change that one.
"""Answers that come line by line, for as long as they take."""

from collections.abc import Iterator

import httpx

from onthedot.errors import NoAnswerError


def lines(response: httpx.Response, *, broken: str) -> Iterator[str]:
    """Go through the lines of an answer; raises NoAnswerError, as `broken` says, if it breaks off.

    Only a line feed ends one: JSON may hold the other characters that Unicode breaks lines at.
    """
    rest = b""
    try:
        for chunk in response.iter_bytes():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield _text(line)
    except httpx.RequestError as error:
        raise NoAnswerError(f"{broken}: {error}") from error
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode(errors="replace")
