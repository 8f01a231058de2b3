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
# Ends that a person may undo, by a replay.
DEAD_LETTERS = (RunState.FAILED, RunState.UNCERTAIN)


class ExecutionState(StrEnum):
    """What one attempt did to its run: it ended it, in a state of that name, or it did not."""

    DONE = "done"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    RETRYING = "retrying"  # failed, and another attempt was planned
    ABANDONED = "abandoned"  # its executor's lease lapsed; whether it was sent is unknown


class Delivery(StrEnum):
    """What to do when it is unknown whether a request was processed: send it again, or not."""

    AT_LEAST_ONCE = "at_least_once"
    AT_MOST_ONCE = "at_most_once"


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
    sources: tuple[RunState, ...]
    target: RunState

    def __str__(self) -> str:
        """Write the arrow as the statement's first line does."""
        origin = " | ".join(self.sources)
        return (
            f"{self.name}: {origin} → {self.target}" if origin else f"{self.name}: → {self.target}"
        )


_PENDING, _EXECUTING = (RunState.PENDING,), (RunState.EXECUTING,)

LIFE = (
    Move("create", (), RunState.PENDING),
    Move("trigger", (), RunState.PENDING),
    Move("rearm", (), RunState.PENDING),
    Move("edit", _PENDING, RunState.PENDING),
    Move("hold", _PENDING, RunState.PENDING),
    Move("resume", _PENDING, RunState.PENDING),
    Move("occur", _PENDING, RunState.PENDING),
    Move("wait", _PENDING, RunState.PENDING),
    Move("pass_over", _PENDING, RunState.SKIPPED),
    Move("claim", _PENDING, RunState.EXECUTING),
    Move("mark", _EXECUTING, RunState.EXECUTING),
    Move("deliver", _EXECUTING, RunState.DONE),
    Move("retry", _EXECUTING, RunState.PENDING),
    Move("bury", _EXECUTING, RunState.FAILED),
    Move("doubt", _EXECUTING, RunState.UNCERTAIN),
    Move("skip", _EXECUTING, RunState.SKIPPED),
    Move("release", _EXECUTING, RunState.PENDING),
    Move("rescue_unsent", _EXECUTING, RunState.PENDING),
    Move("doubt_abandoned", _EXECUTING, RunState.UNCERTAIN),
    Move("bury_abandoned", _EXECUTING, RunState.FAILED),
    Move("rescue", _EXECUTING, RunState.PENDING),
    Move("cancel", _PENDING, RunState.CANCELLED),
    Move("replay", DEAD_LETTERS, RunState.PENDING),
)
