"""Every way we refuse a caller, and the one place that renders it as a problem (RFC 9457).

Problem
├── MalformedRequest 400   no HTTP
├── HeadersTooLarge 431    a header block that does not end
├── MalformedBody 400      no JSON
├── BodyTooLarge 413       longer than we take
├── WrongContentType 415   not announced as JSON
├── InvalidRequest 422     JSON, but not what the contract says; names each field
│   └── IdempotencyKeyReused   the key of another request
├── IdempotencyInProgress 409  the first request with this key is not done
├── TimerNotFound 404      unknown, or cancelled
├── TimerHasBegun 409      too late to change or cancel
├── JobNotFound 404        unknown
├── JobHasBegun 409        too late to change or cancel; nothing of it is pending
├── JobHasEnded 409        it was ended, or is over
├── JobHasNoDelay 409      asked to restart a delay that it never had
├── KeyTaken 409           another job has the key
├── JobHasChanged 412      If-Match names another version
├── DeadLetterNotFound 404 no run of that job and instant
├── NotReplayable 409      a run that is no dead letter, or not any more
├── ApplicationNotFound 404
├── Unavailable 503        Postgres is away: nothing was promised, try again
│   ├── TooMuchToCount 503 a figure that takes too long
│   └── TooManyListeners   of /events, in this handler
├── RedisAway 503          nor can executors be asked to try something
├── NoExecutor 503         none took what was to be tried
├── NoReply 503            one took it, and was not heard of again
└── TooManyTrials 503      this handler waits for as many as it may
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import psycopg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from psycopg.errors import UniqueViolation
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from handler_service import violations
from handler_service.violations import Violation
from shared import database

MEDIA_TYPE = "application/problem+json"

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

# Postgres is away, full, read-only, restarting, out of connections, or not migrated yet.
AWAY = (*database.Unavailable, database.NotMigrated)

log = structlog.stdlib.get_logger(__name__)


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


class MalformedRequest(Problem):
    """What came is no HTTP/1.1."""

    status, code, title = 400, "malformed_request", "The request is not valid HTTP"

    def __init__(self) -> None:
        super().__init__("The request cannot be read as HTTP/1.1.")


class HeadersTooLarge(Problem):
    """The request's own header block does not end."""

    status, code, title = 431, "headers_too_large", "The header block is too large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request's line and headers may have {limit:,} bytes at most.")


class MalformedBody(Problem):
    """The body is no JSON."""

    status, code, title = 400, "malformed_json", "The body is not valid JSON"


class BodyTooLarge(Problem):
    """The body, or the payload in it, is longer than we take."""

    status, code, title = 413, "too_large", "The request is too large"


class WrongContentType(Problem):
    """The body is not announced as JSON."""

    status, code, title = 415, "wrong_content_type", "The body must be JSON"

    def __init__(self, content_type: str, wanted: str = "application/json") -> None:
        given = f"not {content_type[:100]!r}" if content_type else "and none was sent"
        super().__init__(f"Send the header 'content-type: {wanted}', {given}.")


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
        return super().body() | {"errors": [violation._asdict() for violation in self.violations]}


class IdempotencyKeyReused(InvalidRequest):
    """The key came with another request before."""

    code, title = "idempotency_key_reused", "The key was used for another request"

    def __init__(self, header: str) -> None:
        super().__init__(
            [Violation(header, "Was sent with another request before; send a new key with this.")]
        )


class IdempotencyInProgress(Problem):
    """Another request with the same key is under way: its answer is not known yet."""

    status, code, title = 409, "idempotency_in_progress", "The first request is still in progress"

    def __init__(self) -> None:
        super().__init__(
            "A request with this Idempotency-Key is in progress; ask again for its answer.",
            headers={"retry-after": "1"},
        )


class TimerNotFound(Problem):
    """There is no such timer, or it was cancelled."""

    status, code, title = 404, "timer_not_found", "There is no such timer"

    def __init__(self, timer_id: int) -> None:
        super().__init__(f"There is no timer {timer_id}, or it was cancelled.")


