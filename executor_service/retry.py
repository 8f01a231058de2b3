"""Retries: when the next attempt is, or that there is none. Pure arithmetic."""

import random
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import isfinite

RETRY_AFTER_SECONDS_MAX = 86_400.0
# Every other 4xx says that the same request will be refused again.
RETRIED_STATUSES = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff: `base`, `base × factor`, ... to `max_delay` seconds, with jitter."""

    max_attempts: int = 5
    base: float = 5.0
    factor: float = 3.0
    max_delay: float = 3_600.0
    jitter: float = 0.2

    def delay_after(self, attempt: int, *, spread: float | None = None) -> float | None:
        """Seconds to wait after a failed attempt (the first is 1); None when it was the last.

        `spread` in [-1, 1] places the delay within its jitter; random unless given.
        """
        if attempt >= self.max_attempts:
            return None
        delay = min(self.base * self.factor ** (attempt - 1), self.max_delay)
        place = random.uniform(-1, 1) if spread is None else spread  # noqa: S311  # not a secret
        return delay * (1 + self.jitter * place)


DEFAULT_POLICY = RetryPolicy()


def is_retried(status: int) -> bool:
    """Whether an answer with this status is worth another attempt; a redirect is."""
    return status in RETRIED_STATUSES or not 400 <= status < 500


def retry_after_seconds(value: str | None, *, now: float) -> float | None:
    """Read a Retry-After header (RFC 9110, 10.2.3), held to a day; None for none."""
    if not value:
        return None
    try:
        seconds = (
            float(value)
            if value.strip().isdigit()
            else parsedate_to_datetime(value).timestamp() - now
        )
    except (ValueError, TypeError, OverflowError):
        return None
    if not isfinite(seconds):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
