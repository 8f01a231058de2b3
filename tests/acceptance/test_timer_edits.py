"""`PATCH /timers/{id}`: changes what has not begun; after a 200 the old version is never fired."""

import asyncio
import json
import random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from shared import database
from shared.database import Connection
from shared.runs import moves
from shared.runs.moves import Claim
from shared.runs.policy import NO_RETRY, RetryPolicy
from tests.acceptance.conftest import WakeUps
from tests.acceptance.test_timers_contract import URL, Handler
from tests.acceptance.test_timers_contract_refusals import BAD_IDS, JSON, Refuse, problem_of
from tests.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

OLD, NEW = f"{URL}/old", f"{URL}/new"


async def edit(handler: Handler, timer_id: int, **changes: object) -> dict[str, Any]:
    answer = await handler.http.patch(f"/timers/{timer_id}", json=changes)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body == {"id": timer_id, "time_left": body["time_left"]}
    assert type(body["time_left"]) is int
    return dict(body)


def job_of(handler: Handler, timer_id: int) -> dict[str, Any]:
    [job] = handler.query("select * from jobs where id = %s", timer_id)
    return job


def run_of(handler: Handler, timer_id: int) -> dict[str, Any]:
    [run] = handler.query("select * from schedules where job_id = %s", timer_id)
    return run


WHOLE = {
    "hours": 1,
    "url": OLD,
    "method": "PUT",
    "headers": {"x-a": "1"},
    "payload": {"a": 1},
    "timeout": 5,
    "retry": [1, 2],
    "delivery": "at_most_once",
}


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"url": NEW}, {"url": NEW}),
        ({"method": "PATCH"}, {"method": "PATCH"}),
        ({"headers": {"x-b": "2"}}, {"headers": {"x-b": "2"}}),
        ({"headers": {}}, {"headers": None}),
        ({"headers": None}, {"headers": None}),
        ({"payload": [2]}, {"payload": b"[2]"}),
        ({"payload": None}, {"payload": b"null"}),
        ({"payload": "text"}, {"payload": b'"text"'}),
        ({"timeout": "PT1M"}, {"timeout_seconds": 60.0}),
        ({"retry": "none"}, {"retry": NO_RETRY}),
        ({"retry": {}}, {"retry": RetryPolicy()}),
        ({"delivery": "at_least_once"}, {"delivery": "at_least_once"}),
        (
            {"url": NEW, "method": "POST", "timeout": 1, "retry": [3]},
            {
                "url": NEW,
                "method": "POST",
                "timeout_seconds": 1.0,
                "retry": RetryPolicy(2, delays=(3.0,), jitter=0.0),
            },
        ),
    ],
)
async def test_what_is_given_is_changed_and_nothing_else_is(
    handler: Handler, changes: dict[str, object], changed: dict[str, object]
) -> None:
    timer_id = await handler.create(**WHOLE)
    before, run = job_of(handler, timer_id), run_of(handler, timer_id)
    counts = handler.counts()

    left = (await edit(handler, timer_id, **changes))["time_left"]

    assert 3_590 <= left <= 3_600
    after = job_of(handler, timer_id)
    assert after.pop("updated_at") > before.pop("updated_at")
    assert after.pop("version") == before.pop("version") + 1
    for job in (after, before):
        job["retry"] = RetryPolicy.read(job["retry"])
    assert after == {**before, **changed}
    assert run_of(handler, timer_id) == run, "the same run, at the same instant"
    assert handler.counts() == counts


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        ({"seconds": 5}, 5),
        ({"minutes": 10}, 600),
        ({"hours": 2, "minutes": 0, "seconds": 1}, 7_201),
        ({"hours": 0, "seconds": 90}, 90),
    ],
)
async def test_a_delay_starts_anew(handler: Handler, delay: dict[str, int], seconds: int) -> None:
    timer_id = await handler.create(hours=1, url=OLD)
    before = handler.clock()
    assert await edit(handler, timer_id, **delay) == {"id": timer_id, "time_left": seconds}
    after = handler.clock()
    [row] = handler.query(
        "select run_at, scheduled_for, due_at, schedules.state, attempt, url, "
        "extract(epoch from run_at)::float8 as due from jobs join schedules on job_id = id "
        "where id = %s",
        timer_id,
    )
    assert before + seconds <= row["due"] <= after + seconds
    assert row["run_at"] == row["scheduled_for"] == row["due_at"]
    assert (row["state"], row["attempt"], row["url"]) == ("pending", 0, OLD)
    assert seconds - 10 <= await handler.left(timer_id) <= seconds


