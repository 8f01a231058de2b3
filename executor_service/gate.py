"""The gate: everything that must hold before a claim's request may leave.

In this order: it is not too late or too old, its destination is not known to be down, an
at-most-once run is marked. Last of all, after the name was looked up, the sender asks the lease.
"""

import asyncio
from dataclasses import dataclass

from executor_service.breaker import Breakers
from executor_service.clock import DatabaseClock
from executor_service.fire import PutOff, Refused, Skipped
from executor_service.mark import Marker
from executor_service.retry import is_too_late, is_too_old
from shared.runs.moves import Claim
from shared.runs.policy import RetryPolicy

TOO_OLD = Refused("max_age: the run grew older than its retry policy allows")
TOO_LATE = Skipped("max_lateness: the run would have begun later than its job allows")
UNREADABLE = Refused("invalid: the stored retry policy cannot be read")
NOT_OURS = PutOff(0.0)


@dataclass(frozen=True, slots=True)
class Gate:
    """What it takes to know whether a claim may be sent now."""

    clock: DatabaseClock
    breakers: Breakers
    marker: Marker
    put_off_seconds_max: float

    async def hindrance(self, claim: Claim, destination: str) -> PutOff | Refused | Skipped | None:
        """Say what keeps this claim from being sent; None: send it now.

        Whoever sends tells the breakers what came of it.
        """
        try:
            hindrance = await self._age_or_breaker(claim, destination)
            if hindrance is None and claim.is_at_most_once and not await self.marker.mark(claim):
                await self.breakers.learn(destination, answered=None)
                return NOT_OURS
        except asyncio.CancelledError:  # the executor stops, and nothing was sent
            await self.breakers.learn(destination, answered=None)
            return NOT_OURS
        return hindrance

    async def _age_or_breaker(
        self, claim: Claim, destination: str
    ) -> PutOff | Refused | Skipped | None:
        try:
            policy = RetryPolicy.read(claim.retry)
        except ValueError:
            return UNREADABLE
        now = self.clock.now()
        if is_too_late(claim, now):
            return TOO_LATE
        if claim.attempt - claim.attempts_forgiven > 1 and is_too_old(claim, policy, now):
            return TOO_OLD
        wait = await self.breakers.put_off_seconds(
            destination, timeout_seconds=claim.timeout_seconds
        )
        if wait is None:
            return None
        if policy.max_age is not None:
            return TOO_OLD if is_too_old(claim, policy, now) else PutOff(wait)
        # Without an age of its own a run must end too: in time it takes its attempts all the same.
        put_off_seconds = now - claim.age_from / 1e6
        return PutOff(wait) if put_off_seconds < self.put_off_seconds_max else None
