"""An execution on the wire, and which ones are asked for."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from handler_service.history_reads import Execution
from handler_service.schemas.body import MayBeLeftOut, answer
from handler_service.schemas.dead_letters import Host
from handler_service.schemas.instants import Instant, maybe, write_instant
from handler_service.schemas.page import Page
from handler_service.schemas.webhooks import User

State = Literal["done", "failed", "uncertain", "cancelled", "skipped", "retrying", "abandoned"]
_STATE = (
    "What it did to its run. It ended it: `done`, `failed`, `uncertain`, `cancelled`, `skipped`. "
    "It did not: `retrying` (it failed; another was planned), `abandoned` (its executor was lost)."
)
EXAMPLE: dict[str, Any] = {
    "job_id": 17,
    "scheduled_for": "2026-11-21T09:00:00.000Z",
    "attempt": 1,
    "state": "done",
    "started_at": "2026-11-21T09:00:00.001Z",
    "finished_at": "2026-11-21T09:00:00.083Z",
    "lateness_ms": 1.379,
    "http_status": 200,
    "error": None,
    "response": "thank you",
    "executor": "0b9d6a7e-3c0f-4a57-9f3e-0c8f1c1f7a55",
}


class ExecutionPage(Page):
    """Which executions to list."""

    status: MayBeLeftOut[State] = Field(None, description=_STATE)
    user: MayBeLeftOut[User] = Field(None, description="Whose jobs.")
    host: MayBeLeftOut[Host] = Field(None, description="The host of the URL.")
    from_: MayBeLeftOut[Instant] = Field(
        None,
        alias="from",
        examples=["2026-11-21T09:00:00Z"],
        description="Ended at this instant or later (RFC 3339).",
    )
    to: MayBeLeftOut[Instant] = Field(
        None, examples=["2026-11-21T10:00:00Z"], description="Ended before this instant (RFC 3339)."
    )


class ExecutionOut(BaseModel):
    """One attempt at a run; or how a run ended that was never sent."""

    model_config = answer(EXAMPLE)

    job_id: int = Field(description="The job's id.")
    scheduled_for: str = Field(description="The instant its run was planned for.")
    attempt: int = Field(description="Which attempt it was, from 1; 0: nothing was sent.")
    state: State = Field(description=_STATE)
    started_at: str | None = Field(description="When it began; null: never, or nobody knows.")
    finished_at: str = Field(description="When it ended.")
    lateness_ms: float | None = Field(description="How late it began, in milliseconds.")
    http_status: int | None = Field(description="What the receiver answered, if it did.")
    error: str | None = Field(description="What went wrong.")
    response: str | None = Field(description="The first KiB of the answer's body, as text.")
    executor: str | None = Field(description="Who made it; null: nobody had to.")


class ExecutionList(BaseModel):
    """Executions, the newest first."""

    model_config = answer({"data": [EXAMPLE], "next_cursor": None})

    data: list[ExecutionOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the page after this one.")


def execution_out(execution: Execution) -> dict[str, object]:
    """Write an execution as `ExecutionOut` describes it."""
    response, executor = execution.response, execution.executor
    return {
        **execution._asdict(),
        "scheduled_for": write_instant(execution.scheduled_for),
        "started_at": maybe(execution.started_at),
        "finished_at": write_instant(execution.finished_at),
        "response": None if response is None else response.decode(errors="replace"),
        "executor": None if executor is None else str(executor),
    }
