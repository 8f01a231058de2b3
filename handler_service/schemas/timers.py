"""A timer on the wire: what a caller sends, and the two fields of each answer."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from handler_service.schemas.request_parts import (
    TIMEOUT_SECONDS_DEFAULT,
    WITHOUT_PAYLOAD,
    Headers,
    Method,
    Payload,
    Timeout,
    WebhookUrl,
)

BATCH_ITEMS_MAX = 1_000
PAGE_ITEMS_MAX = 200
FIELDS_MAX = 50  # of one object: what has more is refused as one, not field by field
LAST_INSTANT = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

Count = Annotated[int, Field(ge=0)]


def _read_digits(text: Any) -> Any:
    """Read a number as strictly as JSON is read: nothing but digits."""
    if isinstance(text, str):
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise _refuse("Must be an integer, written in digits")
        return int(text)
    return text


Limit = Annotated[int, Field(ge=1, le=PAGE_ITEMS_MAX), BeforeValidator(_read_digits)]


def _without_default(schema: dict[str, Any]) -> None:
    """Null is a payload too; left out is something else."""
    schema.pop("default", None)


def _answer(example: dict[str, Any]) -> ConfigDict:
    """Say what an answer is like, and that it holds no more than that."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [example]})


class Body(BaseModel):
    """What every body has in common: its types are strict, its fields known and few."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, document: Any) -> Any:
        if isinstance(document, dict) and len(document) > FIELDS_MAX:
            raise _refuse(f"Must have {FIELDS_MAX} fields at most")
        return document


class TimerIn(Body):
    """A webhook to call once, after a delay."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"hours": 4, "minutes": 0, "seconds": 1, "url": "https://example.com/hook"},
                {
                    "seconds": 30,
                    "url": "https://example.com/orders/17",
                    "method": "PUT",
                    "headers": {"authorization": "Bearer a-token-of-yours"},
                    "payload": {"order": 17, "state": "expired"},
                    "timeout": 5,
                },
            ]
        },
    )

    hours: Count = Field(0, description="Whole hours of the delay.")
    minutes: Count = Field(0, description="Whole minutes of the delay; may exceed 59.")
    seconds: Count = Field(
        0, description="Whole seconds of the delay; may exceed 59. The three must not all be 0."
    )
    url: WebhookUrl = Field(description="What to call: absolute, http or https, no credentials.")
    method: Method = Field("POST", description="The method to call it with.")
    headers: Headers | None = Field(None, description="Header fields to send, beside ours.")
    payload: Payload = Field(
        None,
        description="Any JSON, sent as JSON; a string under a non-JSON content-type is sent as it "
        "is. Left out, the body says which timer fired. 256 KiB at most, as it is sent, unless "
        "the operator chose another limit.",
        json_schema_extra=_without_default,
    )
    timeout: Timeout = Field(
        TIMEOUT_SECONDS_DEFAULT,
        description='How long one attempt may take: seconds, or ISO 8601 ("PT15S").',
    )

    @model_validator(mode="after")
    def _lies_ahead(self) -> Self:
        if self.delay_seconds == 0:
            raise _refuse(
                "The delay must not be 0; give hours, minutes or seconds", field="seconds"
            )
        if self.delay_seconds > _seconds_left():
            raise _refuse(
                "The timer must be due in the year 9999 at the latest", field=self._largest_part()
            )
        return self

    @model_validator(mode="after")
    def _has_a_body_to_carry_it(self) -> Self:
        if "payload" in self.model_fields_set and self.method in WITHOUT_PAYLOAD:
            message = f"A {self.method} request carries no payload; leave it out"
            raise _refuse(message, field="payload")
        return self

    @property
    def delay_seconds(self) -> int:
        """The whole delay."""
        return self.hours * 3_600 + self.minutes * 60 + self.seconds

    def _largest_part(self) -> str:
        parts = {
            "hours": self.hours * 3_600,
            "minutes": self.minutes * 60,
            "seconds": self.seconds,
        }
        return max(parts, key=parts.__getitem__)

    def encoded_payload(self) -> bytes | None:
        """The body as it will be sent, or None to send the event."""
        if "payload" not in self.model_fields_set:
            return None
        if isinstance(self.payload, bytes):
            return self.payload
        return self.payload.encode() if not self._is_json() else orjson.dumps(self.payload)

    def _is_json(self) -> bool:
        types = [
            value for name, value in (self.headers or {}).items() if name.lower() == "content-type"
        ]
        media_type = (types[0] if types else "application/json").partition(";")[0].strip().lower()
        return media_type == "application/json" or media_type.endswith("+json")


class TimerOut(BaseModel):
    """A timer, in exactly two fields."""

    model_config = _answer({"id": 1, "time_left": 14_401})

    id: int = Field(ge=1, description="The timer's id.")
    time_left: int = Field(
        ge=0, description="Whole seconds until it is due, rounded up; 0 once due."
    )


class TimerBatchIn(Body):
    """Timers to create together: all of them or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "timers": [
                        {"minutes": 5, "url": "https://example.com/remind"},
                        {"hours": 1, "url": "https://example.com/expire", "payload": {"cart": 3}},
                    ]
                }
            ]
        },
    )

    timers: Annotated[list[TimerIn], Field(min_length=1, max_length=BATCH_ITEMS_MAX)]


class TimerBatchOut(BaseModel):
    """The timers created, in the order asked."""

    model_config = _answer({"data": [{"id": 1, "time_left": 300}, {"id": 2, "time_left": 3_600}]})

    data: list[TimerOut]


class Page(Body):
    """Which timers of a list to answer."""

    limit: Limit = Field(50, description="Timers on a page.")
    cursor: str | SkipJsonSchema[None] = Field(
        None, max_length=64, description="`next_cursor` of the page before."
    )


class TimerPage(BaseModel):
    """Timers, newest first."""

    model_config = _answer({"data": [{"id": 17, "time_left": 300}], "next_cursor": "MTc"})

    data: list[TimerOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the page after this one.")


def _seconds_left() -> float:
    return (LAST_INSTANT - datetime.now(UTC)) / timedelta(seconds=1)


def _refuse(message: str, *, field: str | None = None) -> PydanticCustomError:
    context = {"message": message} | ({} if field is None else {"field": field})
    return PydanticCustomError("invalid_timer", "{message}", context)
