"""The OpenAPI document: what the code makes is what is committed, sound, and the whole contract."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handler_service.app import create_app
from handler_service.problems import MEDIA_TYPE
from handler_service.schemas.bulk import CancelIn
from handler_service.schemas.dead_letters import ReplayIn
from handler_service.schemas.jobs import JobBatchIn, JobEditIn, JobIn, KeyedJobIn, PreviewIn
from handler_service.schemas.schedules import ScheduleEditIn, ScheduleIn
from handler_service.schemas.signing_secret import RotationIn
from handler_service.schemas.timers import TimerBatchIn, TimerEditIn, TimerIn
from handler_service.schemas.trials import TrialIn
from shared.settings import HandlerSettings

ROOT = Path(__file__).parent.parent.parent
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
JSON_TYPES = {"null", "boolean", "object", "array", "number", "string", "integer"}
BODIES = (
    *(TimerIn, TimerBatchIn, TimerEditIn),
    *(JobIn, JobBatchIn, JobEditIn, KeyedJobIn, PreviewIn, TrialIn),
    *(ReplayIn, RotationIn, CancelIn, ScheduleIn, ScheduleEditIn),
)
DOCUMENT: dict[str, Any] = create_app(HandlerSettings()).openapi()


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document, but what stands in an example."""
    if isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key not in {"example", "examples", "default"} or "responses" in node:
                yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def resolve(reference: str) -> Any:
    assert reference.startswith("#/")
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def test_the_committed_document_is_what_the_generator_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "handler_service.app"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (ROOT / "docs/openapi.json").read_text() == printed, (
        "run `python -m handler_service.app > docs/openapi.json`"
    )
    assert json.loads(printed) == DOCUMENT


def test_the_document_is_openapi_3_1() -> None:
    assert re.fullmatch(r"3\.1\.\d", DOCUMENT["openapi"])
    assert DOCUMENT["info"].keys() >= {"title", "version", "description"}
    assert DOCUMENT.keys() <= {"openapi", "info", "paths", "webhooks", "components", "tags"}


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    used = {node["$ref"] for node in walk(DOCUMENT) if "$ref" in node}
    for reference in used:
        assert resolve(reference)
    assert used == {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}


def test_every_schema_is_a_schema() -> None:
    for node in walk(DOCUMENT):
        kind = node.get("type")
        if isinstance(kind, str) and "name" not in node:
            assert kind in JSON_TYPES, node
        if kind == "array":
            assert "items" in node
        for bound in ("minimum", "maximum", "maxLength", "minLength", "maxItems", "minItems"):
            assert isinstance(node.get(bound, 0), int | float)
        if "required" in node and "properties" in node:
            assert set(node["required"]) <= node["properties"].keys()
        assert "nullable" not in node, "a word of OpenAPI 3.0"
        assert not {"ge", "gt", "le", "lt"} & node.keys(), "words of the validator"


def test_the_document_holds_every_route_that_is_served() -> None:
    assert {(path, method) for path, method, _ in operations()} == {
        ("/timers", "post"),
        ("/timers", "get"),
        ("/timers/batch", "post"),
        ("/timers/{timer_id}", "get"),
        ("/timers/{timer_id}", "patch"),
        ("/timers/{timer_id}", "delete"),
        ("/jobs", "post"),
        ("/jobs", "get"),
        ("/jobs/batch", "post"),
        ("/jobs/preview", "post"),
        ("/jobs/by-key/{key}", "get"),
        ("/jobs/by-key/{key}", "put"),
        ("/jobs/by-key/{key}/touch", "post"),
        ("/jobs/{job_id}", "get"),
        ("/jobs/{job_id}", "patch"),
        ("/jobs/{job_id}", "delete"),
        ("/jobs/{job_id}/pause", "post"),
        ("/jobs/{job_id}/resume", "post"),
        ("/jobs/{job_id}/trigger", "post"),
        ("/jobs/{job_id}/executions", "get"),
        ("/executions", "get"),
        ("/jobs/test", "post"),
        ("/jobs/validate", "post"),
        ("/jobs/cancel", "post"),
        ("/schedules", "post"),
        ("/schedules", "get"),
        ("/schedules/{job_id}", "get"),
        ("/schedules/{job_id}", "put"),
        ("/schedules/{job_id}", "delete"),
        ("/jobs/export", "get"),
        ("/jobs/import", "post"),
        ("/dead-letters", "get"),
        ("/dead-letters/replay", "post"),
        ("/dead-letters/{job_id}/{scheduled_for}/replay", "post"),
        ("/ledger", "get"),
        ("/stats", "get"),
        ("/forecast", "get"),
        ("/applications/{application_id}/signing-secret", "get"),
        ("/applications/{application_id}/signing-secret/rotate", "post"),
        ("/events", "get"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    }


def test_every_operation_has_a_name_of_its_own_and_says_what_it_does() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    ids.append(DOCUMENT["webhooks"]["timerFired"]["post"]["operationId"])
    assert len(set(ids)) == len(ids)
    for operation_id in ids:
        assert re.fullmatch(r"[a-z][A-Za-z]+", operation_id)
    for _, _, operation in operations():
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}