class TimerHasBegun(Problem):
    """The timer was claimed (at most about a second before its instant), tried, or is over."""

    status, code, title = 409, "timer_has_begun", "It is too late to change this timer"

    def __init__(self, timer_id: int) -> None:
        super().__init__(
            f"Timer {timer_id} has begun or ended and cannot be changed or cancelled any more."
        )


class JobNotFound(Problem):
    """There is no such job."""

    status, code, title = 404, "job_not_found", "There is no such job"

    def __init__(self, name: int | str) -> None:
        which = f"job {name}" if isinstance(name, int) else f"job with the key {name!r}"
        super().__init__(f"There is no {which}.")


class JobHasBegun(Problem):
    """Nothing of the job is pending that has not begun: it is being called, or was tried."""

    status, code, title = 409, "job_has_begun", "It is too late to change this job"

    def __init__(self, job_id: int) -> None:
        super().__init__(
            f"Nothing of job {job_id} is pending that has not begun, so it cannot be changed or "
            "cancelled."
        )


class JobHasEnded(Problem):
    """The job was ended: nothing more comes of it."""

    status, code, title = 409, "job_has_ended", "This job has ended"

    def __init__(self, job_id: int) -> None:
        super().__init__(f"Job {job_id} was ended; create another one.")


class JobHasNoDelay(Problem):
    """The job was not made with a delay, so there is none to restart."""

    status, code, title = 409, "job_has_no_delay", "This job has no delay to restart"

    def __init__(self, key: str) -> None:
        super().__init__(f"The job with the key {key!r} was not made with a delay; replace it.")


class KeyTaken(Problem):
    """Another job that was not ended has the key."""

    status, code, title = 409, "key_taken", "Another job has this key"

    def __init__(self, key: str | None = None) -> None:
        which = "a key of these" if key is None else f"the key {key!r}"
        super().__init__(f"Another job has {which}; change that one by its key, or choose another.")


class JobHasChanged(Problem):
    """If-Match names a version that is not the job's any more; None: there is no such job."""

    status, code, title = 412, "job_has_changed", "The job was changed meanwhile"

    def __init__(self, version: int | None) -> None:
        where = "is gone" if version is None else f"is at version {version}"
        super().__init__(f"The job {where}; read it again before you change it.")


class DeadLetterNotFound(Problem):
    """There is no such run."""

    status, code, title = 404, "dead_letter_not_found", "There is no such dead letter"

    def __init__(self, job_id: int, scheduled_for: str) -> None:
        super().__init__(f"There is no run of job {job_id} at {scheduled_for[:40]!r}.")


class NotReplayable(Problem):
    """There is such a run, but it is no dead letter that may be given another life."""

    status, code, title = 409, "not_replayable", "This run cannot be replayed"


class ApplicationNotFound(Problem):
    """There is no such application, or it is not the caller's."""

    status, code, title = 404, "application_not_found", "There is no such application"

    def __init__(self, application_id: int) -> None:
        super().__init__(f"There is no application {application_id}.")


class Unavailable(Problem):
    """Postgres is away, full or too slow. What was asked may or may not have happened."""

    status, code, title = 503, "unavailable", "The service cannot answer right now"

    def __init__(self, detail: str = "The database cannot be reached; try again.") -> None:
        super().__init__(detail, headers={"retry-after": "1"})


class TooMuchToCount(Unavailable):
    """A figure would take longer than we let it."""

    code, title = "too_much_to_count", "This figure cannot be counted right now"

    def __init__(
        self, detail: str = "Counting took longer than 60 seconds and was given up."
    ) -> None:
        super().__init__(detail)


class TooManyListeners(Unavailable):
    """As many listen to events as one handler serves."""

    code, title = "too_many_listeners", "Too many listen already"

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} listeners are served at once; try again later.")
        self.headers["retry-after"] = "10"


