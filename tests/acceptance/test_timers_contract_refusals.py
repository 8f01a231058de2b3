"""What `/timers` refuses: each time with a problem that names the fault, and nothing written."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.acceptance.test_timers_contract import URL, Handler

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
FINE = {"hours": 1, "url": URL}


def problem_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem in an answer, after its shape was checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["content-length"]) == len(answer.content)
    problem = answer.json()
    assert isinstance(problem, dict)
    assert problem.pop("status") == status
    errors = problem.pop("errors", None)
    assert problem.keys() == {"type", "title", "detail", "code"}
    assert all(isinstance(text, str) and text for text in problem.values())
    assert problem["type"] == f"urn:onthedot:problem:{problem['code']}"
    assert (errors is not None) == (status == 422)
    for error in errors or []:
        assert error.keys() == {"pointer", "detail"}
        assert error["detail"][0].isupper(), error
        assert error["detail"].endswith("."), error
        for word in ("Input should", "instance of", "TimerIn", "after validation", "pydantic"):
            assert word not in error["detail"]
    return {**problem, "errors": errors or []}


class Refuse:
    """Sends requests that must be refused, and leave no row."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def __call__(self, method: str, path: str, status: int, **request: Any) -> dict[str, Any]:
        before = self.handler.counts()
        answer = await self.handler.http.request(method, path, **request)
        assert self.handler.counts() == before
        return problem_of(answer, status)

    async def body(
        self, body: str | bytes, status: int, *, path: str = "/timers"
    ) -> dict[str, Any]:
        return await self("POST", path, status, content=body, headers=JSON)

    async def pointers(self, body: object, *, path: str = "/timers") -> list[str]:
        """Where the faults of a body are; the order is ours to choose."""
        problem = await self("POST", path, 422, json=body)
        assert problem["code"] == "invalid_request"
        assert problem["errors"][0]["pointer"] in problem["detail"]
        return sorted(error["pointer"] for error in problem["errors"])


WHOLE_NUMBERS = {
    "a string": '"5"',
    "an empty string": '""',
    "a fraction": "5.9",
    "a float": "5.0",
    "an exponent": "5e0",
    "a negative zero float": "-0.0",
    "true": "true",
    "false": "false",
    "null": "null",
    "an array": "[5]",
    "an object": "{}",
    "negative": "-1",
    "very negative": str(-(10**30)),
    "an infinite float": "1e999",
    "a huge float": "1e300",
    "beyond 64 bits": str(2**63),
    "30 digits": str(10**30),
    "400 digits": str(10**400),
    "4,000 digits": str(10**4_000),
}


@pytest.mark.parametrize("field", ["hours", "minutes", "seconds"])
@pytest.mark.parametrize("value", WHOLE_NUMBERS.values(), ids=WHOLE_NUMBERS.keys())
async def test_a_part_of_the_delay_is_a_whole_number_in_reach(
    refuse: Refuse, field: str, value: str
) -> None:
    problem = await refuse.body(f'{{"{field}": {value}, "url": "{URL}"}}', 422)
    assert [error["pointer"] for error in problem["errors"]] == [f"#/{field}"]


@pytest.mark.parametrize(
    "delay",
    [
        {},
        {"seconds": 0},
        {"hours": 0, "minutes": 0, "seconds": 0},
    ],
)
async def test_a_delay_is_not_nothing(refuse: Refuse, delay: dict[str, int]) -> None:
    assert await refuse.pointers({**delay, "url": URL}) == ["#/seconds"]


