"""The retry policy on the wire: an object, a list of delays, or the name of one."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, FailFast, Field, PlainValidator, TypeAdapter

from handler_service.schemas.body import Body
from handler_service.schemas.request_parts import IsoDuration, read_seconds, refuse
from shared.runs.policy import (
    ATTEMPTS_MAX,
    DEFAULT_POLICY,
    FACTOR_MAX,
    NO_RETRY,
    STANDARD_POLICY,
    WAIT_SECONDS_MAX,
    RetryPolicy,
)

AGE_SECONDS_MAX = 366 * 86_400
NAMED = {"standard": STANDARD_POLICY, "none": NO_RETRY}

_Wait = Annotated[float, Field(gt=0, le=WAIT_SECONDS_MAX)]
_Age = Annotated[float, Field(gt=0, le=AGE_SECONDS_MAX)]
_Delay = Annotated[float, Field(ge=0, le=WAIT_SECONDS_MAX)]
Wait = Annotated[_Wait, BeforeValidator(read_seconds, _Wait | IsoDuration)]
Age = Annotated[_Age, BeforeValidator(read_seconds, _Age | IsoDuration)]
Delay = Annotated[_Delay, BeforeValidator(read_seconds, _Delay | IsoDuration)]
Delays = Annotated[list[Delay], Field(min_length=1, max_length=ATTEMPTS_MAX - 1)]


class BackoffIn(Body):
    """Waits that grow: `base`, `base × factor`, `base × factor²`, ... up to `max_delay`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"max_attempts": 8, "base": 10, "max_age": "P1D"}]}
    )

    max_attempts: int = Field(
        DEFAULT_POLICY.max_attempts, ge=1, le=ATTEMPTS_MAX, description="Attempts in all."
    )
    backoff: Literal["exponential"] = Field("exponential", description="How the waits grow.")
    base: Wait = Field(
        DEFAULT_POLICY.base,
        description='The wait after the first attempt: seconds, or ISO 8601 ("PT5S").',
    )
    factor: float = Field(
        DEFAULT_POLICY.factor, ge=1, le=FACTOR_MAX, description="By what each wait is longer."
    )
    max_delay: Wait = Field(
        DEFAULT_POLICY.max_delay, description="The longest wait, before jitter."
    )
    jitter: float = Field(
        DEFAULT_POLICY.jitter,
        ge=0,
        le=1,
        description="The share by which a wait may be longer or shorter, at random.",
    )
    max_age: Age | None = Field(
        DEFAULT_POLICY.max_age,
        description="No attempt but the first begins later than this after the timer's instant, or "
        "its replay. While the destination is known to be down, not even the first: then the timer "
        "ends unsent.",
    )

    def policy(self) -> RetryPolicy:
        """Answer it as executors go by it."""
        return RetryPolicy(**self.model_dump(exclude={"backoff"}))


# Only the first bad delay is told: a thousand timers may have a hundred each.
_DELAYS: TypeAdapter[list[float]] = TypeAdapter(Annotated[Delays, FailFast()])


def read_retry(value: Any) -> RetryPolicy:
    """Read a policy by the kind of JSON it is; so a fault in one kind is told once, in its place.

    A delay of a list is waited exactly: no jitter.
    """
    match value:
        case dict():
            return BackoffIn.model_validate(value).policy()
        case list():
            delays = tuple(_DELAYS.validate_python(value))
            return RetryPolicy(max_attempts=len(delays) + 1, delays=delays, jitter=0.0)
        case "standard" | "none":
            return NAMED[value]
    raise refuse("retry", 'Must be an object, a list of delays, "standard" or "none"')


def said_by(policy: RetryPolicy) -> object:
    """Answer a policy in a caller's words, as `read_retry` takes them; None for the default."""
    if policy == DEFAULT_POLICY:
        return None
    for name, named in NAMED.items():
        if policy == named:
            return name
    if policy.delays is not None:
        return list(policy.delays)
    return {name: value for name, value in asdict(policy).items() if name != "delays"}


# A RetryPolicy; but said to be one, it would be described as what is answered.
Retry = Annotated[
    Any,
    PlainValidator(read_retry, BackoffIn | Delays | Literal["standard", "none"]),
]
