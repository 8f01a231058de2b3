"""`/dead-letters`: what failed for good or is uncertain is listed, and replayed when asked."""

import asyncio
import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio

from handler_service import dead_letter_reads as reads
from handler_service import dead_letters
from shared.database import Pool, Read
from shared.runs import moves
from shared.runs.moves import DeadLetters
from tests.acceptance.conftest import WakeUps
from tests.acceptance.test_timers_contract import Handler
from tests.acceptance.test_timers_contract_refusals import BAD_IDS, JSON, Refuse
from tests.eventually import eventually
from tests.processes import Services
from tests.receiver import Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def handler(handler: Handler) -> Handler:
    """With no timer and no history."""
    handler.clear()
    return handler


def bury(
    handler: Handler,
    *,
    url: str = "https://example.com/hook?token=hunter2",
    state: str = "failed",
    scheduled_for: str = "2026-01-02 03:04:05.678912Z",
    finished_at: str = "2026-01-02 03:14:05.678912Z",
    **execution: Any,
) -> int:
    """A job whose run ended in this state, at this instant."""
    [job] = handler.query(
        "insert into jobs (application_id, url, method, timeout_seconds, run_at) "
        "values (1, %s, 'POST', 5, %s) returning id",
        *(url, scheduled_for),
    )
    values = {
        "job_id": job["id"],
        "scheduled_for": scheduled_for,
        "finished_at": finished_at,
        "state": state,
        "attempt": 5,
        "fence": 6,
        **execution,
    }
    names, places = ", ".join(values), ", ".join(["%s"] * len(values))
    handler.query(f"insert into executions ({names}) values ({places})", *values.values())
    return int(job["id"])


async def listed(handler: Handler, **query: object) -> list[dict[str, Any]]:
    answer = await handler.http.get("/dead-letters", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return list(answer.json()["data"])


async def replay(handler: Handler, **wanted: object) -> int:
    answer = await handler.http.post("/dead-letters/replay", json=wanted)
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"replayed": answer.json()["replayed"]}
    return int(answer.json()["replayed"])


def pending(handler: Handler) -> list[int]:
    rows = handler.query("select job_id from schedules where state = 'pending' order by job_id")
    return [row["job_id"] for row in rows]


async def test_a_dead_letter_says_what_happened_and_no_secret(handler: Handler) -> None:
    job_id = bury(
        handler,
        started_at="2026-01-02 03:14:05.178Z",
        lateness_ms=1.2345,
        http_status=503,
        error="status: 503",
        response="naïve ☃".encode() + b"\xff\x00",
    )
    [letter] = await listed(handler)
    assert letter == {
        "job_id": job_id,
        "scheduled_for": "2026-01-02T03:04:05.678Z",
        "state": "failed",
        "attempt": 5,
        "started_at": "2026-01-02T03:14:05.178Z",
        "finished_at": "2026-01-02T03:14:05.678Z",
        "lateness_ms": 1.2345,
        "http_status": 503,
        "error": "status: 503",
        "response": "naïve ☃�\x00",
        "host": "example.com",
        "replay": f"/dead-letters/{job_id}/2026-01-02T03:04:05.678912Z/replay",
    }


async def test_what_nobody_knows_is_null(handler: Handler) -> None:
    bury(handler, state="uncertain")
    [letter] = await listed(handler)
    assert letter["state"] == "uncertain"
    for name in ("started_at", "lateness_ms", "http_status", "error", "response"):
        assert letter[name] is None


@pytest.mark.parametrize(
    "execution",
    [
        {"state": "done"},
        {"state": "cancelled"},
        {"state": "skipped"},
        {"state": "retrying"},
        {"state": "abandoned"},
        {"replayed_at": "2026-01-03Z"},
        {"state": "uncertain", "replayed_at": "2026-01-03Z"},
    ],
)
async def test_what_is_no_dead_letter_is_neither_listed_nor_replayed(
    handler: Handler, refuse: Refuse, execution: dict[str, str]
) -> None:
    job_id = bury(handler, **execution)
    assert await listed(handler) == []
    path = f"/dead-letters/{job_id}/2026-01-02T03:04:05.678912Z/replay"
    problem = await refuse("POST", path, 409)
    assert problem["code"] == "not_replayable"
    assert await replay(handler) == 0


