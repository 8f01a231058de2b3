"""What `/timers` answers when all is well, field by field."""

import asyncio
import itertools
import json
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from tests.conftest import url_of
from tests.processes import Service, Services
from tests.servers import Servers

pytestmark = pytest.mark.asyncio(loop_scope="module")

URL = "https://example.com/hook"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Handler:
    """A running handler, and the database behind it."""

    http: httpx.AsyncClient
    service: Service
    database: psycopg.Connection[dict[str, Any]] = field(repr=False)

    async def create(self, **timer: object) -> int:
        answer = await self.http.post("/timers", json={"url": URL, **timer})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    async def create_many(self, count: int) -> list[int]:
        timers = [{"hours": 1, "url": URL}] * count
        answer = await self.http.post("/timers/batch", json={"timers": timers})
        assert answer.status_code == 201, answer.text
        return [timer["id"] for timer in answer.json()["data"]]

    async def left(self, timer_id: int) -> int:
        answer = await self.http.get(f"/timers/{timer_id}")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"id": timer_id, "time_left": answer.json()["time_left"]}
        assert type(answer.json()["time_left"]) is int
        return int(answer.json()["time_left"])

    def query(self, sql: str, *values: object) -> list[dict[str, Any]]:
        cursor = self.database.execute(sql.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def counts(self) -> tuple[int, int, int]:
        """How many rows there are of jobs, of what is due, and of history."""
        [row] = self.query(
            "select (select count(*) from jobs) as jobs, (select count(*) from schedules) as due, "
            "(select count(*) from executions) as history"
        )
        return row["jobs"], row["due"], row["history"]

    def clear(self) -> None:
        self.query("truncate jobs, schedules, executions")

    def clock(self) -> float:
        [row] = self.query("select extract(epoch from clock_timestamp())::float8 as now")
        return float(row["now"])

    def make_job(self, *, due_in: float = 3600.0, state: str | None = "pending") -> int:
        """A job whose run is in this state; None: nothing outstanding is left of it."""
        [job] = self.query(
            "insert into jobs (application_id, url, method, timeout_seconds, run_at) values "
            "(1, 'http://127.0.0.1:9/', 'POST', 5, now() + %s * interval '1 second') "
            "returning id, run_at",
            due_in,
        )
        if state:
            self.query(
                "insert into schedules (job_id, scheduled_for, due_at, state, executor_id, fence) "
                "values (%s, %s, %s, %s, case when %s then gen_random_uuid() end, 1)",
                *(job["id"], job["run_at"], job["run_at"], state, state == "executing"),
            )
        return int(job["id"])


@contextmanager
def fresh_database(servers: Servers, template: str) -> Iterator[str]:
    name = f"{template}_contract_{next(_numbers)}"
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name} template {template} strategy file_copy")
        yield url_of(servers.database_url, name)
        connection.execute(f"drop database if exists {name} with (force)")


@asynccontextmanager
async def running_handler(
    servers: Servers, template: str, directory: Path, **settings: str
) -> AsyncIterator[Handler]:
    """A handler for a whole module; it must not have logged a traceback when it ends."""
    with fresh_database(servers, template) as database_url:
        services = Services(database_url, servers.redis_url, directory)
        service = await services.handler(**settings)
        client = httpx.AsyncClient(base_url=service.url, timeout=30)
        connection = psycopg.Connection.connect(database_url, autocommit=True, row_factory=dict_row)
        async with client as http:
            with connection as database:
                yield Handler(http, service, database)
        await services.stop()


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        ({"hours": 4, "minutes": 0, "seconds": 1}, 14_401),
        ({"seconds": 1}, 1),
        ({"minutes": 1}, 60),
        ({"hours": 1}, 3_600),
        ({"hours": 0, "minutes": 90, "seconds": 3_599}, 8_999),
        ({"seconds": 2**31}, 2**31),
        ({"seconds": 2**32 + 1}, 2**32 + 1),
        ({"hours": 24 * 365 * 1_000}, 3_600 * 24 * 365 * 1_000),
    ],
)
async def test_a_created_timer_is_answered_by_its_id_and_the_whole_time_left(
    handler: Handler, delay: dict[str, int], seconds: int
) -> None:
    answer = await handler.http.post("/timers", json={"url": URL, **delay})
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body == {"id": body["id"], "time_left": seconds}
    assert type(body["id"]) is int
    assert answer.headers["location"] == f"/timers/{body['id']}"

    read = await handler.http.get(answer.headers["location"])
    assert read.json().keys() == {"id", "time_left"}
    assert read.json()["id"] == body["id"]
    assert seconds - 10 <= read.json()["time_left"] <= seconds


