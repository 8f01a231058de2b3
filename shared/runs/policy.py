"""The retry policy of a job: what the handler writes into its row and the executors go by."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

ATTEMPTS_MAX = 100
FACTOR_MAX = 100
WAIT_SECONDS_MAX = 30 * 86_400
# Waits in seconds that Standard Webhooks 1.0.0 recommends: immediately, then these; three days in
# all.
STANDARD_DELAYS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is followed by another.

    After the n-th attempt, `delays[n - 1]` seconds; or, without a list, `base × factor^(n - 1)` up
    to `max_delay`. Each wait is up to `jitter` (a share of it) longer or shorter. There are at most
    `max_attempts`. None but the first begins later than `max_age` seconds after the run's instant,
    or its replay; and while its destination is known to be down, not even the first.
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
        """Read what `document` wrote, be it in a version that says more.

        Raises ValueError for what no version can have written.
        """
        if document is None:
            return DEFAULT_POLICY
        try:
            known = {name: document[name] for name in _NAMES & document.keys()}
            delays = known.pop("delays", None)
            policy = RetryPolicy(**known, delays=None if delays is None else tuple(delays))
            is_sound = policy._is_sound()
        except (TypeError, AttributeError) as error:
            raise ValueError("not a retry policy") from error
        if not is_sound:
            raise ValueError("not a sound retry policy")
        return policy

    def _is_sound(self) -> bool:
        waits = (self.base, self.max_delay, *(self.delays or ()))
        return (
            1 <= self.max_attempts <= ATTEMPTS_MAX
            and all(0 <= wait <= WAIT_SECONDS_MAX for wait in waits)
            and 1 <= self.factor <= FACTOR_MAX
            and 0 <= self.jitter <= 1
            and (self.max_age is None or self.max_age > 0)
            and (self.delays is None or len(self.delays) >= self.max_attempts - 1)
        )


_NAMES = {field.name for field in fields(RetryPolicy)}
DEFAULT_POLICY = RetryPolicy()
STANDARD_POLICY = RetryPolicy(max_attempts=len(STANDARD_DELAYS) + 1, delays=STANDARD_DELAYS)
NO_RETRY = RetryPolicy(max_attempts=1)
