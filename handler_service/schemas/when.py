"""When a job runs, on the wire: once, or again and again."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from handler_service.schemas.body import Body
from handler_service.schemas.instants import Instant, read_instant
from handler_service.schemas.request_parts import IsoDuration, read_seconds, refuse
from shared.recurrence import CatchUp, Fold, Gap, Overlap

DELAY_SECONDS_MAX = 8_000 * 366 * 86_400
EVERY_SECONDS_MAX = 100 * 366 * 86_400
JITTER_SECONDS_MAX = 86_400
RUNS_MAX = 1_000_000_000
# A date and a time of day as clocks show them, without an offset.
LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?", re.ASCII)

KINDS = ("delay", "run_at", "cron", "every", "rrule")
RECURRING = ("cron", "every", "rrule")
# What says more of a recurrence, and means nothing to a job that runs once.
OPTIONS = (
    "anchor", "starts_at", "ends_at", "max_runs", "jitter", "catch_up", "overlap",
)  # fmt: skip
FIELDS = (*KINDS, "timezone", "dst", *OPTIONS)

_Delay = Annotated[float, Field(ge=0, le=DELAY_SECONDS_MAX)]
Delay = Annotated[_Delay, BeforeValidator(read_seconds, _Delay | IsoDuration)]
_Every = Annotated[float, Field(ge=1, le=EVERY_SECONDS_MAX)]
Every = Annotated[_Every, BeforeValidator(read_seconds, _Every | IsoDuration)]
_Jitter = Annotated[float, Field(ge=0, le=JITTER_SECONDS_MAX)]
Jitter = Annotated[_Jitter, BeforeValidator(read_seconds, _Jitter | IsoDuration)]
Rule = Annotated[str, Field(min_length=1, max_length=1_000)]
Zone = Annotated[str, Field(min_length=1, max_length=64)]


def read_moment(text: Any) -> datetime:
    """Read an instant, or a local time, which is naive."""
    if isinstance(text, str) and LOCAL_TIME.fullmatch(text):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass  # no such day: refused as an instant is
    return read_instant(text)


Moment = Annotated[datetime, BeforeValidator(read_moment, str)]


class DstIn(Body):
    """What becomes of a local time that the clocks skip, or show twice."""

    gap: Gap = Field(
        Gap.AFTER, description="Skipped: at the end of the gap, or not at all.", strict=False
    )
    fold: Fold = Field(
        Fold.FIRST,
        description="Shown twice: the first time, the second, or both times.",
        strict=False,
    )


class WhenIn(Body):
    """When to call: after a delay, at an instant, by a recurrence; or, without any, at once."""

    delay: Delay | None = Field(
        None, description='After so long: seconds, or ISO 8601 ("PT4H1S", "P7D").'
    )
    run_at: Moment | None = Field(
        None,
        description="At an instant (RFC 3339), or at a local time of `timezone`, such as "
        "2026-12-24T18:00.",
    )
    cron: Rule | None = Field(
        None,
        description="By cron: five fields, or six with seconds first; names, `L`, `#`, `@daily`.",
    )
    every: Every | None = Field(
        None, description="At a fixed interval of a second or more, counted from `anchor`."
    )
    rrule: Rule | None = Field(
        None, description="By an RRULE of RFC 5545, counted from `anchor`; not SECONDLY."
    )
    timezone: Zone | None = Field(
        None, description="The zone whose clocks `cron`, `rrule` or a local `run_at` go by; or UTC."
    )
    dst: DstIn | None = Field(None, description="What the changes of those clocks do.")
    anchor: Instant | None = Field(
        None, description="From when `every` and `rrule` count; else `starts_at`, or its creation."
    )
    starts_at: Instant | None = Field(None, description="No occurrence is earlier.")
    ends_at: Instant | None = Field(None, description="No occurrence is later.")
    max_runs: Annotated[int, Field(ge=1, le=RUNS_MAX)] | None = Field(
        None, description="It occurs so often at most; what is skipped does not count."
    )
    jitter: Jitter | None = Field(
        None, description="Spread over so long after each instant; a job keeps its place in it."
    )
    catch_up: CatchUp | None = Field(
        None,
        description="Of occurrences missed while everything was down, or the job paused: `one` "
        "(the latest; unless said otherwise), `all` (the latest 100, oldest first), `none`.",
        strict=False,
    )
    overlap: Overlap | None = Field(
        None,
        description="While an earlier run of it is outstanding, an occurrence runs beside it "
        "(`allow`, unless said otherwise), is skipped (`skip`) or comes after it (`queue`).",
        strict=False,
    )

    @model_validator(mode="after")
    def _says_when_in_one_way(self) -> Self:
        check_one_way({name: getattr(self, name) for name in FIELDS})
        return self


def check_one_way(said: dict[str, Any]) -> None:
    """Refuse what does not go together; `said` has a value, or None, for each of FIELDS."""
    kinds = [name for name in KINDS if said[name] is not None]
    if len(kinds) > 1:
        told = f"Goes not with {kinds[0]}; give one of {', '.join(KINDS)}, or none"
        raise refuse("when", told, field=kinds[1])
    recurs = bool(kinds) and kinds[0] in RECURRING
    if not recurs:
        for name in OPTIONS:
            if said[name] is not None:
                message = "Goes with cron, every or rrule only; leave it out"
                raise refuse("when", message, field=name)
    run_at = said["run_at"]
    has_wall_clock = kinds in (["cron"], ["rrule"]) or (
        run_at is not None and run_at.tzinfo is None
    )
    if run_at is not None and run_at.tzinfo is None and said["timezone"] is None:
        raise refuse("when", "Needs a timezone, or an offset such as Z", field="run_at")
    if not has_wall_clock:
        for name in ("timezone", "dst"):
            if said[name] is not None:
                message = "Goes with cron, rrule or a local run_at only; leave it out"
                raise refuse("when", message, field=name)
    if said["anchor"] is not None and kinds == ["cron"]:
        raise refuse("when", "Goes with every or rrule only; leave it out", field="anchor")


ConflictPolicy = Literal["replace", "keep", "extend", "error"]
