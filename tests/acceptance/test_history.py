"""`/executions` and `/jobs/{id}/executions`: what became of each attempt, the newest first."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from handler_service import history_reads
from handler_service.schemas.history import ExecutionOut
from tests.acceptance.test_job_lists import NOON, end, make
from tests.acceptance.test_timers_contract import Handler
from tests.acceptance.test_timers_contract_refusals import Refuse

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATES = ("done", "failed", "uncertain", "cancelled", "skipped", "retrying", "abandoned")
EXECUTOR = "0b9d6a7e-3c0f-4a57-9f3e-0c8f1c1f7a55"


@pytest.fixture
def handler(handler: Handler) -> Handler:
    """With no job and no history."""
    handler.query("truncate jobs, job_labels, schedules, executions")
    return handler


async def listed(handler: Handler, path: str = "/executions", **query: Any) -> list[dict[str, Any]]:
    answer = await handler.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    for execution in answer.json()["data"]:
        ExecutionOut.model_validate(execution)
    return list(answer.json()["data"])


async def walked(handler: Handler, path: str) -> list[tuple[int, str, int, str]]:
    found: list[tuple[int, str, int, str]] = []
    following: str | None = path
    while following:
        answer = await handler.http.get(following)
        assert answer.status_code == 200, answer.text
        found += [
            (each["job_id"], each["scheduled_for"], each["attempt"], each["finished_at"])
            for each in answer.json()["data"]
        ]
        assert (answer.json()["next_cursor"] is None) == ("link" not in answer.headers)
        following = answer.links["next"]["url"] if "link" in answer.headers else None
        assert len(found) < 1_000
    return found


async def test_an_execution_tells_what_happened(handler: Handler) -> None:
    job_id = make(handler)
    end(
        handler,
        job_id,
        NOON,
        "retrying",
        NOON + timedelta(milliseconds=83),
        attempt=2,
        started_at=NOON + timedelta(milliseconds=1),
        lateness_ms=1.25,
        http_status=503,
        error="status: the receiver answered 503",
        response="naïve ☃".encode() + b"\xff\x00",
        executor_id=EXECUTOR,
    )
    expected = {
        "job_id": job_id,
        "scheduled_for": "2026-01-02T12:00:00.000Z",
        "attempt": 2,
        "state": "retrying",
        "started_at": "2026-01-02T12:00:00.001Z",
        "finished_at": "2026-01-02T12:00:00.083Z",
        "lateness_ms": 1.25,
        "http_status": 503,
        "error": "status: the receiver answered 503",
        "response": "naïve ☃�\x00",
        "executor": EXECUTOR,
    }
    assert await listed(handler) == [expected]
    assert await listed(handler, f"/jobs/{job_id}/executions") == [expected]


async def test_what_was_never_sent_has_no_attempt_and_nobody_who_made_it(handler: Handler) -> None:
    job_id = make(handler)
    end(handler, job_id, NOON, "cancelled", NOON, attempt=0, started_at=None)
    [execution] = await listed(handler)
    assert execution["attempt"] == 0
    for name in ("started_at", "lateness_ms", "http_status", "error", "response", "executor"):
        assert execution[name] is None


async def test_a_job_without_history_has_an_empty_one_even_when_it_was_ended(
    handler: Handler,
) -> None:
    job_id = make(handler, state="ended")
    assert await listed(handler, f"/jobs/{job_id}/executions") == []


def filled(handler: Handler) -> dict[str, int]:
    """A job for each state, but for two that differ in whose they are and where they call."""
    jobs = {state: make(handler, ended=state, user_id="anna") for state in STATES}
    late = NOON + timedelta(days=3)
    jobs["bob's"] = make(handler, ended="done", user_id="bob", finished_at=late)
    jobs["elsewhere"] = make(handler, ended="failed", url="http://B.Example:80/", user_id="anna")
    return jobs


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, {*STATES, "bob's", "elsewhere"}),
        *(({"status": state}, {state}) for state in STATES[2:]),
        ({"status": "done"}, {"done", "bob's"}),
        ({"status": "failed"}, {"failed", "elsewhere"}),
        ({"user": "bob"}, {"bob's"}),
        ({"user": "anna"}, {*STATES, "elsewhere"}),
        ({"user": "nobody"}, set()),
        ({"host": "b.example"}, {"elsewhere"}),
        ({"host": "b.example", "user": "anna", "status": "failed"}, {"elsewhere"}),
        ({"host": "b.example", "user": "bob"}, set()),
        ({"from": "2026-01-03T00:00:00Z"}, {"bob's"}),
        ({"to": "2026-01-03T00:00:00Z"}, {*STATES, "elsewhere"}),
        ({"from": "2026-01-02T12:00:00Z", "to": "2026-01-02T12:00:00Z"}, set()),
        ({"from": "2026-01-02T12:00:00Z", "user": "anna", "status": "done"}, {"done"}),
    ],
)
@pytest.mark.parametrize("are_many", [False, True])
async def test_a_filter_finds_what_it_says(
    handler: Handler, query: dict[str, str], expected: set[str], *, are_many: bool
) -> None:
    jobs = filled(handler)
    if are_many:  # more jobs than are named one by one
        for name in ("anna", "bob", "nobody"):
            handler.query(
                "insert into jobs (application_id, url, method, timeout_seconds, run_at, user_id) "
                "select 1, 'https://b.example/', 'POST', 5, now(), %s "
                "from generate_series(1, %s::integer)",
                *(name, history_reads.MANY + 1),
            )
    found = await listed(handler, **query)
    assert sorted(each["job_id"] for each in found) == sorted(jobs[name] for name in expected)


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
@pytest.mark.parametrize("query", ["", "status=done", "user=anna", "host=example.com&user=anna"])
async def test_pages_hold_every_execution_once_and_in_order(
    handler: Handler, limit: int, query: str
) -> None:
    """Many ended at one instant, over more days than are looked at at first."""
    kept = []
    for days in (0, 0, 0, 1, 5, 30, 30):
        job_id = make(handler, user_id="anna")
        for attempt in (0, 1, 2):
            run = NOON - timedelta(days=days)
            state = "done" if attempt == 2 else "retrying"
            end(handler, job_id, run, state, run, attempt=attempt)
            if query != "status=done" or state == "done":
                kept.append((run, job_id, attempt))
    found = await walked(handler, f"/executions?{query}&limit={limit}")
    expected = [(job_id, attempt) for _, job_id, attempt in sorted(kept, reverse=True)]
    assert [(job_id, attempt) for job_id, _, attempt, _ in found] == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
async def test_the_history_of_a_job_begins_with_its_newest_run(
    handler: Handler, limit: int
) -> None:
    job_id, other = make(handler), make(handler, ended="done")
    for days in (1, 2, 3):
        run = NOON - timedelta(days=days)
        end(handler, job_id, run, "done", NOON, attempt=3)  # all at one instant, by replays
        for attempt in (1, 2):
            end(handler, job_id, run, "retrying", run, attempt=attempt)
    found = await walked(handler, f"/jobs/{job_id}/executions?limit={limit}")
    assert [(run[8:10], attempt) for _, run, attempt, _ in found] == [
        (day, attempt) for day in ("01", "31", "30") for attempt in (3, 2, 1)
    ]
    assert {job for job, *_ in found} == {job_id} != {other}


async def test_the_link_of_a_page_asks_the_same_again(handler: Handler) -> None:
    for _ in range(2):
        make(handler, ended="done", user_id="a&b")
    path = "/executions?limit=1&status=done&user=a%26b&from=2026-01-01T00:00:00%2B01:00"
    answer = await handler.http.get(path)
    params = httpx.URL(answer.links["next"]["url"]).params
    assert (params["status"], params["user"], params["limit"]) == ("done", "a&b", "1")
    assert len(await walked(handler, path)) == 2


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("cursor=abc", "cursor"),
        ("cursor=MTc", "cursor"),
        ("status=succeeded", "status"),
        ("status=", "status"),
        ("from=yesterday", "from"),
        ("to=2026-01-02", "to"),
        ("host=https://example.com", "host"),
        ("user=", "user"),
        ("label=a:b", "label"),
        ("state=done", "state"),
    ],
)
async def test_a_bad_parameter_is_named(
    handler: Handler, refuse: Refuse, query: str, parameter: str
) -> None:
    problem = await refuse("GET", f"/executions?{query}", 422)
    assert [error["pointer"] for error in problem["errors"]] == [parameter]
    if parameter in {"limit", "cursor"}:
        job_id = make(handler)
        problem = await refuse("GET", f"/jobs/{job_id}/executions?{query}", 422)
        assert [error["pointer"] for error in problem["errors"]] == [parameter]
