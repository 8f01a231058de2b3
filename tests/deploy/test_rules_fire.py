"""Each alert fires when it should and not otherwise: its rule, run by Prometheus's own promtool."""

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.deploy.render import Object, Release

SCRAPE_SECONDS = 15
SCRAPES = 240  # an hour


def series(name: str, pod: str, **labels: str) -> str:
    """A series as a pod of the release shows it."""
    labels = {"namespace": "onthedot", "pod": pod, **labels}
    return name + "{" + ", ".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def always(value: float) -> str:
    """A gauge that does not change."""
    return f"{value}+0x{SCRAPES}"


def rising(by: float) -> str:
    """A counter, by how much it rises at each scrape."""
    return f"0+{by}x{SCRAPES}"


BACKLOG = series("onthedot_backlog_runs", "executor-1")
BACKLOG_AGE = series("onthedot_backlog_age_seconds", "executor-1")
RENEWED = series("onthedot_lease_renewals_total", "executor-1", result="renewed")
NOT_RENEWED = series("onthedot_lease_renewals_total", "executor-1", result="failed")
SNAPSHOT_AGE = series("onthedot_postgres_oldest_snapshot_seconds", "executor-1")
XMIN_AGE = series("onthedot_postgres_oldest_xmin_transactions", "executor-1")
OUTCOMES_WAITING = series("onthedot_outcomes_waiting", "executor-1")
FIRED = series("onthedot_webhooks_fired_total", "executor-1", move="finish")
BURIED = series("onthedot_webhooks_fired_total", "executor-1", move="bury")
FENCED = series("onthedot_fence_refusals_total", "executor-1", move="finish")
BREAKERS = series("onthedot_breakers_open", "executor-1")
CLOCK = series("onthedot_clock_offset_seconds", "executor-1")
DAYS_AHEAD = series("onthedot_history_days_ahead", "executor-1")
REDIS = series("onthedot_redis_up", "handler-1")
HANDLER = series("onthedot_build_info", "handler-1", service="handler", version="0.1.0")


def requests(route: str, status: str) -> str:
    labels = {"method": "POST", "route": route, "status": status}
    return series("onthedot_http_requests_total", "handler-1", **labels)


def late_at_most(seconds: str) -> str:
    return series("onthedot_lateness_seconds_bucket", "executor-1", le=seconds)


# A release that has its day's work, and does it.
WELL = {
    late_at_most("0.5"): rising(100),
    late_at_most("2.5"): rising(100),
    late_at_most("+Inf"): rising(100),
    BACKLOG: always(0),
    BACKLOG_AGE: always(0),
    RENEWED: rising(8),
    NOT_RENEWED: always(0),
    FENCED: always(0),
    FIRED: rising(100),
    BURIED: always(0),
    BREAKERS: always(0),
    REDIS: always(1),
    series("onthedot_redis_up", "executor-1"): always(1),
    CLOCK: always(0.01),
    SNAPSHOT_AGE: always(2),
    XMIN_AGE: always(500),
    DAYS_AHEAD: always(7),
    OUTCOMES_WAITING: always(3),
    HANDLER: always(1),
    series("onthedot_build_info", "executor-1", service="executor", version="0.1.0"): always(1),
    requests("/timers", "201"): rising(100),
    requests("/readyz", "200"): rising(3),
}


def of_another_release(shown: dict[str, str]) -> dict[str, str]:
    """The same, in another namespace."""
    return {name.replace('"onthedot"', '"other"'): values for name, values in shown.items()}


OF_THE_EXECUTOR = {"pod": "executor-1"}


@dataclass(frozen=True)
class Case:
    """What differs from a release that is well, and which alert fires for it, if any."""

    name: str
    differs: dict[str, str | None]
    minutes: int
    alert: str | None = None
    summary: str = ""
    labels: dict[str, str] = field(default_factory=dict)


