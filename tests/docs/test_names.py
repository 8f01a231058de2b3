"""What the documentation names exists: metrics, settings, log events, fields of problems."""

import re

import promql_parser
import pytest

from documentation import log_events, problems
from documentation import metrics as metrics_page
from documentation import settings as settings_page
from tests.docs.blocks import DOCS, PAGES, ROOT, blocks_of, name_of

CODE = re.compile(r"`([^`\n]+)`")
METRIC = re.compile(r"onthedot_[a-z_]+")
SUFFIXES = ("_bucket", "_sum", "_count")
# Of make, Compose, OpenTelemetry and proxies.
NOT_OURS = {
    *(
        "EXECUTORS",
        "IMAGE",
        "POSTGRES_PASSWORD",
        "REDIS_PASSWORD",
        "DATA_DIR",
        "RECEIVER_PORT",
        "DEMO_NETWORK",
    ),
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "HTTP_PROXY", "CRON_TZ"),
    *(
        "GET",
        "SIGTERM",
        "LIFE",
        "HOURLY",
        "MINUTELY",
        "SECONDLY",
        "BYHOUR",
        "DELETE",
        "PATCH",
        "POST",
        "PUT",
    ),
}
EVENTS = {event.name for event in log_events.events()}
TELLS_OF_EVENTS = [DOCS / "operating.md", DOCS / "operating/incidents.md"]


def in_code(text: str) -> set[str]:
    return set(CODE.findall(text))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_metric_that_a_page_names_is_one_of_ours(page) -> None:
    known = set(METRIC.findall(metrics_page.page()))
    for name in METRIC.findall(page.read_text()):
        stem = next((name.removesuffix(each) for each in SUFFIXES if name.endswith(each)), name)
        # The name of a database, in the page on backups.
        assert {name, stem, f"{name}_total"} & known or name == "onthedot_restored", name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_setting_that_a_page_names_is_one_of_ours(page) -> None:
    known = set(re.findall(r"`([A-Z_]+)`", settings_page.page()))
    for word in in_code(page.read_text()):
        name = word.partition("=")[0]
        if re.fullmatch(r"[A-Z][A-Z_]{2,}", name):
            assert name in known | NOT_OURS, name


@pytest.mark.parametrize("page", TELLS_OF_EVENTS, ids=name_of)
def test_a_log_event_that_a_page_names_is_logged(page) -> None:
    named = {word for word in in_code(page.read_text()) if re.fullmatch(r"[a-z_]+\.[a-z_]+", word)}
    assert named <= EVENTS


def test_the_log_events_that_are_known_are_those_of_the_source() -> None:
    """A call that logs by another name than `log` or `logger` would be missed."""
    calls = re.compile(r"(\w+)\.(?:debug|info|warning|error|exception)\(\s*\"[a-z_]+\.[a-z_]+\"")
    for package in log_events.PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert set(calls.findall(path.read_text())) <= {"log", "logger"}, path


def test_every_problem_has_an_anchor() -> None:
    codes = re.findall(r'<a id="(\w+)"></a>`(\w+)`', problems.page())
    assert len(codes) > 20
    assert all(one == other for one, other in codes)


def test_a_query_asks_for_metrics_of_ours() -> None:
    queries = [
        query
        for page in PAGES
        for block in blocks_of(page)
        if block.language == "promql"
        for query in block.text.strip().split("\n\n")
    ]
    assert len(queries) >= 4
    for query in queries:
        promql_parser.parse(query)
        assert METRIC.search(query), query
