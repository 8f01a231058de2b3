"""A timer on the wire: what a caller sends, and the two fields of each answer."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from handler_service.schemas.body import Body, answer
from handler_service.schemas.request_parts import WebhookUrl, refuse
from handler_service.schemas.webhooks import Key, WebhookIn, unset_defaults

BATCH_ITEMS_MAX = 1_000
LAST_INSTANT = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
DELAY_PARTS = {"hours": 3_600, "minutes": 60, "seconds": 1}

Count = Annotated[int, Field(ge=0)]


class TimerIn(WebhookIn):
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
                    "retry": {"max_attempts": 8, "base": 10, "max_age": "P1D"},
                    "delivery": "at_least_once",
                },
            ]
        },
    )

    hours: Count = Field(0, description="Whole hours of the delay.")
    minutes: Count = Field(0, description="Whole minutes of the delay; may exceed 59.")
    seconds: Count = Field(
        0, description="Whole seconds of the delay; may exceed 59. The three must not all be 0."
    )
    key: Key | None = Field(
        None, description="A name of your own, unique among what was not ended; to reach it by."
    )

    @model_validator(mode="after")
    def _lies_ahead(self) -> Self:
        if self.gives_a_delay():
            if self.delay_seconds == 0:
                raise refuse(
                    "delay",
                    "The delay must not be 0; give hours, minutes or seconds",
                    field="seconds",
                )
            if self.delay_seconds > _seconds_left():
                raise refuse(
                    "delay",
                    "The timer must be due in the year 9999 at the latest",
                    field=self._largest_part(),
                )
        return self

    def gives_a_delay(self) -> bool:
        """Whether there is a delay here to be checked."""
        return True

    @property
    def delay_seconds(self) -> int:
        """The whole delay."""
        return self.hours * 3_600 + self.minutes * 60 + self.seconds

    def _largest_part(self) -> str:
        return max(DELAY_PARTS, key=lambda part: getattr(self, part) * DELAY_PARTS[part])


def _for_an_edit(schema: dict[str, Any]) -> None:
    unset_defaults(schema)
    schema["properties"].pop("key")
    schema["examples"] = [
        {"url": "https://example.com/orders/17/v2"},
        {"minutes": 10, "payload": {"order": 17, "state": "reminded"}},
    ]


class TimerEditIn(TimerIn):
    """What to change of a timer: at least one field; what is left out stays as it is.

    Hours, minutes or seconds start the delay anew, from now. A payload cannot be taken away, only
    replaced; headers alone leave its bytes as they are.
    """

    model_config = ConfigDict(json_schema_extra=_for_an_edit)

    url: WebhookUrl = Field("", description="What to call: absolute, http or https.")

    @model_validator(mode="after")
    def _keeps_its_key(self) -> Self:
        if "key" in self.model_fields_set:
            raise refuse("key", "Cannot be changed; leave it out", field="key")
        return self

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise refuse("edit", "Must have one field or more")
        return self

    @model_validator(mode="after")
    def _has_a_body_to_carry_it(self) -> Self:
        # Left to the endpoint, which knows the timer's own method.
        return self

    def gives_a_delay(self) -> bool:
        """Whether the delay starts anew."""
        return not self.model_fields_set.isdisjoint(DELAY_PARTS)


class TimerOut(BaseModel):
    """A timer, in exactly two fields."""

    model_config = answer({"id": 1, "time_left": 14_401})

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

    model_config = answer({"data": [{"id": 1, "time_left": 300}, {"id": 2, "time_left": 3_600}]})

    data: list[TimerOut]


class TimerPage(BaseModel):
    """Timers, newest first."""

    model_config = answer({"data": [{"id": 17, "time_left": 300}], "next_cursor": "MTc"})

    data: list[TimerOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the page after this one.")


def _seconds_left() -> float:
    return (LAST_INSTANT - datetime.now(UTC)) / timedelta(seconds=1)