async def test_what_was_asked_is_what_is_stored(handler: Handler) -> None:
    before = handler.clock()
    timer_id = await handler.create(
        hours=1,
        seconds=1,
        url="https://example.com/a?b=c&d=%20#e",
        method="PATCH",
        headers={"Authorization": "Bearer abc", "X-Empty": ""},
        payload={"b": [1, 2.5, None, True, "☃"], "a": {}},
        timeout="PT1M30S",
    )
    [job] = handler.query(
        "select *, extract(epoch from run_at)::float8 as due from jobs where id = %s", timer_id
    )
    assert job["application_id"] == 1
    assert job["url"] == "https://example.com/a?b=c&d=%20#e"
    assert job["method"] == "PATCH"
    assert job["headers"] == {"Authorization": "Bearer abc", "X-Empty": ""}
    assert job["payload"] == '{"b":[1,2.5,null,true,"☃"],"a":{}}'.encode()
    assert job["timeout_seconds"] == 90
    assert before + 3_601 <= job["due"] <= handler.clock() + 3_601
    [run] = handler.query("select * from schedules where job_id = %s", timer_id)
    assert run["scheduled_for"] == run["due_at"] == job["run_at"]
    assert (run["state"], run["attempt"], run["fence"]) == ("pending", 0, 0)


async def test_what_is_left_out_has_its_default(handler: Handler) -> None:
    timer_id = await handler.create(seconds=3_600)
    [job] = handler.query("select * from jobs where id = %s", timer_id)
    assert (job["method"], job["headers"], job["payload"]) == ("POST", None, None)
    assert job["timeout_seconds"] == 15


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
async def test_a_timer_takes_each_method(handler: Handler, method: str) -> None:
    timer_id = await handler.create(hours=1, method=method)
    [job] = handler.query("select method from jobs where id = %s", timer_id)
    assert job["method"] == method


@pytest.mark.parametrize(
    ("payload", "stored"),
    [
        ("null", b"null"),
        ("0", b"0"),
        ("-0", b"0"),
        ("1.0", b"1.0"),
        ("true", b"true"),
        ('""', b'""'),
        ("[]", b"[]"),
        ("{}", b"{}"),
        ('{"b":1,"a":2}', b'{"b":1,"a":2}'),
        (" [ 1 , 2 ]\n", b"[1,2]"),
        (str(10**400), str(10**400).encode()),
        ("1.7976931348623157e308", b"1.7976931348623157e+308"),
        (r'"\u0000"', b'"\\u0000"'),
        (r'{"\u0000":"\u001f\u007f"}', b'{"\\u0000":"\\u001f\x7f"}'),
        (r'"\ud83d\ude00\/"', '"😀/"'.encode()),
        ("[" * 150 + "]" * 150, b"[" * 150 + b"]" * 150),
        ('{"a":1,"a":2}', b'{"a":2}'),
    ],
)
async def test_a_payload_is_any_json(handler: Handler, payload: str, stored: bytes) -> None:
    answer = await handler.http.post(
        "/timers",
        content=f'{{"hours": 1, "url": "{URL}", "payload": {payload}}}',
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 201, answer.text
    [job] = handler.query("select payload from jobs where id = %s", answer.json()["id"])
    assert job["payload"] == stored
    assert json.loads(job["payload"]) == json.loads(payload)


@pytest.mark.parametrize("content_type", ["text/plain", "text/csv; charset=utf-8", ""])
async def test_a_string_under_another_content_type_is_sent_as_it_is(
    handler: Handler, content_type: str
) -> None:
    timer_id = await handler.create(
        hours=1, payload='a "b"\n☃\x00', headers={"Content-Type": content_type}
    )
    [job] = handler.query("select payload from jobs where id = %s", timer_id)
    assert job["payload"] == 'a "b"\n☃\x00'.encode()


@pytest.mark.parametrize("character", ["x", "é", "☃", "😀", '"', "\x01"])
async def test_a_payload_may_have_256_kib_however_the_client_spelt_it(
    handler: Handler, character: str
) -> None:
    """`json.dumps` spells every other character than ASCII with six to twelve bytes."""
    size = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    count, rest = divmod(262_144 - 2, size)
    timer = {"hours": 1, "url": URL, "payload": character * count + "x" * rest}
    for spelt in (json.dumps(timer, ensure_ascii=False), json.dumps(timer, indent=4)):
        answer = await handler.http.post(
            "/timers", content=spelt, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 201, answer.text
        timer_id = answer.json()["id"]
        [job] = handler.query("select length(payload) as n from jobs where id = %s", timer_id)
        assert job["n"] == 262_144


async def test_of_a_field_given_twice_the_last_is_checked_and_the_last_is_used(
    handler: Handler,
) -> None:
    body = f'{{"hours": 0, "hours": 1, "url": 5, "url": "{URL}", "method": 5, "method": "GET"}}'
    answer = await handler.http.post(
        "/timers", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["time_left"] == 3_600
    [job] = handler.query("select url, method from jobs where id = %s", answer.json()["id"])
    assert job == {"url": URL, "method": "GET"}


async def test_a_timer_may_be_due_in_the_last_seconds_of_the_year_9999(handler: Handler) -> None:
    [row] = handler.query(
        "select floor(extract(epoch from '9999-12-31 23:59:59Z' - now()))::bigint as left"
    )
    timer_id = await handler.create(seconds=row["left"])
    [job] = handler.query(
        "select run_at at time zone 'UTC' > '9999-12-31 23:59:57' as last from jobs where id = %s",
        timer_id,
    )
    assert job["last"]
    assert row["left"] - 10 <= await handler.left(timer_id) <= row["left"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/vnd.example+json",
    ],
)
async def test_a_body_is_json_by_any_of_its_names(handler: Handler, content_type: str) -> None:
    body = json.dumps({"hours": 1, "url": URL})
    answer = await handler.http.post(
        "/timers", content=body, headers={"content-type": content_type}
    )
    assert answer.status_code == 201, answer.text


async def test_a_body_may_come_in_chunks(handler: Handler) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for byte in json.dumps({"hours": 1, "url": URL}).encode():
            yield bytes([byte])

    answer = await handler.http.post(
        "/timers", content=chunks(), headers={"content-type": "application/json"}
    )
    assert answer.request.headers["transfer-encoding"] == "chunked"
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("due_in", [0.4, 0.999, 1.0, 1.001, 2.6, 59.5, 3_600.25])
async def test_the_time_left_is_rounded_up_by_the_clock_of_the_database(
    handler: Handler, due_in: float
) -> None:
    timer_id = handler.make_job(due_in=due_in)
    [job] = handler.query(
        "select extract(epoch from run_at)::float8 as due from jobs where id = %s", timer_id
    )
    before = handler.clock()
    left = await handler.left(timer_id)
    after = handler.clock()
    assert math.ceil(max(0, job["due"] - after)) <= left <= math.ceil(max(0, job["due"] - before))


@pytest.mark.parametrize("state", ["pending", "executing", None])
@pytest.mark.parametrize("due_in", [0.0, -0.001, -0.999, -1.0, -86_400.0 * 365])
async def test_once_due_no_time_is_left_and_never_less(
    handler: Handler, due_in: float, state: str | None
) -> None:
    assert await handler.left(handler.make_job(due_in=due_in, state=state)) == 0


@pytest.fixture
def empty(handler: Handler) -> Handler:
    handler.clear()
    return handler


async def test_a_list_has_the_newest_first_and_two_fields_each(empty: Handler) -> None:
    ids = [await empty.create(seconds=600 + n) for n in range(3)]
    answer = await empty.http.get("/timers")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"data", "next_cursor"}
    assert [timer["id"] for timer in answer.json()["data"]] == ids[::-1]
    for timer, seconds in zip(answer.json()["data"], [602, 601, 600], strict=True):
        assert timer.keys() == {"id", "time_left"}
        assert seconds - 10 <= timer["time_left"] <= seconds


async def test_an_empty_list_has_no_next_page(empty: Handler) -> None:
    answer = await empty.http.get("/timers")
    assert answer.json() == {"data": [], "next_cursor": None}
    assert "link" not in answer.headers


async def test_a_list_leaves_out_what_was_cancelled_and_keeps_what_fired(empty: Handler) -> None:
    cancelled = await empty.create(hours=1)
    fired = empty.make_job(due_in=-5, state=None)
    await empty.http.delete(f"/timers/{cancelled}")
    answer = await empty.http.get("/timers")
    assert answer.json()["data"] == [{"id": fired, "time_left": 0}]


@pytest.mark.parametrize(("limit", "size"), [(None, 50), (1, 1), (199, 199), (200, 200)])
async def test_a_page_has_as_many_timers_as_asked_for(
    empty: Handler, limit: int | None, size: int
) -> None:
    await empty.create_many(201)
    answer = await empty.http.get("/timers", params={} if limit is None else {"limit": limit})
    assert len(answer.json()["data"]) == size
    assert answer.json()["next_cursor"] is not None


@pytest.mark.parametrize("by", ["cursor", "link"])
@pytest.mark.parametrize("limit", [1, 3, 6, 7, 8])
async def test_pages_hold_every_timer_once_and_the_last_says_so(
    empty: Handler, by: str, limit: int
) -> None:
    ids = await empty.create_many(7)
    path = f"/timers?limit={limit}"
    pages = []
    while path:
        answer = await empty.http.get(path)
        pages.append([timer["id"] for timer in answer.json()["data"]])
        cursor = answer.json()["next_cursor"]
        assert (cursor is None) == ("link" not in answer.headers)
        path = f"/timers?limit={limit}&cursor={cursor}" if cursor else ""
        if by == "link":
            path = answer.links["next"]["url"] if cursor else ""
        assert len(pages) < 10
    assert list(itertools.chain.from_iterable(pages)) == sorted(ids, reverse=True)
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert len(pages) == math.ceil(7 / limit)


async def test_pages_are_stable_while_timers_come_and_go(empty: Handler) -> None:
    ids = await empty.create_many(9)
    seen = []
    path: str | None = "/timers?limit=3"
    while path:
        answer = await empty.http.get(path)
        seen += [timer["id"] for timer in answer.json()["data"]]
        path = answer.links["next"]["url"] if "link" in answer.headers else None
        await empty.create_many(4)
        await empty.http.delete(f"/timers/{seen[-1]}")
    assert seen == sorted(ids, reverse=True)


async def test_a_link_names_the_next_page_relative_to_the_host(empty: Handler) -> None:
    """Behind a proxy the host that a client knows is not the one that we see."""
    await empty.create_many(2)
    answer = await empty.http.get("/timers?limit=1", headers={"host": "other.example"})
    following = httpx.URL(answer.links["next"]["url"])
    assert (following.host, following.path) == ("", "/timers")
    assert dict(following.params) == {"limit": "1", "cursor": answer.json()["next_cursor"]}


async def test_a_cancelled_timer_is_gone(handler: Handler) -> None:
    timer_id = await handler.create(hours=1)
    first = await handler.http.delete(f"/timers/{timer_id}")
    assert (first.status_code, first.content) == (204, b"")
    second = await handler.http.delete(f"/timers/{timer_id}")
    assert (second.status_code, second.content) == (204, b"")
    assert (await handler.http.get(f"/timers/{timer_id}")).status_code == 404

    assert handler.query("select * from schedules where job_id = %s", timer_id) == []
    history = handler.query("select state, attempt from executions where job_id = %s", timer_id)
    assert history == [{"state": "cancelled", "attempt": 0}]


async def test_cancelling_at_once_from_many_sides_cancels_once(handler: Handler) -> None:
    timer_id = await handler.create(hours=1)
    answers = await asyncio.gather(*(handler.http.delete(f"/timers/{timer_id}") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {204}
    history = handler.query("select state from executions where job_id = %s", timer_id)
    assert history == [{"state": "cancelled"}]


async def test_an_overdue_timer_that_nobody_claimed_can_still_be_cancelled(
    handler: Handler,
) -> None:
    timer_id = handler.make_job(due_in=-5)
    assert (await handler.http.delete(f"/timers/{timer_id}")).status_code == 204


async def test_a_batch_answers_in_the_order_asked(handler: Handler) -> None:
    delays = [5_000 + (n * 37) % 101 for n in range(101)]
    timers = [{"seconds": delay, "url": f"{URL}?{delay}"} for delay in delays]
    answer = await handler.http.post("/timers/batch", json={"timers": timers})
    assert answer.status_code == 201
    assert answer.json().keys() == {"data"}
    data = answer.json()["data"]
    assert [timer["time_left"] for timer in data] == delays
    assert {frozenset(timer) for timer in data} == {frozenset({"id", "time_left"})}
    stored = {
        row["id"]: row["url"]
        for row in handler.query(
            "select id, url from jobs where id = any(%s)", [timer["id"] for timer in data]
        )
    }
    assert [stored[timer["id"]] for timer in data] == [timer["url"] for timer in timers]


async def test_a_batch_takes_a_thousand_timers(handler: Handler) -> None:
    jobs, due, _ = handler.counts()
    ids = await handler.create_many(1_000)
    assert len(set(ids)) == 1_000
    assert handler.counts()[:2] == (jobs + 1_000, due + 1_000)


async def test_a_batch_takes_8_mib(handler: Handler) -> None:
    timer = {"hours": 1, "url": URL, "payload": "x" * 200_000}
    body = json.dumps({"timers": [timer] * 41})
    answer = await handler.http.post(
        "/timers/batch",
        content=body + " " * (8_388_608 - len(body)),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 201, answer.text
    assert len(answer.json()["data"]) == 41


async def test_creates_at_one_moment_each_get_their_own_timer(handler: Handler) -> None:
    delays = range(7_000, 7_200)
    answers = await asyncio.gather(
        *(
            handler.http.post("/timers", json={"seconds": delay, "url": f"{URL}?{delay}"})
            for delay in delays
        )
    )
    assert [answer.json()["time_left"] for answer in answers] == list(delays)
    ids = [answer.json()["id"] for answer in answers]
    rows = handler.query("select id, url from jobs where id = any(%s)", ids)
    assert {row["id"]: row["url"] for row in rows} == {
        timer_id: f"{URL}?{delay}" for timer_id, delay in zip(ids, delays, strict=True)
    }


@pytest.mark.parametrize("path", ["/timers/{}", "/timers", "/healthz", "/readyz", "/metrics"])
async def test_head_answers_what_get_answers_without_the_body(handler: Handler, path: str) -> None:
    path = path.format(await handler.create(hours=1))
    got, head = await handler.http.get(path), await handler.http.head(path)
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]