def test_every_parameter_of_a_path_is_described() -> None:
    for path, _, operation in operations():
        described = {
            parameter["name"]: parameter
            for parameter in operation.get("parameters", [])
            if parameter["in"] == "path"
        }
        assert set(re.findall(r"{(\w+)}", path)) == described.keys()
        assert all(parameter["required"] for parameter in described.values())


REFUSALS = {
    ("/timers", "post"): {"400", "409", "413", "415", "422", "503"},
    ("/timers", "get"): {"422", "503"},
    ("/timers/batch", "post"): {"400", "409", "413", "415", "422", "503"},
    ("/timers/{timer_id}", "get"): {"404", "503"},
    ("/timers/{timer_id}", "patch"): {"400", "404", "409", "413", "415", "422", "503"},
    ("/timers/{timer_id}", "delete"): {"404", "409", "503"},
    ("/jobs", "post"): {"400", "409", "413", "415", "422", "503"},
    ("/jobs", "get"): {"422", "503"},
    ("/jobs/batch", "post"): {"400", "409", "413", "415", "422", "503"},
    ("/jobs/preview", "post"): {"400", "413", "415", "422", "503"},
    ("/jobs/by-key/{key}", "get"): {"404", "422", "503"},
    ("/jobs/by-key/{key}", "put"): {"400", "409", "412", "413", "415", "422", "503"},
    ("/jobs/by-key/{key}/touch", "post"): {"404", "409", "422", "503"},
    ("/jobs/{job_id}", "get"): {"404", "503"},
    ("/jobs/{job_id}", "patch"): {"400", "404", "409", "412", "413", "415", "422", "503"},
    ("/jobs/{job_id}", "delete"): {"404", "409", "412", "503"},
    ("/jobs/{job_id}/pause", "post"): {"404", "409", "503"},
    ("/jobs/{job_id}/resume", "post"): {"404", "409", "503"},
    ("/jobs/{job_id}/trigger", "post"): {"404", "409", "422", "503"},
    ("/jobs/{job_id}/executions", "get"): {"404", "422", "503"},
    ("/executions", "get"): {"422", "503"},
    ("/jobs/test", "post"): {"400", "413", "415", "422", "503"},
    ("/jobs/validate", "post"): {"400", "413", "415", "503"},
    ("/schedules", "post"): {"400", "409", "413", "415", "422", "503"},
    ("/schedules", "get"): {"422", "503"},
    ("/schedules/{job_id}", "get"): {"404", "503"},
    ("/schedules/{job_id}", "put"): {"400", "404", "409", "413", "415", "422", "503"},
    ("/schedules/{job_id}", "delete"): {"404", "409", "503"},
    ("/jobs/cancel", "post"): {"400", "413", "415", "422", "503"},
    ("/jobs/export", "get"): {"503"},
    ("/jobs/import", "post"): {"409", "413", "415", "422", "503"},
    ("/dead-letters", "get"): {"422", "503"},
    ("/dead-letters/replay", "post"): {"400", "413", "415", "422", "503"},
    ("/dead-letters/{job_id}/{scheduled_for}/replay", "post"): {"404", "409", "503"},
    ("/ledger", "get"): {"503"},
    ("/stats", "get"): {"422", "503"},
    ("/forecast", "get"): {"422", "503"},
    ("/events", "get"): {"422", "503"},
    ("/applications/{application_id}/signing-secret", "get"): {"404", "503"},
    ("/applications/{application_id}/signing-secret/rotate", "post"): {
        *("400", "404", "413", "415", "422", "503")
    },
}


def test_the_refusals_of_every_route_are_tested_here() -> None:
    """Of all but those for who runs it: they refuse nobody."""
    routes = {
        (path, method)
        for path, method, operation in operations()
        if "health" not in operation["tags"]
    }
    assert routes == REFUSALS.keys()


