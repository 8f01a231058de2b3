"""What makes a job valid: every criterion is told, whatever becomes of the others."""

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from handler_service.criteria import Criterion, Look, Unasked, judge
from shared.trials import Looked, Vetted

PUBLIC = Looked([Vetted("192.88.0.1", None)], refusal=None, error=None)
NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
NAMES = (
    *("fields", "scheme", "url", "host_resolves", "address_allowed"),
    *("schedule_lies_ahead", "sizes", "body"),
)
FINE = {"url": "https://example.com/hook"}


def looking(found: Looked | Unasked) -> Look:
    async def look(url: str) -> Looked | Unasked:
        del url
        return found

    return look


async def told(job: Any, found: Looked | Unasked = PUBLIC) -> dict[str, Criterion]:
    async def clock() -> datetime:
        return NOW

    verdict = await judge(job, payload_bytes_max=100, look=looking(found), clock=clock)
    criteria = {criterion.name: criterion for criterion in verdict.criteria}
    assert tuple(criteria) == NAMES
    assert verdict.is_valid == all(criterion.met for criterion in verdict.criteria)
    assert criteria["fields"].met == (not verdict.violations)
    assert all(criterion.detail.endswith(".") for criterion in verdict.criteria)
    return criteria


async def unmet(job: Any, found: Looked | Unasked = PUBLIC) -> dict[str, bool | None]:
    """What is not met of a job, or could not be asked."""
    return {name: each.met for name, each in (await told(job, found)).items() if not each.met}


@pytest.mark.parametrize(
    "job",
    [
        FINE,
        {**FINE, "delay": "PT5M"},
        {**FINE, "run_at": "2026-11-21T09:00:01Z"},
        {**FINE, "run_at": "2026-12-24T18:00", "timezone": "Europe/Berlin"},
        {**FINE, "cron": "0 9 * * *", "timezone": "Europe/Paris"},
        {**FINE, "every": 60},
        {**FINE, "rrule": "FREQ=DAILY", "ends_at": "2027-01-01T00:00:00Z"},
        {**FINE, "method": "DELETE"},
        {**FINE, "payload": None},
    ],
)
async def test_a_job_that_a_create_would_take_is_valid(job: dict[str, Any]) -> None:
    assert await unmet(job) == {}


MANY = dict.fromkeys(map(str, range(101)), "")
HOST = {"host_resolves": None, "address_allowed": None}


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ([], {"fields": False, "scheme": None, "url": None, **HOST}),
        ({}, {"fields": False, "scheme": None, "url": None, **HOST}),
        ({"url": 1}, {"fields": False, "scheme": None, "url": None, **HOST}),
        ({"url": "example.com"}, {"fields": False, "scheme": False, "url": False, **HOST}),
        ({"url": "ftp://a.test/"}, {"fields": False, "scheme": False, "url": False, **HOST}),
        ({"url": "http://a@b.test/"}, {"fields": False, "url": False, **HOST}),
        (
            {"url": "http://a.test/" + "x" * 2_048},
            {"fields": False, "sizes": False, **HOST},
        ),
        ({**FINE, "surprise": 1}, {"fields": False}),
        ({**FINE, "headers": {"a": "x" * 9_000}}, {"fields": False, "sizes": False}),
        ({**FINE, "headers": MANY}, {"fields": False, "sizes": False}),
        ({**FINE, "payload": "x" * 101}, {"sizes": False}),
        ({**FINE, "payload": 1e999}, {"fields": False, "body": False}),
        ({**FINE, "method": "GET", "payload": 1}, {"fields": False, "body": False}),
        ({**FINE, "method": 1}, {"fields": False, "body": None}),
        ({**FINE, "run_at": "2026-11-21T08:00:00Z"}, {"schedule_lies_ahead": False}),
        ({**FINE, "cron": "0 0 30 2 *"}, {"schedule_lies_ahead": False}),
        ({**FINE, "cron": "* * * *"}, {"schedule_lies_ahead": False}),
        ({**FINE, "every": 60, "ends_at": "2026-11-21T08:00:00Z"}, {"schedule_lies_ahead": False}),
        ({**FINE, "delay": -1}, {"fields": False, "schedule_lies_ahead": False}),
        ({**FINE, "delay": 1, "every": 1}, {"fields": False, "schedule_lies_ahead": False}),
    ],
)  # fmt: skip
async def test_each_fault_is_told_by_its_own_criterion(
    job: Any, expected: dict[str, bool | None]
) -> None:
    assert await unmet(job) == expected


@pytest.mark.parametrize(
    ("found", "resolves", "allowed", "detail"),
    [
        (PUBLIC, True, True, "May be reached."),
        (Unasked("No executor took it."), None, None, "No executor took it."),
        (Looked([], "port 25 is denied", None), None, False, "Port 25 is denied."),
        (Looked([], None, "dns: no answer in time"), False, None, "There is no address."),
        (Looked([], None, None), False, None, "There is no address."),
        (
            Looked([Vetted("10.0.0.1", "private"), Vetted("::1", "loopback")], None, None),
            *(True, False),
            "10.0.0.1 may not be reached: private; ::1 may not be reached: loopback.",
        ),
        (
            Looked([Vetted("10.0.0.1", "private"), Vetted("192.88.0.1", None)], None, None),
            *(True, True),
            "10.0.0.1 may not be reached: private.",
        ),
    ],
)  # fmt: skip
async def test_a_host_is_judged_as_an_executor_sees_it(
    found: Looked | Unasked, resolves: bool | None, allowed: bool | None, detail: str
) -> None:
    criteria = await told(FINE, found)
    assert criteria["host_resolves"].met is resolves
    assert criteria["address_allowed"].met is allowed
    assert criteria["address_allowed"].detail == detail


async def test_a_url_that_cannot_be_called_is_not_looked_up() -> None:
    async def look(url: str) -> Looked:
        raise AssertionError(url)

    async def clock() -> datetime:
        raise AssertionError("nothing here needs it")

    for url in ("ftp://a.test/", "http://a b/", "http://a.test/" + "x" * 2_048):
        await judge({"url": url}, payload_bytes_max=100, look=look, clock=clock)


async def test_without_postgres_the_clock_is_not_guessed() -> None:
    async def clock() -> datetime:
        raise psycopg.OperationalError

    job = {**FINE, "run_at": "2099-01-01T00:00:00Z"}
    verdict = await judge(job, payload_bytes_max=100, look=looking(PUBLIC), clock=clock)
    [schedule] = [each for each in verdict.criteria if each.name == "schedule_lies_ahead"]
    assert schedule.met is None
