"""The database's clock, as seen from here: the only clock that decides whether an instant has come.

Each heartbeat brings a reading. It was taken at some moment between asking and hearing, so it
bounds the offset between the database's clock and our monotonic one from both sides. We keep the
narrowest bounds and answer by the lower one: `now()` is never ahead of the database, so nothing is
sent before its instant. It is behind by less than the fastest round trip lately seen.
"""

from datetime import datetime
from time import monotonic

# How fast two clocks may drift apart. Quartz is good to 100 ppm, NTP slews by 500 ppm at most.
DRIFT = 600e-6


class DatabaseClock:
    """An estimate of `clock_timestamp()` that never runs ahead of it."""

    def __init__(self) -> None:
        self._lowest = float("-inf")  # bounds of: database's epoch seconds minus our monotonic ones
        self._highest = float("inf")
        self._observed_at = monotonic()

    def observe(self, reading: datetime, *, asked_at: float, heard_at: float) -> bool:
        """Learn from one reading, asked for and heard at these moments of `time.monotonic()`.

        Answers whether it agrees with those before. One that contradicts the bounds means that the
        database's clock was set: it alone counts.
        """
        slack = (heard_at - self._observed_at) * DRIFT
        lowest, highest = reading.timestamp() - heard_at, reading.timestamp() - asked_at
        narrow_lowest = max(self._lowest - slack, lowest)
        narrow_highest = min(self._highest + slack, highest)
        agrees = narrow_lowest <= narrow_highest
        if agrees:
            self._lowest, self._highest = narrow_lowest, narrow_highest
        else:
            self._lowest, self._highest = lowest, highest
        self._observed_at = heard_at
        return agrees

    @property
    def uncertainty_seconds(self) -> float:
        """How far `now()` may lie behind the database's clock."""
        return self._highest - self._lowest

    def now(self) -> float:
        """The database's time in epoch seconds, or a little less; never more."""
        moment = monotonic()
        return moment + self._lowest - (moment - self._observed_at) * DRIFT
