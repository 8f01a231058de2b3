"""The client and the services know each other by HTTP alone."""

import ast
import json
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onthedot import models, options
from onthedot.cli.reference import reference

ROOT = Path(__file__).parent.parent.parent
SERVICES = ("handler_service", "executor_service", "shared", "migrations", "local_stack")
CLIENT = "client/onthedot"


def imported(directory: str) -> Iterator[tuple[Path, str]]:
    """Each module of this directory, with the top of each name that it imports."""
    paths = sorted((ROOT / directory).rglob("*.py"))
    assert paths, directory
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    yield from ((path, name.name.partition(".")[0]) for name in names)
                case ast.ImportFrom(module=str(module)):
                    yield path, module.partition(".")[0]


def test_the_client_imports_no_service() -> None:
    assert not [found for found in imported(CLIENT) if found[1] in SERVICES]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_does_not_import_the_client(service: str) -> None:
    assert not [found for found in imported(service) if found[1] == "onthedot"]


def test_the_library_needs_what_it_says_and_no_more() -> None:
    library = [
        (path, name) for path, name in imported(CLIENT) if "cli" not in path.relative_to(ROOT).parts
    ]
    others = {name for _, name in library} - sys.stdlib_module_names
    assert others == {"httpx", "pydantic", "onthedot"}


def test_the_client_that_waits_is_made_from_the_other() -> None:
    made = runpy.run_path(str(ROOT / "client/make_synchronous.py"))["made"]()
    assert set(made) == set((ROOT / CLIENT / "synchronous").glob("*.py"))
    for path, text in made.items():
        assert path.read_text() == text, f"{path.name}: run `make docs`"


def test_the_reference_of_the_command_line_is_what_the_commands_say() -> None:
    assert (ROOT / "docs/reference/cli.md").read_text() == reference(), "run `make docs`"


def test_the_client_knows_every_route_of_the_document() -> None:
    """A route that the client lacks is seen here; those that are none of its business are named."""
    document = json.loads((ROOT / "docs/openapi.json").read_text())
    said = "\n".join(
        path.read_text() for path in sorted((ROOT / CLIENT / "asynchronous").glob("*.py"))
    )
    said = re.sub(r"\{call\.by_key\(key\)\}", "/jobs/by-key/{}", said)
    said = re.sub(r"call\.by_key\(key\)", '"/jobs/by-key/{}"', said)
    known = {re.sub(r"\{[^}]*\}", "{}", each) for each in re.findall(r'"(/[^"]+)"', said)}
    routes = {re.sub(r"\{[^}]*\}", "{}", path) for path in document["paths"]}
    assert routes - known == {"/healthz", "/metrics"}
    assert known - routes == set()


OPTIONS = {
    "TimerIn": options.NewTimer,
    "TimerEditIn": options.TimerChanges,
    "JobIn": options.NewJob,
    "JobEditIn": options.JobChanges,
    "DstIn": options.Dst,
    "BackoffIn": options.Backoff,
    "ExpectIn": options.Expectation,
    "CancelIn": options.JobFilters,
    "ReplayIn": options.ReplayFilters,
}
# Said in another way: a timer's delay as a whole, labels by name, and beside the filters.
SAID_OTHERWISE = {"delay", "labels", "label", "dry_run"}
ANSWERS = {
    "BucketOut": models.Bucket,
    "CalledOut": models.Trial,
    "CancelOut": models.Cancelled,
    "CriterionOut": models.Criterion,
    "DeadLetterOut": models.DeadLetter,
    "DstOut": models.Dst,
    "EndedOut": models.Ended,
    "ExecutionOut": models.Execution,
    "ExpectationOut": models.Met,
    "ForecastOut": models.Forecast,
    "ImportOut": models.Imported,
    "JobOut": models.Job,
    "LastRunOut": models.LastRun,
    "LatenessOut": models.Lateness,
    "LedgerOut": models.Ledger,
    "PreviewOut": models.Preview,
    "PreviewedOut": models.Occurrence,
    "PreviousSecretOut": models.PreviousSecret,
    "ReadyOut": models.Readiness,
    "ReplayCountOut": models.ReplayCount,
    "ReplayedOut": models.Replayed,
    "RetryOut": models.Retry,
    "ScheduleOut": models.Schedule,
    "SigningSecretOut": models.SigningSecret,
    "StatsOut": models.Stats,
    "StatsRowOut": models.StatsRow,
    "TimerOut": models.Timer,
    "TriggeredOut": models.Triggered,
    "ValidatedOut": models.Validation,
    "ViolationOut": models.Fault,
}
# A page, a batch or a list of those above; and what only a probe asks for.
GENERIC = re.compile(r"\w+(List|Page|BatchOut)|AliveOut|ProblemOut")
SCHEMAS = json.loads((ROOT / "docs/openapi.json").read_text())["components"]["schemas"]


@pytest.mark.parametrize("name", OPTIONS)
def test_what_may_be_said_is_what_the_document_takes(name: str) -> None:
    ours = {field.removesuffix("_") for field in OPTIONS[name].__annotations__}
    assert ours ^ set(SCHEMAS[name]["properties"]) <= SAID_OTHERWISE


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_has_the_fields_of_the_document(name: str) -> None:
    fields = ANSWERS[name].model_fields
    assert {fields[each].alias or each for each in fields} == set(SCHEMAS[name]["properties"])


def test_every_answer_of_the_document_has_a_model() -> None:
    answers = {name for name in SCHEMAS if name.endswith(("Out", "List", "Page"))}
    assert answers - set(ANSWERS) == {name for name in answers if GENERIC.fullmatch(name)}