async def test_the_letters_of_another_application_are_nobody_s_here(
    handler: Handler, refuse: Refuse
) -> None:
    job_id = bury(handler)
    handler.query("update jobs set application_id = 2")
    assert await listed(handler) == []
    path = f"/dead-letters/{job_id}/2026-01-02T03:04:05.678912Z/replay"
    assert (await refuse("POST", path, 404))["code"] == "dead_letter_not_found"
    assert await replay(handler) == 0
    assert pending(handler) == []


HOSTS = {
    "https://example.com/hook": "example.com",
    "HTTP://EXAMPLE.COM:8080": "example.com",
    "https://a.example.com?x=//example.com": "a.example.com",
    "https://example.org#example.com": "example.org",
    "http://127.0.0.1:9/": "127.0.0.1",
    "http://[2001:DB8::1]:8443/hook": "[2001:db8::1]",
    "http://bücher.example/": "bücher.example",
    "http://BÜCHER.invalid/": "bÜcher.invalid",
    "http://İSTANBUL.invalid/": "İstanbul.invalid",
    "http://ΣΑΣ.invalid/": "ΣΑΣ.invalid",
}


async def test_letters_are_found_by_the_host_that_is_answered(handler: Handler) -> None:
    jobs = {bury(handler, url=url): host for url, host in HOSTS.items()}
    assert {letter["job_id"]: letter["host"] for letter in await listed(handler)} == jobs
    for host in ("EXAMPLE.com", *sorted(set(jobs.values()) - {"example.com"})):
        answered = "example.com" if host == "EXAMPLE.com" else host
        expected = {job_id for job_id, other in jobs.items() if other == answered}
        assert {letter["job_id"] for letter in await listed(handler, host=host)} == expected
        assert await replay(handler, host=host) == len(expected) > 0
        assert expected <= set(pending(handler))
    assert await listed(handler) == []


@pytest.fixture
def folding(handler: Handler) -> Iterator[None]:
    """As in a database whose locale knows capitals beyond ASCII; that of the tests is C."""
    [row] = handler.query(
        "select min(collname) as name from pg_collation where collname in ('C.utf8', 'und-x-icu')"
    )
    assert row["name"], "this Postgres has no such collation"
    handler.query(f'alter table jobs alter column url type text collate "{row["name"]}"')
    yield
    handler.query('alter table jobs alter column url type text collate "default"')


@pytest.mark.usefixtures("folding")
async def test_letters_are_found_by_the_host_whatever_the_database_takes_for_capitals(
    handler: Handler,
) -> None:
    job_id = bury(handler, url="http://BÜCHER.invalid/")
    [letter] = await listed(handler)
    assert [each["job_id"] for each in await listed(handler, host=letter["host"])] == [job_id]
    assert await replay(handler, host=letter["host"]) == 1
    assert pending(handler) == [job_id]


FINISHED = [f"2026-01-02 00:00:0{second}Z" for second in range(5)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [4, 3, 2, 1, 0]),
        ({"from": "2026-01-02T00:00:02Z"}, [4, 3, 2]),
        ({"to": "2026-01-02T00:00:02Z"}, [1, 0]),
        ({"from": "2026-01-02T00:00:01.000001Z", "to": "2026-01-02T00:00:03.000001Z"}, [3, 2]),
        ({"from": "2026-01-02T01:00:03+01:00"}, [4, 3]),
        ({"from": "2026-01-01t19:30:03-04:30"}, [4, 3]),
        ({"from": "2026-01-02T00:00:03z", "to": "2026-01-02T00:00:02z"}, []),
        ({"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}, [4, 3, 2, 1, 0]),
        ({"state": "uncertain"}, [3, 1]),
        ({"state": "failed"}, [4, 2, 0]),
        ({"state": "failed", "from": "2026-01-02T00:00:01Z", "host": "b.example"}, [4]),
    ],
)
async def test_letters_are_listed_and_replayed_by_what_is_asked(
    handler: Handler, query: dict[str, str], expected: list[int]
) -> None:
    jobs = [
        bury(
            handler,
            state="uncertain" if n % 2 else "failed",
            finished_at=finished_at,
            url=f"https://{'b' if n == 4 else 'a'}.example/",
        )
        for n, finished_at in enumerate(FINISHED)
    ]
    ids = [jobs[n] for n in expected]
    assert [letter["job_id"] for letter in await listed(handler, **query)] == ids
    assert await replay(handler, **query) == len(ids)
    assert pending(handler) == sorted(ids)


