"""Rescue: give the runs of executors that fell silent back to those that live."""

import structlog
from prometheus_client import Counter

from executor_service.lease import Lease
from shared import database, events
from shared.events import EventType, Teller
from shared.runs import moves

RESCUED = Counter("onthedot_runs_rescued", "Runs taken from lapsed executors, by move.", ["move"])

RESCUE_SECONDS_MAX = 10.0
# What each move is told as.
TOLD: dict[str, EventType] = {
    "rescue_unsent": "run.pending",
    "doubt_abandoned": "run.uncertain",
    "bury_abandoned": "run.failed",
    "rescue": "run.abandoned",
}

log = structlog.stdlib.get_logger(__name__)


async def rescue(pool: database.Pool, lease: Lease, teller: Teller) -> bool:
    """Take back the runs of lapsed executors; answer whether there were any to look for now."""
    if not lease.may_rescue():
        return False
    try:
        async with database.connection(pool, seconds=RESCUE_SECONDS_MAX) as connection:
            if not await lease.may_still_rescue(connection):
                return False
            moved = await moves.rescue(connection, executor_id=lease.executor_id)
    except database.Failure as error:
        log.warning("rescue.failed", error=type(error).__name__)
        return False
    for move, runs in moved.items():
        RESCUED.labels(move).inc(len(runs))
        teller.tell(events.of_runs(TOLD[move], runs))
    if any(moved.values()):
        log.warning("runs.rescued", **{move: len(runs) for move, runs in moved.items()})
    return any(moved.values())


async def list_orphans(pool: database.Pool) -> None:
    """Let the next rescue find what executes under nobody.

    No statement of ours leaves such a run behind; a clock that is set back under a dying executor
    can, and a hand in the database.
    """
    try:
        async with database.connection(pool, seconds=RESCUE_SECONDS_MAX) as connection:
            found = await moves.list_orphans(connection)
    except database.Failure as error:
        log.warning("orphans.not_listed", error=type(error).__name__)
        return
    if found:
        log.warning("orphans.listed", executors=found)
