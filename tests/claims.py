"""Claims as an executor holds them, for tests that need no row behind them."""

from typing import Any

from shared.runs.moves import Claim


def a_claim(job_id: int = 1, **changes: Any) -> Claim:
    """An at-least-once claim on its first attempt, planned for the first microsecond of 1970."""
    plain = Claim(
        job_id=job_id,
        scheduled_for=1,
        due_at=1,
        fence=1,
        attempt=1,
        attempts_forgiven=0,
        instant=1,
        replayed_at=None,
        url="http://127.0.0.1:9/",
        method="POST",
        headers=None,
        payload=None,
        timeout_seconds=1.0,
        retry=None,
        is_at_most_once=False,
        max_lateness_seconds=None,
        recurs=False,
        traceparent=None,
        signing_secret=b"",
        previous_secret=None,
        application_id=1,
        executor_id="executor",
    )
    return plain._replace(**changes)