async def test_letters_are_replayed_by_their_job(handler: Handler) -> None:
    first, second = bury(handler), bury(handler)
    assert await replay(handler, job_id=second) == 1
    assert pending(handler) == [second]
    assert [letter["job_id"] for letter in await listed(handler)] == [first]


@pytest.mark.parametrize("by", ["cursor", "link"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_hold_every_letter_once_and_the_last_says_so(
    handler: Handler, by: str, limit: int
) -> None:
    """Several ended at one instant: then the job and its instant tell them apart."""
    same = {"finished_at": "2026-01-02 00:00:00Z"}
    jobs = [bury(handler, finished_at=f"2026-01-0{n + 1} 00:00:00Z") for n in range(4)]
    jobs += [bury(handler, **same) for _ in range(2)]
    handler.query(
        "insert into executions (job_id, scheduled_for, finished_at, attempt, state) "
        "values (%s, '2025-01-01Z', %s, 1, 'uncertain')",
        *(jobs[-1], same["finished_at"]),
    )
    for n in range(3):
        bury(handler, state="done", finished_at=f"2026-01-0{n + 1} 00:00:00Z")
    path = f"/dead-letters?limit={limit}&host=example.com&to=2027-01-01T00:00:00%2B01:00"
    following, pages = path, []
    while following:
        answer = await handler.http.get(following)
        assert answer.status_code == 200, answer.text
        pages.append([(each["job_id"], each["replay"]) for each in answer.json()["data"]])
        cursor = answer.json()["next_cursor"]
        assert (cursor is None) == ("link" not in answer.headers)
        following = f"{path}&cursor={cursor}" if cursor else ""
        if by == "link" and cursor:
            following = answer.links["next"]["url"]
            assert httpx.URL(following).params.multi_items() != []
            assert httpx.URL(following).params["host"] == "example.com"
        assert len(pages) < 10
    found = list(itertools.chain.from_iterable(pages))
    assert len(set(found)) == 7
    assert [job_id for job_id, _ in found] == [
        *(jobs[3], jobs[2]),
        *(jobs[5], jobs[5], jobs[4], jobs[1]),
        jobs[0],
    ]
    assert len(pages) == math.ceil(7 / limit)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=1_0", "limit"),
        ("cursor=", "cursor"),
        ("cursor=abc", "cursor"),
        ("cursor=MTc", "cursor"),  # one of GET /timers
        ("cursor=MS4xLjA", "cursor"),  # 1.1.0
        ("cursor=MS4xLjEuMQ", "cursor"),  # 1.1.1.1
        ("cursor=OTIyMzM3MjAzNjg1NDc3NTgwNy4xLjE", "cursor"),  # an instant beyond the year 9999
        ("cursor=" + "x" * 200, "cursor"),
        ("state=done", "state"),
        ("state=Failed", "state"),
        ("state=", "state"),
        ("from=yesterday", "from"),
        ("from=2026-01-02", "from"),
        ("from=2026-01-02T00:00:00", "from"),
        ("from=2026-01-02T00:00Z", "from"),
        ("from=2026-01-02T00:00:00.Z", "from"),
        ("from=2026-02-30T00:00:00Z", "from"),
        ("from=2026-01-02T24:00:00Z", "from"),
        ("from=2026-01-02T00:00:60Z", "from"),
        ("from=2026-01-02T00:00:00+01:00", "from"),  # a space, by the time it is read
        ("from=0001-01-01T00:00:00%2B01:00", "from"),
        ("from=9999-12-31T23:59:59-01:00", "from"),
        ("from=1767312000", "from"),
        ("from=", "from"),
        ("to=%D9%A2026-01-02T00:00:00Z", "to"),
        ("to=now", "to"),
        ("host=", "host"),
        ("host=https://example.com", "host"),
        ("host=example.com:443", "host"),
        ("host=example.com/", "host"),
        ("host=user@example.com", "host"),
        ("host=a%00b", "host"),
        ("host=::1", "host"),
        ("host=" + "x" * 300, "host"),
        ("job_id=1", "job_id"),
        ("from_=2026-01-02T00:00:00Z", "from_"),
        ("status=failed", "status"),
    ],
)
async def test_a_bad_parameter_of_the_list_is_named(
    refuse: Refuse, query: str, parameter: str
) -> None:
    problem = await refuse("GET", f"/dead-letters?{query}", 422)
    assert [error["pointer"] for error in problem["errors"]] == [parameter]


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"state": "done"}, "#/state"),
        ({"state": None}, "#/state"),
        ({"from": None}, "#/from"),
        ({"from": 1767312000}, "#/from"),
        ({"to": "2026-01-02"}, "#/to"),
        ({"to": None}, "#/to"),
        ({"host": None}, "#/host"),
        ({"host": "a b"}, "#/host"),
        ({"host": 5}, "#/host"),
        ({"job_id": None}, "#/job_id"),
        ({"job_id": 0}, "#/job_id"),
        ({"job_id": "1"}, "#/job_id"),
        ({"job_id": 1.0}, "#/job_id"),
        ({"job_id": True}, "#/job_id"),
        ({"job_id": 2**63}, "#/job_id"),
        ({"limit": 5}, "#/limit"),
        ({"dry_run": True}, "#/dry_run"),
        ({"scheduled_for": "2026-01-02T00:00:00Z"}, "#/scheduled_for"),
    ],
)
async def test_a_bad_wish_replays_nothing(
    handler: Handler, refuse: Refuse, wanted: dict[str, object], pointer: str
) -> None:
    """Null above all: a program that lost the id it meant must not replay everything."""
    bury(handler)
    problem = await refuse("POST", "/dead-letters/replay", 422, json=wanted)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_the_body_of_a_replay_is_json(handler: Handler, refuse: Refuse) -> None:
    bury(handler)
    path = "/dead-letters/replay"
    await refuse("POST", path, 400, content=b"", headers=JSON)
    await refuse("POST", path, 422, content=b"[]", headers=JSON)
    await refuse("POST", path, 413, content=b" " * 100_000, headers=JSON)
    await refuse("POST", path, 415, content=b"{}")


