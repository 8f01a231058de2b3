"""The lists whose plans and times are looked at: each filter, first pages and pages at depth."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from handler_service import history_reads
from handler_service.job_list_reads import Place, Wanted
from handler_service.schemas.instants import microseconds

NOW = datetime.now(UTC)
MOST = 51
USER, HOST, KEY = "user-17", "h17.example", "key-700000"
TEAM, PROD = ("team", "t17"), ("env", "prod")
START, END = NOW - timedelta(days=10), NOW - timedelta(days=9)
SPAN = {"instant_from": START, "instant_to": END}

JOBS: dict[str, Wanted] = {
    "all": Wanted(application_id=1),
    "all, ascending": Wanted(application_id=1, is_ascending=True),
    "from, to": Wanted(application_id=1, **SPAN),
    "user": Wanted(application_id=1, user=USER),
    "user, from, to": Wanted(application_id=1, user=USER, **SPAN),
    "key": Wanted(application_id=1, key=KEY),
    "host": Wanted(application_id=1, host=HOST),
    "label": Wanted(application_id=1, labels=[TEAM]),
    "common label": Wanted(application_id=1, labels=[PROD]),
    "two labels": Wanted(application_id=1, labels=[PROD, TEAM]),
    "user, host": Wanted(application_id=1, user=USER, host=HOST),
    "user, label": Wanted(application_id=1, user=USER, labels=[PROD]),
    "nobody": Wanted(application_id=1, user="nobody", host=HOST, labels=[PROD]),
    "upcoming": Wanted(application_id=1, status="upcoming", is_ascending=True),
    "upcoming, latest first": Wanted(application_id=1, status="upcoming"),
    "upcoming, user": Wanted(application_id=1, status="upcoming", user=USER, is_ascending=True),
    "upcoming, host": Wanted(application_id=1, status="upcoming", host=HOST, is_ascending=True),
    "upcoming, label": Wanted(
        application_id=1, status="upcoming", labels=[TEAM], is_ascending=True
    ),
    "executing": Wanted(application_id=1, status="executing"),
    "executing, user": Wanted(application_id=1, status="executing", user=USER),
    "succeeded": Wanted(application_id=1, status="succeeded"),
    "succeeded, from, to": Wanted(application_id=1, status="succeeded", **SPAN),
    "succeeded, user": Wanted(application_id=1, status="succeeded", user=USER),
    "succeeded, host": Wanted(application_id=1, status="succeeded", host=HOST),
    "succeeded, label": Wanted(application_id=1, status="succeeded", labels=[TEAM]),
    "succeeded, key": Wanted(application_id=1, status="succeeded", key="key-100000"),
    "failed": Wanted(application_id=1, status="failed"),
    "failed, user": Wanted(application_id=1, status="failed", user=USER),
    "failed, label": Wanted(application_id=1, status="failed", labels=[TEAM]),
    "uncertain": Wanted(application_id=1, status="uncertain"),
    "cancelled": Wanted(application_id=1, status="cancelled"),
    "skipped": Wanted(application_id=1, status="skipped"),
}
HISTORY: dict[str, history_reads.Wanted] = {
    "executions": history_reads.Wanted(application_id=1),
    "executions, from, to": history_reads.Wanted(
        application_id=1, finished_from=START, finished_to=END
    ),
    "executions, done": history_reads.Wanted(application_id=1, state="done"),
    "executions, failed": history_reads.Wanted(application_id=1, state="failed"),
    "executions, user": history_reads.Wanted(application_id=1, user=USER),
    "executions, host": history_reads.Wanted(application_id=1, host=HOST),
    "executions, failed, user": history_reads.Wanted(application_id=1, state="failed", user=USER),
}


def at_depth(wanted: Wanted) -> Wanted:
    """A page of this list from its middle."""
    middle = NOW - timedelta(days=20)
    if wanted.status == "upcoming":
        middle = NOW + timedelta(days=15)
    if wanted.status == "executing":
        middle = NOW - timedelta(hours=1)
    if wanted.instant_from is not None:
        middle = START + (END - START) / 2
    return replace(wanted, after=Place(500_000, microseconds(middle)))


def history_at_depth(wanted: history_reads.Wanted) -> history_reads.Wanted:
    """A page of this list from its middle."""
    middle = NOW - timedelta(days=20)
    if wanted.finished_from is not None:
        middle = START + (END - START) / 2
    number = microseconds(middle)
    return replace(wanted, after=history_reads.Place(number, 500_000, number, 1))
