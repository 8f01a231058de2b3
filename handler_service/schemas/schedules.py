"""A schedule on the wire: the words of an older contract, `jobId` among them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from handler_service.schemas.body import Body, MayBeLeftOut, answer
from handler_service.schemas.page import Cursor
from handler_service.schemas.request_parts import Method, WebhookUrl
from handler_service.schemas.webhooks import WebhookIn
from shared.recurrence import Recurrence

MINUTE_MAX = 4_223_371_679  # the last one of the year 9999
LISTED_MAX = 10_000
# Whatever is no JSON goes as it is; the payload is text, and text travels as UTF-8.
HEADERS = {"content-type": "text/plain; charset=utf-8"}
METHOD: Method = "POST"
EVERY_SECONDS = {"daily": 86_400, "weekly": 604_800}

Recurring = Literal["none", "daily", "weekly"]
_EXAMPLE: dict[str, Any] = {"payload": "cool stuff", "minute": 29_888_640, "recurring": "daily"}
_URL = {"url": "https://example.com/hook"}


class ScheduleIn(Body):
    """What to send at a minute: once, or every day or week from then on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                _EXAMPLE | _URL,
                _EXAMPLE | _URL | {"recurring": "none", "immediate": True},
            ]
        }
    )

    payload: str = Field(
        description="The text to send, as it is: the body of a POST under `content-type: "
        "text/plain; charset=utf-8`. 256 KiB at most, unless the operator chose another limit."
    )
    minute: int = Field(
        ge=0,
        le=MINUTE_MAX,
        description="When: whole minutes since 1970-01-01T00:00Z. With `none` it must not be "
        "over; what is asked for the current minute is sent at once. With `daily` and `weekly` "
        "one that has begun stands for the next occurrence.",
    )
    recurring: Recurring = Field(
        description="Whether it comes again: every 24 hours, every seven days, in UTC."
    )
    immediate: bool = Field(False, description="Whether it is sent now too.")
    url: MayBeLeftOut[WebhookUrl] = Field(
        None,
        description="What to call: absolute, http or https, no credentials. Left out of a new one, "
        "the application's default destination, which it must have then; left out of a change, "
        "what it is now.",
    )

    def recurrence(self, asked: datetime) -> Recurrence | None:
        """Say how it recurs from the minute that was asked for; None: it does not."""
        if self.recurring == "none":
            return None
        seconds = EVERY_SECONDS[self.recurring]
        return Recurrence(every_seconds=seconds, anchor=asked, starts_at=asked)

    def webhook(self, url: str) -> WebhookIn:
        """Say the same in the words of a job."""
        return WebhookIn(url=url, method=METHOD, headers=HEADERS, payload=self.payload)


def _with_its_id(schema: dict[str, Any]) -> None:
    schema["examples"] = [_EXAMPLE, _EXAMPLE | _URL | {"jobId": "17"}]


class ScheduleEditIn(ScheduleIn):
    """What a schedule becomes: all of it is given again, but for `url`."""

    model_config = ConfigDict(json_schema_extra=_with_its_id)

    job_id: MayBeLeftOut[str] = Field(
        None, alias="jobId", description="That of the path, for those who send what they got."
    )


class ScheduleOut(BaseModel):
    """A schedule, in exactly four fields."""

    model_config = answer({"jobId": "17", **_EXAMPLE})

    job_id: str = Field(
        alias="jobId", description="Its id, the same for every occurrence; `/jobs` knows it too."
    )
    payload: str = Field(description="The text that is sent.")
    minute: int = Field(
        description="When, in whole minutes since 1970-01-01T00:00Z: of what recurs, the next one."
    )
    recurring: Recurring = Field(description="Whether it comes again.")


class ScheduleList(RootModel[list[ScheduleOut]]):
    """Schedules, newest last."""

    model_config = ConfigDict(json_schema_extra={"examples": [[{"jobId": "17", **_EXAMPLE}]]})


class SchedulePage(Body):
    """Where in the list to go on."""

    cursor: MayBeLeftOut[Cursor] = Field(
        None, description="For those who follow `Link`: where the answer before ended."
    )
