"""Rescue: give the runs of executors that fell silent back to those that live."""

import structlog
from prometheus_client import Counter

from executor_service.lease import Lease
from executor_service.retry import DEFAULT_POLICY
from shared import database
from shared.runs import moves
from shared.settings import ExecutorSettings

RESCUED = Counter("onthedot_runs_rescued", "Runs taken from lapsed executors, by move.", ["move"])

log = structlog.stdlib.get_logger(__name__)


async def rescue(settings: ExecutorSettings, pool: database.Pool, lease: Lease) -> bool:
    """Take back the runs of lapsed executors; answer whether there were any to look for now."""
    if not (lease.is_held and lease.may_rescue):
        return False
    try:
        async with pool.connection() as connection:
            moved = await moves.rescue(
                connection,
                lease_seconds=settings.lease_seconds,
                ahead_seconds=settings.claim_ahead_seconds,
                attempts_max=DEFAULT_POLICY.max_attempts,
            )
    except database.Unavailable as error:
        log.warning("rescue.failed", error=type(error).__name__)
        return False
    for move, runs in moved.items():
        RESCUED.labels(move).inc(runs)
    if any(moved.values()):
        log.warning("runs.rescued", **moved)
    return any(moved.values())