async def test_a_run_that_was_given_back_can_be_edited_and_keeps_its_fence(
    handler: Handler,
) -> None:
    """What an executor that held it still records, by an older fence, must stay refused."""
    timer_id = handler.make_job(due_in=60)
    handler.query(
        "update schedules set fence = 3, due_at = due_at + '2 s' where job_id = %s", timer_id
    )
    before = run_of(handler, timer_id)
    await edit(handler, timer_id, url=NEW)
    assert run_of(handler, timer_id) == before
    await edit(handler, timer_id, seconds=90)
    assert run_of(handler, timer_id)["fence"] == 3


async def test_an_overdue_timer_that_nobody_claimed_can_be_edited(handler: Handler) -> None:
    timer_id = handler.make_job(due_in=-5)
    assert (await edit(handler, timer_id, url=NEW))["time_left"] == 0
    assert (await edit(handler, timer_id, minutes=1))["time_left"] == 60


@pytest.mark.parametrize(
    ("content_type", "headers", "stored"),
    [
        ("text/plain", None, b"a b"),
        ("application/json", None, b'"a b"'),
        (None, None, b'"a b"'),
        ("text/plain", {"Content-Type": "application/vnd.x+json"}, b'"a b"'),
        ("text/plain", {"x-a": "1"}, b'"a b"'),
        ("application/json", {"content-type": "text/csv"}, b"a b"),
        (None, {"content-type": "text/csv"}, b"a b"),
    ],
)
async def test_a_string_goes_by_the_content_type_that_the_timer_has_then(
    handler: Handler,
    content_type: str | None,
    headers: dict[str, str] | None,
    stored: bytes,
) -> None:
    first = {} if content_type is None else {"headers": {"Content-Type": content_type}}
    timer_id = await handler.create(hours=1, **first)
    second = {} if headers is None else {"headers": headers}
    await edit(handler, timer_id, payload="a b", **second)
    assert job_of(handler, timer_id)["payload"] == stored


async def test_headers_alone_leave_the_bytes_of_the_payload_as_they_are(handler: Handler) -> None:
    timer_id = await handler.create(hours=1, payload="a b")
    await edit(handler, timer_id, headers={"content-type": "text/plain"})
    assert job_of(handler, timer_id)["payload"] == b'"a b"'


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_method_and_payload_must_go_together_whichever_came_first(
    handler: Handler, refuse: Refuse, method: str
) -> None:
    with_payload = await handler.create(hours=1, payload=None)
    without = await handler.create(hours=1, method=method)
    plain = await handler.create(hours=1)
    for timer_id, changes, pointer in [
        (with_payload, {"method": method}, "#/method"),
        (without, {"payload": None}, "#/payload"),
        (plain, {"method": method, "payload": 1}, "#/payload"),
        (with_payload, {"method": method, "payload": 1}, "#/payload"),
    ]:
        before = job_of(handler, timer_id)
        problem = await refuse("PATCH", f"/timers/{timer_id}", 422, json=changes)
        assert [error["pointer"] for error in problem["errors"]] == [pointer]
        assert job_of(handler, timer_id) == before
    await edit(handler, plain, method=method)
    await edit(handler, without, method="POST", payload=1)
    await edit(handler, plain, url=NEW)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({}, "#"),
        ({"seconds": 0}, "#/seconds"),
        ({"hours": 0}, "#/seconds"),
        ({"hours": 0, "minutes": 0, "seconds": 0, "url": NEW}, "#/seconds"),
        ({"hours": 10**12}, "#/hours"),
        ({"minutes": -1}, "#/minutes"),
        ({"seconds": "5"}, "#/seconds"),
        ({"seconds": 5.0}, "#/seconds"),
        ({"seconds": None}, "#/seconds"),
        ({"url": "ftp://example.com/"}, "#/url"),
        ({"url": ""}, "#/url"),
        ({"url": None}, "#/url"),
        ({"method": "get"}, "#/method"),
        ({"method": None}, "#/method"),
        ({"headers": {"Host": "x"}}, "#/headers/Host"),
        ({"headers": {"a": None}}, "#/headers/a"),
        ({"timeout": 0}, "#/timeout"),
        ({"timeout": None}, "#/timeout"),
        ({"retry": None}, "#/retry"),
        ({"retry": {"base": 0}}, "#/retry/base"),
        ({"delivery": "once"}, "#/delivery"),
        ({"id": 7}, "#/id"),
        ({"state": "ended"}, "#/state"),
        ({"application_id": 2}, "#/application_id"),
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_changed(
    handler: Handler, refuse: Refuse, changes: dict[str, object], pointer: str
) -> None:
    timer_id = await handler.create(**WHOLE)
    before = job_of(handler, timer_id), run_of(handler, timer_id)
    problem = await refuse("PATCH", f"/timers/{timer_id}", 422, json=changes)
    assert problem["code"] == "invalid_request"
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert (job_of(handler, timer_id), run_of(handler, timer_id)) == before