def run_of(handler: Handler, job_id: int) -> dict[str, Any]:
    [run] = handler.query("select * from schedules where job_id = %s", job_id)
    return run


@pytest.mark.parametrize(
    "named",
    [
        "2026-01-02T03:04:05.678912Z",
        "2026-01-02T03:04:05.678Z",
        "2026-01-02T04:04:05.678912+01:00",
        "2026-01-02t03:04:05.678z",
    ],
)
@pytest.mark.parametrize("state", ["failed", "uncertain"])
async def test_a_replay_makes_the_run_pending_again(
    handler: Handler, wake_ups: WakeUps, named: str, state: str
) -> None:
    job_id, other = bury(handler, state=state), bury(handler)
    wake_ups.heard.clear()
    answer = await handler.http.post(f"/dead-letters/{job_id}/{named}/replay")
    assert answer.status_code == 202, answer.text
    assert answer.json() == {
        "job_id": job_id,
        "scheduled_for": "2026-01-02T03:04:05.678Z",
        "attempt": 6,
    }
    run = run_of(handler, job_id)
    assert run["scheduled_for"].isoformat() == "2026-01-02T03:04:05.678912+00:00"
    assert (run["state"], run["attempt"], run["attempts_forgiven"]) == ("pending", 5, 5)
    assert run["fence"] >= 6
    assert [letter["job_id"] for letter in await listed(handler)] == [other]
    await eventually(lambda: _said(wake_ups))


@pytest.mark.parametrize(
    "named",
    [
        "2026-01-02T03:04:05.678911Z",
        "2026-01-02T03:04:05.678913Z",
        "2026-01-02T03:04:05.6789Z",
        "2026-01-02T03:04:05.677Z",
        "2026-01-02T03:04:05.679Z",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.678912+01:00",
        "2026-01-02T03:04:05.678912",
        "2026-01-02T03:04:05.6789130Z",
        "2026-02-30T03:04:05Z",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59.999Z",
        "0001-01-01T00:00:00+01:00",
        "1767323045678912",
        "x",
        "%00",
        "%FF",
    ],
)
async def test_a_run_that_is_not_there_is_not_found(
    handler: Handler, refuse: Refuse, named: str
) -> None:
    job_id = bury(handler)
    problem = await refuse("POST", f"/dead-letters/{job_id}/{named}/replay", 404)
    assert problem["code"] == "dead_letter_not_found"


@pytest.mark.parametrize("job_id", [10**9, 2**63 - 1, *BAD_IDS])
async def test_a_job_that_is_not_there_is_not_found(
    handler: Handler, refuse: Refuse, job_id: int | str
) -> None:
    bury(handler)
    await refuse("POST", f"/dead-letters/{job_id}/2026-01-02T03:04:05.678912Z/replay", 404)


