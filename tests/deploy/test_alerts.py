"""Alerts and dashboard: that they can be read, ask for what there is, and lead to a runbook."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
from prometheus_client import REGISTRY

from documentation.modules import modules
from tests.deploy.render import CHART, ROOT, Object, Release

DASHBOARD: Object = json.loads((CHART / "files/dashboard.json").read_text())
PANELS = [each for each in DASHBOARD["panels"] if each["type"] != "row"]


@pytest.fixture(scope="session")
def metrics() -> dict[str, set[str]]:
    """What the services can be asked for: the labels of each series of theirs."""
    list(modules())  # each registers its own as it is imported
    found: dict[str, set[str]] = {}
    for collector in set(REGISTRY._collector_to_names):
        labels = set(getattr(collector, "_labelnames", ()))
        for family in collector.collect():
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
            for suffix in suffixes.get(family.type, ("",)):
                found[family.name + suffix] = labels
    return found


def selectors(expression: str) -> Iterator[promql_parser.VectorSelector]:
    """Every selector of an expression, wherever it stands."""

    def parts(node: Any) -> Iterator[Any]:
        yield node
        for name in ("lhs", "rhs", "expr", "vector_selector"):
            if (inner := getattr(node, name, None)) is not None:
                yield from parts(inner)
        for inner in getattr(node, "args", None) or []:
            yield from parts(inner)

    for node in parts(promql_parser.parse(expression)):
        if isinstance(node, promql_parser.VectorSelector):
            yield node


def labels_of(expression: str) -> set[str]:
    """The labels that an expression groups by or matches."""
    grouped = re.findall(r"(?:by|on) \(([^)]*)\)", expression)
    matched = [matcher.name for each in selectors(expression) for matcher in each.matchers.matchers]
    return {name.strip() for names in grouped for name in names.split(",")} | set(matched)


# What Prometheus adds to all that it reads.
ADDED = {"namespace", "pod", "le"}


def ask_for_what_there_is(expression: str, metrics: dict[str, set[str]]) -> None:
    names = [each.name for each in selectors(expression)]
    assert names, expression
    for each in selectors(expression):
        assert each.name in metrics, each.name
        assert "namespace" in {matcher.name for matcher in each.matchers.matchers}, expression
    assert labels_of(expression) <= ADDED.union(*(metrics[name] for name in names)), expression


@pytest.fixture
def rules(releases: dict[str, Release]) -> list[Object]:
    (rule,) = releases["everything"].of_kind("PrometheusRule")
    return [each for group in rule["spec"]["groups"] for each in group["rules"]]


def test_alerts_ask_for_what_there_is(rules: list[Object], metrics: dict[str, set[str]]) -> None:
    assert len(rules) >= 15
    for each in rules:
        ask_for_what_there_is(each["expr"], metrics)


def test_every_alert_says_what_is_wrong_how_bad_it_is_and_what_to_do(rules: list[Object]) -> None:
    runbooks = (ROOT / "docs/runbooks.md").read_text()
    headings = re.findall(r"^## Alert: (\w+)$", runbooks, re.MULTILINE)
    assert sorted(headings) == sorted(each["alert"] for each in rules)
    for each in rules:
        assert each["labels"].keys() == {"severity", "namespace"}
        assert each["labels"]["severity"] in {"critical", "warning"}
        assert set(each["annotations"]) == {"summary", "runbook_url"}
        anchor = f"#alert-{each['alert'].lower()}"
        assert each["annotations"]["runbook_url"] == f"https://docs.example.com/runbooks/{anchor}"
    for section in runbooks.split("\n## ")[1:]:
        for word in ("Means", "Users notice", "Look at", "Do"):
            assert section.count(f"**{word}:**") == 1, section.splitlines()[0]
    for link in re.findall(r"\(#alert-(\w+)\)", runbooks):
        assert link in {name.lower() for name in headings}


def test_what_a_summary_says_of_its_value_is_what_the_expression_keeps(rules: list[Object]) -> None:
    for each in rules:
        for label in re.findall(r"\$labels\.(\w+)", each["annotations"]["summary"]):
            is_grouped_away = re.search(r"\b(max|min|sum) ?\(", each["expr"])
            assert f"by ({label})" in each["expr"] or not is_grouped_away, each["alert"]


def test_every_panel_asks_for_what_there_is(metrics: dict[str, set[str]]) -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "5m")
            ask_for_what_there_is(expression, metrics)
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert shown <= labels_of(expression) | ADDED, panel["title"]


def test_every_metric_is_on_the_dashboard(metrics: dict[str, set[str]]) -> None:
    shown = {
        each.name
        for panel in PANELS
        for target in panel["targets"]
        for each in selectors(target["expr"].replace("$__rate_interval", "5m"))
    }
    ours = {name for name in metrics if name.startswith("onthedot_")}
    wanted = {name for name in ours if not name.endswith(("_sum", "_count"))}
    assert wanted - shown == set()


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert all(titles)
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_panels_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + across, place["y"] + down)
            for across in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_asks_which_prometheus_and_which_namespace() -> None:
    variables = {each["name"]: each["type"] for each in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource": "datasource", "namespace": "query"}


def test_grafanas_sidecar_finds_the_dashboard(releases: dict[str, Release]) -> None:
    (found,) = releases["everything"].of_kind("ConfigMap")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"]["onthedot.json"]) == DASHBOARD
