"""A dead letter on the wire, which ones are asked for, and what a replay answers."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from handler_service.paths import ID_MAX
from handler_service.schemas.body import Body, MayBeLeftOut, answer
from handler_service.schemas.instants import Instant
from handler_service.schemas.page import Page
from handler_service.schemas.request_parts import HOST_CHARACTERS_MAX, refuse

# As it stands in a URL, between the slashes and a port.
HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[^\x00-\x20\x7f\[\]/?#:@\\]+")

State = Literal["failed", "uncertain"]


def _check_host(text: str) -> str:
    if not HOST.fullmatch(text):
        raise refuse("host", "Must be a host as it stands in a URL, without scheme and port")
    # As Postgres does it by the C collation: a host beyond ASCII is compared as it was written.
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


Host = Annotated[
    str,
    Field(min_length=1, max_length=HOST_CHARACTERS_MAX + 2, examples=["example.com"]),
    AfterValidator(_check_host),
]
_JobId = Annotated[int, Field(ge=1, le=ID_MAX, examples=[17])]
_STATE = (
    "`failed`: attempts exhausted, or refused for good. `uncertain`: at most once, and unknown."
)
_FROM, _TO = "Ended at this instant or later (RFC 3339).", "Ended before this instant (RFC 3339)."
_HOST = "The host of the URL."


class DeadLetterPage(Page):
    """Which dead letters to list."""

    state: MayBeLeftOut[State] = Field(None, description=_STATE)
    from_: MayBeLeftOut[Instant] = Field(
        None, alias="from", examples=["2026-11-21T09:00:00Z"], description=_FROM
    )
    to: MayBeLeftOut[Instant] = Field(None, examples=["2026-11-21T10:00:00Z"], description=_TO)
    host: MayBeLeftOut[Host] = Field(None, description=_HOST)


class ReplayIn(Body):
    """Which dead letters to replay: those that fit every field; all of them, if there is none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "host": "example.com",
                    "from": "2026-11-21T09:00:00Z",
                    "to": "2026-11-21T10:00:00Z",
                },
                {"state": "uncertain"},
                {"job_id": 17},
            ]
        }
    )

    state: MayBeLeftOut[State] = Field(None, description=_STATE)
    from_: MayBeLeftOut[Instant] = Field(
        None, alias="from", examples=["2026-11-21T09:00:00Z"], description=_FROM
    )
    to: MayBeLeftOut[Instant] = Field(None, examples=["2026-11-21T10:00:00Z"], description=_TO)
    host: MayBeLeftOut[Host] = Field(None, description=_HOST)
    job_id: MayBeLeftOut[_JobId] = Field(None, description="The job.")


EXAMPLE = {
    "job_id": 17,
    "scheduled_for": "2026-11-21T09:00:00.123Z",
    "state": "failed",
    "attempt": 5,
    "started_at": "2026-11-21T09:10:01.502Z",
    "finished_at": "2026-11-21T09:10:01.661Z",
    "lateness_ms": 1.379,
    "http_status": 503,
    "error": "status: the receiver answered 503",
    "response": "over capacity",
    "host": "example.com",
    "replay": "/dead-letters/17/2026-11-21T09:00:00.123456Z/replay",
}


class DeadLetterOut(BaseModel):
    """A run that failed for good, or of which nobody knows whether it was processed."""

    model_config = answer(EXAMPLE)

    job_id: int = Field(description="The timer's id.")
    scheduled_for: str = Field(description="The instant it was planned for.")
    state: State = Field(description=_STATE)
    attempt: int = Field(description="The attempt that ended it, from 1.")
    started_at: str | None = Field(description="When that began; null: never, or nobody knows.")
    finished_at: str = Field(description="When that ended.")
    lateness_ms: float | None = Field(description="How late that began, in milliseconds.")
    http_status: int | None = Field(description="What the receiver answered, if it did.")
    error: str | None = Field(description="What went wrong.")
    response: str | None = Field(description="The first KiB of the answer's body, as text.")
    host: str = Field(description=_HOST)
    replay: str = Field(description="POST here to replay it; names the run to the microsecond.")


class DeadLetterList(BaseModel):
    """Dead letters, the newest first."""

    model_config = answer({"data": [EXAMPLE], "next_cursor": None})

    data: list[DeadLetterOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the page after this one.")


class ReplayedOut(BaseModel):
    """A run that is pending again."""

    model_config = answer({"job_id": 17, "scheduled_for": "2026-11-21T09:00:00.123Z", "attempt": 6})

    job_id: int = Field(description="The timer's id.")
    scheduled_for: str = Field(description="The instant it was planned for.")
    attempt: int = Field(description="The number of its next attempt.")


class ReplayCountOut(BaseModel):
    """How many runs are pending again."""

    model_config = answer({"replayed": 240})

    replayed: int = Field(ge=0, description="Runs.")
