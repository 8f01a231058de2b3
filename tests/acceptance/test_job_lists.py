"""`GET /jobs`: each filter finds what it says, and pages go to the end without gap or double."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from psycopg.types.json import Jsonb

from handler_service import job_list_selects, job_lists
from handler_service.job_list_reads import Place, Wanted, _shape, _values
from handler_service.schemas.job_out import JobOut
from shared import database
from tests.acceptance.test_timers_contract import Handler
from tests.acceptance.test_timers_contract_refusals import BAD_IDS, Refuse

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ENDS = {
    "succeeded": "done",
    "failed": "failed",
    "uncertain": "uncertain",
    "cancelled": "cancelled",
    "skipped": "skipped",
}


@pytest.fixture
def handler(handler: Handler) -> Handler:
    """With no job and no history."""
    handler.query("truncate jobs, job_labels, schedules, executions")
    return handler


def make(
    handler: Handler,
    *,
    at: datetime = NOON,
    ended: str | None = None,
    finished_at: datetime | None = None,
    outstanding: str | None = None,
    due_at: datetime | str | None = None,
    attempt: int = 0,
    **job: Any,
) -> int:
    """A job whose run ended so, or stands so, or neither."""
    values = {"url": "https://example.com/hook", "method": "POST", "timeout_seconds": 5.0, **job}
    for name in ("labels", "headers", "recurrence", "retry"):
        if name in values:
            values[name] = Jsonb(values[name])
    names, places = ", ".join(values), ", ".join(["%s"] * len(values))
    [made] = handler.query(
        f"insert into jobs (application_id, run_at, created_at, {names}) "
        f"values (1, %s, %s, {places}) returning id",
        *(at, at - timedelta(hours=1), *values.values()),
    )
    job_id = int(made["id"])
    handler.query(
        "insert into job_labels (application_id, name, value, run_at, job_id) select 1, label.key, "
        "label.value, run_at, id from jobs, jsonb_each_text(labels) as label where id = %s",
        job_id,
    )
    if ended is not None:
        end(handler, job_id, at, ended, finished_at or at)
    if outstanding is not None:
        stand(handler, job_id, at, outstanding, due_at=due_at, attempt=attempt)
    return job_id


def end(
    handler: Handler, job_id: int, run: datetime, state: str, finished_at: datetime, **more: Any
) -> None:
    values = {"attempt": 1, "started_at": finished_at, **more}
    names, places = ", ".join(values), ", ".join(["%s"] * len(values))
    handler.query(
        f"insert into executions (job_id, scheduled_for, state, finished_at, {names}) "
        f"values (%s, %s, %s, %s, {places})",
        *(job_id, run, state, finished_at, *values.values()),
    )


def stand(
    handler: Handler,
    job_id: int,
    run: datetime,
    state: str,
    *,
    due_at: datetime | str | None = None,
    attempt: int = 0,
) -> None:
    handler.query(
        "insert into schedules (job_id, scheduled_for, due_at, state, attempt, fence, executor_id) "
        "values (%s, %s, %s, %s, %s, %s, case when %s then gen_random_uuid() end)",
        *(job_id, run, due_at or run, state, attempt, attempt + 1, state == "executing"),
    )


async def listed(handler: Handler, **query: Any) -> list[int]:
    answer = await handler.http.get("/jobs", params=query)
    assert answer.status_code == 200, answer.text
    for job in answer.json()["data"]:
        JobOut.model_validate(job)
    return [job["id"] for job in answer.json()["data"]]


async def read(handler: Handler, job_id: int) -> dict[str, Any]:
    answer = await handler.http.get(f"/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    JobOut.model_validate(answer.json())
    return dict(answer.json())


async def walked(handler: Handler, path: str) -> list[int]:
    """The jobs of every page, by the links from one to the next."""
    found: list[int] = []
    following: str | None = path
    while following:
        answer = await handler.http.get(following)
        assert answer.status_code == 200, answer.text
        found += [job["id"] for job in answer.json()["data"]]
        assert (answer.json()["next_cursor"] is None) == ("link" not in answer.headers)
        following = answer.links["next"]["url"] if "link" in answer.headers else None
        assert len(found) < 1_000
    return found


async def test_a_job_is_answered_with_all_that_was_said_of_it(handler: Handler) -> None:
    job_id = make(
        handler,
        url="https://example.com/hook?token=hunter2",
        method="PUT",
        headers={"authorization": "Bearer secret"},
        payload=b'{"n":123456789012345678901234567890,"t":"\xc3\xa9"}',
        recurrence={
            "rrule": "FREQ=DAILY",
            "timezone": "Europe/Paris",
            "anchor": "2026-01-01T11:00:00+00:00",
            "max_runs": 9,
            "jitter_seconds": 2.5,
            "fold": "both",
            "catch_up": "all",
        },
        user_id="anna",
        key="report",
        labels={"team": "a,b"},
        retry={"max_attempts": 3, "delays": [1.0, 2.0], "jitter": 0.0},
        delivery="at_most_once",
        max_lateness_seconds=60.0,
        version=7,
        last_run_for=NOON - timedelta(days=1),
        outstanding="pending",
    )
    end(handler, job_id, NOON - timedelta(days=1), "failed", NOON - timedelta(hours=23), error="x")
    answer = await handler.http.get(f"/jobs/{job_id}")
    assert answer.headers["etag"] == '"7"'
    assert await read(handler, job_id) == {
        "id": job_id,
        "url": "https://example.com/hook?token=hunter2",
        "method": "PUT",
        "headers": {"authorization": "Bearer secret"},
        "payload": {"n": 123456789012345678901234567890, "t": "é"},
        "run_at": "2026-01-02T12:00:00.000Z",
        "delay": None,
        "cron": None,
        "every": None,
        "rrule": "FREQ=DAILY",
        "timezone": "Europe/Paris",
        "anchor": "2026-01-01T11:00:00.000Z",
        "starts_at": None,
        "ends_at": None,
        "max_runs": 9,
        "jitter": 2.5,
        "catch_up": "all",
        "overlap": "allow",
        "dst": {"gap": "after", "fold": "both"},
        "user": "anna",
        "key": "report",
        "labels": {"team": "a,b"},
        "timeout": 5.0,
        "retry": {
            "max_attempts": 3,
            "backoff": None,
            "base": None,
            "factor": None,
            "max_delay": None,
            "delays": [1.0, 2.0],
            "jitter": 0.0,
            "max_age": None,
        },
        "delivery": "at_most_once",
        "max_lateness": 60.0,
        "state": "active",
        "status": "upcoming",
        "next_run_at": "2026-01-02T12:00:00.000Z",
        "last_run": {
            "scheduled_for": "2026-01-01T12:00:00.000Z",
            "state": "failed",
            "attempt": 1,
            "started_at": "2026-01-01T13:00:00.000Z",
            "finished_at": "2026-01-01T13:00:00.000Z",
            "lateness_ms": None,
            "http_status": None,
            "error": "x",
        },
        "created_at": "2026-01-02T11:00:00.000Z",
        "updated_at": answer.json()["updated_at"],
        "version": 7,
    }


async def test_what_was_not_said_is_null(handler: Handler) -> None:
    job = await read(handler, make(handler, outstanding="pending"))
    for name in ("headers", "payload", "delay", "cron", "every", "rrule", "timezone", "dst"):
        assert job[name] is None
    for name in ("catch_up", "overlap", "user", "key", "labels", "max_lateness", "last_run"):
        assert job[name] is None
    assert job["retry"]["max_attempts"] == 5


async def test_an_interval_is_read_on_no_wall_clock(handler: Handler) -> None:
    job = await read(
        handler,
        make(
            handler,
            recurrence={"every_seconds": 90.0, "anchor": "2026-01-01T00:00:00+00:00"},
            outstanding="pending",
        ),
    )
    assert (job["every"], job["timezone"], job["dst"]) == (90.0, None, None)
    assert (job["catch_up"], job["overlap"], job["jitter"]) == ("one", "allow", None)


@pytest.mark.parametrize(
    ("payload", "content_type", "answered"),
    [
        (b"[1, 2]", None, [1, 2]),
        (b'"text"', None, "text"),
        (b"null", "application/json", None),
        (b"a=1", "application/x-www-form-urlencoded", "a=1"),
        (b"[1]", "text/plain", "[1]"),
        (b"no json any more", "application/cloudevents+json", "no json any more"),
    ],
)
async def test_a_payload_is_answered_as_it_was_given(
    handler: Handler, payload: bytes, content_type: str | None, answered: object
) -> None:
    headers = {} if content_type is None else {"headers": {"Content-Type": content_type}}
    job = await read(handler, make(handler, outstanding="pending", payload=payload, **headers))
    assert job["payload"] == answered


@pytest.mark.parametrize(("status", "state"), ENDS.items())
async def test_a_job_that_is_over_tells_how(handler: Handler, status: str, state: str) -> None:
    job = await read(handler, make(handler, ended=state))
    assert (job["state"], job["status"], job["next_run_at"]) == ("ended", status, None)
    assert job["last_run"]["state"] == state


async def test_a_job_cancelled_before_its_instant_tells_so(handler: Handler) -> None:
    job_id = make(
        handler, ended="cancelled", finished_at=NOON - timedelta(minutes=50), state="ended"
    )
    job = await read(handler, job_id)
    assert (job["status"], job["last_run"]["state"]) == ("cancelled", "cancelled")
    assert await listed(handler, status="cancelled") == [job_id]


async def test_a_status_is_of_what_is_outstanding_before_what_is_over(handler: Handler) -> None:
    times = {"at": NOON}
    pending = make(handler, outstanding="pending", **times)
    retrying = make(handler, outstanding="pending", attempt=2, **times)
    executing = make(handler, outstanding="executing", **times)
    paused = make(handler, outstanding="pending", due_at="infinity", state="paused", **times)
    seen = [await read(handler, each) for each in (pending, retrying, executing, paused)]
    assert [(job["state"], job["status"]) for job in seen] == [
        ("active", "upcoming"),
        ("active", "retrying"),
        ("active", "executing"),
        ("paused", "upcoming"),
    ]
    assert seen[3]["next_run_at"] is None


async def test_a_replayed_run_is_not_over(handler: Handler) -> None:
    job_id = make(handler, outstanding="pending", attempt=5)
    end(handler, job_id, NOON, "failed", NOON, replayed_at=NOON)
    job = await read(handler, job_id)
    assert (job["status"], job["last_run"]) == ("retrying", None)
    assert await listed(handler, status="failed") == []


async def test_a_timer_that_was_triggered_before_its_instant_tells_of_its_newest_run(
    handler: Handler,
) -> None:
    early = NOON - timedelta(minutes=30)
    job_id = make(handler, outstanding="pending", last_run_for=early, runs_made=2)
    end(handler, job_id, early, "failed", early)
    assert (await read(handler, job_id))["last_run"]["state"] == "failed"
    assert await listed(handler, status="failed") == [job_id]
    handler.query("delete from schedules")
    end(handler, job_id, NOON, "done", NOON)
    job = await read(handler, job_id)
    assert (job["status"], job["last_run"]["state"]) == ("succeeded", "done")
    assert await listed(handler, status="failed") == []
    assert await listed(handler, status="succeeded") == [job_id]


async def test_while_a_run_of_a_recurring_job_executes_the_one_before_is_the_last(
    handler: Handler,
) -> None:
    job_id = make(
        handler,
        recurrence={"cron": "0 12 * * *"},
        last_run_for=NOON - timedelta(days=1),
        runs_made=5,
    )
    handler.query("update jobs set created_at = created_at - interval '9 days'")
    for days, state in ((4, "done"), (3, "failed"), (2, "skipped")):
        run = NOON - timedelta(days=days)
        end(handler, job_id, run, state, run)
    stand(handler, job_id, NOON - timedelta(days=1), "executing")
    stand(handler, job_id, NOON, "pending")
    job = await read(handler, job_id)
    assert (job["status"], job["last_run"]["state"]) == ("executing", "skipped")
    assert job["next_run_at"] == "2026-01-02T12:00:00.000Z"


@pytest.mark.parametrize("job_id", [10**9, 2**63 - 1, 2**63, *BAD_IDS])
async def test_a_job_that_is_not_there_is_not_found(refuse: Refuse, job_id: int | str) -> None:
    await refuse("GET", f"/jobs/{job_id}", 404)
    await refuse("GET", f"/jobs/{job_id}/executions", 404)


async def test_the_jobs_of_another_application_are_nobody_s_here(
    handler: Handler, refuse: Refuse
) -> None:
    job_id = make(handler, ended="done", user_id="anna", labels={"a": "b"}, key="k")
    handler.query("update jobs set application_id = 2")
    handler.query("update job_labels set application_id = 2")
    await refuse("GET", f"/jobs/{job_id}", 404)
    await refuse("GET", f"/jobs/{job_id}/executions", 404)
    for query in ({}, {"status": "succeeded"}, {"user": "anna"}, {"label": "a:b"}, {"key": "k"}):
        assert await listed(handler, **query) == []
    assert (await handler.http.get("/executions")).json()["data"] == []


def filled(handler: Handler) -> dict[str, int]:
    """Jobs that differ in one thing each."""
    plain: dict[str, Any] = {"user_id": "anna", "labels": {"team": "x", "env": "prod"}}
    return {
        "plain": make(handler, at=NOON, outstanding="pending", **plain),
        "bob's": make(handler, at=NOON, outstanding="pending", **plain | {"user_id": "bob"}),
        "of test": make(
            handler, at=NOON, outstanding="pending", **plain | {"labels": {"team": "x", "env": "t"}}
        ),
        "unlabelled": make(handler, at=NOON, outstanding="pending", user_id="anna"),
        "elsewhere": make(
            handler, at=NOON, outstanding="pending", url="http://B.Example:80/", **plain
        ),
        "keyed": make(handler, at=NOON, outstanding="pending", key="k-1", **plain),
        "key given away": make(
            handler, at=NOON, ended="cancelled", state="ended", key="k-1", **plain
        ),
        "executing": make(handler, at=NOON, outstanding="executing", **plain),
        "retrying": make(handler, at=NOON, outstanding="pending", attempt=1, **plain),
        "held": make(handler, at=NOON, outstanding="pending", due_at="infinity", **plain),
        **{status: make(handler, at=NOON, ended=end, **plain) for status, end in ENDS.items()},
    }


UPCOMING = {"plain", "bob's", "of test", "unlabelled", "elsewhere", "keyed", "retrying", "held"}
ALL = {*UPCOMING, "key given away", "executing", *ENDS}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ALL),
        ({"user": "anna"}, ALL - {"bob's"}),
        ({"user": "bob"}, {"bob's"}),
        ({"user": "Bob"}, set()),
        ({"key": "k-1"}, {"keyed"}),
        ({"host": "b.example"}, {"elsewhere"}),
        ({"host": "B.EXAMPLE"}, {"elsewhere"}),
        ({"host": "example.com"}, ALL - {"elsewhere"}),
        ({"label": "team:x"}, ALL - {"unlabelled"}),
        ({"label": "env:t"}, {"of test"}),
        ({"label": ["team:x", "env:prod"]}, ALL - {"unlabelled", "of test"}),
        ({"label": ["env:prod", "env:t"]}, set()),
        ({"label": ["team:x", "env:t", "none:such"]}, set()),
        ({"label": "team:x", "user": "bob"}, {"bob's"}),
        ({"label": "team:x", "host": "b.example", "user": "anna"}, {"elsewhere"}),
        ({"status": "upcoming"}, UPCOMING),
        ({"status": "upcoming", "user": "bob"}, {"bob's"}),
        ({"status": "upcoming", "label": "env:t"}, {"of test"}),
        ({"status": "upcoming", "key": "k-1"}, {"keyed"}),
        ({"status": "executing"}, {"executing"}),
        ({"status": "executing", "user": "anna", "label": "team:x"}, {"executing"}),
        ({"status": "executing", "user": "bob"}, set()),
        ({"status": "succeeded"}, {"succeeded"}),
        ({"status": "succeeded", "user": "anna"}, {"succeeded"}),
        ({"status": "succeeded", "host": "example.com"}, {"succeeded"}),
        ({"status": "succeeded", "label": ["team:x", "env:prod"]}, {"succeeded"}),
        ({"status": "succeeded", "user": "bob"}, set()),
        ({"status": "failed"}, {"failed"}),
        ({"status": "uncertain"}, {"uncertain"}),
        ({"status": "cancelled"}, {"cancelled", "key given away"}),
        ({"status": "skipped", "label": "team:x"}, {"skipped"}),
        ({"from": "2026-01-02T12:00:00Z", "to": "2026-01-02T12:00:00.001Z"}, ALL),
        ({"from": "2026-01-02T12:00:00.001Z"}, set()),
        ({"to": "2026-01-02T12:00:00Z"}, set()),
        ({"from": "2026-01-02T12:00:00Z", "status": "failed"}, {"failed"}),
        ({"to": "2026-01-02T12:00:00Z", "status": "failed"}, set()),
        ({"to": "2026-01-02T12:00:01Z", "status": "upcoming"}, UPCOMING - {"held"}),
        ({"from": "2026-01-02T12:00:01Z", "status": "upcoming"}, {"held"}),
    ],
)
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_filter_finds_what_it_says(
    handler: Handler, query: dict[str, Any], expected: set[str], order: str
) -> None:
    jobs = filled(handler)
    found = await listed(handler, order=order, limit=100, **query)
    assert sorted(found) == sorted(jobs[name] for name in expected)


@pytest.mark.parametrize("is_ascending", [False, True])
async def test_a_walk_a_sieve_and_a_sort_find_the_same(
    handler: Handler, *, is_ascending: bool
) -> None:
    """Whichever of them is taken where jobs are many, or few."""
    filled(handler)
    several = make(handler, user_id="anna", labels={"team": "x"}, outstanding="pending")
    held = make(handler, user_id="anna", outstanding="pending", due_at="infinity")
    for minutes in (1, 2):
        stand(handler, several, NOON - timedelta(minutes=minutes), "pending")
        stand(handler, several, NOON - timedelta(minutes=10 + minutes), "executing")
        stand(handler, held, NOON + timedelta(minutes=minutes), "pending", due_at="infinity")
    url = handler.database.info.dsn
    password = handler.database.info.password
    pool = database.open_pool(
        f"{url} password={password}", name="test", connections=1, pin_plans=True
    )
    filters: Iterable[dict[str, Any]] = (
        {},
        {"user": "anna"},
        {"host": "example.com"},
        {"labels": [("team", "x")]},
        {"labels": [("team", "x"), ("env", "prod")], "user": "anna"},
    )
    async with pool, pool.connection() as connection:

        async def found(wanted: Wanted) -> list[Place]:
            """Answer what each way finds, which is the same."""
            values = _values(wanted)
            shape = _shape(wanted, values)
            ways = [job_list_selects.walk, job_list_selects.sort]
            ways += [job_list_selects.sieve] if wanted.status else []
            walk, *others = [await way(shape).rows(connection, **values) for way in ways]
            for other in others:
                assert other == walk
            return [Place(*row) for row in walk]

        for status in (None, "upcoming", "executing", *ENDS):
            for fits in filters:
                wanted = Wanted(
                    application_id=1, status=status, most=100, is_ascending=is_ascending, **fits
                )
                # What is due long ago is executing by each, and nothing was passed over.
                whole = await found(wanted)
                assert whole or status
                assert await found(replace(wanted, most=1)) == whole[:1]
                for place in whole[:1]:
                    assert await found(replace(wanted, after=place)) == whole[1:]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("", {"ended": "done"}),
        ("user=anna", {"ended": "done"}),
        ("label=team:x", {"ended": "done"}),
        ("label=team:x&label=env:prod", {"ended": "done"}),
        ("host=example.com", {"ended": "done"}),
        ("status=upcoming", {"outstanding": "pending"}),
        ("status=upcoming&user=anna", {"outstanding": "pending"}),
        ("status=executing", {"outstanding": "executing"}),
        ("status=succeeded", {"ended": "done"}),
        ("status=failed&user=anna", {"ended": "failed"}),
        ("status=failed&to=2027-01-01T00:00:00%2B01:00", {"ended": "failed"}),
    ],
)
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_hold_every_job_once_and_in_order(
    handler: Handler, limit: int, query: str, kind: dict[str, str], order: str
) -> None:
    """Many have one instant: then the id tells them apart."""
    instants = [NOON + timedelta(days=days) for days in (3, 1, 2, 1, 1, 2, 1, 30, 1)]
    common: dict[str, Any] = {"user_id": "anna", "labels": {"team": "x", "env": "prod"}}
    jobs = [(at, make(handler, at=at, **common, **kind)) for at in instants]
    expected = [job_id for _, job_id in sorted(jobs, reverse=order == "desc")]
    assert await walked(handler, f"/jobs?{query}&order={order}&limit={limit}") == expected


async def test_what_is_upcoming_comes_soonest_first_and_what_is_held_at_the_end(
    handler: Handler,
) -> None:
    later = make(handler, at=NOON + timedelta(days=1), outstanding="pending")
    held = [make(handler, outstanding="pending", due_at="infinity") for _ in range(3)]
    sooner = make(handler, at=NOON, outstanding="pending")
    for limit in (1, 2, 4):
        path = f"/jobs?status=upcoming&limit={limit}"
        assert await walked(handler, path) == [sooner, later, *held]
        assert await walked(handler, f"{path}&order=desc") == [*reversed(held), later, sooner]


async def test_a_list_goes_by_the_instant_that_it_is_about(handler: Handler) -> None:
    hour = timedelta(hours=1)
    first = make(handler, at=NOON, ended="done", finished_at=NOON + 3 * hour)
    second = make(handler, at=NOON + hour, ended="done", finished_at=NOON + 2 * hour)
    assert await listed(handler) == [second, first]
    assert await listed(handler, status="succeeded") == [first, second]
    span = {"from": "2026-01-02T14:30:00Z", "to": "2026-01-02T15:30:00Z"}
    assert await listed(handler, status="succeeded", **span) == [first]
    assert await listed(handler, **span) == []


async def test_a_job_with_several_runs_outstanding_is_listed_once(handler: Handler) -> None:
    job_id = make(handler, outstanding="pending")
    for minutes in (1, 2, 3):
        stand(handler, job_id, NOON + timedelta(minutes=minutes), "pending")
        stand(handler, job_id, NOON - timedelta(minutes=minutes), "executing")
    for status in ("upcoming", "executing"):
        for limit in (1, 50):
            assert await walked(handler, f"/jobs?status={status}&limit={limit}") == [job_id]


async def test_of_a_job_that_recurs_only_the_last_run_counts(handler: Handler) -> None:
    last = NOON - timedelta(hours=1)
    job_id = make(
        handler,
        recurrence={"cron": "0 * * * *"},
        outstanding="pending",
        last_run_for=last,
        runs_made=5,
    )
    end(handler, job_id, last, "failed", last)
    for hours in (2, 3):
        run = NOON - timedelta(hours=hours)
        end(handler, job_id, run, "done", run)
    assert await listed(handler, status="failed") == [job_id]
    assert await listed(handler, status="succeeded") == []
    assert await listed(handler, status="upcoming") == [job_id]


async def test_a_page_of_large_payloads_is_cut_short_and_goes_on(handler: Handler) -> None:
    payload = b'"' + b"x" * 3_000_000 + b'"'
    jobs = [make(handler, ended="done", payload=payload) for _ in range(5)]
    answer = await handler.http.get("/jobs")
    assert [job["id"] for job in answer.json()["data"]] == jobs[:2:-1]
    assert len(answer.content) < job_lists.PAGE_BYTES_MAX + 10_000
    assert await walked(handler, "/jobs") == jobs[::-1]


async def test_the_link_of_a_page_asks_the_same_again(handler: Handler) -> None:
    for _ in range(2):
        make(handler, ended="done", user_id="a&b", labels={"a": "1", "b": "x,y"})
    path = "/jobs?limit=1&user=a%26b&label=a:1&label=b:x,y&from=2026-01-01T00:00:00%2B01:00"
    answer = await handler.http.get(path)
    params = httpx.URL(answer.links["next"]["url"]).params
    assert params.get_list("label") == ["a:1", "b:x,y"]
    assert params["user"] == "a&b"
    assert len(await walked(handler, path)) == 2


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=abc", "cursor"),
        ("cursor=MTc", "cursor"),
        ("status=pending", "status"),
        ("status=done", "status"),
        ("status=", "status"),
        ("order=up", "order"),
        ("from=yesterday", "from"),
        ("to=2026-01-02", "to"),
        ("host=https://example.com", "host"),
        ("host=a%00b", "host"),
        ("user=", "user"),
        ("user=a%00b", "user"),
        ("key=a%20b", "key"),
        ("label=team", "label"),
        ("label=:x", "label"),
        ("label=a:b&label=c", "label"),
        ("label=a:%00", "label"),
        ("&".join(f"label=a:{n}" for n in range(21)), "label"),
        ("label=a:" + "x" * 400, "label"),
        ("state=active", "state"),
        ("from_=2026-01-02T00:00:00Z", "from_"),
    ],
)
async def test_a_bad_parameter_is_named(refuse: Refuse, query: str, parameter: str) -> None:
    problem = await refuse("GET", f"/jobs?{query}", 422)
    assert {error["pointer"] for error in problem["errors"]} == {parameter}
