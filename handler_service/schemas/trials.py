"""A test call and a validation on the wire: what is expected, what came of it, what is not met."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
)

from handler_service.openapi import ViolationOut
from handler_service.schemas.body import Body, answer, without_default
from handler_service.schemas.request_parts import (
    TIMEOUT_SECONDS_DEFAULT,
    TIMEOUT_SECONDS_MIN,
    IsoDuration,
    read_seconds,
)
from handler_service.schemas.webhooks import RequestIn

TRIAL_TIMEOUT_SECONDS_MAX = 30
STATUSES_MAX = 50
EXPECTED_HEADERS_MAX = 50
EXPECTED_CHARACTERS_MAX = 8_192

_Status = Annotated[int, Field(ge=100, le=599)]
_Statuses = Annotated[list[_Status], Field(min_length=1, max_length=STATUSES_MAX)]
_ONE: TypeAdapter[int] = TypeAdapter(_Status, config=ConfigDict(strict=True))
_SEVERAL: TypeAdapter[list[int]] = TypeAdapter(_Statuses, config=ConfigDict(strict=True))
_Seconds = Annotated[float, Field(ge=TIMEOUT_SECONDS_MIN, le=TRIAL_TIMEOUT_SECONDS_MAX)]
_Name = Annotated[str, Field(min_length=1, max_length=256)]
_Text = Annotated[str, Field(max_length=EXPECTED_CHARACTERS_MAX)]


def read_statuses(value: Any) -> list[int]:
    """Read one status, or several, by the kind of JSON it is; so a fault is told in its place."""
    return (
        _SEVERAL.validate_python(value)
        if isinstance(value, list)
        else [_ONE.validate_python(value)]
    )


Statuses = Annotated[list[int], PlainValidator(read_statuses, _Status | _Statuses)]


class ExpectIn(Body):
    """What the answer should be like."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": [200, 204], "json_subset": {"ok": True}}]}
    )

    status: Statuses | None = Field(None, description="The status, or those it may be one of.")
    headers: Annotated[dict[_Name, _Text], Field(max_length=EXPECTED_HEADERS_MAX)] | None = Field(
        None,
        description="Header fields with their values; of one that came several times, one of its "
        "values, or all of them joined by a comma and a space.",
    )
    body_contains: _Text | None = Field(None, description="Text that stands in the body.")
    json_subset: Any = Field(
        None,
        description="JSON that the body holds: each member that is given must be there and equal, "
        "and so on within, others may be there too; an array must have as many items, each "
        "compared with the one in its place.",
        json_schema_extra=without_default,
    )


class TrialIn(RequestIn):
    """A call to make now, and what its answer should be like."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"url": "https://example.com/hook"},
                {
                    "url": "https://example.com/orders/17",
                    "method": "PUT",
                    "headers": {"authorization": "Bearer a-token-of-yours"},
                    "payload": {"order": 17, "state": "expired"},
                    "timeout": 5,
                    "expect": {
                        "status": [200, 204],
                        "headers": {"content-type": "application/json"},
                        "body_contains": "accepted",
                        "json_subset": {"order": {"id": 17}},
                    },
                },
            ]
        }
    )

    timeout: Annotated[_Seconds, BeforeValidator(read_seconds, _Seconds | IsoDuration)] = Field(
        TIMEOUT_SECONDS_DEFAULT,
        description='How long the call may take: seconds, 30 at most, or ISO 8601 ("PT15S").',
    )
    expect: ExpectIn | None = Field(None, description="What the answer should be like.")


class ExpectationOut(BaseModel):
    """One thing that was expected."""

    model_config = answer({"name": "status", "met": True, "detail": "As expected."})

    name: str = Field(
        description="`status`, `headers/` and a name, `body_contains` or `json_subset`.",
        examples=["status"],
    )
    met: bool = Field(description="Whether the answer is like that.")
    detail: str = Field(description="If not, what it is like.")


class CalledOut(BaseModel):
    """What came of a test call."""

    model_config = answer(
        {
            "delivered": True,
            "status": 200,
            "headers": {"content-type": "application/json"},
            "body": '{"order":{"id":17,"state":"expired"}}',
            "body_encoding": "text",
            "body_is_whole": True,
            "duration_ms": 48.217,
            "error": None,
            "expectations": [
                {"name": "status", "met": True, "detail": "As expected."},
                {
                    "name": "body_contains",
                    "met": False,
                    "detail": "Is not in the body.",
                },
            ],
            "met": False,
        }
    )

    delivered: bool = Field(description="Whether a run would count as delivered: 2xx in time.")
    status: int | None = Field(description="What the receiver answered; null: nothing.")
    headers: dict[str, str] = Field(
        description="The answer's header fields, 8 KiB at most; values of one name are joined by a "
        "comma and a space."
    )
    body: str | None = Field(description="The first 64 KiB of the answer's body; null: no answer.")
    body_encoding: Literal["text", "base64"] = Field(
        description="`base64` where the body is no UTF-8."
    )
    body_is_whole: bool = Field(description="Whether the body came to its end within 64 KiB.")
    duration_ms: float = Field(
        description="From looking up the name to the end of what was read, in milliseconds."
    )
    error: str | None = Field(
        description="What went wrong, as a run's history says it.",
        examples=["timeout: no answer within 15 s"],
    )
    expectations: list[ExpectationOut] = Field(description="Each thing that was expected.")
    met: bool = Field(
        description="Whether every expectation is met; without any, whether it was delivered."
    )


CriterionName = Literal[
    "fields",
    "scheme",
    "url",
    "host_resolves",
    "address_allowed",
    "schedule_lies_ahead",
    "sizes",
    "body",
]


class CriterionOut(BaseModel):
    """One thing that makes a job valid."""

    model_config = answer({"name": "scheme", "met": True, "detail": "Is https."})

    name: CriterionName
    met: bool | None = Field(description="Whether it is so; null: that could not be asked.")
    detail: str = Field(description="Why.")


class ValidatedOut(BaseModel):
    """What there is to say of a job before it is made."""

    model_config = answer(
        {
            "valid": False,
            "criteria": [
                {"name": "fields", "met": True, "detail": "Follow the contract."},
                {"name": "scheme", "met": True, "detail": "Is http."},
                {"name": "url", "met": True, "detail": "Can be called."},
                {"name": "host_resolves", "met": True, "detail": "To 127.0.0.1."},
                {
                    "name": "address_allowed",
                    "met": False,
                    "detail": "127.0.0.1 may not be reached: loopback (RFC 1122).",
                },
                {"name": "schedule_lies_ahead", "met": True, "detail": "It runs at once."},
                {"name": "sizes", "met": True, "detail": "Are within the limits."},
                {"name": "body", "met": True, "detail": "Is the event."},
            ],
            "errors": [],
        }
    )

    valid: bool = Field(description="Whether every criterion is met; one that is null is not.")
    criteria: list[CriterionOut] = Field(description="Every criterion, met or not.")
    errors: list[ViolationOut] = Field(
        description="What a create would refuse, place by place, where `fields` is not met."
    )
