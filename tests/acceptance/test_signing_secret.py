"""`/applications/{id}/signing-secret`: read and rotated, and never told to anybody else."""

import asyncio
import base64
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from tests.acceptance.test_timers_contract import Handler
from tests.acceptance.test_timers_contract_refusals import BAD_IDS, JSON, Refuse
from tests.eventually import eventually
from tests.processes import Services
from tests.receiver import Receiver

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/applications/1/signing-secret"


def whsec(secret: bytes) -> str:
    return "whsec_" + base64.b64encode(secret).decode()


def application(handler: Handler) -> dict[str, Any]:
    [row] = handler.query(
        "select *, extract(epoch from previous_secret_until)::float8 as until from applications"
    )
    return row


async def read(handler: Handler) -> dict[str, Any]:
    answer = await handler.http.get(PATH)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    return dict(answer.json())


async def rotate(handler: Handler, **how: object) -> dict[str, Any]:
    answer = await handler.http.post(f"{PATH}/rotate", json=how)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == await read(handler)
    return dict(answer.json())


@pytest.fixture
def first(handler: Handler) -> str:
    """The only secret, as it is before any rotation."""
    secret = bytes(range(32))
    handler.query(
        "update applications set signing_secret = %s, previous_signing_secret = null, "
        "previous_secret_until = null",
        secret,
    )
    return whsec(secret)


async def test_a_secret_is_read_as_receivers_keep_it(handler: Handler, first: str) -> None:
    assert await read(handler) == {"secret": first, "previous": None}


async def test_a_rotation_makes_a_secret_and_keeps_the_one_before_for_a_day(
    handler: Handler, first: str
) -> None:
    before = handler.clock()
    rotated = await rotate(handler)
    after = handler.clock()
    row = application(handler)
    assert rotated["secret"] == whsec(row["signing_secret"]) != first
    assert len(row["signing_secret"]) == 32
    assert whsec(row["previous_signing_secret"]) == first
    assert rotated["previous"]["secret"] == first
    assert before + 86_400 <= row["until"] <= after + 86_400
    until = row["previous_secret_until"].isoformat(timespec="milliseconds")
    assert rotated["previous"]["until"] == until.replace("+00:00", "Z")
    assert (await rotate(handler))["secret"] != rotated["secret"], "a new one each time"


@pytest.mark.parametrize(
    ("overlap", "seconds"), [("PT1H", 3_600), (30.5, 30.5), ("P30D", 30 * 86_400), (60, 60)]
)
async def test_the_overlap_is_as_long_as_asked(
    handler: Handler, first: str, overlap: object, seconds: float
) -> None:
    before = handler.clock()
    rotated = await rotate(handler, overlap=overlap)
    assert before + seconds <= application(handler)["until"] <= handler.clock() + seconds
    assert rotated["previous"]["secret"] == first


@pytest.mark.parametrize("overlap", [0, 0.0, "PT0S"])
async def test_without_an_overlap_the_one_before_is_gone_at_once(
    handler: Handler, first: str, overlap: object
) -> None:
    rotated = await rotate(handler, overlap=overlap)
    assert rotated["previous"] is None
    assert rotated["secret"] != first
    row = application(handler)
    assert (row["previous_signing_secret"], row["previous_secret_until"]) == (None, None)


async def test_after_the_overlap_the_one_before_is_not_told(handler: Handler, first: str) -> None:
    rotated = await rotate(handler)
    handler.query("update applications set previous_secret_until = now()")
    assert await read(handler) == {"secret": rotated["secret"], "previous": None}
    assert first


@pytest.mark.parametrize("size", [24, 25, 26, 64])
async def test_a_secret_of_one_s_own(handler: Handler, first: str, size: int) -> None:
    own = b"\xfb\xff" + bytes(size - 2)  # + and / in base64
    rotated = await rotate(handler, secret=whsec(own))
    assert rotated["secret"] == whsec(own)
    assert rotated["previous"]["secret"] == first
    assert application(handler)["signing_secret"] == own


async def test_rotating_again_drops_the_older_of_the_two(handler: Handler, first: str) -> None:
    second = await rotate(handler)
    third = await rotate(handler)
    assert third["previous"]["secret"] == second["secret"]
    assert first not in (third["secret"], third["previous"]["secret"])


async def test_rotating_to_the_secret_that_signs_already_changes_nothing(
    handler: Handler, first: str
) -> None:
    """Who never saw our answer and asks again must not lose the one before."""
    own = whsec(bytes(range(100, 140)))
    rotated = await rotate(handler, secret=own)
    row = application(handler)
    assert await rotate(handler, secret=own, overlap=0) == rotated
    assert application(handler) == row
    back = await rotate(handler, secret=first)
    assert (back["secret"], back["previous"]["secret"]) == (first, own)


@pytest.mark.parametrize(
    ("how", "pointer"),
    [
        ({"overlap": -1}, "#/overlap"),
        ({"overlap": 30 * 86_400 + 1}, "#/overlap"),
        ({"overlap": "P31D"}, "#/overlap"),
        ({"overlap": "1"}, "#/overlap"),
        ({"overlap": None}, "#/overlap"),
        ({"overlap": True}, "#/overlap"),
        ({"overlap": 10**400}, "#/overlap"),
        ({"secret": None}, "#/secret"),
        ({"secret": 5}, "#/secret"),
        ({"secret": ""}, "#/secret"),
        ({"secret": "whsec_"}, "#/secret"),
        ({"secret": whsec(bytes(23))}, "#/secret"),
        ({"secret": whsec(bytes(65))}, "#/secret"),
        ({"secret": whsec(bytes(32)).removeprefix("whsec_")}, "#/secret"),
        ({"secret": whsec(bytes(32)).upper()}, "#/secret"),
        ({"secret": whsec(bytes(32)) + "\n"}, "#/secret"),
        ({"secret": whsec(bytes(32)).rstrip("=")}, "#/secret"),
        ({"secret": whsec(b"\xfb\xff" * 16).replace("/", "_").replace("+", "-")}, "#/secret"),
        ({"secret": whsec(bytes(32)) + "é"}, "#/secret"),
        ({"secrets": []}, "#/secrets"),
    ],
)
async def test_a_bad_rotation_is_refused_and_changes_nothing(
    handler: Handler, refuse: Refuse, first: str, how: dict[str, object], pointer: str
) -> None:
    problem = await refuse("POST", f"{PATH}/rotate", 422, json=how)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert await read(handler) == {"secret": first, "previous": None}


async def test_the_body_of_a_rotation_is_json(refuse: Refuse, handler: Handler, first: str) -> None:
    path = f"{PATH}/rotate"
    await refuse("POST", path, 400, content=b"", headers=JSON)
    await refuse("POST", path, 422, content=b"[]", headers=JSON)
    await refuse("POST", path, 413, content=b" " * 100_000, headers=JSON)
    await refuse("POST", path, 415, content=b"{}")
    assert await read(handler) == {"secret": first, "previous": None}


@pytest.mark.parametrize("application_id", [2, 17, 2**31, 2**63 - 1, *BAD_IDS])
async def test_another_application_is_not_found(refuse: Refuse, application_id: int | str) -> None:
    path = f"/applications/{application_id}/signing-secret"
    await refuse("GET", path, 404)
    await refuse("POST", f"{path}/rotate", 404, json={})


async def test_rotations_at_once_leave_one_secret_and_one_before(
    handler: Handler, first: str
) -> None:
    answers = await asyncio.gather(
        *(handler.http.post(f"{PATH}/rotate", json={}) for _ in range(10))
    )
    assert {answer.status_code for answer in answers} == {200}
    told = {answer.json()["secret"] for answer in answers}
    now = await read(handler)
    assert now["secret"] in told
    assert first not in (now["secret"], now["previous"]["secret"])


async def test_no_secret_reaches_the_log_or_a_problem(handler: Handler, first: str) -> None:
    own = whsec(bytes(range(60, 99)))
    secrets = [first, own, (await rotate(handler))["secret"], (await rotate(handler))["secret"]]
    texts = []
    for how in (
        {"secret": own, "overlap": -1},
        {"secret": own + "x"},
        {"secrets": own},
        {own: own[:40]},
    ):
        answer = await handler.http.post(f"{PATH}/rotate", json=how)
        assert answer.status_code == 422
        texts.append(answer.text if own not in how else "")  # a field's name is told, as it must
    broken = await handler.http.post(f"{PATH}/rotate", content=f'{{"secret": "{own}', headers=JSON)
    unavailable = f"/applications/2/signing-secret?{own}"
    texts += [broken.text, (await handler.http.get(unavailable)).text]
    handler.query(
        "alter table applications add constraint ouch check (updated_at < '2000-01-01Z') not valid"
    )
    try:
        failed = await handler.http.post(f"{PATH}/rotate", json={"secret": own})
    finally:
        handler.query("alter table applications drop constraint ouch")
    assert failed.status_code == 500
    texts += [failed.text, handler.service.log.read_text()]
    for text in texts:
        for secret in secrets:
            assert secret not in text
            assert secret.removeprefix("whsec_")[:20] not in text
    assert await rotate(handler)


@pytest.mark.asyncio(loop_scope="function")
async def test_during_the_overlap_deliveries_hold_by_both_secrets(
    services: Services, receiver: Receiver
) -> None:
    handler = await services.handler()
    await services.executor()
    async with httpx.AsyncClient(base_url=handler.url, timeout=30) as http:
        before = (await http.get(PATH)).json()["secret"]
        after = (await http.post(f"{PATH}/rotate", json={"overlap": 60})).json()["secret"]
        await http.post("/timers", json={"seconds": 1, "url": receiver.url(), "payload": {}})
        await eventually(lambda: _called(receiver, 1))
        await http.post(f"{PATH}/rotate", json={"overlap": 0, "secret": whsec(bytes(32))})
        await http.post("/timers", json={"seconds": 1, "url": receiver.url(), "payload": {}})
        await eventually(lambda: _called(receiver, 2))
    both, last = receiver.calls
    for secret in (before, after):
        assert Webhook(secret).verify(both.body.decode(), both.headers) == {}
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(secret).verify(last.body.decode(), last.headers)
    assert Webhook(whsec(bytes(32))).verify(last.body.decode(), last.headers) == {}


def _called(receiver: Receiver, count: int) -> None:
    assert len(receiver.calls) >= count