async def test_a_body_is_json_and_has_a_limit(handler: Handler, refuse: Refuse) -> None:
    path = f"/timers/{await handler.create(hours=1)}"
    for content, headers, status in [
        (b"", JSON, 400),
        (b'{"url": ', JSON, 400),
        (b"[]", JSON, 422),
        (json.dumps({"url": NEW}), {"content-type": "text/plain"}, 415),
        (json.dumps({"payload": "x" * 262_143}), JSON, 413),
        (json.dumps({"url": NEW}) + " " * 2_000_000, JSON, 413),
    ]:
        await refuse("PATCH", path, status, content=content, headers=headers)


async def test_the_size_of_a_payload_is_that_of_what_is_sent_then(
    handler: Handler, refuse: Refuse
) -> None:
    text = await handler.create(hours=1, headers={"content-type": "text/plain"})
    plain = await handler.create(hours=1)
    await edit(handler, text, payload="x" * 262_144)
    problem = await refuse("PATCH", f"/timers/{plain}", 413, json={"payload": "x" * 262_144})
    assert problem["code"] == "too_large"
    assert "#/payload" in problem["detail"]


@pytest.mark.parametrize("timer_id", [10**9, 2**63 - 1, *BAD_IDS])
async def test_what_is_no_timer_is_not_found(refuse: Refuse, timer_id: int | str) -> None:
    await refuse("PATCH", f"/timers/{timer_id}", 404, json={"url": NEW})


async def test_a_cancelled_timer_and_that_of_another_application_are_not_found(
    handler: Handler, refuse: Refuse
) -> None:
    cancelled, other = await handler.create(hours=1), handler.make_job()
    await handler.http.delete(f"/timers/{cancelled}")
    handler.query("update jobs set application_id = 2 where id = %s", other)
    for timer_id in (cancelled, other):
        before = job_of(handler, timer_id)
        problem = await refuse("PATCH", f"/timers/{timer_id}", 404, json={"url": NEW, "hours": 1})
        assert problem["code"] == "timer_not_found"
        assert job_of(handler, timer_id) == before


@pytest.mark.parametrize("begun", ["executing", "tried", "ended"])
async def test_a_timer_that_has_begun_cannot_be_edited(
    handler: Handler, refuse: Refuse, begun: str
) -> None:
    state = {"executing": "executing", "tried": "pending", "ended": None}[begun]
    timer_id = handler.make_job(due_in=0.0, state=state)
    if begun == "tried":
        handler.query("update schedules set attempt = 1 where job_id = %s", timer_id)
    before = handler.query("select * from schedules where job_id = %s", timer_id)
    job = job_of(handler, timer_id)
    for changes in ({"url": NEW}, {"hours": 1}):
        problem = await refuse("PATCH", f"/timers/{timer_id}", 409, json=changes)
        assert problem["code"] == "timer_has_begun"
    assert handler.query("select * from schedules where job_id = %s", timer_id) == before
    assert job_of(handler, timer_id) == job