async def test_two_runs_of_one_millisecond_must_be_named_exactly(
    handler: Handler, refuse: Refuse
) -> None:
    job_id = bury(handler)
    handler.query(
        "insert into executions (job_id, scheduled_for, finished_at, attempt, state) "
        "values (%s, '2026-01-02 03:04:05.678001Z', '2026-01-03Z', 1, 'failed')",
        job_id,
    )
    problem = await refuse("POST", f"/dead-letters/{job_id}/2026-01-02T03:04:05.678Z/replay", 409)
    assert "microsecond" in problem["detail"]
    for letter in await listed(handler):
        assert (await handler.http.post(letter["replay"])).status_code == 202
        assert (await handler.http.post(letter["replay"])).status_code == 409
    assert pending(handler) == [job_id, job_id]


@pytest.mark.parametrize("state", ["pending", "executing"])
async def test_a_run_that_is_outstanding_is_no_dead_letter(
    handler: Handler, refuse: Refuse, state: str
) -> None:
    job_id = handler.make_job(state=state)
    instant = run_of(handler, job_id)["scheduled_for"].isoformat().replace("+00:00", "Z")
    problem = await refuse("POST", f"/dead-letters/{job_id}/{instant}/replay", 409)
    assert problem["code"] == "not_replayable"
    assert state in problem["detail"]


async def test_a_letter_of_an_ended_job_stays_dead(handler: Handler, refuse: Refuse) -> None:
    job_id = bury(handler)
    handler.query("update jobs set state = 'ended'")
    path = f"/dead-letters/{job_id}/2026-01-02T03:04:05.678Z/replay"
    problem = await refuse("POST", path, 409)
    assert "ended" in problem["detail"]
    assert await replay(handler) == 0
    assert len(await listed(handler)) == 1


async def test_a_letter_that_was_attempted_too_often_stays_dead(
    handler: Handler, refuse: Refuse
) -> None:
    """Attempts are counted on in two bytes: one that ran over would stop a whole batch."""
    most, more = bury(handler, attempt=30_000), bury(handler, attempt=30_001)
    brim = bury(handler, attempt=32_767)
    path = "/dead-letters/{}/2026-01-02T03:04:05.678912Z/replay"
    for job_id in (more, brim):
        problem = await refuse("POST", path.format(job_id), 409)
        assert problem["code"] == "not_replayable"
        assert "attempted too often" in problem["detail"]
    assert await replay(handler) == 1
    assert pending(handler) == [most]
    assert await replay(handler, job_id=brim) == 0
    assert {letter["job_id"] for letter in await listed(handler)} == {more, brim}
    alone = bury(handler, attempt=30_000)
    answer = await handler.http.post(path.format(alone))
    assert (answer.status_code, answer.json()["attempt"]) == (202, 30_001)
    assert pending(handler) == [most, alone]


async def test_of_replays_at_once_one_wins(handler: Handler) -> None:
    for _ in range(10):
        handler.clear()
        job_id = bury(handler)
        path = f"/dead-letters/{job_id}/2026-01-02T03:04:05.678912Z/replay"
        answers = await asyncio.gather(
            *(handler.http.post(path) for _ in range(8)),
            *(handler.http.post("/dead-letters/replay", json={}) for _ in range(2)),
        )
        alone = [answer.status_code for answer in answers[:8]]
        together = sum(answer.json()["replayed"] for answer in answers[8:])
        assert set(alone) <= {202, 409}
        assert alone.count(202) + together == 1
        assert pending(handler) == [job_id]


async def test_a_letter_whose_row_is_being_moved_is_replayed_when_it_has_been(
    handler: Handler,
) -> None:
    """An executor that makes a day's partition moves there what the default one holds of it."""
    job_id = bury(handler)
    with psycopg.connect(handler.service.environment["DATABASE_URL"]) as mover:
        moved = mover.execute("delete from executions returning *").fetchall()
        replaying = asyncio.create_task(
            handler.http.post(f"/dead-letters/{job_id}/2026-01-02T03:04:05.678912Z/replay")
        )
        done, _ = await asyncio.wait([replaying], timeout=0.3)
        assert not done, replaying.result().text
        places = ", ".join(["%s"] * len(moved[0]))
        mover.execute(f"insert into executions values ({places})".encode(), moved[0])
    answer = await replaying
    assert answer.status_code == 202, answer.text
    assert pending(handler) == [job_id]