async def test_a_timer_is_not_due_in_the_year_10000(refuse: Refuse, handler: Handler) -> None:
    [row] = handler.query(
        "select ceil(extract(epoch from '9999-12-31 23:59:59Z' - clock_timestamp()))::bigint as n"
    )
    for delay, field in [
        ({"seconds": row["n"] + 1}, "seconds"),
        ({"minutes": row["n"] // 60 + 1}, "minutes"),
        ({"hours": row["n"] // 3_600 + 1, "minutes": 59, "seconds": 59}, "hours"),
        ({"hours": row["n"] // 3_600, "seconds": 3_601}, "hours"),
    ]:
        assert await refuse.pointers({**delay, "url": URL}) == [f"#/{field}"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"url": "ftp://example.com/"}, "#/url"),
        ({"url": "/hook"}, "#/url"),
        ({"url": ""}, "#/url"),
        ({"url": "http:///x"}, "#/url"),
        ({"url": "http://user:password@example.com/"}, "#/url"),
        ({"url": "http://example.com/\x00"}, "#/url"),
        ({"url": "http://example.com:65536/"}, "#/url"),
        ({"url": "http://example.com\\x"}, "#/url"),
        ({"url": "http://example.com/" + "x" * 2_030}, "#/url"),
        ({"url": None}, "#/url"),
        ({"url": 5}, "#/url"),
        ({"url": [URL]}, "#/url"),
        ({"method": "get"}, "#/method"),
        ({"method": "OPTIONS"}, "#/method"),
        ({"method": "CONNECT"}, "#/method"),
        ({"method": "TRACE"}, "#/method"),
        ({"method": "GET\r\n"}, "#/method"),
        ({"method": ""}, "#/method"),
        ({"method": None}, "#/method"),
        ({"method": 5}, "#/method"),
        ({"headers": []}, "#/headers"),
        ({"headers": "a: b"}, "#/headers"),
        ({"headers": {"a": 5}}, "#/headers/a"),
        ({"headers": {"a": None}}, "#/headers/a"),
        ({"headers": {"a": "b\r\nc: d"}}, "#/headers/a"),
        ({"headers": {"a": "\x00"}}, "#/headers/a"),
        ({"headers": {"a\r\nb": "c"}}, "#/headers/a\r\nb"),
        ({"headers": {"a/b~c": "d"}}, "#/headers/a~1b~0c"),
        ({"headers": {"": "d"}}, "#/headers/"),
        ({"headers": {"Host": "x"}}, "#/headers/Host"),
        ({"headers": {"Content-Length": "5"}}, "#/headers/Content-Length"),
        ({"headers": {"transfer-encoding": "chunked"}}, "#/headers/transfer-encoding"),
        ({"headers": {"Webhook-Signature": "x"}}, "#/headers/Webhook-Signature"),
        ({"headers": {"A": "1", "a": "2"}}, "#/headers/a"),
        ({"headers": {"a": "x" * 8_188}}, "#/headers"),
        ({"headers": {f"h{n}": "x" for n in range(101)}}, "#/headers"),
        ({"method": "GET", "payload": {}}, "#/payload"),
        ({"method": "HEAD", "payload": None}, "#/payload"),
        ({"timeout": 0}, "#/timeout"),
        ({"timeout": -1}, "#/timeout"),
        ({"timeout": 120.5}, "#/timeout"),
        ({"timeout": 10**400}, "#/timeout"),
        ({"timeout": "PT2M1S"}, "#/timeout"),
        ({"timeout": "15"}, "#/timeout"),
        ({"timeout": None}, "#/timeout"),
        ({"timeout": True}, "#/timeout"),
        ({"delay": 5}, "#/delay"),
        ({"run_at": "2026-11-21T09:00:00Z"}, "#/run_at"),
        ({"max_attempts": 5}, "#/max_attempts"),
        ({"Url": URL}, "#/Url"),
        ({"id": 7}, "#/id"),
        ({"application_id": 2}, "#/application_id"),
        ({"": 1}, "#/"),
        ({"a/b~c": 1}, "#/a~1b~0c"),
        ({"{x}": 1}, "#/{x}"),
        ({"\x00": 1}, "#/\x00"),
        ({f"f{n}": n for n in range(1_000)}, "#"),
    ],
)
async def test_a_bad_field_is_named(
    refuse: Refuse, fields: dict[str, object], pointer: str
) -> None:
    assert await refuse.pointers({**FINE, **fields}) == [pointer]


async def test_every_bad_field_is_named(refuse: Refuse) -> None:
    body = {"hours": "1", "minutes": -1, "url": "x", "method": "get", "timeout": 0, "more": 1}
    pointers = await refuse.pointers(body)
    assert pointers == sorted(f"#/{field}" for field in body)


@pytest.mark.parametrize("body", ["null", "true", "5", '"text"', "[]", f"[{json.dumps(FINE)}]"])
@pytest.mark.parametrize("path", ["/timers", "/timers/batch"])
async def test_a_body_is_an_object(refuse: Refuse, path: str, body: str) -> None:
    problem = await refuse.body(body, 422, path=path)
    assert problem["errors"] == [{"pointer": "#", "detail": "Must be a JSON object."}]


NOT_JSON = {
    "empty": b"",
    "blank": b" ",
    "cut off": b'{"hours": 1, "url": "http://a/"',
    "two documents": b'{"hours": 1, "url": "http://a/"}{}',
    "text after it": b'{"hours": 1, "url": "http://a/"} x',
    "single quotes": b"{'hours': 1}",
    "a comment": b'{"hours": 1 /* one */, "url": "http://a/"}',
    "a trailing comma": b'{"hours": 1, "url": "http://a/",}',
    "a leading zero": b'{"hours": 01, "url": "http://a/"}',
    "hexadecimal": b'{"hours": 0x1, "url": "http://a/"}',
    "an underscore": b'{"hours": 1_0, "url": "http://a/"}',
    "NaN": b'{"hours": NaN, "url": "http://a/"}',
    "NaN in the payload": b'{"hours": 1, "url": "http://a/", "payload": [NaN]}',
    "Infinity": b'{"hours": 1, "url": "http://a/", "payload": Infinity}',
    "-Infinity": b'{"hours": 1, "url": "http://a/", "payload": -Infinity}',
    "a lone leading surrogate": b'{"hours": 1, "url": "http://a/", "payload": "\\ud800"}',
    "a lone trailing surrogate": b'{"hours": 1, "url": "http://a/", "payload": "\\udc00"}',
    "surrogates in the wrong order": b'{"hours": 1, "url": "http://a/\\udc00\\ud800"}',
    "a surrogate in UTF-8": b'{"hours": 1, "url": "http://a/", "payload": "\xed\xa0\x80"}',
    "latin-1": '{"hours": 1, "url": "http://a/é"}'.encode("latin-1"),
    "UTF-16": '{"hours": 1, "url": "http://a/"}'.encode("utf-16"),
    "a byte order mark": '{"hours": 1, "url": "http://a/"}'.encode("utf-8-sig"),
    "overlong UTF-8": b'{"hours": 1, "url": "http://a/\xc0\xaf"}',
    "a NUL byte": b"\x00",
    "a NUL byte in a string": b'{"hours": 1, "url": "http://a/", "payload": "\x00"}',
    "a line break in a string": b'{"hours": 1, "url": "http://a/", "payload": "a\nb"}',
    "a form": b"hours=1&url=http%3A%2F%2Fa%2F",
    "100,000 brackets": b'{"hours": 1, "url": "http://a/", "payload": '
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}",
    "100,000 open brackets": b"[" * 100_000,
    "20,000 objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
@pytest.mark.parametrize("path", ["/timers", "/timers/batch"])
async def test_a_body_that_is_no_json_is_refused(refuse: Refuse, path: str, body: bytes) -> None:
    problem = await refuse.body(body, 400, path=path)
    assert problem["code"] == "malformed_json"


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1E400", '{"a": [{"b": 1e999}]}'])
async def test_a_number_that_json_cannot_carry_on_is_named(refuse: Refuse, number: str) -> None:
    timer = f'{{"hours": 1, "url": "{URL}", "payload": {number}}}'
    problem = await refuse.body(timer, 422)
    assert [error["pointer"] for error in problem["errors"]] == ["#/payload"]


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/json, text/plain",
        "image/svg+json",
        "json",
        "*/*",
        "é",
    ],
)
@pytest.mark.parametrize("path", ["/timers", "/timers/batch"])
async def test_a_body_that_is_not_announced_as_json_is_refused(
    refuse: Refuse, path: str, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type.encode()}
    problem = await refuse("POST", path, 415, content=json.dumps(FINE), headers=headers)
    assert problem["code"] == "wrong_content_type"


async def test_the_size_of_a_payload_is_that_of_what_is_sent(refuse: Refuse) -> None:
    for payload in ("x" * 262_143, "é" * 131_072, [10] * 87_382):
        problem = await refuse("POST", "/timers", 413, json={**FINE, "payload": payload})
        assert problem["code"] == "too_large"
        assert "262,144" in problem["detail"]
    headers = {"content-type": "text/plain"}
    text = {**FINE, "headers": headers, "payload": "x" * 262_145}
    assert (await refuse("POST", "/timers", 413, json=text))["code"] == "too_large"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("path", "size"), [("/timers", 2_000_000), ("/timers/batch", 8_388_609)])