@pytest.mark.parametrize(
    ("due_in", "changes", "within"),
    [
        (3_600, {"seconds": 1}, (500, 1_000)),
        (3_600, {"seconds": 2}, (1_500, 2_000)),
        (3_600, {"seconds": 3}, None),
        (3_600, {"url": NEW}, None),
        (1.9, {"url": NEW}, (500, 1_500)),
        (1.5, {"minutes": 1}, None),
        (-5, {"url": NEW}, (0, 0)),
    ],
)
async def test_executors_are_told_of_what_is_due_soon_now(
    handler: Handler,
    wake_ups: WakeUps,
    due_in: float,
    changes: dict[str, object],
    within: tuple[int, int] | None,
) -> None:
    timer_id = handler.make_job(due_in=due_in)
    wake_ups.heard.clear()
    await edit(handler, timer_id, **changes)
    await edit(handler, handler.make_job(due_in=-5), timeout=1)  # the next thing it will say

    def heard() -> list[int]:
        assert 0 in wake_ups.heard[0 if within is None else 1 :]
        return wake_ups.heard

    first = (await eventually(heard))[0]
    low, high = within or (0, 0)
    assert low <= first <= high


async def test_edits_at_one_moment_are_made_one_after_the_other(handler: Handler) -> None:
    """An edit replaces the run's row; one that began meanwhile must not take it for begun."""
    for _ in range(5):
        timer_id = await handler.create(hours=1)
        changes = [{"url": f"{URL}/{n}"} | ({"minutes": n + 1} if n % 2 else {}) for n in range(16)]
        answers = await asyncio.gather(
            *(handler.http.patch(f"/timers/{timer_id}", json=change) for change in changes)
        )
        assert {answer.status_code for answer in answers} == {200}
        assert job_of(handler, timer_id)["url"] in {change["url"] for change in changes}
        assert run_of(handler, timer_id)["due_at"] == job_of(handler, timer_id)["run_at"]


async def test_edits_at_one_moment_do_not_make_a_get_with_a_payload(handler: Handler) -> None:
    outcomes = set()
    for _ in range(30):
        timer_id = await handler.create(hours=1)
        answers = await asyncio.gather(
            handler.http.patch(f"/timers/{timer_id}", json={"method": "GET"}),
            handler.http.patch(f"/timers/{timer_id}", json={"payload": 1}),
        )
        assert sorted(answer.status_code for answer in answers) == [200, 422]
        outcomes.add(answers[0].status_code)
        job = job_of(handler, timer_id)
        assert (job["method"], job["payload"]) in {("GET", None), ("POST", b"1")}
    assert outcomes


async def test_a_cancel_among_edits_cancels(handler: Handler) -> None:
    for _ in range(30):
        timer_id = await handler.create(hours=1)
        edits = [handler.http.patch(f"/timers/{timer_id}", json={"url": NEW}) for _ in range(6)]
        cancel = handler.http.delete(f"/timers/{timer_id}")
        *edited, cancelled = await asyncio.gather(*edits[:3], *edits[3:], cancel)
        assert cancelled.status_code == 204, cancelled.text
        assert {answer.status_code for answer in edited} <= {200, 404}
        assert handler.query("select * from schedules where job_id = %s", timer_id) == []
        history = handler.query("select state from executions where job_id = %s", timer_id)
        assert history == [{"state": "cancelled"}]


async def make_executor(connection: Connection) -> UUID:
    executor_id = uuid4()
    await connection.execute(
        "insert into executors (id, lease_seconds, claim_ahead_seconds, host, version) "
        "values (%s, 3600, 1.2, '', '')",
        (executor_id,),
    )
    return executor_id


