"""Which jobs are asked for."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from handler_service.schemas.body import Body, MayBeLeftOut
from handler_service.schemas.dead_letters import Host
from handler_service.schemas.instants import Instant
from handler_service.schemas.page import Page
from handler_service.schemas.request_parts import refuse
from handler_service.schemas.webhooks import LABELS_MAX, Key, User

LABEL_CHARACTERS_MAX = 63 + 1 + 255

Status = Literal[
    "upcoming", "executing", "succeeded", "failed", "uncertain", "cancelled", "skipped"
]


def _check_label(text: str) -> str:
    name, colon, _ = text.partition(":")
    if not name or not colon or "\0" in text:
        raise refuse("label", "Must be a label's name and value, like team:billing")
    return text


Label = Annotated[
    str,
    Field(max_length=LABEL_CHARACTERS_MAX, examples=["team:billing"]),
    AfterValidator(_check_label),
]


class JobFilter(Body):
    """Jobs that fit every field that is given."""

    status: MayBeLeftOut[Status] = Field(
        None,
        description="`upcoming`, `executing`: it has such a run (one to be retried is upcoming). "
        "The others: its last run ended so, and was not replayed since.",
    )
    user: MayBeLeftOut[User] = Field(None, description="Whose they are.")
    key: MayBeLeftOut[Key] = Field(
        None, description="Their key; a job that was ended has none any more."
    )
    label: list[Label] = Field(
        [], max_length=LABELS_MAX, description="A label, `name:value`. Of several, all must fit."
    )
    host: MayBeLeftOut[Host] = Field(None, description="The host of the URL.")
    from_: MayBeLeftOut[Instant] = Field(
        None,
        alias="from",
        examples=["2026-11-21T09:00:00Z"],
        description="The instant of the list is this one or later (RFC 3339).",
    )
    to: MayBeLeftOut[Instant] = Field(
        None,
        examples=["2026-11-21T10:00:00Z"],
        description="The instant of the list is before this one (RFC 3339).",
    )


class JobPage(JobFilter, Page):
    """Which jobs to list, in which order."""

    order: MayBeLeftOut[Literal["asc", "desc"]] = Field(
        None,
        description="By the instant of the list: `asc`, the earliest first, unless you say "
        "otherwise when `status` is `upcoming`; `desc`, the latest first, for all other lists.",
    )