async def test_a_body_over_the_limit_is_refused(
    refuse: Refuse, path: str, size: int, *, chunked: bool
) -> None:
    body = json.dumps(FINE if path == "/timers" else {"timers": [FINE]})
    body += " " * (size - len(body))

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, 65_536):
            yield body[start : start + 65_536].encode()

    content = chunks() if chunked else body
    problem = await refuse("POST", path, 413, content=content, headers=JSON)
    assert problem["code"] == "too_large"


async def test_a_batch_has_one_to_a_thousand_timers(refuse: Refuse) -> None:
    for timers in ([], [FINE] * 1_001, None, {}, "x", FINE):
        assert await refuse.pointers({"timers": timers}, path="/timers/batch") == ["#/timers"]
    assert await refuse.pointers({}, path="/timers/batch") == ["#/timers"]
    both = {"timers": [FINE], "more": 1}
    assert await refuse.pointers(both, path="/timers/batch") == ["#/more"]


async def test_each_bad_item_of_a_batch_is_named_and_no_other_is_created(refuse: Refuse) -> None:
    timers = [
        FINE,
        {"seconds": 0, "url": URL},
        FINE,
        {"seconds": 1},
        None,
        {"seconds": "1", "url": "ftp://x", "more": 1},
        {**FINE, "headers": {"Host": "x"}},
        [],
        FINE,
    ]
    assert await refuse.pointers({"timers": timers}, path="/timers/batch") == [
        "#/timers/1/seconds",
        "#/timers/3/url",
        "#/timers/4",
        "#/timers/5/more",
        "#/timers/5/seconds",
        "#/timers/5/url",
        "#/timers/6/headers/Host",
        "#/timers/7",
    ]