async def claim(connection: Connection, executor_id: UUID, *, most: int) -> list[Claim]:
    return await moves.claim(
        connection, executor_id=str(executor_id), late_seconds=3600, ahead_seconds=1.2, most=most
    )


async def test_a_claim_that_saw_the_timer_before_an_edit_does_not_fire_what_it_was(
    handler: Handler,
) -> None:
    """The claim has looked already, and is held up before it takes anything."""
    handler.clear()
    timer_id = handler.make_job(due_in=0.0)
    url = handler.service.environment["DATABASE_URL"]
    pool = database.open_pool(url, name="test", connections=2, pin_plans=True)
    async with pool, pool.connection() as claiming, pool.connection() as blocking:
        executor_id = await make_executor(blocking)
        async with blocking.transaction():
            await blocking.execute("select from executors for update")
            taken = asyncio.create_task(claim(claiming, executor_id, most=10))
            await eventually(lambda: _one_waits(handler))
            await edit(handler, timer_id, url=NEW)
        claims = await taken
        claims += await claim(claiming, executor_id, most=10)
        assert [claim.url for claim in claims] == [NEW]


async def test_each_of_500_timers_is_claimed_as_it_was_answered(handler: Handler) -> None:
    """Claimed with the new URL after a 200, with the old after a 409; never the other way."""
    handler.clear()
    handler.query(
        "with job as (insert into jobs (application_id, url, method, timeout_seconds, run_at) "
        "select 1, %s, 'POST', 5, now() + n * interval '1 ms' from generate_series(1, 500) as n "
        "returning id, run_at) insert into schedules (job_id, scheduled_for, due_at) "
        "select id, run_at, run_at from job",
        OLD,
    )
    ids = [row["id"] for row in handler.query("select id from jobs order by id")]
    claims: list[Claim] = []

    async def claim_all(connection: Connection, executor_id: UUID) -> None:
        while len(claims) < len(ids):
            if waiting and len(claims) > len(answers):
                await asyncio.sleep(0)  # not so fast: they are to meet
            else:
                claims.extend(await claim(connection, executor_id, most=random.choice([1, 2, 9])))

    answers: dict[int, int] = {}

    async def edit_each() -> None:
        while waiting:
            timer_id = waiting.pop()
            changes = {"url": NEW} | ({"seconds": 1} if timer_id % 2 else {})
            answer = await handler.http.patch(f"/timers/{timer_id}", json=changes)
            answers[timer_id] = answer.status_code
            if answer.status_code != 200:
                assert problem_of(answer, 409)["code"] == "timer_has_begun"

    waiting = random.sample(ids, len(ids))
    url = handler.service.environment["DATABASE_URL"]
    pool = database.open_pool(url, name="test", connections=2, pin_plans=True)
    async with pool, pool.connection() as connection:
        executor_id = await make_executor(connection)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(edit_each())
            group.create_task(claim_all(connection, executor_id))

    assert sorted(claim.job_id for claim in claims) == ids
    claimed = {claim.job_id: claim.url for claim in claims}
    assert claimed == {
        timer_id: NEW if status == 200 else OLD for timer_id, status in answers.items()
    }
    assert set(answers.values()) == {200, 409}, "they did not meet"


def _one_waits(handler: Handler) -> None:
    [row] = handler.query(
        "select count(*) as sessions from pg_stat_activity "
        "where datname = current_database() and wait_event_type = 'Lock'"
    )
    assert row["sessions"] == 1


async def test_a_table_that_nobody_may_write_to_makes_it_503(handler: Handler) -> None:
    """Held up for longer than a statement may take, an edit says so and changes nothing."""
    timer_id = handler.make_job(due_in=60)
    with psycopg.connect(handler.service.environment["DATABASE_URL"]) as blocking:
        blocking.execute("select from schedules where job_id = %s for update", (timer_id,))
        answer = await handler.http.patch(f"/timers/{timer_id}", json={"url": NEW})
    assert problem_of(answer, 503)["code"] == "unavailable"
    assert job_of(handler, timer_id)["url"] != NEW
