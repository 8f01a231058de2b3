"""What the OpenAPI document says that the signatures do not: bodies, problems, our call.

`python -m handler_service.app` prints it; `docs/openapi.json` is that; a test compares.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from handler_service.problems import (
    MEDIA_TYPE,
    BodyTooLarge,
    InvalidRequest,
    MalformedBody,
    Problem,
    Unavailable,
    WrongContentType,
)
from handler_service.violations import Violation
from shared import VERSION

REF = "#/components/schemas/{model}"
_bodies: dict[str, type[BaseModel]] = {}


class ViolationOut(BaseModel):
    """One thing wrong with a request."""

    pointer: str = Field(
        description="Where: a JSON pointer into the body, or the name of a parameter.",
        examples=["#/seconds"],
    )
    detail: str = Field(description="What is wrong and what to do.")


class ProblemOut(BaseModel):
    """A refusal (RFC 9457)."""

    type: str = Field(examples=["urn:onthedot:problem:timer_not_found"])
    title: str
    status: int
    detail: str
    code: str = Field(description="For programs; never changes.", examples=["timer_not_found"])
    errors: list[ViolationOut] = Field(
        default_factory=list, description="With 422, and only then: each violation."
    )


# What a status says wherever it is answered, by an example.
EXAMPLES: dict[int, Problem] = {
    example.status: example
    for example in (
        MalformedBody("The body is not valid JSON: trailing comma at line 1 column 14."),
        BodyTooLarge("#/payload: may have 262,144 bytes at most."),
        WrongContentType("text/plain"),
        InvalidRequest([Violation("#/seconds", "Must be 0 or more.")]),
        Unavailable(),
    )
}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Describe the body of an endpoint that reads it with `bodies.read`."""
    _bodies[model.__name__] = model
    schema = {"$ref": REF.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def problems(*refusals: int | Problem) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals of an endpoint, by status where every endpoint means the same by it.

    Whatever else goes wrong is a problem too.

    Being told so, FastAPI does not promise errors of its own.
    """
    described: dict[int | str, dict[str, Any]] = {}
    for each in refusals:
        example = EXAMPLES[each] if isinstance(each, int) else each
        if example.status in described:  # one example stands for all, and each is named
            described[example.status]["description"] += f"; or: {example.title}"
        else:
            described[example.status] = _refusal(example)
    if Unavailable.status in described:
        described[Unavailable.status]["headers"] = header("Retry-After", "Seconds to wait.", 1)
    other = Problem("This was not your fault. The failure is in our log.")
    return described | {"default": _refusal(other)}


def header(name: str, description: str, example: str | int) -> dict[str, Any]:
    """Describe a header field of an answer."""
    kind = "integer" if isinstance(example, int) else "string"
    return {name: {"description": description, "schema": {"type": kind}, "example": example}}


def header_parameter(name: str, description: str, example: str) -> dict[str, Any]:
    """Describe a header field that an endpoint reads by itself."""
    field = {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }
    return {"parameters": [field]}


def install(app: FastAPI) -> None:
    """Make the application serve the whole document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend the document


def _build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title="Onthedot",
        version=VERSION,
        summary="Calls a URL at the right moment, once.",
        description=__doc__.splitlines()[0] if app.description is None else app.description,
        routes=app.routes,
        tags=[
            {"name": "timers", "description": "A webhook, called once, after a delay."},
            {
                "name": "jobs",
                "description": "Webhooks, called once or again and again, and their history.",
            },
            {
                "name": "schedules",
                "description": "A text at a minute, as an older contract has it. Each is a job.",
            },
            {
                "name": "dead letters",
                "description": "Runs that failed for good, or of which nobody knows.",
            },
            {"name": "history", "description": "What happened, what is due, and that all adds up."},
            {
                "name": "applications",
                "description": "Whose timers they are, and whose secret signs.",
            },
            {"name": "health", "description": "For those who run it."},
        ],
    )
    models: list[type[BaseModel]] = [*_bodies.values(), ProblemOut]
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=REF
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions["$defs"])
    document["webhooks"] = {"timerFired": {"post": _outbound_call()}}
    return document


def _refusal(example: Problem) -> dict[str, Any]:
    content = {"schema": {"$ref": REF.format(model="ProblemOut")}, "example": example.body()}
    return {"description": example.title, "content": {MEDIA_TYPE: content}}


def _outbound_call() -> dict[str, Any]:
    headers = {
        "webhook-id": "The same on every attempt at a run: notice a second delivery by it.",
        "webhook-timestamp": "Unix seconds of this attempt.",
        "webhook-signature": "`v1,` and base64 HMAC-SHA256 of id.timestamp.body; two of them, by a "
        "space, while a rotation of the signing secret overlaps.",
        "onthedot-scheduled-for": "The instant the run was planned for (RFC 3339, UTC).",
        "onthedot-attempt": "Which attempt this is, from 1.",
        "user-agent": "onthedot/ and the version.",
    }
    data = {"id": 1, "scheduled_for": "2026-11-21T09:00:00.000Z", "attempt": 1}
    event = {"type": "timer.fired", "timestamp": data["scheduled_for"], "data": data}
    body = {"description": "The payload, or this event when there is none."}
    return {
        "summary": "The call we make",
        "operationId": "timerFired",
        "description": "Made with the job's own method, headers and payload. Answer 2xx within "
        "its timeout to accept it. 408, 425, 429, 3xx, 5xx, timeouts and broken connections are "
        "tried again, as the job's retry policy says; other answers are final. Redirects are not "
        "followed.",
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": text,
                "schema": {"type": "string"},
            }
            for name, text in headers.items()
        ],
        "requestBody": {"content": {"application/json": {"schema": body, "example": event}}},
        "responses": {"2XX": {"description": "Accepted"}},
    }