CASES = [
    Case("all is well", {}, 45),
    Case(
        "five attempts in a hundred are late",
        {
            late_at_most("0.5"): rising(95),
            late_at_most("2.5"): rising(95),
        },
        15,
        "OnthedotLate",
        "One webhook in a hundred begins more than 1 s late.",
    ),
    Case("one attempt in two hundred is late", {late_at_most("0.5"): rising(99.5)}, 15),
    Case(
        "a run has waited for a minute",
        {BACKLOG: always(1), BACKLOG_AGE: always(60)},
        5,
        "OnthedotBacklogOld",
        "The oldest overdue run has been waiting for 1m 0s.",
    ),
    Case("a run waits for ten seconds", {BACKLOG: always(1), BACKLOG_AGE: always(10)}, 45),
    Case(
        "a backlog grows",
        {BACKLOG: f"0+500x20 10000+0x{SCRAPES}", BACKLOG_AGE: "0+0.1x240"},
        # Twenty seconds old after 50 minutes: too young for OnthedotBacklogOld.
        45,
        "OnthedotBacklogGrows",
        "10k runs are overdue, and they become neither fewer nor younger.",
    ),
    Case(
        "a backlog above what is counted drains",
        {
            BACKLOG: always(10_000),
            BACKLOG_AGE: "28-0.1x240",
        },
        45,
    ),
    Case("a herd of one instant is fired", {BACKLOG: "9900-40x120", BACKLOG_AGE: "0+0.1x240"}, 25),
    Case(
        "a herd is fired within minutes",
        {BACKLOG: f"0+500x20 9500-500x19 0x{SCRAPES}", BACKLOG_AGE: "0+0.1x240"},
        7,
    ),
    Case("a small backlog stays", {BACKLOG: always(100), BACKLOG_AGE: always(1)}, 45),
    Case(
        "no executor renews its lease",
        {RENEWED: f"0+8x40 320+0x{SCRAPES}"},
        15,
        "OnthedotNoExecutor",
        "No executor holds a lease, so nothing is sent.",
    ),
    Case(
        "there are no executors",
        {RENEWED: None},
        5,
        "OnthedotNoExecutor",
        "No executor holds a lease, so nothing is sent.",
    ),
    Case(
        "there are no handlers",
        {HANDLER: None},
        5,
        "OnthedotNoHandler",
        "There is no handler, so nothing can be created or asked.",
        {"service": "handler"},
    ),
    Case("handlers are gone for a minute", {HANDLER: "1+0x40 stale _x3 1+0x240"}, 11),
    Case(
        "one executor of two fails to renew",
        {NOT_RENEWED: rising(4)},
        12,
        "OnthedotLeaseNotRenewed",
        "The executor executor-1 keeps failing to renew its lease.",
        OF_THE_EXECUTOR,
    ),
    Case("renewals fail for two minutes", {NOT_RENEWED: f"0+10x8 80+0x{SCRAPES}"}, 4),
    Case("one renewal in a minute fails", {NOT_RENEWED: rising(0.25)}, 45),
    Case(
        "the fence refuses twenty outcomes",
        {FENCED: f"0+0x20 0+2x10 20+0x{SCRAPES}"},
        12,
        "OnthedotFenceRefusals",
        "20 outcomes within 15 minutes were of claims that others had taken over.",
    ),
    Case("the fence refuses five", {FENCED: f"0+0x20 0+1x5 5+0x{SCRAPES}"}, 12),
    Case(
        "two runs a second become dead letters",
        {BURIED: rising(30)},
        32,
        "OnthedotDeadLetters",
        "2 runs a second end as dead letters.",
    ),
    Case("two thousand runs end at once", {BURIED: f"0x10 2000x{SCRAPES}"}, 10),
    Case("a run in two seconds becomes a dead letter", {BURIED: rising(7.5)}, 45),
    Case(
        "two destinations are down",
        {BREAKERS: always(2)},
        32,
        "OnthedotBreakersOpen",
        "For half an hour destinations have been down; 2 are now.",
    ),
    Case("a destination is down for a quarter of an hour", {BREAKERS: "0x20 1x60 0x240"}, 19),
    Case(
        "Redis does not answer one process",
        {REDIS: always(0)},
        8,
        "OnthedotRedisDown",
        "Redis does not answer at least one of the processes.",
    ),
    Case("Redis is restarted", {REDIS: f"1x20 0x8 1x{SCRAPES}"}, 6),
    Case(
        "a clock is slow",
        {CLOCK: always(-2)},
        12,
        "OnthedotClockOff",
        "The clock of executor-1 is 2s from the database's.",
        OF_THE_EXECUTOR,
    ),
    Case("a clock is half a second off", {CLOCK: always(0.5)}, 45),
    Case(
        "a transaction stays open",
        {SNAPSHOT_AGE: always(1_000)},
        25,
        "OnthedotVacuumHeldBack",
        "Vacuum is held back, and the queue fills with dead rows.",
    ),
    Case(
        "a replication slot has no reader",
        {XMIN_AGE: always(2_000_000)},
        15,
        "OnthedotVacuumHeldBack",
        "Vacuum is held back, and the queue fills with dead rows.",
    ),
    Case("a report takes ten minutes", {SNAPSHOT_AGE: f"0+15x40 0+0x{SCRAPES}"}, 12),
    Case(
        "history ends the day after tomorrow",
        {DAYS_AHEAD: always(2)},
        60,
        "OnthedotHistoryNotMade",
        "History has partitions for 2 days ahead only; seven are usual.",
    ),
    Case("history is made six days ahead", {DAYS_AHEAD: always(6)}, 60),
    Case(
        "creates are refused",
        {requests("/timers", "503"): rising(100)},
        12,
        "OnthedotHandlerErrors",
        "50% of the requests are answered with 5xx.",
    ),
    Case("one create in a thousand is refused", {requests("/timers", "503"): rising(0.1)}, 45),
    Case(
        "what is asked by the machines is refused",
        {
            requests(route, "503"): rising(100)
            for route in ("/healthz", "/readyz", "/metrics", "/stats", "/ledger", "/jobs/test")
        },
        45,
    ),
    Case(
        "probes and scrapes are most of the requests, and creates are refused",
        {
            requests("/readyz", "200"): rising(100_000),
            requests("/timers", "503"): rising(100),
        },
        12,
        "OnthedotHandlerErrors",
        "50% of the requests are answered with 5xx.",
    ),
    Case(
        "Postgres takes no outcomes",
        {OUTCOMES_WAITING: rising(1), FIRED: always(100)},
        10,
        "OnthedotOutcomesWaiting",
        "executor-1 has 32 outcomes that Postgres does not take.",
        OF_THE_EXECUTOR,
    ),
    Case(
        "an executor has just begun",
        {
            OUTCOMES_WAITING: f"_x20 3x{SCRAPES}",
            FIRED: f"_x20 0+100x{SCRAPES}",
        },
        5,
    ),
]


