"""Onthedot's client: have a URL called at the right moment, from Python."""

from onthedot.asynchronous.client import AsyncOnthedot
from onthedot.errors import (
    ChangedError,
    ConflictError,
    InvalidRequestError,
    NoAnswerError,
    NotAllowedError,
    NotFoundError,
    OnthedotError,
    ProblemError,
    TooManyRequestsError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
    Violation,
    WebhookError,
)
from onthedot.retries import Retries
from onthedot.synchronous.client import Onthedot
from onthedot.version import VERSION
from onthedot.webhooks import Verifier, Webhook

__version__ = VERSION

__all__ = [
    "AsyncOnthedot",
    "ChangedError",
    "ConflictError",
    "InvalidRequestError",
    "NoAnswerError",
    "NotAllowedError",
    "NotFoundError",
    "Onthedot",
    "OnthedotError",
    "ProblemError",
    "Retries",
    "TooManyRequestsError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "Verifier",
    "Violation",
    "Webhook",
    "WebhookError",
    "__version__",
]
