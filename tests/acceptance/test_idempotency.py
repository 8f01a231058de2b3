"""An `Idempotency-Key`: whoever asks again gets the first answer, and nothing is made twice."""

import json

import httpx
import pytest

from handler_service.idempotency import lock_number
from tests.acceptance.conftest import WakeUps
from tests.acceptance.test_timers_contract import Handler
from tests.acceptance.test_timers_contract_refusals import Refuse, problem_of
from tests.eventually import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

URL = "https://example.com/hook"
FINE = {"hours": 1, "url": URL}
BATCH = {"timers": [{"hours": 1, "url": URL}, {"hours": 2, "url": URL}]}
HEADER = "Idempotency-Key"


async def ask(
    http: httpx.AsyncClient, key: str, body: object = FINE, *, path: str = "/timers"
) -> httpx.Response:
    return await http.post(path, json=body, headers={HEADER: key})


def assert_first(answer: httpx.Response) -> httpx.Response:
    assert answer.status_code == 201, answer.text
    assert "idempotency-replayed" not in answer.headers
    return answer


def assert_replayed(answer: httpx.Response, first: httpx.Response) -> None:
    assert answer.status_code == first.status_code == 201
    assert answer.headers["idempotency-replayed"] == "true"
    assert answer.content == first.content
    assert differing(answer, first) == {"idempotency-replayed"}


def differing(*answers: httpx.Response) -> set[str]:
    """The names of headers that are not the same in both, but for those of each request."""
    one, other = ({(n.lower(), v) for n, v in answer.headers.items()} for answer in answers)
    return {name for name, _ in one ^ other} - {"date", "x-request-id"}


def assert_in_progress(answer: httpx.Response) -> None:
    assert problem_of(answer, 409)["code"] == "idempotency_in_progress"
    assert int(answer.headers["retry-after"]) >= 1


async def created_by(http: httpx.AsyncClient) -> float:
    """How many jobs a handler says that it accepted."""
    lines = (await http.get("/metrics")).text.splitlines()
    [count] = [line for line in lines if line.startswith("onthedot_jobs_created_total ")]
    return float(count.split()[1])


# What is asked, and what is answered.


async def test_the_same_request_again_gets_the_first_answer_and_makes_nothing(
    handler: Handler,
) -> None:
    first = assert_first(await ask(handler.http, "again"))
    made = handler.counts()
    for _ in range(3):
        assert_replayed(await ask(handler.http, "again"), first)
    assert handler.counts() == made
    assert first.headers["location"] == f"/timers/{first.json()['id']}"
    assert await handler.left(first.json()["id"]) > 3_500


async def test_a_batch_is_made_once_too(handler: Handler) -> None:
    first = assert_first(await ask(handler.http, "batch", BATCH, path="/timers/batch"))
    made = handler.counts()
    assert_replayed(await ask(handler.http, "batch", BATCH, path="/timers/batch"), first)
    assert handler.counts() == made
    assert [timer["time_left"] for timer in first.json()["data"]] == [3_600, 7_200]


async def test_without_a_key_and_under_other_keys_each_request_makes_its_own(
    handler: Handler,
) -> None:
    answers = [await ask(handler.http, key) for key in ("one", "two", "ONE")]
    answers += [await handler.http.post("/timers", json=FINE) for _ in range(2)]
    assert len({assert_first(answer).json()["id"] for answer in answers}) == 5


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/timers", json.dumps({**FINE, "hours": 2})),
        ("/timers", json.dumps(FINE) + " "),
        ("/timers", json.dumps(dict(reversed(FINE.items())))),
        ("/timers", "no JSON"),
        ("/timers?again=1", json.dumps(FINE)),
        ("/timers/batch", json.dumps(FINE)),
    ],
    ids=["other value", "a space more", "other order", "no JSON", "other query", "other path"],
)
async def test_another_request_under_the_same_key_is_refused(
    refuse: Refuse, path: str, body: str
) -> None:
    key = f"taken {path} {body}".encode().hex()[:200]
    first = await refuse.handler.http.post(
        "/timers",
        content=json.dumps(FINE),
        headers={HEADER: key, "content-type": "application/json"},
    )
    assert_first(first)
    headers = {HEADER: key, "content-type": "application/json"}
    problem = await refuse("POST", path, 422, content=body, headers=headers)
    assert problem["code"] == "idempotency_key_reused"
    assert [error["pointer"] for error in problem["errors"]] == [HEADER]
    again = await refuse.handler.http.post("/timers", content=json.dumps(FINE), headers=headers)
    assert_replayed(again, first)


@pytest.mark.parametrize(
    "key", ["", "a b", "a\tb", "schön", "k" * 256], ids=lambda key: repr(key)[:12]
)
@pytest.mark.parametrize("path", ["/timers", "/timers/batch"])
async def test_what_is_no_key_is_refused(refuse: Refuse, path: str, key: str) -> None:
    body = FINE if path == "/timers" else BATCH
    headers = [(HEADER.encode(), key.encode())]
    problem = await refuse("POST", path, 422, json=body, headers=headers)
    assert [error["pointer"] for error in problem["errors"]] == [HEADER]
    assert "255" in problem["detail"]


@pytest.mark.parametrize("second", ["twice", "another"])
async def test_a_key_given_twice_is_refused(refuse: Refuse, second: str) -> None:
    headers = [(HEADER, "twice"), (HEADER.lower(), second)]
    problem = await refuse("POST", "/timers", 422, json=FINE, headers=headers)
    assert [error["pointer"] for error in problem["errors"]] == [HEADER]
    assert "once" in problem["detail"]


async def test_a_key_may_be_any_visible_ascii_up_to_its_limit(handler: Handler) -> None:
    for key in ("!", "~" * 255, "".join(map(chr, range(0x21, 0x7F))), '"8e03978e-40d5"'):
        first = assert_first(await ask(handler.http, key))
        assert_replayed(await ask(handler.http, key), first)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"hours": -1, "url": "https://example.com/"}', {}, 422),
        (b"no JSON", {}, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b" " * 2_000_000, {}, 413),
        (json.dumps({**FINE, "payload": "x" * 262_144}).encode(), {}, 413),
    ],
    ids=["invalid", "no JSON", "not announced as JSON", "too long", "payload too long"],
)
async def test_a_refusal_is_not_kept(
    refuse: Refuse, body: bytes, headers: dict[str, str], status: int
) -> None:
    key = f"refused-{status}-{len(body)}"
    given = {HEADER: key, "content-type": "application/json", **headers}
    for _ in range(2):
        problem = await refuse("POST", "/timers", status, content=body, headers=given)
        assert problem["code"] != "idempotency_key_reused"
    assert refuse.handler.query("select from idempotency_keys where key = %s", key) == []
    assert_first(await ask(refuse.handler.http, key))


async def test_what_is_made_is_announced_and_counted_and_a_replay_is_not(
    handler: Handler, wake_ups: WakeUps
) -> None:
    for key, path, body, count in (
        ("soon", "/timers", {"seconds": 1, "url": URL}, 1),
        ("soon-too", "/timers/batch", {"timers": [{"seconds": 1, "url": URL}] * 2}, 2),
    ):
        counted, heard = await created_by(handler.http), len(wake_ups.heard)
        first = assert_first(await ask(handler.http, key, body, path=path))
        await eventually(lambda heard=heard: announced(wake_ups, heard + 1))
        assert_replayed(await ask(handler.http, key, body, path=path), first)
        # A wake-up of the replay would be heard before this one.
        assert_first(await handler.http.post("/timers", json={"seconds": 1, "url": URL}))
        await eventually(lambda heard=heard: announced(wake_ups, heard + 2))
        assert await created_by(handler.http) == counted + count + 1


def announced(wake_ups: WakeUps, count: int) -> None:
    assert len(wake_ups.heard) == count


async def test_a_row_that_postgres_refuses_is_no_answer_to_keep(handler: Handler) -> None:
    handler.query("alter table jobs add constraint jobs_no_poison check (method <> 'PATCH')")
    poison = {**FINE, "method": "PATCH"}
    for _ in range(2):
        assert (await ask(handler.http, "poison", poison)).status_code == 500
    handler.query("alter table jobs drop constraint jobs_no_poison")
    first = assert_first(await ask(handler.http, "poison", poison))
    assert_replayed(await ask(handler.http, "poison", poison), first)


# How long a key is kept, and whose it is.


async def test_a_key_is_kept_for_a_day_and_is_free_after_that(handler: Handler) -> None:
    first = assert_first(await ask(handler.http, "aged"))
    age(handler, "aged", "23 hours 59 minutes")
    assert_replayed(await ask(handler.http, "aged"), first)
    assert problem_of(await ask(handler.http, "aged", {**FINE, "hours": 2}), 422)

    age(handler, "aged", "24 hours 1 second")
    second = assert_first(await ask(handler.http, "aged", {**FINE, "hours": 2}))
    assert second.json()["id"] != first.json()["id"]
    assert_replayed(await ask(handler.http, "aged", {**FINE, "hours": 2}), second)
    assert problem_of(await ask(handler.http, "aged"), 422)
    [row] = handler.query(
        "select now() - created_at < '1 minute' as is_new from idempotency_keys where key = 'aged'"
    )
    assert row["is_new"]


def age(handler: Handler, key: str, by: str) -> None:
    handler.query(
        "update idempotency_keys set created_at = now() - %s::interval where key = %s", by, key
    )


async def test_a_cancelled_timer_is_still_what_the_key_made(handler: Handler) -> None:
    first = assert_first(await ask(handler.http, "cancelled"))
    path = first.headers["location"]
    assert (await handler.http.delete(path)).status_code == 204
    assert_replayed(await ask(handler.http, "cancelled"), first)
    assert (await handler.http.get(path)).status_code == 404


async def test_a_key_of_another_application_is_another_key(handler: Handler) -> None:
    handler.query(
        "insert into idempotency_keys (application_id, key, fingerprint, status, headers, body) "
        "values (2, 'shared', 'theirs', 201, '{}', 'theirs')"
    )
    assert lock_number(1, "shared") != lock_number(2, "shared")
    with handler.database.transaction():  # they are asking just now
        handler.query("select pg_advisory_xact_lock(%s)", lock_number(2, "shared"))
        first = assert_first(await ask(handler.http, "shared"))
        assert_replayed(await ask(handler.http, "shared"), first)
    rows = handler.query(
        "select application_id, body from idempotency_keys where key = 'shared' order by 1"
    )
    assert [(row["application_id"], bytes(row["body"])) for row in rows] == [
        (1, first.content),
        (2, b"theirs"),
    ]


async def test_no_key_is_locked_where_a_job_is(handler: Handler) -> None:
    del handler
    assert all(lock_number(1, str(number)) < 0 for number in range(1_000))
