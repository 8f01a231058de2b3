"""The life of a run: its states, and the only ways from one to the next."""

from enum import StrEnum
from typing import NamedTuple


class RunState(StrEnum):
    """Where a run stands. The first two are rows of `schedules`; the others are how a run ends."""

    PENDING = "pending"
    EXECUTING = "executing"
    DONE = "done"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


OUTSTANDING = (RunState.PENDING, RunState.EXECUTING)


class ExecutionState(StrEnum):
    """What one attempt did to its run: it ended it, in a state of that name, or it did not."""

    DONE = "done"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    RETRYING = "retrying"  # failed, and another attempt was planned
    ABANDONED = "abandoned"  # its executor's lease lapsed; whether it was sent is unknown


class JobState(StrEnum):
    """What the owner of a job wants of it.

    A job that runs once and whose run is over has ended too. That is read from its run's absence in
    `schedules`, not written here: it would cost each timer one more update.
    """

    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"


class Move(NamedTuple):
    """One arrow: `sql/<name>.sql` makes it, called by `moves`; nothing else does."""

    name: str
    source: RunState | None
    target: RunState


LIFE = (
    Move("create", None, RunState.PENDING),
    Move("claim", RunState.PENDING, RunState.EXECUTING),
    Move("deliver", RunState.EXECUTING, RunState.DONE),
    Move("retry", RunState.EXECUTING, RunState.PENDING),
    Move("bury", RunState.EXECUTING, RunState.FAILED),
    Move("release", RunState.EXECUTING, RunState.PENDING),
    Move("rescue_unsent", RunState.EXECUTING, RunState.PENDING),
    Move("rescue", RunState.EXECUTING, RunState.PENDING),
    Move("bury_abandoned", RunState.EXECUTING, RunState.FAILED),
    Move("cancel", RunState.PENDING, RunState.CANCELLED),
)
