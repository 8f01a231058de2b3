"""What a recurrence says, and how `jobs.recurrence` keeps it."""

import json
import math
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

MICROSECONDS = 1_000_000
EVERY_SECONDS_MIN = 1.0
EVERY_SECONDS_MAX = 100 * 366 * 86_400.0
JITTER_SECONDS_MAX = 86_400.0


class CatchUp(StrEnum):
    """What becomes of occurrences that were missed: the latest one runs, all do, or none does."""

    ONE = "one"
    ALL = "all"
    NONE = "none"


class Overlap(StrEnum):
    """What a new occurrence does while the last one still goes on."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"


class Gap(StrEnum):
    """What becomes of a local time that is skipped: it moves to the gap's end, or is dropped."""

    AFTER = "after"
    SKIP = "skip"


class Fold(StrEnum):
    """Which of the two instants counts when a local time comes twice."""

    FIRST = "first"
    SECOND = "second"
    BOTH = "both"


class InvalidRule(ValueError):  # noqa: N818  # an answer to a caller
    """A rule that nobody can follow; says which field to change, and how, to a person."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Recurrence:
    """When a job occurs, by exactly one of `cron`, `every_seconds` and `rrule`.

    `every_seconds`: at `anchor + n × every_seconds` for every whole n, in real time. `rrule`: one
    RRULE of RFC 5545, whose DTSTART is `anchor`. Both take `starts_at` for a missing anchor. Cron
    and RRULE are read on the wall clock of `timezone`. Nothing occurs before `starts_at` or after
    `ends_at`. `max_runs`, `catch_up`, `overlap` and jitter are kept here and obeyed by the callers,
    who know the runs: the instants of this package are nominal.
    """

    cron: str | None = None
    every_seconds: float | None = None
    rrule: str | None = None
    timezone: str = "UTC"
    anchor: datetime | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    max_runs: int | None = None
    jitter_seconds: float = 0.0
    gap: Gap = Gap.AFTER
    fold: Fold = Fold.FIRST
    catch_up: CatchUp = CatchUp.ONE
    overlap: Overlap = Overlap.ALLOW

    def document(self) -> str:
        """Write it as `jobs.recurrence` keeps it, in JSON, without what is left at its default."""
        said = {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }
        return json.dumps(said, default=_instant_out)

    @staticmethod
    def read(document: dict[str, Any]) -> "Recurrence":
        """Read what `document` wrote, be it in a version that says more.

        Raises ValueError for what no version can have written. Equal documents share one value.
        """
        try:
            known = {name: document[name] for name in _NAMES & document.keys()}
            rule = _read(frozenset((name, type(value), value) for name, value in known.items()))
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError("not a recurrence") from error
        if not rule.is_sound():
            raise ValueError("not a sound recurrence")
        return rule

    def spread_seconds(self, job_id: int) -> float:
        """How much later than its nominal instant each run of this job is due.

        At least 0 and less than `jitter_seconds`; the same for a job on every machine and in every
        version, so that a job keeps its distance from run to run. Knuth's multiplicative hash of
        the id (The Art of Computer Programming, 6.4), for neighbours must lie apart; `create.sql`,
        which alone knows the id of a new job, reckons the same.
        """
        return self.jitter_seconds * (job_id % 2**31 * 2_654_435_761 % 2**32) / 2**32

    @property
    def origin(self) -> datetime:
        """The instant that an interval or an RRULE counts from; raises InvalidRule for none."""
        origin = self.anchor or self.starts_at
        if origin is None:
            raise InvalidRule("anchor", "Say from when to count: give `anchor` or `starts_at`.")
        return origin

    def is_sound(self) -> bool:
        """Whether its numbers and instants are such as can be reckoned with."""
        ways = (self.cron, self.every_seconds, self.rrule)
        instants = (self.anchor, self.starts_at, self.ends_at)
        return (
            sum(way is not None for way in ways) == 1
            and (self.every_seconds is None or is_every(self.every_seconds))
            and (self.max_runs is None or (type(self.max_runs) is int and self.max_runs >= 1))
            and 0 <= self.jitter_seconds <= JITTER_SECONDS_MAX
            and all(instant is None or instant.tzinfo is not None for instant in instants)
        )


def is_every(seconds: float) -> bool:
    """Whether this is an interval that is kept: a second at least, a century at most."""
    return math.isfinite(seconds) and EVERY_SECONDS_MIN <= seconds <= EVERY_SECONDS_MAX


@lru_cache(maxsize=4_096)
def _read(known: frozenset[tuple[str, type, Any]]) -> Recurrence:
    """Types are part of what is looked up: 1 and True are equal."""
    return Recurrence(**{name: _READERS[name](value) for name, _, value in known})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    return float(value)


def _whole_number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value


def _instant(value: Any) -> datetime:
    instant = datetime.fromisoformat(_text(value))
    if instant.tzinfo is None:
        raise ValueError("not an instant")
    return instant.astimezone(UTC)


def _instant_out(value: Any) -> str:
    if not isinstance(value, datetime):
        raise TypeError("not an instant")
    return value.astimezone(UTC).isoformat()


_READERS: dict[str, Any] = {
    "cron": _text,
    "every_seconds": _number,
    "rrule": _text,
    "timezone": _text,
    "anchor": _instant,
    "starts_at": _instant,
    "ends_at": _instant,
    "max_runs": _whole_number,
    "jitter_seconds": _number,
    "gap": Gap,
    "fold": Fold,
    "catch_up": CatchUp,
    "overlap": Overlap,
}
_NAMES = frozenset(_READERS)