@pytest.mark.parametrize(("route", "statuses"), REFUSALS.items())
def test_every_refusal_of_a_route_is_a_problem_with_an_example(
    route: tuple[str, str], statuses: set[str]
) -> None:
    [responses] = [
        operation["responses"]
        for path, method, operation in operations()
        if (path, method) == route
    ]
    refusals = {status for status in responses if status == "default" or int(status) >= 400}
    assert refusals == statuses | {"default"}
    for status in refusals:
        assert responses[status]["description"]
        assert responses[status]["content"].keys() == {MEDIA_TYPE}
        content = responses[status]["content"][MEDIA_TYPE]
        assert content["schema"] == {"$ref": "#/components/schemas/ProblemOut"}
        problem = content["example"]
        schema = resolve(content["schema"]["$ref"])
        assert set(schema["required"]) <= problem.keys() <= schema["properties"].keys()
        assert status in {str(problem["status"]), "default"}
        assert ("errors" in problem) == (status == "422")
    if "503" in statuses:
        assert "Retry-After" in responses["503"]["headers"]


def test_what_goes_well_is_described_with_an_example_and_its_headers() -> None:
    for path, method, operation in operations():
        statuses = {status for status in operation["responses"] if status.startswith("2")}
        # What puts a thing in its place says whether there was one.
        assert len(statuses) == 1 or (method == "put" and statuses == {"200", "201"})
        for status in statuses:
            answer = operation["responses"][status]
            assert answer["description"] != "Successful Response"
            assert ("content" in answer) == (status != "204")
            if path == "/events":
                assert answer["content"].keys() == {"text/event-stream"}
                assert "event: run.done" in answer["content"]["text/event-stream"]["example"]
            elif path == "/jobs/export":
                [line] = answer["content"]["application/x-ndjson"]["example"].splitlines()
                JobIn.model_validate_json(line)
            elif path == "/metrics":
                assert answer["content"].keys() == {"text/plain"}
            elif "content" in answer:
                schema = resolve(answer["content"]["application/json"]["schema"]["$ref"])
                assert schema.get("examples"), (path, method)


def headers(path: str, method: str, status: str = "200") -> set[str]:
    return DOCUMENT["paths"][path][method]["responses"][status].get("headers", {}).keys()


def test_what_an_answer_says_in_its_headers_is_described() -> None:
    assert headers("/timers", "post", "201") == {"Location", "Idempotency-Replayed"}
    assert headers("/timers/batch", "post", "201") == {"Idempotency-Replayed"}
    assert headers("/jobs", "post", "201") == {"Location", "ETag", "Idempotency-Replayed"}
    assert headers("/jobs/batch", "post", "201") == {"Idempotency-Replayed"}
    assert headers("/jobs/{job_id}/trigger", "post", "201") == {"Idempotency-Replayed"}
    for path in ("/timers", "/jobs", "/executions", "/jobs/{job_id}/executions", "/dead-letters"):
        assert "Link" in headers(path, "get")
    for method in ("get", "patch"):
        assert "ETag" in headers("/jobs/{job_id}", method)
    for verb in ("pause", "resume"):
        assert "ETag" in headers(f"/jobs/{{job_id}}/{verb}", "post")
    by_key = "/jobs/by-key/{key}"
    for path, method, status in (
        (by_key, "get", "200"),
        (by_key, "put", "200"),
        (by_key, "put", "201"),
        (f"{by_key}/touch", "post", "200"),
    ):
        assert headers(path, method, status) == {"Location", "ETag"}
    secret = "/applications/{application_id}/signing-secret"
    assert "Cache-Control" in headers(secret, "get")
    assert "Cache-Control" in headers(f"{secret}/rotate", "post")


def test_what_a_request_may_say_in_its_headers_is_described() -> None:
    said = {
        (path, method): {each["name"] for each in operation["parameters"] if each["in"] == "header"}
        for path, method, operation in operations()
        if "parameters" in operation
    }
    assert {route: names for route, names in said.items() if names} == {
        ("/timers", "post"): {"Idempotency-Key"},
        ("/timers/batch", "post"): {"Idempotency-Key"},
        ("/jobs", "post"): {"Idempotency-Key"},
        ("/jobs/import", "post"): {"Idempotency-Key"},
        ("/schedules", "post"): {"Idempotency-Key"},
        ("/jobs/batch", "post"): {"Idempotency-Key"},
        ("/jobs/{job_id}/trigger", "post"): {"Idempotency-Key"},
        ("/jobs/by-key/{key}", "put"): {"If-Match"},
        ("/jobs/{job_id}", "patch"): {"If-Match"},
        ("/jobs/{job_id}", "delete"): {"If-Match"},
        ("/events", "get"): {"last-event-id"},
    }