async def test_a_thousand_bad_items_are_each_named(refuse: Refuse) -> None:
    found = await refuse.pointers({"timers": [{"seconds": 0}] * 1_000}, path="/timers/batch")
    assert found == sorted(f"#/timers/{place}/url" for place in range(1_000))


async def test_each_payload_that_json_cannot_carry_on_is_named(refuse: Refuse) -> None:
    fine, bad = (f'{{"hours": 1, "url": "{URL}", "payload": {n}}}' for n in (1, "1e999"))
    body = f'{{"timers": [{fine}, {bad}, {fine}, {bad}]}}'
    problem = await refuse.body(body, 422, path="/timers/batch")
    pointers = [error["pointer"] for error in problem["errors"]]
    assert pointers == ["#/timers/1/payload", "#/timers/3/payload"]


async def test_a_batch_with_one_payload_too_large_creates_nothing(refuse: Refuse) -> None:
    timers = [FINE, {**FINE, "payload": "x" * 262_143}]
    problem = await refuse("POST", "/timers/batch", 413, json={"timers": timers})
    assert "#/timers/1/payload" in problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"timers": [{f"f{n}": n for n in range(10_000)}] * 10},
        {"timers": [{**FINE, "headers": {f"h{n}": n for n in range(10_000)}}] * 10},
        {f"f{n}": n for n in range(100_000)},
    ],
)
async def test_a_flood_of_faults_is_answered_in_brief(refuse: Refuse, body: object) -> None:
    """Telling each of a million faults once took six seconds and a gigabyte."""
    assert len(await refuse.pointers(body, path="/timers/batch")) <= 11


BAD_IDS = [
    *("0", "-1", "007", "00", "1.0", "1e1", "abc", "null", "+1", "%201", "1%20", "1%0A", "1%00"),
    *("0x1", "1_0", "%D9%A1", "%C2%B2", "1,2", "*", "%2A", "%FF"),
    *(str(2**63), str(2**64), "9" * 20, "9" * 400, "9" * 5_000, "0" * 5_000 + "1"),
]


@pytest.mark.parametrize("timer_id", BAD_IDS)
@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD"])
async def test_what_is_no_id_of_ours_is_not_found(
    handler: Handler, method: str, timer_id: str
) -> None:
    handler.make_job()  # there is a timer that a sloppy reading of these ids might find
    before = handler.counts()
    answer = await handler.http.request(method, f"/timers/{timer_id}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    if method != "HEAD":
        problem_of(answer, 404)
    assert handler.counts() == before


@pytest.mark.parametrize("timer_id", [10**9, 2**63 - 1])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_timer_is_not_found(refuse: Refuse, method: str, timer_id: int) -> None:
    problem = await refuse(method, f"/timers/{timer_id}", 404)
    assert problem["code"] == "timer_not_found"


async def test_a_cancelled_timer_is_not_found(refuse: Refuse, handler: Handler) -> None:
    timer_id = await handler.create(hours=1)
    await handler.http.delete(f"/timers/{timer_id}")
    assert (await refuse("GET", f"/timers/{timer_id}", 404))["code"] == "timer_not_found"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_the_timer_of_another_application_is_not_found(
    refuse: Refuse, handler: Handler, method: str
) -> None:
    timer_id = handler.make_job()
    handler.query("update jobs set application_id = 2 where id = %s", timer_id)
    assert (await refuse(method, f"/timers/{timer_id}", 404))["code"] == "timer_not_found"
    listed = await handler.http.get("/timers?limit=1")
    assert timer_id not in [timer["id"] for timer in listed.json()["data"]]


@pytest.mark.parametrize("state", ["executing", None])
async def test_a_timer_that_has_begun_or_ended_cannot_be_cancelled(
    refuse: Refuse, handler: Handler, state: str | None
) -> None:
    timer_id = handler.make_job(due_in=0.0, state=state)
    for _ in range(2):
        problem = await refuse("DELETE", f"/timers/{timer_id}", 409)
        assert problem["code"] == "timer_has_begun"
    assert await handler.left(timer_id) == 0


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=abc", "limit"),
        ("limit=1.0", "limit"),
        ("limit=1_0", "limit"),
        ("limit=%2B1", "limit"),
        ("limit=%201", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=1e1", "limit"),
        ("limit=null", "limit"),
        ("limit=true", "limit"),
        ("limit=" + "9" * 5_000, "limit"),
        ("cursor=", "cursor"),
        ("cursor=abc", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=%FF", "cursor"),
        ("cursor=MA", "cursor"),
        ("cursor=LTE", "cursor"),
        ("cursor=2aE", "cursor"),
        ("cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk", "cursor"),
        ("cursor=" + "x" * 65, "cursor"),
        ("cursor=null", "cursor"),
        ("limt=5", "limt"),
        ("limit=5&curser=MQ", "curser"),
        ("Limit=5", "Limit"),
    ],
)
async def test_a_bad_parameter_of_a_list_is_named(
    refuse: Refuse, query: str, parameter: str
) -> None:
    problem = await refuse("GET", f"/timers?{query}", 422)
    assert [error["pointer"] for error in problem["errors"]] == [parameter]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/timer",
        "/Timers",
        "/timers/",
        "/timers/1/",
        "/timers//1",
        "/timers/1/2",
        "/timers/batch/",
        "/dead-letters/",
        "/dead-letters/1",
        "/dead-letters/0/2026-11-21T09:00:00Z/replay",
        "/dead-letters/1/replay",
        "/applications",
        "/applications/1",
        "/applications/0/signing-secret",
        "/applications/1/signing-secret/",
        "/healthz/",
        "/redoc",
        "/docs/",
        "/openapi.json/",
    ],
)
async def test_an_unknown_path_is_not_found(refuse: Refuse, method: str, path: str) -> None:
    assert (await refuse(method, path, 404))["code"] == "not_found"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/timers", {"GET", "HEAD", "POST"}),
        ("/timers/1", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("/timers/batch", {"POST"}),
        ("/dead-letters", {"GET", "HEAD"}),
        ("/dead-letters/replay", {"POST"}),
        ("/dead-letters/1/2026-11-21T09:00:00Z/replay", {"POST"}),
        ("/applications/1/signing-secret", {"GET", "HEAD"}),
        ("/applications/1/signing-secret/rotate", {"POST"}),
        ("/healthz", {"GET", "HEAD"}),
        ("/readyz", {"GET", "HEAD"}),
        ("/metrics", {"GET", "HEAD"}),
        ("/docs", {"GET", "HEAD"}),
        ("/openapi.json", {"GET", "HEAD"}),
    ],
)
@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
)
async def test_a_wrong_method_is_refused_with_the_right_ones(
    handler: Handler, refuse: Refuse, path: str, allowed: set[str], method: str
) -> None:
    if method in allowed:
        assert (await handler.http.request(method, path)).status_code != 405
        return
    assert (await refuse(method, path, 405))["code"] == "method_not_allowed"
    answer = await handler.http.request(method, path)
    assert set(answer.headers["allow"].split(", ")) == allowed


HEAD = b"POST /timers HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
TIMER = json.dumps(FINE).encode()
LIES = {
    "a length too short": HEAD + b"content-length: %d\r\n\r\n" % (len(TIMER) - 5) + TIMER,
    "a negative length": HEAD + b"content-length: -5\r\n\r\n" + TIMER,
    "a length that is no number": HEAD + b"content-length: x\r\n\r\n" + TIMER,
    "a length with a plus": HEAD + b"content-length: +%d\r\n\r\n" % len(TIMER) + TIMER,
    "a length beyond 64 bits": HEAD + b"content-length: 99999999999999999999\r\n\r\n" + TIMER,
    "two lengths": HEAD + b"content-length: 5\r\ncontent-length: %d\r\n\r\n" % len(TIMER) + TIMER,
    "a length and chunks": HEAD
    + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"%x\r\n%s\r\n0\r\n\r\n" % (len(TIMER), TIMER),
    "no length": HEAD + b"\r\n" + TIMER,
    "bad chunks": HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n" + TIMER + b"\r\n0\r\n\r\n",
    "an unknown method": b"FETCH /timers HTTP/1.1\r\nhost: x\r\n\r\n",
    "raw bytes in the path": b"GET /timers/\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    "bare line feeds": b"GET /timers HTTP/1.1\nhost: x\n\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


async def exchange(handler: Handler, sent: bytes, *, end: bool = False) -> bytes:
    """Send bytes as they are, and answer what comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", handler.service.port)
    try:
        writer.write(sent)
        if end:
            writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("sent", LIES.values(), ids=LIES.keys())
async def test_what_is_no_sound_http_is_refused_as_a_problem_too(
    handler: Handler, sent: bytes
) -> None:
    before = handler.counts()
    head, _, body = (await exchange(handler, sent)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["status"] == 400
    assert handler.counts() == before


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"content-length: %d\r\n\r\n" % (len(TIMER) + 1) + TIMER,
        HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(TIMER), TIMER),
        HEAD + b"content-length: %d\r\n\r\n" % len(TIMER),
        HEAD,
        b"POST /tim",
    ],
)
async def test_a_client_that_hangs_up_before_it_has_said_all_leaves_nothing(
    handler: Handler, sent: bytes
) -> None:
    before = handler.counts()
    assert b"201" not in await exchange(handler, sent, end=True)
    assert handler.counts() == before


async def test_a_header_block_that_never_ends_is_cut_off(handler: Handler) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", handler.service.port)
    writer.write(b"GET /timers HTTP/1.1\r\nhost: x\r\nx-endless: " + b"x" * 60_000)
    answer = b""
    try:
        for _ in range(40):
            writer.write(b"x" * 8_192)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    answer = await reader.read()
                    break
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["code"] == "headers_too_large"


async def test_a_proxy_may_send_a_large_header_block(handler: Handler) -> None:
    answer = await handler.http.get("/healthz", headers={"cookie": "x" * 30_000})
    assert answer.status_code == 200


SECRETS = ("hunter2-in-the-url", "hunter2-in-a-header", "hunter2-in-the-payload")


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"hours": 0},
        {"hours": "1"},
        {"hours": 10**400},
        {"timeout": 10**400},
        {"url": f"ftp://x/?{SECRETS[0]}"},
        {"url": f"http://x y/?{SECRETS[0]}"},
        {"url": f"http://user:{SECRETS[0]}@example.com/"},
        {"headers": {"authorization": f"{SECRETS[1]}\x00"}},
        {"headers": {"host": SECRETS[1]}},
        {"headers": {"authorization": [SECRETS[1]]}},
        {"payload": SECRETS[2] * 20_000},
        {"payload": SECRETS[2] * 60_000},
        {"method": SECRETS[2]},
    ],
)
async def test_no_secret_of_a_request_reaches_the_log_or_comes_back(
    handler: Handler, fault: dict[str, object]
) -> None:
    timer = {
        "hours": 1,
        "url": f"{URL}?{SECRETS[0]}",
        "headers": {"authorization": SECRETS[1]},
        "payload": SECRETS[2],
        **fault,
    }
    answer = await handler.http.post("/timers", json=timer)
    batch = await handler.http.post("/timers/batch", json={"timers": [timer]})
    broken = await handler.http.post("/timers", content=json.dumps(timer)[:-1], headers=JSON)
    assert {answer.status_code, batch.status_code} <= {201, 413, 422}
    assert broken.status_code in {400, 413}
    log = handler.service.log.read_text()
    for secret in SECRETS:
        assert secret not in answer.text + batch.text + broken.text
        assert secret not in log


async def test_a_refusal_is_no_news_for_the_log(handler: Handler) -> None:
    before = handler.service.log.read_text()
    for body in (b"", b"[]", b"{", json.dumps({"url": 5}).encode()):
        answer = await handler.http.post("/timers", content=body, headers=JSON)
        problem_of(answer, answer.status_code)
    assert handler.service.log.read_text() == before
