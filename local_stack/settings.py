"""What a person may choose about the local stack, by variables: `make up PORT=8090 EXECUTORS=3`."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from local_stack.ports import LOOPBACK

# Descriptions complete the sentence "PORT=abc is not …", and examples the one after it, "Try …".
PORT: dict[str, Any] = {"ge": 1, "le": 65_535, "description": "a port, 1 to 65535"}

SECRETS = {"database_url", "redis_url", "signing_secret"}


def _like(pattern: str) -> AfterValidator:
    def check(secret: SecretStr) -> SecretStr:
        if not re.fullmatch(pattern, secret.get_secret_value()):
            raise ValueError(pattern)
        return secret

    return AfterValidator(check)


def _check_handler_url(url: str) -> str:
    if not re.fullmatch(r"http://[^/@]+/?", url):
        raise ValueError(url)
    return url


class StackSettings(BaseSettings):
    """The choices for `make up`. A variable that is empty counts as not set."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    port: int = Field(8080, **PORT, examples=["make up PORT=8090"])
    executors: int = Field(
        2,
        ge=1,
        le=32,
        description="a number of executors, 1 to 32",
        examples=["make up EXECUTORS=2"],
    )
    data_dir: Path = Field(
        Path(".data"), description="a directory", examples=["make up DATA_DIR=.data"]
    )
    database_url: Annotated[SecretStr, _like(r"postgres(ql)?://.+")] | None = Field(
        None,
        description="the URL of a Postgres",
        examples=["make up DATABASE_URL=postgresql://user:password@127.0.0.1:5432/onthedot"],
    )
    redis_url: Annotated[SecretStr, _like(r"(rediss?|unix)://.+")] | None = Field(
        None,
        description="the URL of a Redis",
        examples=["make up REDIS_URL=redis://:password@127.0.0.1:6379/0"],
    )
    no_color: str | None = Field(None, description="see no-color.org")
    makelevel: int | None = Field(None, description="set by make for what it runs")


class ReceiverSettings(BaseSettings):
    """The choices for `make receiver`."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    receiver_host: str = Field(LOOPBACK, description="a name or an address of this machine")
    receiver_port: int = Field(9000, **PORT, examples=["make receiver RECEIVER_PORT=9001"])
    data_dir: Path = Field(
        Path(".data"), description="a directory", examples=["make receiver DATA_DIR=.data"]
    )
    signing_secret: Annotated[SecretStr, _like(r"whsec_[A-Za-z0-9+/]+=*")] | None = Field(
        None,
        description="a signing secret, whsec_ and base64",
        examples=["make receiver SIGNING_SECRET=whsec_..."],
    )
    handler_url: Annotated[str, AfterValidator(_check_handler_url)] | None = Field(
        None,
        description="the URL of a handler",
        examples=["make receiver HANDLER_URL=http://127.0.0.1:8080"],
    )


def explain(refusal: ValidationError, settings: type[BaseSettings]) -> str:
    """One line per variable that can't be used, with its remedy; never the value of a secret."""
    return "\n".join(
        _sentence(str(error["loc"][0]), error["input"], settings)
        for error in refusal.errors(include_url=False)
    )


def _sentence(name: str, value: object, settings: type[BaseSettings]) -> str:
    field = settings.model_fields[name]
    given = name.upper() if name in SECRETS else f"{name.upper()}={value}"
    return f"{given} is not {field.description}. Try: {(field.examples or [''])[0]}"
