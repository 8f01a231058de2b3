"""What a timer and a job have in common on the wire: the request, whose it is, how it is sent."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from handler_service.schemas.body import Body, without_default
from handler_service.schemas.request_parts import (
    TIMEOUT_SECONDS_DEFAULT,
    WITHOUT_PAYLOAD,
    Headers,
    IsoDuration,
    Method,
    Payload,
    Timeout,
    WebhookUrl,
    as_it_is_sent,
    read_seconds,
    refuse,
)
from handler_service.schemas.retry import Retry
from shared.runs.lifecycle import Delivery
from shared.runs.policy import DEFAULT_POLICY

LATENESS_SECONDS_MAX = 366 * 86_400
LABELS_MAX = 20

User = Annotated[
    str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$", examples=["anna"])
]
# Such as stands in a path without being escaped.
Key = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        pattern=r"^[A-Za-z0-9._:@~+=-]*$",
        examples=["monthly-report"],
    ),
]
_LabelName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9._/-]*$")]
_LabelValue = Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]


Labels = Annotated[dict[_LabelName, _LabelValue], Field(max_length=LABELS_MAX)]
_Lateness = Annotated[float, Field(ge=0, le=LATENESS_SECONDS_MAX)]
Lateness = Annotated[_Lateness, BeforeValidator(read_seconds, _Lateness | IsoDuration)]


class RequestIn(Body):
    """The request to make."""

    url: WebhookUrl = Field(description="What to call: absolute, http or https, no credentials.")
    method: Method = Field("POST", description="The method to call it with.")
    headers: Headers | None = Field(
        None, description="Header fields to send, beside ours; null for none."
    )
    payload: Payload = Field(
        None,
        description="Any JSON, sent as JSON; a string under a non-JSON content-type is sent as it "
        "is. Left out of a new one, the body says what fired. 256 KiB at most, as it is "
        "sent, unless the operator chose another limit.",
        json_schema_extra=without_default,
    )
    timeout: Timeout = Field(
        TIMEOUT_SECONDS_DEFAULT,
        description='How long one attempt may take: seconds, or ISO 8601 ("PT15S").',
    )

    @model_validator(mode="after")
    def _has_a_body_to_carry_it(self) -> Self:
        if "payload" in self.model_fields_set and self.method in WITHOUT_PAYLOAD:
            raise refuse("payload", no_payload(self.method), field="payload")
        return self

    def encoded_payload(self, headers: Mapping[str, str] | None) -> bytes | None:
        """The body as it will be sent under these headers; None: there is none here."""
        if "payload" not in self.model_fields_set:
            return None
        return as_it_is_sent(self.payload, headers)


class WebhookIn(RequestIn):
    """The request to make, whose it is, and how it is delivered."""

    retry: Retry = Field(
        DEFAULT_POLICY,
        description="When a failed attempt is followed by another: a backoff; or each wait in a "
        'list, exactly; or "standard" (Standard Webhooks: ten attempts in three days); or "none". '
        "Left out of a new one, the backoff's defaults.",
        json_schema_extra=without_default,
    )
    delivery: Delivery = Field(
        Delivery.AT_LEAST_ONCE,
        description="What to do when it is unknown whether a request was processed: "
        "`at_least_once` sends it again, `at_most_once` does not, and the run ends as uncertain.",
        strict=False,
    )
    max_lateness: Lateness | None = Field(
        None,
        description="A run that would begin later than this after its instant is skipped: seconds, "
        "or ISO 8601; null: it always begins, however late.",
    )
    user: User | None = Field(None, description="Whose it is, in your words; to find it by.")
    labels: Labels | None = Field(
        None, description="Names and values of your own, 20 at most; to find it by."
    )


def no_payload(method: str) -> str:
    """Say why a payload is refused."""
    return f"A {method} request carries no payload; leave it out"


def unset_defaults(schema: dict[str, Any]) -> None:
    """What is left out of an edit stays as it is, whatever a create would make of it."""
    for field in schema["properties"].values():
        field.pop("default", None)
    schema["minProperties"] = 1
