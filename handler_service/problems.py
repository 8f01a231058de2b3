"""Every way we refuse a caller, and the one place that renders it as a problem (RFC 9457).

Problem
├── MalformedBody 400      no JSON
├── BodyTooLarge 413       longer than we take
├── WrongContentType 415   not announced as JSON
├── InvalidRequest 422     JSON, but not what the contract says; names each field
├── TimerNotFound 404      unknown, or cancelled
├── TimerHasBegun 409      too late to cancel
└── Unavailable 503        Postgres is away: nothing was promised, try again
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from shared import database

MEDIA_TYPE = "application/problem+json"

log = structlog.stdlib.get_logger(__name__)


class Violation(NamedTuple):
    """One thing wrong with a request: where (JSON pointer, or parameter) and the remedy."""

    pointer: str
    detail: str


class Problem(Exception):  # noqa: N818  # the word of RFC 9457
    """A refusal. `code` is for programs and never changes; `detail` is for people."""

    status = 500
    code = "internal"
    title = "Something went wrong on our side"

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Answer the members of RFC 9457, and ours."""
        return {
            "type": f"urn:onthedot:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }


class MalformedBody(Problem):
    """The body is no JSON."""

    status, code, title = 400, "malformed_json", "The body is not valid JSON"


class BodyTooLarge(Problem):
    """The body, or the payload in it, is longer than we take."""

    status, code, title = 413, "too_large", "The request is too large"


class WrongContentType(Problem):
    """The body is not announced as JSON."""

    status, code, title = 415, "wrong_content_type", "The body must be JSON"

    def __init__(self, content_type: str) -> None:
        given = f"not {content_type[:100]!r}" if content_type else "and none was sent"
        super().__init__(f"Send the header 'content-type: application/json', {given}.")


class InvalidRequest(Problem):
    """JSON, but not what the contract says."""

    status, code, title = 422, "invalid_request", "The request does not follow the contract"

    def __init__(self, violations: Sequence[Violation]) -> None:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(f"{first.pointer}: {first.detail}{more}")
        self.violations = violations

    def body(self) -> dict[str, Any]:
        """Answer the problem with each violation."""
        return super().body() | {
            "errors": [violation._asdict() for violation in self.violations[:100]]
        }


class TimerNotFound(Problem):
    """There is no such timer, or it was cancelled."""

    status, code, title = 404, "timer_not_found", "There is no such timer"

    def __init__(self, timer_id: int) -> None:
        super().__init__(f"There is no timer {timer_id}, or it was cancelled.")


class TimerHasBegun(Problem):
    """The timer was claimed (at most about a second before its instant) or is over."""

    status, code, title = 409, "timer_has_begun", "It is too late to cancel this timer"

    def __init__(self, timer_id: int) -> None:
        super().__init__(f"Timer {timer_id} has begun or ended and cannot be cancelled any more.")


class Unavailable(Problem):
    """Postgres is away, full or too slow. What was asked may or may not have happened."""

    status, code, title = 503, "unavailable", "The service cannot answer right now"

    def __init__(self, detail: str = "The database cannot be reached; try again.") -> None:
        super().__init__(detail, headers={"retry-after": "1"})


def install(app: FastAPI) -> None:
    """Make every error that leaves the application a problem, the frameworks' own too."""

    async def refuse(_: Request, refusal: Exception) -> Response:
        return _render(_as_problem(refusal))

    for kind in (
        Problem,
        HTTPException,
        RequestValidationError,
        ClientDisconnect,
        *database.Unavailable,
        Exception,
    ):
        app.add_exception_handler(kind, refuse)


def _as_problem(refusal: Exception) -> Problem:
    match refusal:
        case Problem():
            return refusal
        case HTTPException():
            return _from_status(refusal)
        case RequestValidationError():
            violations = [
                Violation(str(error["loc"][-1]), str(error["msg"])) for error in refusal.errors()
            ]
            return InvalidRequest(violations)
        case ClientDisconnect():
            return MalformedBody("The connection closed before the body was complete.")
    if isinstance(refusal, database.Unavailable):
        log.warning("database.unavailable", error=type(refusal).__name__)
        return Unavailable()
    log.error("request.failed", exc_info=refusal)
    return Problem("This was not your fault. The failure is in our log.")


def _from_status(refusal: HTTPException) -> Problem:
    """Dress what the router raises: no such path, method not allowed."""
    phrase = HTTPStatus(refusal.status_code).phrase
    problem = Problem(f"{phrase}: {refusal.detail}" if refusal.detail != phrase else f"{phrase}.")
    problem.headers = dict(refusal.headers or {})
    problem.status = refusal.status_code
    problem.code = phrase.lower().replace(" ", "_")
    problem.title = phrase
    return problem


def _render(problem: Problem) -> Response:
    return Response(
        orjson.dumps(problem.body()),
        status_code=problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )
