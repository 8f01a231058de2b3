"""`/schedules`: every word of the older contract, and that it is sent at its minute."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.eventually import eventually
from tests.processes import Services
from tests.receiver import Receiver

MINUTE_MAX = 4_223_371_679
DAY, WEEK = 1_440, 10_080  # minutes
URL = "https://example.com/hook"


def minute_now() -> int:
    return int(datetime.now(UTC).timestamp()) // 60


async def created(api: httpx.AsyncClient, **schedule: Any) -> dict[str, Any]:
    words = {"payload": "cool stuff", "minute": minute_now() + 60, "recurring": "none", "url": URL}
    response = await api.post("/schedules", json=words | schedule)
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    assert body.keys() == {"jobId", "payload", "minute", "recurring"}
    assert response.headers["location"] == f"/schedules/{body['jobId']}"
    return body


async def listed(api: httpx.AsyncClient) -> list[dict[str, Any]]:
    response = await api.get("/schedules")
    assert response.status_code == 200, response.text
    assert "link" not in response.headers
    found: list[dict[str, Any]] = response.json()
    return found


def age(database_url: str, minutes: int) -> None:
    """Let so much time pass, as far as the rows can tell."""
    earlier = f"- interval '{minutes} minutes'"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"update jobs set run_at = run_at {earlier}".encode())
        connection.execute(f"update schedules set scheduled_for = scheduled_for {earlier}".encode())
        connection.execute("update schedules set due_at = scheduled_for")
        for name in ("anchor", "starts_at"):
            connection.execute(
                f"update jobs set recurrence = jsonb_set(recurrence, '{{{name}}}', to_jsonb("
                f"(recurrence ->> '{name}')::timestamptz {earlier})) "
                "where recurrence is not null".encode()
            )


@pytest.mark.parametrize("recurring", ["none", "daily", "weekly"])
async def test_a_schedule_answers_its_four_words_and_is_read_replaced_and_deleted(
    api: httpx.AsyncClient, recurring: str
) -> None:
    minute = minute_now() + 3
    made = await created(api, minute=minute, recurring=recurring)
    assert isinstance(made["jobId"], str)
    assert made == {
        "jobId": made["jobId"],
        "payload": "cool stuff",
        "minute": minute,
        "recurring": recurring,
    }
    path = f"/schedules/{made['jobId']}"
    assert (await api.get(path)).json() == made
    assert await listed(api) == [made]

    new = {"payload": "é, 😀", "minute": minute + 7, "recurring": "weekly"}
    put = await api.put(path, json=new)
    assert put.status_code == 200, put.text
    assert put.json() == {"jobId": made["jobId"], **new}
    assert (await api.get(path)).json() == put.json()
    job = (await api.get(f"/jobs/{made['jobId']}")).json()
    assert (job["url"], job["every"]) == (URL, WEEK * 60), "its url stays"
    back = {**put.json(), "recurring": "none", "url": f"{URL}/2"}
    assert (await api.put(path, json=back)).json() == {**put.json(), "recurring": "none"}
    job = (await api.get(f"/jobs/{made['jobId']}")).json()
    assert (job["url"], job["every"]) == (f"{URL}/2", None)

    deleted = await api.delete(path)
    assert (deleted.status_code, deleted.json()) == (200, {**put.json(), "recurring": "none"})
    for method, body in (("GET", None), ("PUT", new), ("DELETE", None)):
        gone = await api.request(method, path, json=body)
        assert (gone.status_code, gone.json()["code"]) == (404, "job_not_found")
    assert await listed(api) == []


async def test_a_minute_that_is_over_stands_for_the_next_occurrence_unless_there_is_none(
    api: httpx.AsyncClient,
) -> None:
    now = minute_now()
    for recurring, length in (("daily", DAY), ("weekly", WEEK)):
        for ago in (5, 3 * length + 5):
            made = await created(api, minute=now - ago, recurring=recurring)
            assert made["minute"] == now - 5 + length
            assert (await api.get(f"/schedules/{made['jobId']}")).json() == made
    first = await created(api, minute=0, recurring="weekly")
    assert now < first["minute"] <= now + WEEK
    assert first["minute"] % WEEK == 0
    ahead = await created(api, minute=now + 30 * DAY, recurring="daily")
    assert ahead["minute"] == now + 30 * DAY, "nothing of it before the minute that was asked for"
    last = await created(api, minute=MINUTE_MAX, recurring="weekly")
    assert last["minute"] == MINUTE_MAX
    words = {"payload": "x", "url": URL, "recurring": "none"}
    refused = await api.post("/schedules", json=words | {"minute": now - 2})
    assert refused.status_code == 422
    [error] = refused.json()["errors"]
    assert error["pointer"] == "#/minute"
    assert "past" in error["detail"]
    path = f"/schedules/{last['jobId']}"
    refused = await api.put(path, json=words | {"minute": now - 2})
    assert refused.status_code == 422
    assert (await api.get(path)).json() == last


async def test_the_payload_is_sent_as_it_is_at_its_minute_and_a_one_off_is_over_then(
    api: httpx.AsyncClient, services: Services, receiver: Receiver, database_url: str
) -> None:
    made = await created(api, url=receiver.url(), payload='"é" 😀\n', minute=minute_now() + 5)
    await services.executor()
    age(database_url, 5)

    def was_called() -> None:
        assert len(receiver.calls_of(int(made["jobId"]))) == 1

    await eventually(was_called)
    [call] = receiver.calls_of(int(made["jobId"]))
    assert call.body == '"é" 😀\n'.encode()
    assert call.headers["content-type"] == "text/plain; charset=utf-8"
    assert call.method == "POST"

    async def is_over() -> None:
        assert (await api.get(f"/schedules/{made['jobId']}")).status_code == 404

    await eventually(is_over)
    assert await listed(api) == []


@pytest.mark.parametrize(("recurring", "length"), [("daily", DAY), ("weekly", WEEK)])
async def test_what_recurs_keeps_its_id_and_answers_the_minute_after(
    api: httpx.AsyncClient,
    services: Services,
    receiver: Receiver,
    database_url: str,
    recurring: str,
    length: int,
) -> None:
    made = await created(api, url=receiver.url(), minute=minute_now() + length, recurring=recurring)
    await services.executor()
    for times in (1, 2):
        age(database_url, length)

        def was_called(times: int = times) -> None:
            assert len(receiver.calls_of(int(made["jobId"]))) == times

        await eventually(was_called)
        assert await listed(api) == [made], "a whole period passed: its next minute is the same"


async def test_an_immediate_one_is_sent_now_too(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    headers = {"idempotency-key": str(uuid4())}
    words = {
        "payload": "now",
        "minute": minute_now() + 60,
        "recurring": "none",
        "immediate": True,
        "url": receiver.url(),
    }
    answers = [await api.post("/schedules", json=words, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotency-replayed"] == "true"
    first = answers[0].json()
    second = await created(api, url=receiver.url(), immediate=True, recurring="daily")
    calm = await created(api, url=receiver.url(), immediate=False)

    def were_called(times: int) -> None:
        for made in (first, second):
            assert len(receiver.calls_of(int(made["jobId"]))) == times

    await eventually(lambda: were_called(1))
    assert await listed(api) == [first, second, calm]
    for made in (first, second):
        put = await api.put(f"/schedules/{made['jobId']}", json={**made, "immediate": True})
        assert put.json() == made
    await eventually(lambda: were_called(2))
    assert await listed(api) == [first, second, calm], "and at its minute still"
    assert not receiver.calls_of(int(calm["jobId"]))


async def test_a_run_that_waits_to_be_sent_at_once_is_left_alone_by_a_replacement(
    api: httpx.AsyncClient, database_url: str
) -> None:
    made = await created(api, immediate=True)
    put = await api.put(f"/schedules/{made['jobId']}", json={**made, "minute": made["minute"] + 1})
    assert put.status_code == 200, put.text
    assert put.json()["minute"] == made["minute"] + 1
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select due_at <= now() from schedules order by due_at")
        assert rows.fetchall() == [(True,), (False,)]


async def test_only_what_was_made_here_is_answered_here(
    api: httpx.AsyncClient, database_url: str
) -> None:
    job = (await api.post("/jobs", json={"url": URL, "delay": 3_600})).json()
    timer = (await api.post("/timers", json={"url": URL, "hours": 1})).json()
    schedule = await created(api, recurring="daily")
    words = {"payload": "x", "minute": minute_now() + 1, "recurring": "none", "url": URL}
    for unknown in (job["id"], timer["id"], 10**6, 10**18 * 9 + 10**17 * 9, "x", "0"):
        path = f"/schedules/{unknown}"
        for method, body in (("GET", None), ("PUT", words), ("DELETE", None)):
            assert (await api.request(method, path, json=body)).status_code == 404
    assert await listed(api) == [schedule]
    known = (await api.get(f"/jobs/{schedule['jobId']}")).json()
    assert (known["every"], known["payload"]) == (DAY * 60, "cool stuff")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update jobs set application_id = 2 where contract is not null")
    assert await listed(api) == []
    assert (await api.get(f"/schedules/{schedule['jobId']}")).status_code == 404


async def test_one_that_recurs_as_no_word_of_the_contract_says_is_not_answered(
    api: httpx.AsyncClient,
) -> None:
    made = await created(api, recurring="daily")
    path = f"/schedules/{made['jobId']}"
    moved = await api.patch(f"/jobs/{made['jobId']}", json={"every": WEEK * 60})
    assert moved.status_code == 200, moved.text
    assert (await api.get(path)).json()["recurring"] == "weekly"
    await api.patch(f"/jobs/{made['jobId']}", json={"cron": "@hourly"})
    assert (await api.get(path)).status_code == 404
    assert await listed(api) == []


async def test_a_list_is_one_array_newest_last_and_leads_on_when_it_is_too_long(
    api: httpx.AsyncClient, database_url: str
) -> None:
    for number in range(2):
        await created(api, payload=str(number))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "with job as (insert into jobs (application_id, url, method, payload, timeout_seconds,"
            " run_at, contract) select 1, 'http://x/', 'POST', convert_to(n::text, 'UTF8'), 15,"
            " now() + interval '1 day', 'schedules' from generate_series(2, 10000) as n order by n"
            " returning id, run_at) insert into schedules (job_id, scheduled_for, due_at)"
            " select id, run_at, run_at from job"
        )
    first = await api.get("/schedules")
    assert [each["payload"] for each in first.json()] == [str(number) for number in range(10_000)]
    link = first.headers["link"]
    assert link.endswith('; rel="next"')
    second = await api.get(link[1 : link.index(">")])
    assert [each["payload"] for each in second.json()] == ["10000"]
    assert "link" not in second.headers
    refused = await api.get("/schedules?cursor=what")
    assert refused.json()["errors"][0]["pointer"] == "cursor"


async def test_an_answer_holds_no_more_payload_than_a_page_may(api: httpx.AsyncClient) -> None:
    made = [await created(api, payload="x" * 262_144) for _ in range(33)]
    first = await api.get("/schedules")
    assert len(first.json()) == 32
    link = first.headers["link"]
    second = (await api.get(link[1 : link.index(">")])).json()
    assert first.json() + second == made


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"url": None}, "#/url"),
        ({"url": "ftp://x/"}, "#/url"),
        ({"payload": None}, "#/payload"),
        ({"payload": {"a": 1}}, "#/payload"),
        ({"minute": "27789898"}, "#/minute"),
        ({"minute": 1.5}, "#/minute"),
        ({"minute": True}, "#/minute"),
        ({"minute": -1, "recurring": "daily"}, "#/minute"),
        ({"minute": MINUTE_MAX + 1}, "#/minute"),
        ({"minute": 27_789_898}, "#/minute"),
        ({"recurring": "hourly"}, "#/recurring"),
        ({"recurring": None}, "#/recurring"),
        ({"immediate": "yes"}, "#/immediate"),
        ({"jobId": "1"}, "#/jobId"),
        ({"nonsense": 1}, "#/nonsense"),
    ],
)
async def test_what_cannot_be_is_refused_by_the_field_to_change_and_nothing_is_made(
    api: httpx.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    words = {"payload": "x", "minute": minute_now() + 5, "recurring": "none", "url": URL}
    response = await api.post("/schedules", json=words | change)
    assert response.status_code == 422, response.text
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert response.json()["errors"][0]["detail"]
    assert await listed(api) == []


@pytest.mark.parametrize("field", ["payload", "minute", "recurring", "url"])
async def test_each_word_but_immediate_is_required_as_long_as_there_is_no_default_destination(
    api: httpx.AsyncClient, field: str
) -> None:
    words = {"payload": "x", "minute": minute_now() + 5, "recurring": "none", "url": URL}
    words.pop(field)
    response = await api.post("/schedules", json=words)
    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert error["pointer"] == f"#/{field}"
    assert ("default destination" in error["detail"]) == (field == "url")


async def test_a_payload_that_is_too_large_and_another_s_id_are_refused(
    api: httpx.AsyncClient,
) -> None:
    made = await created(api)
    words = {"payload": "é" * 131_073, "minute": made["minute"], "recurring": "none", "url": URL}
    path = f"/schedules/{made['jobId']}"
    for response in (await api.post("/schedules", json=words), await api.put(path, json=words)):
        assert (response.status_code, response.json()["code"]) == (413, "too_large")
    other = await api.put(path, json=words | {"payload": "x", "jobId": "999"})
    assert other.json()["errors"][0]["pointer"] == "#/jobId"
    assert await listed(api) == [made]


async def test_what_is_being_sent_can_be_neither_replaced_nor_deleted(
    api: httpx.AsyncClient, services: Services, receiver: Receiver, database_url: str
) -> None:
    made = await created(api, url=receiver.url("/slow/3"), minute=minute_now() + 5)
    await services.executor()
    age(database_url, 5)

    def is_being_sent() -> None:
        assert receiver.calls_of(int(made["jobId"]))

    await eventually(is_being_sent)
    path = f"/schedules/{made['jobId']}"
    put = await api.put(path, json=made | {"minute": made["minute"] + 5})
    assert (put.status_code, put.json()["code"]) == (409, "job_has_begun")
    deleted = await api.delete(path)
    assert (deleted.status_code, deleted.json()["code"]) == (409, "job_has_begun")