class RedisAway(Problem):
    """Redis is away, by which executors are asked to try something for a caller."""

    status, code, title = 503, "redis_away", "Executors cannot be asked right now"

    def __init__(self) -> None:
        super().__init__(
            "Redis cannot be reached, by which executors are asked to try this; try again. If it "
            "broke only now, the call may have been made.",
            headers={"retry-after": "1"},
        )


class NoExecutor(Problem):
    """No executor took what was to be tried: none runs, none is well, or all are busy."""

    status, code, title = 503, "no_executor", "No executor took it"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"No executor took it within {seconds:g} seconds; nothing was called. See that one "
            "runs and reaches the same Postgres and Redis; if all are busy, try again.",
            headers={"retry-after": "5"},
        )


class NoReply(Problem):
    """An executor took it and was not heard of again; the call may have been made."""

    status, code, title = 503, "no_reply", "The executor did not reply"

    def __init__(self) -> None:
        super().__init__(
            "The executor that took it did not reply: it may have died. The call may have been "
            "made; try again.",
            headers={"retry-after": "1"},
        )


class TooManyTrials(Problem):
    """As many callers wait for executors as one handler lets."""

    status, code, title = 503, "too_many_trials", "Too many wait for an executor"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"This handler tries {limit} things at once; nothing was called. Try again.",
            headers={"retry-after": "5"},
        )


def install(app: FastAPI) -> None:
    """Make every error that leaves the application a problem, the frameworks' own too."""

    async def refuse(request: Request, refusal: Exception) -> Response:
        return _render(_as_problem(request, refusal))

    for kind in (Problem, HTTPException, RequestValidationError, ClientDisconnect):
        app.add_exception_handler(kind, refuse)
    app.add_middleware(NothingEscapes)


class NothingEscapes:
    """Turns what no handler took into a problem; so the client's connection lives on.

    Starlette's own last resort raises the error again, for the server to log it a second time with
    whatever its message quotes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; the only place that survives anything."""
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http":
                raise
            response = _render(_as_problem(Request(scope), error))
            await response(scope, receive, send)


def _as_problem(request: Request, refusal: Exception) -> Problem:
    problem = _known(request, refusal)
    if problem is not None:
        return problem
    if isinstance(refusal, AWAY):
        log.warning("database.unavailable", error=type(refusal).__name__)
        return Unavailable()
    _log(refusal)
    return Problem("This was not your fault. The failure is in our log.")


def _known(request: Request, refusal: Exception) -> Problem | None:
    match refusal:
        case Problem():
            return refusal
        case HTTPException():
            return _from_status(request, refusal)
        case RequestValidationError():
            return InvalidRequest(violations.in_query(refusal.errors()))
        case ClientDisconnect():
            return MalformedBody("The connection closed before the body was complete.")
        case UniqueViolation() if refusal.diag.constraint_name == "jobs_key":
            return KeyTaken()
    return None


def _log(refusal: Exception) -> None:
    if isinstance(refusal, psycopg.Error):
        # Its message may quote the row that Postgres refused, and with it a secret.
        log.error(
            "request.failed",
            error=type(refusal).__name__,
            sqlstate=refusal.sqlstate,
            constraint=refusal.diag.constraint_name,
        )
    else:
        log.error("request.failed", exc_info=refusal)


def _from_status(request: Request, refusal: HTTPException) -> Problem:
    """Dress what the router raises: no such path, method not allowed."""
    phrase = HTTPStatus(refusal.status_code).phrase
    problem = Problem(f"{phrase}: {refusal.detail}" if refusal.detail != phrase else f"{phrase}.")
    problem.headers = dict(refusal.headers or {})
    problem.status = refusal.status_code
    problem.code = phrase.lower().replace(" ", "_")
    problem.title = phrase
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        problem.headers["Allow"] = ", ".join(_allowed(request))
    return problem


def _allowed(request: Request) -> list[str]:
    """Every method of a path: the router names those of the first route that it met."""
    found = [
        method
        for method in METHODS
        for route in request.app.router.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    ]
    return [*found, "HEAD"] if "GET" in found else found


def _render(problem: Problem) -> Response:
    return Response(
        orjson.dumps(problem.body()),
        status_code=problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )
