"""Timers arrive: each once, none early, as asked, over any number of executors."""

import asyncio
import json
from collections import Counter

import httpx
import pytest
from standardwebhooks import Webhook

from tests.eventually import eventually
from tests.processes import Services
from tests.receiver import Call, Receiver

WebhookSecret = str


async def create(api: httpx.AsyncClient, **timer: object) -> int:
    response = await api.post("/timers", json=timer)
    assert response.status_code == 201, response.text
    return int(response.json()["id"])


def assert_none_early(calls: list[Call]) -> None:
    """Postgres runs on this machine, so this machine's clock is the database's."""
    early = [call for call in calls if call.arrived_at < call.planned_at]
    assert not early


async def test_a_timer_of_one_second_calls_its_url_once_and_not_early(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    timer_id = await create(api, seconds=1, url=receiver.url("/hook"))

    await eventually(lambda: _has(receiver, 1))
    [call] = receiver.calls
    assert (call.method, call.path, call.job_id) == ("POST", "/hook", timer_id)
    assert_none_early(receiver.calls)
    assert (await api.get(f"/timers/{timer_id}")).json() == {"id": timer_id, "time_left": 0}


async def test_the_request_is_the_one_asked_for(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    await create(
        api,
        seconds=1,
        url=receiver.url("/orders/17?state=expired"),
        method="PUT",
        headers={"Authorization": "Bearer abc", "X-Trace": "1"},
        payload={"order": 17, "note": "naïve ☃", "big": 2**70, "nothing": None},
    )
    await create(
        api,
        seconds=1,
        url=receiver.url("/text"),
        headers={"content-type": "text/plain; charset=utf-8"},
        payload="as it is ☃",
    )
    await create(api, seconds=1, url=receiver.url("/get"), method="GET")
    await eventually(lambda: _has(receiver, 3))
    by_path = {call.path: call for call in receiver.calls}

    put = by_path["/orders/17?state=expired"]
    assert put.method == "PUT"
    assert put.headers["authorization"] == "Bearer abc"
    assert put.headers["x-trace"] == "1"
    assert put.headers["content-type"] == "application/json"
    assert put.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert json.loads(put.body) == {
        "order": 17,
        "note": "naïve ☃",
        "big": 2**70,
        "nothing": None,
    }
    assert by_path["/text"].body == "as it is ☃".encode()
    assert by_path["/text"].headers["content-type"] == "text/plain; charset=utf-8"
    assert by_path["/get"].body == b""
    assert "content-type" not in by_path["/get"].headers


async def test_without_a_payload_the_body_says_which_timer_fired(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    timer_id = await create(api, seconds=1, url=receiver.url())
    await eventually(lambda: _has(receiver, 1))
    [call] = receiver.calls
    event = json.loads(call.body)
    scheduled_for = call.headers["onthedot-scheduled-for"]
    assert event == {
        "type": "timer.fired",
        "timestamp": scheduled_for,
        "data": {"id": timer_id, "scheduled_for": scheduled_for, "attempt": 1},
    }
    assert call.headers["onthedot-attempt"] == "1"
    assert call.headers["user-agent"].startswith("onthedot/")
    assert "." not in call.webhook_id


async def test_the_signature_holds_by_the_reference_implementation(
    api: httpx.AsyncClient, services: Services, receiver: Receiver, signing_secret: WebhookSecret
) -> None:
    await services.executor()
    await create(api, seconds=1, url=receiver.url(), payload={"amount": 1})
    await create(api, seconds=1, url=receiver.url())
    await create(api, seconds=1, url=receiver.url(), method="DELETE")
    await eventually(lambda: _has(receiver, 3))
    for call in receiver.calls:
        body = call.body.decode()
        if body:
            assert Webhook(signing_secret).verify(body, call.headers) == json.loads(body)
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(signing_secret).verify(body + " ", call.headers)


async def test_two_thousand_timers_in_one_second_over_three_executors_arrive_once_each(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executors(3)
    batch = {"timers": [{"seconds": 3, "url": receiver.url()}] * 1000}
    answers = await asyncio.gather(*(api.post("/timers/batch", json=batch) for _ in range(2)))
    ids = [timer["id"] for answer in answers for timer in answer.json()["data"]]
    assert len(set(ids)) == 2000

    await eventually(lambda: _has(receiver, 2000))
    assert set(receiver.runs.values()) == {1}
    assert Counter(call.job_id for call in receiver.calls) == Counter(ids)
    assert_none_early(receiver.calls)


async def test_a_steady_stream_of_short_timers_arrives_once_each(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    """Created at every moment of the second, so some come just before and just after each poll."""
    await services.executors(2)
    ids = []
    for _ in range(100):
        ids.append(await create(api, seconds=1, url=receiver.url()))
        await asyncio.sleep(0.02)  # spread over the rhythm, not waiting for anything
    await eventually(lambda: _has(receiver, len(ids)))
    assert Counter(call.job_id for call in receiver.calls) == Counter(ids)
    assert_none_early(receiver.calls)


async def test_two_handlers_give_out_different_ids(services: Services, receiver: Receiver) -> None:
    first, second = await asyncio.gather(services.handler(), services.handler())
    async with httpx.AsyncClient() as http:
        timer = {"hours": 1, "url": receiver.url()}
        answers = await asyncio.gather(
            *(http.post(f"{service.url}/timers", json=timer) for service in [first, second] * 50)
        )
        ids = [answer.json()["id"] for answer in answers]
        assert len(set(ids)) == 100
        for answer, service in zip(answers, [second, first] * 50, strict=True):
            read = await http.get(f"{service.url}{answer.headers['location']}")
            assert read.status_code == 200


async def test_a_cancelled_timer_stays_silent(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    cancelled = await create(api, seconds=3, url=receiver.url("/cancelled"))
    assert (await api.delete(f"/timers/{cancelled}")).status_code == 204
    witness = await create(api, seconds=4, url=receiver.url("/witness"))

    await eventually(lambda: _has(receiver, 1))
    assert [call.job_id for call in receiver.calls] == [witness]
    assert (await api.delete(f"/timers/{witness}")).status_code == 409


def _has(receiver: Receiver, calls: int) -> None:
    assert len(receiver.calls) >= calls