def test_a_parameter_is_described_with_an_example() -> None:
    for path, method, operation in operations():
        for each in operation.get("parameters", []):
            schema = each["schema"]
            known = {"example", "examples"} & each.keys()
            known |= {"examples", "default", "enum"} & schema.keys()
            known |= {"examples", "enum"} & schema.get("items", {}).keys()
            assert known, (path, method, each["name"])


def test_the_framework_s_own_errors_are_not_promised() -> None:
    assert "HTTPValidationError" not in json.dumps(DOCUMENT)


def test_a_body_is_described_with_examples_and_limits() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for model in BODIES:
        schema = schemas[model.__name__]
        assert schema["additionalProperties"] is False
        assert schema["examples"]
        for example in schema["examples"]:
            model.model_validate(example)
    timer = schemas["TimerIn"]["properties"]
    assert timer.keys() == {
        *("hours", "minutes", "seconds", "url", "method", "headers", "payload", "timeout"),
        *("retry", "delivery", "max_lateness", "user", "labels", "key"),
    }
    assert timer["url"]["maxLength"] == 2_048
    assert "default" not in timer["payload"], "null is a payload; left out is something else"
    assert schemas["TimerBatchIn"]["properties"]["timers"]["maxItems"] == 1_000
    number, text = timer["timeout"]["anyOf"]
    assert (number["minimum"], number["maximum"], text["format"]) == (0.001, 120, "duration")


def test_every_body_that_is_described_is_tested_here() -> None:
    described = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        for _, _, operation in operations()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    assert described == {f"#/components/schemas/{model.__name__}" for model in BODIES}


@pytest.mark.parametrize(("edit", "whole"), [("TimerEditIn", "TimerIn"), ("JobEditIn", "JobIn")])
def test_an_edit_has_the_fields_of_what_it_edits_all_of_them_optional_and_without_defaults(
    edit: str, whole: str
) -> None:
    schemas = DOCUMENT["components"]["schemas"]
    fields = schemas[edit]["properties"]
    assert fields.keys() == schemas[whole]["properties"].keys() - {"key"}, "a key stays"
    assert not schemas[edit].get("required")
    assert schemas[edit]["minProperties"] == 1
    assert not [name for name, field in fields.items() if "default" in field]
    assert schemas[whole]["properties"]["method"]["default"] == "POST"


def test_a_retry_policy_is_an_object_a_list_or_a_name() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    backoff, delays, name = schemas["TimerIn"]["properties"]["retry"]["anyOf"]
    assert backoff == {"$ref": "#/components/schemas/BackoffIn"}
    assert (delays["minItems"], delays["maxItems"]) == (1, 99)
    assert name["enum"] == ["standard", "none"]
    policy = schemas["BackoffIn"]
    defaults = {name: field["default"] for name, field in policy["properties"].items()}
    assert defaults == {
        "max_attempts": 5,
        "backoff": "exponential",
        "base": 5,
        "factor": 3,
        "max_delay": 3600,
        "jitter": 0.2,
        "max_age": None,
    }
    assert policy["additionalProperties"] is False


def test_a_timer_has_exactly_two_fields() -> None:
    timer = DOCUMENT["components"]["schemas"]["TimerOut"]
    assert timer["properties"].keys() == set(timer["required"]) == {"id", "time_left"}
    assert timer["additionalProperties"] is False
    assert {field["type"] for field in timer["properties"].values()} == {"integer"}
    assert timer["properties"]["time_left"]["minimum"] == 0


def test_the_limits_of_a_list_are_those_of_its_parameters() -> None:
    parameters = {
        parameter["name"]: parameter["schema"]
        for parameter in DOCUMENT["paths"]["/timers"]["get"]["parameters"]
    }
    limit = parameters["limit"]
    assert (limit["type"], limit["minimum"], limit["maximum"]) == ("integer", 1, 200)
    assert limit["default"] == 50
    assert parameters["cursor"]["type"] == "string"


def test_the_call_we_make_is_described_as_a_webhook() -> None:
    call = DOCUMENT["webhooks"]["timerFired"]["post"]
    headers = {parameter["name"] for parameter in call["parameters"]}
    assert headers >= {
        *("webhook-id", "webhook-timestamp", "webhook-signature"),
        *("onthedot-scheduled-for", "onthedot-attempt", "user-agent"),
    }
    event = call["requestBody"]["content"]["application/json"]["example"]
    assert event.keys() == {"type", "timestamp", "data"}
    assert event["data"].keys() == {"id", "scheduled_for", "attempt"}
    assert "2XX" in call["responses"]
