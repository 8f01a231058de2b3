"""Many jobs at once: cancelled by a filter, exported and imported, by real processes."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from handler_service import bulk_cancel, job_export, job_import
from tests.conftest import url_of
from tests.eventually import eventually
from tests.processes import Services
from tests.receiver import Receiver
from tests.servers import Servers

URL = "https://example.com/hook"
NDJSON = {"content-type": "application/x-ndjson"}


async def created(api: httpx.AsyncClient, **job: Any) -> int:
    response = await api.post("/jobs", json={"url": URL, **job})
    assert response.status_code == 201, response.text
    return int(response.json()["id"])


async def cancelled(api: httpx.AsyncClient, **wanted: Any) -> tuple[int, int]:
    response = await api.post("/jobs/cancel", json=wanted)
    assert response.status_code == 200, response.text
    body = response.json()
    assert body.keys() == {"matched", "cancelled"}
    return body["matched"], body["cancelled"]


async def exported(api: httpx.AsyncClient) -> list[dict[str, Any]]:
    response = await api.get("/jobs/export")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == NDJSON["content-type"]
    assert response.text == "" or response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]


def lines_of(jobs: Sequence[Any]) -> str:
    return "".join(json.dumps(job) + "\n" for job in jobs)


async def imported(
    api: httpx.AsyncClient, lines: str | Sequence[Any], **headers: str
) -> httpx.Response:
    content = lines if isinstance(lines, str) else lines_of(lines)
    return await api.post("/jobs/import", content=content, headers=NDJSON | headers)


async def refused(api: httpx.AsyncClient, lines: str | Sequence[Any]) -> dict[str, str]:
    """Where it is refused, and why; nothing is made of it."""
    before = await exported(api)
    response = await imported(api, lines)
    assert response.status_code == 422, response.text
    assert response.json()["code"] == "invalid_request"
    assert await exported(api) == before
    return {error["pointer"]: error["detail"] for error in response.json()["errors"]}


@pytest.mark.parametrize(
    "wanted",
    [
        {"user": "anna"},
        {"label": ["team:a", "env:prod"]},
        {"host": "anna.example"},
        {"key": "annas"},
        {"from": "2100-01-01T00:00:00Z", "to": "2100-01-02T00:00:00Z"},
        {"status": "upcoming", "user": "anna"},
    ],
)
async def test_jobs_that_fit_are_counted_by_a_dry_run_and_then_cancelled(
    api: httpx.AsyncClient, wanted: dict[str, Any]
) -> None:
    annas = await created(
        api,
        user="anna",
        labels={"team": "a", "env": "prod"},
        url="https://anna.example/hook",
        key="annas",
        run_at="2100-01-01T12:00:00Z",
    )
    others = await created(api, user="bob", labels={"team": "a"}, delay=3_600)
    assert await cancelled(api, **wanted, dry_run=True) == (1, 0)
    assert (await api.get(f"/jobs/{annas}")).json()["state"] == "active"
    assert await cancelled(api, **wanted) == (1, 1)
    ended = (await api.get(f"/jobs/{annas}")).json()
    assert (ended["state"], ended["status"]) == ("ended", "cancelled")
    assert (await api.get(f"/jobs/{others}")).json()["state"] == "active"
    assert await cancelled(api, **wanted) == (0, 0)
    assert (await api.get("/ledger")).json()["adds_up"] is True


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({}, "#"),
        ({"dry_run": True}, "#"),
        ({"label": []}, "#"),
        ({"user": None}, "#/user"),
        ({"status": "retrying"}, "#/status"),
        ({"user": "anna", "dry_run": "yes"}, "#/dry_run"),
        ({"user": "anna", "limit": 5}, "#/limit"),
    ],
)
async def test_everything_is_never_cancelled_by_a_slip(
    api: httpx.AsyncClient, wanted: dict[str, Any], pointer: str
) -> None:
    await created(api, delay=3_600)
    response = await api.post("/jobs/cancel", json=wanted)
    assert response.status_code == 422, response.text
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert len(await exported(api)) == 1


async def test_more_jobs_than_a_page_are_all_cancelled(api: httpx.AsyncClient) -> None:
    count = bulk_cancel.LOOKED_AT_ONCE + 50
    line = {"url": URL, "run_at": "2100-01-01T00:00:00Z", "user": "anna"}
    assert (await imported(api, [line] * count)).status_code == 200
    assert await cancelled(api, user="anna") == (count, count)
    assert await exported(api) == []


async def test_jobs_that_recur_each_second_are_cancelled_while_they_do(
    api: httpx.AsyncClient, services: Services, receiver: Receiver, database_url: str
) -> None:
    await services.executors(2)
    line = {"url": receiver.url(), "every": 1, "labels": {"team": "a"}}
    assert (await imported(api, [line] * 300)).status_code == 200
    for _ in range(3):  # at several moments of a second, some of them a claim's
        heard = len(receiver.calls)

        def all_called(heard: int = heard) -> None:
            assert len(receiver.calls) >= heard + 300

        await eventually(all_called)
        assert await cancelled(api, label=["team:a"]) == (300, 300)

        async def nothing_is_left() -> None:
            with psycopg.connect(database_url) as connection:
                left = connection.execute("select count(*) from schedules").fetchone()
            assert left == (0,)

        await eventually(nothing_is_left)
        assert await cancelled(api, label=["team:a"]) == (0, 0)
        assert (await imported(api, [line] * 300)).status_code == 200
    await cancelled(api, label=["team:a"])
    assert (await api.get("/ledger")).json()["adds_up"] is True


async def test_an_occurrence_that_a_claim_makes_just_then_is_cancelled_too(
    api: httpx.AsyncClient, database_url: str
) -> None:
    await created(api, every=3_600, user="anna")
    async with await psycopg.AsyncConnection.connect(database_url) as claim:
        await claim.execute("update schedules set is_next = false")
        await claim.execute(
            "insert into schedules (job_id, scheduled_for, due_at, is_next) select job_id, "
            "scheduled_for + interval '1 hour', due_at + interval '1 hour', true from schedules"
        )
        asked = asyncio.create_task(cancelled(api, user="anna"))

        def waits() -> None:
            with psycopg.connect(database_url) as connection:
                found = connection.execute(
                    "select count(*) from pg_stat_activity "
                    "where datname = current_database() and wait_event_type = 'Lock'"
                ).fetchone()
            assert found == (1,)

        await eventually(waits)
        await claim.commit()
    assert await asked == (1, 1)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select count(*) from schedules").fetchone() == (0,)


async def test_what_is_executing_goes_on(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    job_id = await created(api, url=receiver.url("/slow/2"), user="anna")

    async def is_executing() -> None:
        assert (await api.get(f"/jobs/{job_id}")).json()["status"] == "executing"

    await eventually(is_executing)
    assert await cancelled(api, user="anna") == (1, 0)

    async def is_done() -> None:
        assert (await api.get(f"/jobs/{job_id}")).json()["status"] == "succeeded"

    await eventually(is_done)


JOBS: list[dict[str, Any]] = [
    {"run_at": "2100-01-01T00:00:00.123456Z", "payload": None, "max_lateness": 60},
    {"run_at": "2100-06-01T18:00", "timezone": "Europe/Paris", "key": "once", "method": "PUT"},
    {"delay": 86_400, "retry": "standard", "timeout": 2.5, "delivery": "at_most_once"},
    {"delay": 86_400, "retry": "none", "method": "GET"},
    {"delay": 86_400, "retry": [1, 2.5, 60]},
    {"delay": 86_400, "retry": {"max_attempts": 9, "base": 2, "max_age": "PT1H"}},
    {"cron": "0 9 * * MON-FRI", "timezone": "Europe/Paris", "key": "daily", "overlap": "skip"},
    {"cron": "@daily", "dst": {"gap": "skip", "fold": "both"}, "catch_up": "all", "max_runs": 7},
    {"every": 90.5, "anchor": "2001-01-01T00:00:00Z", "jitter": 5, "payload": [1, 2.5, "ü", None]},
    {"every": "PT1H", "starts_at": "2099-01-01T00:00:00.5Z", "ends_at": "2100-01-01T00:00:00Z"},
    {
        "rrule": "FREQ=MONTHLY;BYDAY=-1FR;COUNT=5",
        "starts_at": "2099-01-01T00:00:00Z",
        "timezone": "America/New_York",
    },
    {
        "delay": 3_600,
        "headers": {"content-type": "text/plain", "authorization": "Bearer x"},
        "payload": "two\nlines",
        "user": "anna",
        "labels": {"team": "a", "env": "prod"},
    },
]


async def test_what_is_exported_and_imported_elsewhere_is_the_same_there(
    api: httpx.AsyncClient,
    running_servers: Servers,
    template: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    for job in JOBS:
        await created(api, **job)
    jobs = await exported(api)
    assert [job.get("payload", "none") for job in jobs[:2]] == [None, "none"]
    assert jobs[0]["run_at"] == "2100-01-01T00:00:00.123456Z"
    assert jobs[1]["run_at"] == "2100-06-01T16:00:00.000000Z"
    assert [job.get("retry") for job in jobs[2:5]] == ["standard", "none", [1, 2.5, 60]]
    assert jobs[11]["payload"] == "two\nlines"
    name = f"{template}_elsewhere"
    with psycopg.connect(running_servers.database_url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name} template {template} strategy file_copy")
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    elsewhere = Services(url_of(running_servers.database_url, name), redis_url, directory)
    try:
        handler = await elsewhere.handler()
        async with httpx.AsyncClient(base_url=handler.url, timeout=30) as there:
            response = await imported(there, jobs)
            assert response.json() == {"created": len(JOBS), "replaced": 0}
            assert await exported(there) == jobs
            pages = [(await each.get("/jobs?limit=200")).json()["data"] for each in (api, there)]
    finally:
        await elsewhere.stop()
        with psycopg.connect(running_servers.database_url, autocommit=True) as connection:
            connection.execute(f"drop database if exists {name} with (force)")
    told = {"id", "created_at", "updated_at", "next_run_at", "run_at", "delay"}
    here, there_too = (
        sorted(json.dumps({n: v for n, v in job.items() if n not in told}) for job in page)
        for page in pages
    )
    assert here == there_too


async def test_only_what_has_not_begun_is_exported(api: httpx.AsyncClient, make_run: Any) -> None:
    assert await exported(api) == []
    assert (await imported(api, "")).json() == {"created": 0, "replaced": 0}
    for state in ({"state": "executing"}, {"attempt": 1}):
        executor = {"executor_id": "00000000-0000-0000-0000-000000000001"}
        await make_run(**state, **(executor if "state" in state else {}))
    ended = await created(api, delay=3_600)
    assert (await api.delete(f"/jobs/{ended}")).status_code == 204
    await created(api, delay=3_600, user="anna")
    assert [job["user"] for job in await exported(api)] == ["anna"]


async def test_a_long_export_comes_in_pages_of_jobs_and_of_bytes(api: httpx.AsyncClient) -> None:
    run_at = "2100-01-01T00:00:00.000000Z"
    count = job_export.PAGE_JOBS * 2
    small = [{"url": URL, "run_at": run_at, "user": str(number)} for number in range(count)]
    assert (await imported(api, small)).status_code == 200
    large = [{"url": URL, "run_at": run_at, "payload": "x" * 250_000}] * 30
    for start in range(0, 45, 15):
        assert (await imported(api, large[start % 30 : start % 30 + 15])).status_code == 200
    jobs = await exported(api)
    assert [job.get("user") for job in jobs] == [*map(str, range(count)), *[None] * 45]
    head = await api.head("/jobs/export")
    assert (head.status_code, head.content) == (200, b"")


async def test_an_export_whose_database_fails_breaks_off(
    api: httpx.AsyncClient, database_url: str
) -> None:
    line = {"url": URL, "run_at": "2100-01-01T00:00:00Z", "payload": "x" * 7_000}
    for _ in range(4):
        assert (await imported(api, [line] * 1_000)).status_code == 200
    async with api.stream("GET", "/jobs/export") as response:
        assert response.status_code == 200
        parts = response.aiter_raw()
        await anext(parts)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("alter table schedules rename to gone")
        with pytest.raises(httpx.TransportError):
            async for _ in parts:
                pass


async def test_every_bad_line_is_named_and_nothing_is_made(api: httpx.AsyncClient) -> None:
    good = {"url": URL, "delay": 60}
    found = await refused(
        api,
        lines_of([good, {"url": "ftp://example.com"}])
        + "\n{nonsense\n"
        + lines_of([["a list"], {"delay": -1, "colour": "red", "url": URL}, good]),
    )
    assert set(found) == {"#/lines/1/url", "#/lines/3", "#/lines/4"} | {
        f"#/lines/5/{name}" for name in ("delay", "colour")
    }
    assert found["#/lines/3"].startswith("Is not valid JSON")
    found = await refused(
        api,
        [
            good,
            {"url": URL, "cron": "0 0 31 2 *"},
            {"url": URL, "run_at": "2001-01-01T00:00:00Z"},
            {"url": URL, "payload": "x" * 300_000},
        ],
    )
    assert set(found) == {"#/lines/1/cron", "#/lines/2/run_at", "#/lines/3/payload"}


async def test_at_most_a_hundred_bad_lines_are_named(api: httpx.AsyncClient) -> None:
    assert len(await refused(api, [{"url": "x"}] * 1_000)) == job_import.VIOLATIONS_MAX


async def test_a_key_comes_once_in_an_import(api: httpx.AsyncClient) -> None:
    line = {"url": URL, "delay": 60, "key": "mine"}
    found = await refused(api, [line, {"url": URL}, line])
    assert found == {"#/lines/2/key": "Is the key of #/lines/0 too; leave out one of them."}


async def test_too_many_lines_and_too_many_bytes_are_refused(api: httpx.AsyncClient) -> None:
    line = json.dumps({"url": URL, "run_at": "2100-01-01T00:00:00Z"}) + "\n"
    response = await imported(api, line * job_import.LINES_MAX)
    assert response.json() == {"created": job_import.LINES_MAX, "replaced": 0}
    assert set(await refused(api, line * (job_import.LINES_MAX + 1))) == {"#/lines"}
    assert (await imported(api, " " * 8_388_609)).status_code == 413


async def test_another_content_type_is_refused(api: httpx.AsyncClient) -> None:
    response = await api.post("/jobs/import", json={"url": URL})
    assert response.status_code == 415
    assert "application/x-ndjson" in response.json()["detail"]


async def test_a_job_that_has_the_key_of_a_line_is_replaced(api: httpx.AsyncClient) -> None:
    job_id = await created(api, key="mine", delay=60, labels={"team": "a"}, payload=1)
    ended = await created(api, key="gone", delay=60)
    assert (await api.delete(f"/jobs/{ended}")).status_code == 204
    lines: list[dict[str, Any]] = [
        {"url": URL, "cron": "@daily", "key": "mine", "user": "anna"},
        {"url": URL, "delay": 60, "key": "gone"},
        {"url": URL, "delay": 60},
    ]
    assert (await imported(api, lines)).json() == {"created": 2, "replaced": 1}
    job = (await api.get("/jobs/by-key/mine")).json()
    assert (job["id"], job["cron"], job["user"], job["labels"], job["payload"]) == (
        *(job_id, "@daily", "anna", None, None),
    )
    assert (await api.get("/jobs/by-key/gone")).json()["id"] != ended
    # What stands before the line that fails is undone, too.
    lines[0]["user"] = "bob"
    assert (await imported(api, [lines[0], {"url": "x"}])).status_code == 422
    assert (await api.get("/jobs/by-key/mine")).json()["user"] == "anna"
    assert (await api.get("/ledger")).json()["adds_up"] is True


async def test_more_jobs_are_not_replaced_than_there_is_room_for_locks(
    api: httpx.AsyncClient,
) -> None:
    lines = [
        {"url": URL, "run_at": "2100-01-01T00:00:00Z", "key": f"k{number}"}
        for number in range(job_import.REPLACED_MAX + 1)
    ]
    assert (await imported(api, lines)).json()["created"] == len(lines)
    assert set(await refused(api, lines)) == {"#/lines"}
    response = await imported(api, lines[1:])
    assert response.json() == {"created": 0, "replaced": job_import.REPLACED_MAX}


async def test_an_import_asked_again_makes_nothing_more(api: httpx.AsyncClient) -> None:
    lines = [{"url": URL, "delay": 60}, {"url": URL, "cron": "@daily", "key": "mine"}]
    key = {"idempotency-key": "first"}
    first = await imported(api, lines, **key)
    again = await imported(api, lines, **key)
    assert first.json() == again.json() == {"created": 2, "replaced": 0}
    assert again.headers["idempotency-replayed"] == "true"
    assert len(await exported(api)) == 2
    other = await imported(api, [*lines, lines[0]], **key)
    assert other.json()["code"] == "idempotency_key_reused"


async def test_two_imports_of_the_same_keys_at_one_moment_both_end_well_or_make_nothing(
    api: httpx.AsyncClient,
) -> None:
    lines = [{"url": URL, "delay": 3_600, "key": f"k{number}"} for number in range(200)]
    assert (await imported(api, lines)).status_code == 200
    replies = await asyncio.gather(imported(api, lines), imported(api, lines[::-1]))
    assert [reply.json() for reply in replies] == [{"created": 0, "replaced": 200}] * 2
    assert len(await exported(api)) == 200
