"""Figures on the wire: the ledger, statistics and the forecast, and what of them is asked for."""

from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from handler_service.schemas.body import Body, MayBeLeftOut, answer
from handler_service.schemas.instants import Instant
from handler_service.schemas.page import read_digits
from handler_service.schemas.request_parts import refuse

SPAN_MAX = timedelta(days=31)
GROUPS = ("hour", "day", "status", "user")
HORIZON_SECONDS_MAX = 31 * 86_400
BUCKETS_MAX = 1_500

Runs = Annotated[int, Field(ge=0)]
# Python may round a percentile's last digit; nobody reads it.
Milliseconds = Annotated[float | None, Field(description="Null: there is none.")]


class LedgerOut(BaseModel):
    """Every run that was accepted, and where each of them is."""

    model_config = answer(
        {
            "accepted": 1_240,
            "pending": 31,
            "executing": 2,
            "done": 1_190,
            "failed": 9,
            "uncertain": 1,
            "cancelled": 5,
            "skipped": 2,
            "adds_up": True,
        }
    )

    accepted: Runs = Field(description="Runs that were planned, counted by their jobs.")
    pending: Runs = Field(description="Wait: for their instant, a retry, or to be resumed.")
    executing: Runs = Field(description="Are with an executor.")
    done: Runs = Field(description="Were delivered.")
    failed: Runs = Field(description="Failed for good, and were not replayed since.")
    uncertain: Runs = Field(description="At most once, and unknown; not replayed since.")
    cancelled: Runs = Field(description="Were cancelled while they were pending.")
    skipped: Runs = Field(description="Were missed, too late, or overlapped.")
    adds_up: bool = Field(description="Whether `accepted` is the sum of all the others.")


def _read_groups(text: str) -> str:
    names = text.split(",")
    if len(set(names)) != len(names) or not set(names) <= set(GROUPS):
        raise refuse("group_by", "Must be some of hour, day, status and user, by comma, each once")
    return text


_Groups = Annotated[
    str,
    Field(max_length=64, json_schema_extra={"examples": ["day,status"]}),
    AfterValidator(_read_groups),
]


class StatsQuery(Body):
    """What is to be counted, and how it is told apart."""

    from_: MayBeLeftOut[Instant] = Field(
        None,
        alias="from",
        examples=["2026-11-21T09:00:00Z"],
        description="Ended at this instant or later (RFC 3339); a day before `to`, if left out.",
    )
    to: MayBeLeftOut[Instant] = Field(
        None,
        examples=["2026-11-21T10:00:00Z"],
        description="Ended before this instant (RFC 3339); now, if left out. 31 days after `from` "
        "at most.",
    )
    group_by: MayBeLeftOut[_Groups] = Field(
        None,
        description="What each row is about: some of `hour`, `day` (both in UTC), `status` (what "
        "the attempt came to) and `user`, by comma. Left out, one row is about everything.",
    )

    @property
    def groups(self) -> tuple[str, ...]:
        """The names in `group_by`, in one order."""
        names = (self.group_by or "").split(",")
        return tuple(name for name in GROUPS if name in names)


class EndedOut(BaseModel):
    """Runs that ended, by how; of what was replayed since, the end is yet to come."""

    model_config = answer({"done": 96, "failed": 2, "uncertain": 0, "cancelled": 1, "skipped": 1})

    done: Runs
    failed: Runs
    uncertain: Runs
    cancelled: Runs
    skipped: Runs


class LatenessOut(BaseModel):
    """How late first attempts began, in milliseconds: so many percent of them no later."""

    model_config = answer({"p50": 1.1, "p95": 1.9, "p99": 3.4})

    p50: Milliseconds
    p95: Milliseconds
    p99: Milliseconds


_STATS = {
    "hour": "2026-11-21T09:00:00.000Z",
    "user": "anna",
    "ended": {"done": 96, "failed": 2, "uncertain": 0, "cancelled": 1, "skipped": 1},
    "attempts": 107,
    "lateness_ms": {"p50": 1.1, "p95": 1.9, "p99": 3.4},
}


def _keys_only_when_asked(schema: dict[str, Any]) -> None:
    for name in GROUPS:
        schema["properties"][name].pop("default", None)
    schema["examples"] = [_STATS]


class StatsRowOut(BaseModel):
    """The figures of one group; the names of `group_by` and no others say of which."""

    model_config = answer(_STATS) | {"json_schema_extra": _keys_only_when_asked}

    hour: str = Field("", description="When that hour began, in UTC.")
    day: str = Field("", description="When that day began, in UTC.")
    status: str = Field(
        "",
        description="What the attempt came to: done, failed, uncertain, cancelled, skipped; or "
        "retrying, abandoned, which end no run.",
    )
    user: str | None = Field(None, description="Whose job it was; null: nobody's.")
    ended: EndedOut = Field(description="Runs that ended, by how.")
    attempts: Runs = Field(description="Attempts that ended, whatever they came to.")
    lateness_ms: LatenessOut = Field(
        description="From the planned instant to the start of the first attempt."
    )


class StatsOut(BaseModel):
    """What happened within a span of time."""

    model_config = answer(
        {
            "from": "2026-11-21T00:00:00.000Z",
            "to": "2026-11-22T00:00:00.000Z",
            "data": [_STATS],
        }
    )

    from_: str = Field(
        alias="from",
        examples=["2026-11-21T09:00:00Z"],
        description="The first instant that counts.",
    )
    to: str = Field(description="The first instant after those that count.")
    data: list[StatsRowOut] = Field(description="A row for each group that anything happened in.")


_Bucket = Annotated[int, Field(ge=1, le=HORIZON_SECONDS_MAX), BeforeValidator(read_digits)]
_Horizon = Annotated[int, Field(ge=1, le=HORIZON_SECONDS_MAX), BeforeValidator(read_digits)]


class ForecastQuery(Body):
    """How far to look ahead, and how finely."""

    bucket: _Bucket = Field(60, description="Seconds of one bucket.")
    horizon: _Horizon = Field(
        86_400, description=f"Seconds to look ahead; {BUCKETS_MAX:,} buckets at most."
    )

    @model_validator(mode="after")
    def _has_few_buckets(self) -> Self:
        if self.horizon > self.bucket * BUCKETS_MAX:
            remedy = f"Must be {-(-self.horizon // BUCKETS_MAX)} or more with this horizon"
            raise refuse("buckets", f"{remedy}: {BUCKETS_MAX:,} buckets at most", field="bucket")
        return self


class BucketOut(BaseModel):
    """What is due within one bucket."""

    model_config = answer({"at": "2026-11-21T09:00:00.000Z", "runs": 240})

    at: str = Field(description="When it begins: a multiple of its length, from 1970 on in UTC.")
    runs: Runs = Field(description="Runs that are due in it.")


class ForecastOut(BaseModel):
    """What is due, and when."""

    model_config = answer(
        {
            "bucket": 60,
            "overdue": 0,
            "data": [
                {"at": "2026-11-21T09:00:00.000Z", "runs": 240},
                {"at": "2026-11-21T09:01:00.000Z", "runs": 0},
            ],
            "complete": True,
        }
    )

    bucket: int = Field(description="Seconds of one bucket.")
    overdue: Runs = Field(description="Runs that were due before the first bucket and wait still.")
    data: list[BucketOut] = Field(description="Every bucket, from the one that is now.")
    complete: bool = Field(
        description="False: so much recurs that not all of it was reckoned; there will be more."
    )
