"""When the occurrences of a job are. Read rule, instants, wall_clock, cron, rrule, rrule_text."""

from shared.recurrence.check import check
from shared.recurrence.instants import (
    Previewed,
    last_within,
    next_after,
    occurrences,
    preview,
    without_count,
)
from shared.recurrence.local_time import instant_of
from shared.recurrence.rule import CatchUp, Fold, Gap, InvalidRule, Overlap, Recurrence

__all__ = [
    "CatchUp",
    "Fold",
    "Gap",
    "InvalidRule",
    "Overlap",
    "Previewed",
    "Recurrence",
    "check",
    "instant_of",
    "last_within",
    "next_after",
    "occurrences",
    "preview",
    "without_count",
]