# Beside a release that is well: this must not wake its people.
RUINS = {
    name: values
    for case in CASES
    if case.alert
    for name, values in case.differs.items()
    if values is not None
} | {BACKLOG_AGE: rising(15), FENCED: rising(2)}
CASES.append(Case("another release is in ruins", dict(of_another_release(RUINS)), 35))


@pytest.fixture(scope="session")
def rules(releases: dict[str, Release]) -> list[Object]:
    (rule,) = releases["everything"].of_kind("PrometheusRule")
    return [each for group in rule["spec"]["groups"] for each in group["rules"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_alert_fires_for_its_cause_alone(
    rules: list[Object], case: Case, tmp_path: Path
) -> None:
    if not (promtool := shutil.which("promtool")):
        pytest.skip("promtool is not here, which runs the rules (Debian's package prometheus)")
    # Another release is well: it must not hide what is wrong with this one.
    differing = WELL | of_another_release(WELL) | case.differs
    shown = {name: values for name, values in differing.items() if values is not None}
    test = {
        "interval": f"{SCRAPE_SECONDS}s",
        "input_series": [{"series": name, "values": values} for name, values in shown.items()],
        "alert_rule_test": [
            # Never at once.
            *({"eval_time": "45s", "alertname": rule["alert"]} for rule in rules),
            *(
                {
                    "eval_time": f"{case.minutes}m",
                    "alertname": rule["alert"],
                    "exp_alerts": [firing(case, rule)] if rule["alert"] == case.alert else [],
                }
                for rule in rules
            ),
        ],
    }
    # JSON is YAML too.
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "a", "rules": rules}]}))
    tests = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": [test]}
    (tmp_path / "tests.yaml").write_text(json.dumps(tests))
    done = subprocess.run(
        [promtool, "test", "rules", "tests.yaml"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def firing(case: Case, rule: Object) -> Object:
    """The alert that promtool has to find."""
    return {
        "exp_labels": {
            **case.labels,
            "severity": rule["labels"]["severity"],
            "namespace": "onthedot",
        },
        "exp_annotations": {**rule["annotations"], "summary": case.summary},
    }


def test_every_alert_has_a_case(rules: list[Object]) -> None:
    assert {each["alert"] for each in rules} == {case.alert for case in CASES if case.alert}
