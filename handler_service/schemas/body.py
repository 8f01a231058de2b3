"""What every body and every answer on the wire has in common."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from handler_service.schemas.request_parts import refuse

Value = TypeVar("Value")
FIELDS_MAX = 50  # of one object: what has more is refused as one, not field by field


def _is_given(value: Any) -> Any:
    if value is None:
        raise refuse("null", "Must not be null; leave it out")
    return value


def without_default(schema: dict[str, Any]) -> None:
    """Document a field that left out means something that no value of it does."""
    schema.pop("default", None)


def _left_out_or_given(schema: dict[str, Any]) -> None:
    without_default(schema)
    [value, _null] = schema.pop("anyOf")
    schema.update(value)


# A field that may be left out, then None; null is refused, for it might mean anything.
MayBeLeftOut = Annotated[
    Value | None, BeforeValidator(_is_given), Field(json_schema_extra=_left_out_or_given)
]


class Body(BaseModel):
    """What every body has in common: its types are strict, its fields known and few."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, document: Any) -> Any:
        if isinstance(document, dict) and len(document) > FIELDS_MAX:
            raise refuse("body", f"Must have {FIELDS_MAX} fields at most")
        return document


def answer(*examples: dict[str, Any]) -> ConfigDict:
    """Say what an answer is like, and that it holds no more than that."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [*examples]})
