"""Retries: when the next attempt is, or that there is none. Pure arithmetic."""

import random
from datetime import UTC
from email.utils import parsedate_to_datetime

from shared.runs.moves import Claim
from shared.runs.policy import RetryPolicy

RETRY_AFTER_SECONDS_MAX = 86_400.0
# Every other 4xx says that the same request will be refused again.
RETRIED_STATUSES = frozenset({408, 425, 429})


def is_retried(status: int) -> bool:
    """Whether an answer with this status is worth another attempt; a redirect is."""
    return status in RETRIED_STATUSES or not 400 <= status < 500


def next_delay(claim: Claim, *, retry_after: float | None, now: float) -> float | None:
    """Seconds from now (database's epoch seconds) to the next attempt; None when this was the last.

    What the receiver asks for (`Retry-After`) counts instead of the policy's own delay.
    """
    policy = RetryPolicy.read(claim.retry)
    delay = delay_after(policy, claim.attempt - claim.attempts_forgiven)
    if delay is None:
        return None
    wait = delay if retry_after is None else retry_after
    return None if is_too_old(claim, policy, now + wait) else wait


def is_too_old(claim: Claim, policy: RetryPolicy, moment: float) -> bool:
    """Whether no attempt may begin at this moment (epoch seconds) any more; the first one may."""
    return policy.max_age is not None and moment > claim.age_from / 1e6 + policy.max_age


def is_too_late(claim: Claim, moment: float) -> bool:
    """Whether a run may not begin at this moment (epoch seconds) any more; a retry may."""
    return (
        claim.max_lateness_seconds is not None
        and claim.attempt == 1
        and moment > claim.instant / 1e6 + claim.max_lateness_seconds
    )


def delay_after(policy: RetryPolicy, attempt: int, *, spread: float | None = None) -> float | None:
    """Seconds to wait after a failed attempt (the first is 1); None when it was the last.

    `spread` in [-1, 1] places the delay within its jitter; random unless given.
    """
    if attempt >= policy.max_attempts:
        return None
    if policy.delays is not None:
        delay = policy.delays[attempt - 1]
    else:
        delay = min(policy.base * policy.factor ** (attempt - 1), policy.max_delay)
    place = random.uniform(-1, 1) if spread is None else spread  # noqa: S311  # not a secret
    return delay * (1 + policy.jitter * place)


def retry_after_seconds(value: str | None, *, now: float) -> float | None:
    """Read a Retry-After header (RFC 9110, 10.2.3), held to a day; None for none."""
    if not value:
        return None
    try:
        if value.strip().isdigit():
            seconds = float(value)
        else:
            date = parsedate_to_datetime(value)
            # Its old form names no zone: it is in UTC all the same (RFC 9110, 5.6.7).
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
