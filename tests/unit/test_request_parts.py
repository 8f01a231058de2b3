"""What a caller may set of a webhook: which URLs, headers and durations are taken, and why not."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError
from pyreqwest.http import Url

from handler_service.schemas import request_parts
from handler_service.schemas.instants import read_instant
from handler_service.schemas.timers import TimerIn

ACCEPTED_URLS = [
    "http://a",
    "http://a/",
    "https://example.com/hook?x=1&y=%20",
    "HTTP://EXAMPLE.COM/",
    "http://example.com:1/",
    "http://example.com:65535/",
    "http://example.com:/",
    "http://example.com?query",
    "http://example.com#fragment",
    "http://example.com./",
    "http://127.0.0.1/",
    "http://[::1]/",
    "http://[2001:db8::1]:8443/hook",
    "http://bücher.example/",
    "http://xn--bcher-kva.example/",
    "http://service_name.internal/",
    "http://example.com/é☃",
    "http://example.com/a@b",
    "http://example.com/?mail=a@b",
    "http://example.com/#a@b",
    "http://example.com/%00",
    "http://example.com//double//slash",
    f"http://{'a' * 63}.example/",
]

REFUSED_URLS = {
    "absolute URL": [
        "",
        "example.com",
        "/hook",
        "//example.com/hook",
        "https:example.com",
        "http:/example.com",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "unix:/run/docker.sock",
        "http:\\\\example.com",
        "httpx://example.com",
    ],
    "control characters": [
        " ",
        " http://example.com/",
        "http://example.com/ ",
        "http://example.com/a b",
        "http://exa mple.com/",
        "http://example.com/\tx",
        "ht\ttp://example.com/",
        "http://example.com/\r\nx",
        "http://example.com/\x00",
        "http://exa\x00mple.com/",
        "http://example.com/\x7f",
        "http://example.com/\x85",
    ],
    "backslash": ["http://example.com\\@other.example/", "http://\\example.com", "http://a/\\b"],
    "credentials": [
        "http://user:password@example.com/",
        "http://user@example.com/",
        "http://:password@example.com/",
        "http://@example.com/",
        "http://:@example.com/",
        "http://a@b@c/",
        "http://user%40corp@example.com/",
    ],
    "host": [
        "http://",
        "https://",
        "http:///x",
        "https:///example.com/hook",
        "http:////example.com",
        "http://?query",
        "http://#fragment",
        "http://:80/",
        "http://./",
        "http://。/",
        "http://a..b/",
        "http://.example.com/",
        f"http://{'a' * 64}.example/",
        f"http://{'a.' * 126}example/",
    ],
    "port": ["http://example.com:0/", "http://example.com:00/"],
    "valid URL": [
        "http://example.com:65536/",
        "http://example.com:-1/",
        "http://example.com:80:80/",
        "http://example.com:http/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://256.1.1.1/",
        "http://1.2.3.4.5/",
        "http://a<b>/",
        "http://a%2fb/",
        "http://xn--a/",
    ],
}


@pytest.mark.parametrize("url", ACCEPTED_URLS)
def test_a_url_is_kept_as_it_was_written(url: str) -> None:
    assert timer(url=url).url == url


@pytest.mark.parametrize(
    ("why", "url"), [(why, url) for why, urls in REFUSED_URLS.items() for url in urls]
)
def test_a_url_is_refused_with_the_reason(why: str, url: str) -> None:
    if url == "":
        why = "at least 1"
    [(place, said)] = refusals(url=url)
    assert place == ("url",)
    assert why in said


@pytest.mark.parametrize("url", ACCEPTED_URLS)
def test_an_accepted_url_names_the_same_host_to_any_reader(url: str) -> None:
    """What stands between the slashes is the host the client connects to: nothing is mended."""
    authority = url.split("//", 1)[1]
    for end in "/?#":
        authority = authority.split(end, 1)[0]
    assert Url(f"http://{authority}/").host_str == Url(url).host_str


def test_a_url_has_2048_characters_at_most() -> None:
    longest = "http://a/" + "x" * (2_048 - len("http://a/"))
    assert timer(url=longest).url == longest
    [(place, _)] = refusals(url=longest + "x")
    assert place == ("url",)


@pytest.mark.parametrize("value", [None, 5, True, [], {}, ["http://a/"], b"http://a/"])
def test_a_url_is_a_string(value: object) -> None:
    [(place, _)] = refusals(url=value)
    assert place == ("url",)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer abc"},
        {"X-Empty": ""},
        {"a": "\t inner\ttab \t"},
        {"a": "{braces} %s %(x)s ~"},
        {"!#$%&'*+-.^_`|~0aZ": "every character of a token"},
        {"a" * 256: "1"},
        {"content-type": "text/plain"},
        {"cookie": "a=b"},
        {f"h{n}": "x" for n in range(100)},
        {"a": "x" * (8_192 - 1 - 4)},
    ],
)
def test_header_fields_are_kept_as_they_were_written(headers: dict[str, str]) -> None:
    assert timer(headers=headers).headers == headers


@pytest.mark.parametrize(
    ("headers", "place", "why"),
    [
        ({"": "x"}, "", "not a header name"),
        ({"a b": "x"}, "a b", "not a header name"),
        ({"a:": "x"}, "a:", "not a header name"),
        ({":authority": "x"}, ":authority", "not a header name"),
        ({"a\r\nb": "x"}, "a\r\nb", "not a header name"),
        ({"a\n": "x"}, "a\n", "not a header name"),
        ({"a\x00": "x"}, "a\x00", "not a header name"),
        ({"é": "x"}, "é", "not a header name"),
        ({"a{b}": "x"}, "a{b}", "not a header name"),
        ({"a" * 257: "x"}, "a" * 257, "not a header name"),
        ({"a": "b\r\nc: d"}, "a", "visible ASCII"),
        ({"a": "b\n"}, "a", "visible ASCII"),
        ({"a": "\x00"}, "a", "visible ASCII"),
        ({"a": "\x7f"}, "a", "visible ASCII"),
        ({"a": "é"}, "a", "visible ASCII"),
        ({"a": 1}, "a", "string"),
        ({"a": None}, "a", "string"),
        ({"a": True}, "a", "string"),
        ({"a": ["b"]}, "a", "string"),
        ({"A": "1", "a": "2"}, "a", "given twice"),
        ({"fine": "1", "x": "2", "X": "2"}, "X", "given twice"),
    ],
)
def test_a_bad_header_field_is_named(headers: dict[str, object], place: str, why: str) -> None:
    [(location, said)] = refusals(headers=headers)
    assert location == ("headers", place)
    assert why in said


@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title])
@pytest.mark.parametrize(
    "name",
    [
        *sorted(request_parts.RESERVED_HEADERS),
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "webhook-",
        "onthedot-attempt",
        "onthedot-scheduled-for",
        "onthedot-anything",
    ],
)
def test_what_the_service_sets_cannot_be_overridden(name: str, spelling: type[str.lower]) -> None:
    [(location, said)] = refusals(headers={spelling(name): "x"})
    assert location == ("headers", spelling(name))
    assert "set by the service" in said


@pytest.mark.parametrize(
    "headers",
    [
        [],
        "a: b",
        5,
        True,
        {f"h{n}": "x" for n in range(101)},
        {"a": "x" * (8_192 - 1 - 4 + 1)},
        {f"{n:02}": "x" * 100 for n in range(80)},
    ],
)
def test_headers_are_an_object_of_limited_size(headers: object) -> None:
    [(location, _)] = refusals(headers=headers)
    assert location == ("headers",)


def test_a_flood_of_bad_headers_is_refused_once() -> None:
    assert len(refusals(headers={str(n): 1 for n in range(100_000)})) == 1


def test_a_flood_of_unknown_fields_is_refused_once() -> None:
    assert len(refusals(**{f"f{n}": 1 for n in range(100_000)})) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1, 1.0),
        (120, 120.0),
        (0.001, 0.001),
        (1.5, 1.5),
        ("PT15S", 15.0),
        ("PT1.5S", 1.5),
        ("PT0.001S", 0.001),
        ("PT1M30S", 90.0),
        ("PT2M", 120.0),
        ("P0DT2M", 120.0),
        ("P0W", None),
    ],
)
def test_a_timeout_is_seconds_or_an_iso_duration(value: object, seconds: float | None) -> None:
    if seconds is None:
        assert refusals(timeout=value)
    else:
        assert timer(timeout=value).timeout == seconds


@pytest.mark.parametrize(
    "value",
    [
        0,
        -0.0,
        -1,
        0.0009,
        5e-324,
        120.0001,
        121,
        10**30,
        10**400,
        -(10**400),
        float("inf"),
        float("nan"),
        "PT0S",
        "PT2M1S",
        "P1D",
        "P1W",
        "PT" + "9" * 50 + "S",
        "PT" + "9" * 400 + "S",
        "P",
        "PT",
        "P1DT",
        "",
        "15",
        "pt15s",
        " PT15S",
        "PT15S\n",
        "-PT1S",
        "PT1,5S",
        "PT.5S",
        "PT1S1M",
        "P1Y",
        "P1M",
        "PT\u0661S",
        True,
        False,
        None,
        [],
        {},
        [15],
    ],
)
def test_any_other_timeout_is_refused_and_named(value: object) -> None:
    [(location, _)] = refusals(timeout=value)
    assert location == ("timeout",)


def timer(**fields: object) -> TimerIn:
    return TimerIn.model_validate({"seconds": 1, "url": "http://a/", **fields})


def refusals(**fields: object) -> list[tuple[tuple[str | int, ...], str]]:
    """Where and why a timer with these fields is refused, as a caller is told."""
    with pytest.raises(ValidationError) as refused:
        timer(**fields)
    told = []
    for error in refused.value.errors():
        named = error.get("ctx", {}).get("field")
        told.append((error["loc"] + ((named,) if named is not None else ()), error["msg"]))
    return told


@pytest.mark.parametrize("fraction", [".25", ".2500000", ".250000999", ".250000999999"])
def test_an_instant_may_be_finer_than_ours_and_is_cut_off(fraction: str) -> None:
    """.NET writes seven digits, Go and Java nine."""
    expected = datetime(2026, 11, 21, 8, 0, 0, 250_000, tzinfo=UTC)
    assert read_instant(f"2026-11-21T09:00:00{fraction}+01:00") == expected
