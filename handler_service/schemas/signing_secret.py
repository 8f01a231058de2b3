"""An application's signing secret on the wire, in the form of Standard Webhooks 1.0.0."""

import base64
import binascii
import secrets
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from handler_service.schemas.body import Body, answer
from handler_service.schemas.request_parts import IsoDuration, read_seconds, refuse

PREFIX = "whsec_"
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
SECRET_BYTES = 32
OVERLAP_SECONDS_MAX = 30 * 86_400
OVERLAP_SECONDS_DEFAULT = 86_400.0
EXAMPLE = PREFIX + base64.b64encode(b"an example, and no secret of any").decode()


def write_secret(secret: bytes) -> str:
    """Write a secret as receivers keep it."""
    return PREFIX + base64.b64encode(secret).decode()


def new_secret() -> bytes:
    """Make a secret."""
    return secrets.token_bytes(SECRET_BYTES)


def _read_secret(text: Any) -> bytes:
    """Read a secret that the caller made; the refusal must not quote it."""
    if isinstance(text, str) and text.startswith(PREFIX):
        try:
            secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
            return secret
    raise refuse("secret", "Must be whsec_ and the base64 of 24 to 64 bytes")


_Overlap = Annotated[float, Field(ge=0, le=OVERLAP_SECONDS_MAX)]
Overlap = Annotated[_Overlap, BeforeValidator(read_seconds, _Overlap | IsoDuration)]
_SecretText = Annotated[str, Field(max_length=94)]
Secret = Annotated[bytes, BeforeValidator(_read_secret, _SecretText)]


class RotationIn(Body):
    """How to go over to another signing secret."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{}, {"overlap": "P7D"}, {"secret": EXAMPLE}]}
    )

    overlap: Overlap = Field(
        OVERLAP_SECONDS_DEFAULT,
        description="How long the present secret signs beside the new one: seconds, or ISO 8601; "
        "30 days at most, 0 for not at all.",
    )
    secret: Secret = Field(
        default_factory=new_secret,
        description="A secret of your own, 24 to 64 bytes; left out, we make one of 32.",
    )


class PreviousSecretOut(BaseModel):
    """The secret that was, while it still signs."""

    model_config = answer({"secret": EXAMPLE, "until": "2026-11-22T09:00:00.000Z"})

    secret: str
    until: str = Field(description="Until then deliveries carry its signature too.")


class SigningSecretOut(BaseModel):
    """What deliveries are signed with."""

    model_config = answer({"secret": EXAMPLE, "previous": None})

    secret: str = Field(description="`whsec_` and base64, as Standard Webhooks 1.0.0 has it.")
    previous: PreviousSecretOut | None = Field(description="Null: no rotation overlaps.")
