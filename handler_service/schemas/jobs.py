"""A job on the wire, as a caller makes or changes it."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from handler_service.schemas.body import Body, answer
from handler_service.schemas.instants import Instant
from handler_service.schemas.job_examples import EXAMPLE
from handler_service.schemas.job_out import JobOut
from handler_service.schemas.request_parts import WebhookUrl, refuse
from handler_service.schemas.webhooks import Key, WebhookIn, unset_defaults
from handler_service.schemas.when import FIELDS, ConflictPolicy, WhenIn

BATCH_ITEMS_MAX = 1_000
PREVIEWS_MAX = 100

EXAMPLES: list[JsonValue] = [
    {"url": "https://example.com/hook", "delay": "PT4H1S"},
    {
        "url": "https://example.com/report",
        "cron": "0 9 * * MON-FRI",
        "timezone": "Europe/Paris",
        "payload": {"report": "daily"},
        "key": "daily-report",
        "labels": {"team": "billing"},
        "overlap": "skip",
    },
    {
        "url": "https://example.com/close",
        "rrule": "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=18;BYMINUTE=0;BYSECOND=0",
        "timezone": "America/New_York",
    },
]


class JobIn(WebhookIn, WhenIn):
    """A webhook to call, once or again and again."""

    model_config = ConfigDict(json_schema_extra={"examples": EXAMPLES})

    key: Key | None = Field(
        None, description="A name of your own, unique among jobs that were not ended."
    )

    def when(self) -> dict[str, Any]:
        """What is said of when it runs."""
        return {name: getattr(self, name) for name in FIELDS}


class KeyedJobIn(JobIn):
    """A job under the key of its path, and what to do when there is one already."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLES[0]]})

    on_conflict: ConflictPolicy = Field(
        "replace",
        description="When a job has the key: `replace` it, `keep` it, `extend` it (restart its "
        "delay and change nothing else), or answer an `error`.",
    )


def _for_an_edit(schema: dict[str, Any]) -> None:
    unset_defaults(schema)
    schema["examples"] = [
        {"url": "https://example.com/hook/v2"},
        {"cron": "30 9 * * MON-FRI"},
        {"labels": None, "max_runs": 10},
    ]


class JobEditIn(WebhookIn, WhenIn):
    """What to change of a job: at least one field; what is left out stays as it is.

    Of a recurrence, too: a new `timezone` alone keeps the rest. Another way to say when replaces
    the present one. A payload cannot be taken away, only replaced.
    """

    model_config = ConfigDict(json_schema_extra=_for_an_edit)

    url: WebhookUrl = Field("", description="What to call: absolute, http or https.")

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise refuse("edit", "Must have one field or more")
        return self

    @model_validator(mode="after")
    def _has_a_body_to_carry_it(self) -> Self:
        # Left to the endpoint, which knows the job's own method.
        return self

    @model_validator(mode="after")
    def _says_when_in_one_way(self) -> Self:
        # Left to the endpoint, which knows when the job runs now.
        return self

    def given_when(self) -> dict[str, Any]:
        """What is said of when it runs, as far as it is said."""
        return {name: getattr(self, name) for name in FIELDS if name in self.model_fields_set}


class JobBatchIn(Body):
    """Jobs to create together: all of them or none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"jobs": EXAMPLES[:2]}]})

    jobs: Annotated[list[JobIn], Field(min_length=1, max_length=BATCH_ITEMS_MAX)]


class JobBatchOut(BaseModel):
    """The jobs created, in the order asked."""

    model_config = answer({"data": [EXAMPLE]})

    data: list[JobOut]


class PreviewIn(WhenIn):
    """A recurrence to look at."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"cron": "30 2 * * *", "timezone": "Europe/Berlin", "count": 3}]
        }
    )

    count: Annotated[int, Field(ge=1, le=PREVIEWS_MAX)] = Field(
        10, description="How many occurrences to answer."
    )
    after: Instant | None = Field(None, description="From when on; else from now on.")

    @model_validator(mode="after")
    def _recurs(self) -> Self:
        if self.cron is None and self.every is None and self.rrule is None:
            raise refuse("when", "Give cron, every or rrule", field="cron")
        return self

    def when(self) -> dict[str, Any]:
        """What is said of when it occurs."""
        return {name: getattr(self, name) for name in FIELDS}


PREVIEWED = {
    "at": "2027-03-28T01:00:00.000Z",
    "local": "2027-03-28T02:30:00",
    "note": "shifted",
}


class PreviewedOut(BaseModel):
    """One occurrence."""

    model_config = answer(PREVIEWED)

    at: str | None = Field(description="The instant; null: dropped, for the clocks skip it.")
    local: str = Field(description="The time that the rule names, on the clocks of its zone.")
    note: str | None = Field(
        description="`shifted`: to the end of a gap. `doubled`: the same local time again. "
        "`dropped`. Or null."
    )


class PreviewOut(BaseModel):
    """The next occurrences of a recurrence."""

    model_config = answer({"data": [PREVIEWED]})

    data: list[PreviewedOut]


class TriggeredOut(BaseModel):
    """A run that is due now."""

    model_config = answer({"job_id": 17, "scheduled_for": "2026-11-21T09:00:00.123Z"})

    job_id: int
    scheduled_for: str = Field(description="The instant of the run.")