async def test_a_letter_that_stays_locked_is_to_be_asked_for_again(handler: Handler) -> None:
    job_id = bury(handler)
    path = f"/dead-letters/{job_id}/2026-01-02T03:04:05.678912Z/replay"
    with psycopg.connect(handler.service.environment["DATABASE_URL"]) as holder:
        holder.execute("select from executions for update")
        answer = await handler.http.post(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert (await handler.http.post(path)).status_code == 202


def bury_many(handler: Handler, count: int) -> None:
    handler.query(
        "with job as (insert into jobs (application_id, url, method, timeout_seconds, run_at) "
        "select 1, 'https://example.com/', 'POST', 5, '2026-01-01Z' from generate_series(1, %s) "
        "returning id) insert into executions "
        "(job_id, scheduled_for, finished_at, attempt, fence, state) "
        "select id, '2026-01-01Z', '2026-01-01Z'::timestamptz + id * interval '1 s', 1, 1, "
        "'failed' from job",
        count,
    )


@pytest.mark.parametrize("count", [999, 1_000, 1_001, 2_500])
async def test_a_replay_goes_on_until_all_are_replayed(
    handler: Handler, wake_ups: WakeUps, count: int
) -> None:
    bury_many(handler, count)
    wake_ups.heard.clear()
    assert await replay(handler, host="example.com") == count
    await eventually(lambda: _said(wake_ups))
    assert await listed(handler) == []
    assert len(set(pending(handler))) == count
    assert await replay(handler) == 0


async def test_what_dies_after_the_replay_began_stays_dead(handler: Handler) -> None:
    """Else what fails again at once would be replayed for ever."""
    bury_many(handler, 5)
    [row] = handler.query("select (clock_timestamp() + '1 hour')::text as later")
    late = bury(handler, finished_at=row["later"])
    for wanted in ({}, {"to": "2999-01-01T00:00:00Z"}):
        assert await replay(handler, **wanted) == (5 if not wanted else 0)
        assert [letter["job_id"] for letter in await listed(handler)] == [late]


async def test_a_replayed_run_that_fails_again_is_a_dead_letter_again(handler: Handler) -> None:
    job_id = bury(handler)
    path = f"/dead-letters/{job_id}/2026-01-02T03:04:05.678912Z/replay"
    assert (await handler.http.post(path)).status_code == 202
    handler.query("delete from schedules")
    handler.query(
        "insert into executions (job_id, scheduled_for, finished_at, attempt, state) "
        "select job_id, scheduled_for, now(), 6, 'failed' from executions"
    )
    [letter] = await listed(handler)
    assert (letter["attempt"], letter["replay"]) == (6, path)
    answer = await handler.http.post(path)
    assert answer.json()["attempt"] == 7


@pytest_asyncio.fixture(loop_scope="function")
async def filled(pool: Pool) -> None:
    """Forty thousand dead letters over forty days, among as many runs that are done."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "select format('create table executions_%s partition of executions for values from "
            "(%L) to (%L)', n, '2026-01-01Z'::timestamptz + n * interval '1 day', "
            "'2026-01-02Z'::timestamptz + n * interval '1 day') from generate_series(0, 39) as n"
        )
        for [statement] in await cursor.fetchall():
            await connection.execute(statement.encode())
        await connection.execute(
            "with job as (insert into jobs (application_id, url, method, timeout_seconds, run_at) "
            "select 1, 'https://example.com/' || n, 'POST', 5, "
            "'2026-01-01Z'::timestamptz + n * interval '43 s' from generate_series(1, 79999) as n "
            "returning id, run_at) insert into executions "
            "(job_id, scheduled_for, finished_at, attempt, state) select id, run_at, run_at, 1, "
            "case when id %% 2 = 0 then 'failed' else 'done' end from job",
            (),
        )
        await connection.execute("analyze jobs, executions")


def plan_nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from plan_nodes(child)


async def explain(pool: Pool, sql: bytes, values: dict[str, Any]) -> list[dict[str, Any]]:
    async with pool.connection() as connection, connection.transaction(force_rollback=True):
        cursor = await connection.execute(b"explain (analyze, format json) " + sql, values)
        [[plan]] = await cursor.fetchall()
    return list(plan_nodes(plan[0]["Plan"]))


async def explain_read(pool: Pool, read: Read, values: dict[str, Any]) -> list[dict[str, Any]]:
    return await explain(pool, read.sql.encode(), {**read._defaults, **values})


def rows_read(nodes: list[dict[str, Any]], table: str) -> int:
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes
        if node.get("Relation Name", "").startswith(table)
    )


def by_indexes(nodes: list[dict[str, Any]], name: str) -> None:
    scans = [node for node in nodes if node.get("Relation Name", "").startswith("executions")]
    assert scans
    for node in scans:
        assert node["Node Type"] in {"Index Scan", "Index Only Scan"}, node
        assert name in node["Index Name"], node
    assert not [node for node in nodes if node["Node Type"] in {"Sort", "Seq Scan"}]


OFTEN = {"attempt_max": moves.REPLAYED_ATTEMPT_MAX}
PAGE = dead_letters.FIRST, dead_letters.LAST, dead_letters.LAST, 2**63 - 1, dead_letters.LAST


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.usefixtures("filled")
async def test_a_page_is_read_by_the_index_of_dead_letters(pool: Pool) -> None:
    for state, host in [(None, None), ("failed", None), (None, "example.com")]:
        wanted = reads.Wanted(1, state, host, *PAGE, most=51)
        nodes = await explain_read(pool, reads._DEAD_LETTERS, wanted._asdict())
        by_indexes(nodes, "finished_at_job_id_scheduled_for")
        assert rows_read(nodes, "executions") <= 51 + 41, "a row of each partition, and the page"
        assert rows_read(nodes, "jobs") <= 51 + 41


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.usefixtures("filled")
async def test_one_letter_is_found_and_replayed_by_its_key(pool: Pool) -> None:
    [letter] = await reads.dead_letters(pool, reads.Wanted(1, None, None, *PAGE, most=1))
    at = letter.scheduled_for / 1e6
    values = {"application_id": 1, "job_id": letter.job_id}
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "select to_timestamp(%s), to_timestamp(%s)", (at, at + 0.001)
        )
        [[run_from, run_to]] = await cursor.fetchall()
    values |= {"run_from": run_from, "run_to": run_to}
    for read in (reads._LETTERS_OF_RUN, reads._STATE_OF_RUN):
        nodes = await explain_read(pool, read, values)
        assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]
        assert rows_read(nodes, "executions") == 1
    wanted = DeadLetters(
        1,
        job_id=letter.job_id,
        scheduled_for_us=letter.scheduled_for,
        finished_from=letter.finished_at / 1e6,
        finished_to=(letter.finished_at + 1) / 1e6,
    )
    nodes = await explain(pool, moves.SQL["replay"], wanted._asdict() | {"most": 1} | OFTEN)
    assert rows_read(nodes, "executions") <= 3, "found, checked, taken"


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.usefixtures("filled")
async def test_a_step_of_a_replay_reads_no_more_than_it_takes(pool: Pool) -> None:
    values = DeadLetters(1)._asdict() | {"most": 1_000} | OFTEN
    nodes = await explain(pool, moves.SQL["replay"], values)
    assert rows_read(nodes, "executions") <= 3 * 1_000 + 41


@pytest.mark.asyncio(loop_scope="function")
async def test_a_dead_letter_is_fired_again_under_its_own_name(
    services: Services, receiver: Receiver
) -> None:
    handler = await services.handler()
    await services.executor()
    async with httpx.AsyncClient(base_url=handler.url, timeout=30) as http:
        timer = {"seconds": 1, "url": receiver.url("/flaky/1"), "retry": "none"}
        timer_id = (await http.post("/timers", json=timer)).json()["id"]

        async def letter() -> dict[str, Any]:
            [found] = (await http.get("/dead-letters")).json()["data"] or [None]
            assert found is not None
            return dict(found)

        found = await eventually(letter)
        assert (found["job_id"], found["http_status"], found["host"]) == (
            timer_id,
            503,
            "127.0.0.1",
        )
        assert all(INSTANT.fullmatch(found[name]) for name in ("scheduled_for", "finished_at"))
        assert (await http.post(found["replay"])).status_code == 202
        await eventually(lambda: _calls(receiver, 2))
    first, second = receiver.calls
    assert first.webhook_id == second.webhook_id
    assert [call.headers["onthedot-attempt"] for call in (first, second)] == ["1", "2"]


def _calls(receiver: Receiver, count: int) -> None:
    assert len(receiver.calls) >= count


def _said(wake_ups: WakeUps) -> None:
    assert set(wake_ups.heard) == {0}
