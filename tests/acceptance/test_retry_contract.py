"""`retry` and `delivery` over HTTP: what is stored of them, and that a fault is told once."""

from typing import Any

import pytest

from shared.runs.policy import NO_RETRY, STANDARD_POLICY, RetryPolicy
from tests.acceptance.test_timers_contract import URL, Handler
from tests.acceptance.test_timers_contract_refusals import FINE, Refuse

pytestmark = pytest.mark.asyncio(loop_scope="module")


POLICIES: list[tuple[Any, RetryPolicy]] = [
    ({}, RetryPolicy()),
    ({"max_attempts": 7, "base": "PT2S", "max_age": 60}, RetryPolicy(7, base=2.0, max_age=60.0)),
    ([1, "PT2S"], RetryPolicy(3, delays=(1.0, 2.0), jitter=0.0)),
    ("standard", STANDARD_POLICY),
    ("none", NO_RETRY),
]


@pytest.mark.parametrize(("retry", "policy"), POLICIES)
async def test_a_policy_is_stored_as_executors_read_it(
    handler: Handler, retry: Any, policy: RetryPolicy
) -> None:
    timer_id = await handler.create(hours=1, retry=retry)
    [job] = handler.query("select retry, delivery from jobs where id = %s", timer_id)
    assert RetryPolicy.read(job["retry"]) == policy
    assert (job["retry"] is None) == (policy == RetryPolicy())
    assert job["delivery"] == "at_least_once"


async def test_what_is_left_out_takes_no_room_in_the_row(handler: Handler) -> None:
    timer_id = await handler.create(hours=1)
    [job] = handler.query("select retry, delivery from jobs where id = %s", timer_id)
    assert job == {"retry": None, "delivery": "at_least_once"}


@pytest.mark.parametrize("delivery", ["at_least_once", "at_most_once"])
async def test_a_delivery_is_stored(handler: Handler, delivery: str) -> None:
    timer_id = await handler.create(hours=1, delivery=delivery)
    [job] = handler.query("select delivery from jobs where id = %s", timer_id)
    assert job["delivery"] == delivery


async def test_each_timer_of_a_batch_has_its_own(handler: Handler) -> None:
    timers = [{**FINE, "retry": retry, "delivery": "at_most_once"} for retry, _ in POLICIES]
    timers += [FINE]
    answer = await handler.http.post("/timers/batch", json={"timers": timers})
    assert answer.status_code == 201, answer.text
    ids = [timer["id"] for timer in answer.json()["data"]]
    rows = {
        row["id"]: (RetryPolicy.read(row["retry"]), row["delivery"])
        for row in handler.query("select id, retry, delivery from jobs where id = any(%s)", ids)
    }
    assert [rows[timer_id] for timer_id in ids] == [
        *((policy, "at_most_once") for _, policy in POLICIES),
        (RetryPolicy(), "at_least_once"),
    ]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"retry": None}, "#/retry"),
        ({"retry": "never"}, "#/retry"),
        ({"retry": []}, "#/retry"),
        ({"retry": [0] * 100}, "#/retry"),
        ({"retry": [5, -1]}, "#/retry/1"),
        ({"retry": {"base": "soon"}}, "#/retry/base"),
        ({"retry": {"max_attempts": 101}}, "#/retry/max_attempts"),
        ({"retry": {"a/b": 1}}, "#/retry/a~1b"),
        ({"delivery": None}, "#/delivery"),
        ({"delivery": "exactly_once"}, "#/delivery"),
    ],
)
async def test_a_fault_is_told_once_and_in_its_place(
    refuse: Refuse, fields: dict[str, object], pointer: str
) -> None:
    bad = {**FINE, **fields}
    assert await refuse.pointers(bad) == [pointer]
    timers = {"timers": [FINE, bad]}
    pointers = await refuse.pointers(timers, path="/timers/batch")
    assert pointers == [pointer.replace("#", "#/timers/1")]
    answer = await refuse("PATCH", f"/timers/{await _a_timer(refuse)}", 422, json=fields)
    assert [error["pointer"] for error in answer["errors"]] == [pointer]


async def test_a_flood_of_bad_delays_is_answered_in_brief(refuse: Refuse) -> None:
    timers = [{**FINE, "retry": [-1] * 99}] * 1_000
    assert len(await refuse.pointers({"timers": timers}, path="/timers/batch")) == 1_000


async def _a_timer(refuse: Refuse) -> int:
    return await refuse.handler.create(hours=1, url=URL)
