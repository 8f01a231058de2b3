"""Every way a call ends that is no answer.

OnthedotError
├── UnreachableError           no connection: nothing was sent
├── NoAnswerError              the request was sent, and may have been processed
├── UnexpectedAnswerError      an answer that Onthedot does not give: a proxy's page, say
├── ProblemError               refused, and told why (RFC 9457)
│   ├── InvalidRequestError    400, 413, 415, 422: names each field
│   ├── NotAllowedError        401, 403
│   ├── NotFoundError          404
│   ├── ConflictError          409: begun, ended, or taken by another
│   ├── ChangedError           412: not the version that was named any more
│   ├── TooManyRequestsError   429
│   └── UnavailableError       5xx: try again; whether it was done is unknown
└── WebhookError               a webhook that does not verify
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx

REQUEST_ID = "x-request-id"


class OnthedotError(Exception):
    """What all errors of this package are."""


class UnreachableError(OnthedotError):
    """There is no connection, so nothing was sent and nothing was done."""


class NoAnswerError(OnthedotError):
    """The request was sent, and no answer came: it may have been processed."""


class UnexpectedAnswerError(OnthedotError):
    """The answer is not one that Onthedot gives: the address is wrong, or a proxy gave it."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class WebhookError(OnthedotError):
    """A webhook that was not signed with this secret, or not lately."""


class Violation(NamedTuple):
    """One thing wrong with a request: a JSON pointer or a parameter's name, and what to do."""

    pointer: str
    detail: str


class ProblemError(OnthedotError):
    """A refusal. `code` is for programs and never changes; `detail` is for people.

    `errors` says each violation of an invalid request; `request_id` is what to look for in logs,
    and `retry_after` how many seconds to wait, where the answer has them.
    """

    def __init__(
        self, problem: Mapping[str, Any], *, status: int, headers: Mapping[str, str]
    ) -> None:
        self.status = status
        self.code = _text(problem.get("code"))
        self.title = _text(problem.get("title"))
        self.detail = _text(problem.get("detail")) or self.title
        self.errors = _violations(problem.get("errors"))
        self.request_id = headers.get(REQUEST_ID)
        self.retry_after = retry_after_seconds(headers)
        super().__init__(f"{self.detail} ({status}, {self.code})")


class InvalidRequestError(ProblemError):
    """The request does not follow the contract."""


class NotAllowedError(ProblemError):
    """The key is missing, wrong, or not for this."""


class NotFoundError(ProblemError):
    """There is no such thing, or it belongs to somebody else."""


class ConflictError(ProblemError):
    """Not in the state that it stands in."""


class ChangedError(ProblemError):
    """It was changed since the version that was named."""


class TooManyRequestsError(ProblemError):
    """More than the limit allows; `retry_after` says when to go on."""


class UnavailableError(ProblemError):
    """The service cannot answer now; whether the request was processed is unknown."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    400: InvalidRequestError,
    401: NotAllowedError,
    403: NotAllowedError,
    404: NotFoundError,
    409: ConflictError,
    412: ChangedError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: TooManyRequestsError,
}


def refusal(response: httpx.Response) -> OnthedotError:
    """Answer the error that a read response of 3xx, 4xx or 5xx stands for."""
    status = response.status_code
    problem = problem_of(response)
    if problem is None:
        if status >= 500:
            problem = {"code": "unavailable", "title": f"The server answered {status}"}
        else:
            return UnexpectedAnswerError(
                f"The answer, {status}, is not one of Onthedot's. Check the address.",
                status=status,
            )
    kind = UnavailableError if status >= 500 else _BY_STATUS.get(status, ProblemError)
    return kind(problem, status=status, headers=response.headers)


def problem_of(response: httpx.Response) -> dict[str, Any] | None:
    """Answer the body of a problem; None if the response is none."""
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    try:
        problem = json.loads(response.content)
    except ValueError:
        return None
    return problem if isinstance(problem, dict) else None


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Answer how long `Retry-After` asks to wait; None where it is missing or makes no sense."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        instant = parsedate_to_datetime(text)
    except ValueError:
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return max(0.0, (instant - datetime.now(UTC)).total_seconds())


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _violations(value: object) -> tuple[Violation, ...]:
    if not isinstance(value, Sequence):
        return ()
    return tuple(
        Violation(_text(each.get("pointer")), _text(each.get("detail")))
        for each in value
        if isinstance(each, dict)
    )
