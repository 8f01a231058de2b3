"""The retry policy of a job: what the handler writes into its row and the executors go by."""

import json
from dataclasses import asdict, dataclass
from typing import Any

# Waits in seconds that Standard Webhooks 1.0.0 recommends: immediately, then these; three days in
# all.
STANDARD_DELAYS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is followed by another.

    After the n-th attempt, `delays[n - 1]` seconds; or, without a list, `base × factor^(n - 1)` up
    to `max_delay`. Each wait is up to `jitter` (a share of it) longer or shorter. There are at most
    `max_attempts`, and none begins later than `max_age` seconds after the run's instant.
    """

    max_attempts: int = 5
    base: float = 5.0
    factor: float = 3.0
    max_delay: float = 3_600.0
    delays: tuple[float, ...] | None = None
    jitter: float = 0.2
    max_age: float | None = None

    def document(self) -> str | None:
        """Write it as `jobs.retry` keeps it, in JSON; None for the default.

        Rescues read `max_attempts` in SQL.
        """
        return None if self == DEFAULT_POLICY else json.dumps(asdict(self))

    @staticmethod
    def read(document: dict[str, Any] | None) -> "RetryPolicy":
        """Read what `document` wrote."""
        if document is None:
            return DEFAULT_POLICY
        delays = document.get("delays")
        return RetryPolicy(**{**document, "delays": None if delays is None else tuple(delays)})


DEFAULT_POLICY = RetryPolicy()
STANDARD_POLICY = RetryPolicy(max_attempts=len(STANDARD_DELAYS) + 1, delays=STANDARD_DELAYS)
NO_RETRY = RetryPolicy(max_attempts=1)
