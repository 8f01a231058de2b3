"""Rescue: give the runs of executors that fell silent back to those that live."""

import structlog
from prometheus_client import Counter

from executor_service.lease import Lease
from shared import database
from shared.runs import moves

RESCUED = Counter("onthedot_runs_rescued", "Runs taken from lapsed executors, by move.", ["move"])

RESCUE_SECONDS_MAX = 10.0

log = structlog.stdlib.get_logger(__name__)


async def rescue(pool: database.Pool, lease: Lease) -> bool:
    """Take back the runs of lapsed executors; answer whether there were any to look for now."""
    if not lease.may_rescue():
        return False
    try:
        async with database.connection(pool, seconds=RESCUE_SECONDS_MAX) as connection:
            # Asked again: waiting for a connection may have taken as long as an outage does.
            if not lease.may_rescue():
                return False
            moved = await moves.rescue(connection, executor_id=lease.executor_id)
    except database.Failure as error:
        log.warning("rescue.failed", error=type(error).__name__)
        return False
    for move, runs in moved.items():
        RESCUED.labels(move).inc(runs)
    if any(moved.values()):
        log.warning("runs.rescued", **moved)
    return any(moved.values())
