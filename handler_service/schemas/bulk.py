"""Many jobs at once: which ones to cancel, and what came of it."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from handler_service.schemas.body import answer
from handler_service.schemas.job_filters import JobFilter
from handler_service.schemas.request_parts import refuse

FILTERS = ("status", "user", "key", "label", "host", "from", "to")


class CancelIn(JobFilter):
    """Which jobs to cancel: those that fit every field of `GET /jobs` that is given, one or more.

    What is over already does not fit.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"label": ["team:billing"], "dry_run": True},
                {"user": "anna", "status": "upcoming"},
                {
                    "host": "example.com",
                    "from": "2026-11-21T09:00:00Z",
                    "to": "2026-11-21T10:00:00Z",
                },
            ]
        }
    )

    dry_run: bool = Field(False, description="Only count what fits; cancel nothing.")

    @model_validator(mode="after")
    def _fits_not_everything(self) -> Self:
        if not self.label and not self.model_fields_set - {"label", "dry_run"}:
            raise refuse("filter", f"Must have one or more of {', '.join(FILTERS)}")
        return self


class CancelOut(BaseModel):
    """How many jobs fitted, and how many of them were cancelled."""

    model_config = answer({"matched": 240, "cancelled": 239})

    matched: int = Field(ge=0, description="Jobs that fit and are not over.")
    cancelled: int = Field(
        ge=0,
        description="Jobs of which nothing more is called. The others are executing their last "
        "run, or it is a dry run.",
    )


class ImportOut(BaseModel):
    """What came of the lines of an import."""

    model_config = answer({"created": 239, "replaced": 1})

    created: int = Field(ge=0, description="Jobs that were created.")
    replaced: int = Field(ge=0, description="Jobs that had a key of these and are as it says now.")
