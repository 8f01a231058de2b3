"""Whether a request is sent again, and after how long; pure decisions."""

import random
from dataclasses import dataclass

import httpx

from onthedot.call import Call
from onthedot.errors import problem_of, retry_after_seconds

# No request left: a connection could not be had.
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_AMBIGUOUS = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a request is sent again at most, and the waits in between.

    The n-th wait is between half and all of `wait_seconds × 2^(n-1)`, up to `wait_seconds_max`; or
    what `Retry-After` asks for, unless that is more than `retry_after_seconds_max`: then the
    refusal is raised at once, and says it.
    """

    most: int = 3
    wait_seconds: float = 0.25
    wait_seconds_max: float = 8.0
    retry_after_seconds_max: float = 60.0

    def after_error(self, call: Call, error: httpx.RequestError, sent: int) -> float | None:
        """Answer how long to wait after a try that got no answer; None: that was the last."""
        if sent > self.most or not (call.is_repeatable or isinstance(error, NEVER_SENT)):
            return None
        return self._wait(sent)

    def after_answer(self, call: Call, response: httpx.Response, sent: int) -> float | None:
        """Answer how long to wait after a refusal; None: it stands, or that was the last."""
        if response.is_success or sent > self.most or not self._may_help(call, response):
            return None
        asked = retry_after_seconds(response.headers)
        if asked is None:
            return self._wait(sent)
        return None if asked > self.retry_after_seconds_max else max(asked, self._wait(sent))

    def _may_help(self, call: Call, response: httpx.Response) -> bool:
        match response.status_code:
            case 429:
                return True  # nothing was done yet
            case 409:
                # The first try is still at it, and its answer will be ours.
                problem = problem_of(response) or {}
                return call.is_repeatable and problem.get("code") == "idempotency_in_progress"
            case status:
                return call.is_repeatable and status in _AMBIGUOUS

    def _wait(self, sent: int) -> float:
        longest = min(self.wait_seconds_max, self.wait_seconds * 2.0 ** (sent - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  # spreads clients; no secret
