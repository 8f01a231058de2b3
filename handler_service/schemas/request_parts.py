"""The parts of a webhook that a caller may set, and what makes each of them valid.

Each check says which rule it holds to, so that a webhook that was accepted can be sent.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from pyreqwest.http import Url

URL_CHARACTERS_MAX = 2_048
HEADER_BYTES_MAX = 8_192
HEADERS_MAX = 100
TIMEOUT_SECONDS_MIN = 0.001
TIMEOUT_SECONDS_MAX = 120
TIMEOUT_SECONDS_DEFAULT = 15.0
DURATION_CHARACTERS_MAX = 64

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
WITHOUT_PAYLOAD = frozenset({"GET", "HEAD"})  # RFC 9110, 9.3.1: content of a GET has no meaning

BLANK_OR_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f]")
AUTHORITY = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)  # RFC 3986, 3.2
# RFC 1035, 2.3.4: a resolver cannot even ask for a longer name or label.
HOST_CHARACTERS_MAX = 253
LABEL = re.compile(r"[^.]{1,63}")
# RFC 9110, 5.6.2 (token) and 5.5 (visible ASCII, space and tab; no obs-text, which few receivers
# read).
HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
# Ours to set (Standard Webhooks, and what says who calls), or the connection's (RFC 9110, 7.6.1).
RESERVED_HEADERS = frozenset(
    {
        "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
    }
)  # fmt: skip
RESERVED_PREFIXES = ("webhook-", "onthedot-")

ISO_DURATION = re.compile(
    r"P(?:(?P<weeks>\d+)W|(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?)",
    re.ASCII,
)
SECONDS_IN = {"weeks": 604_800, "days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}


def refuse(kind: str, message: str, *, field: str | None = None) -> PydanticCustomError:
    """Word a refusal; `field` goes on from the place that the validator is at."""
    # Braces in a message would be read as places to fill in.
    context = {"message": message} | ({} if field is None else {"field": field})
    return PydanticCustomError(f"invalid_{kind}", "{message}", context)


def check_url(text: str) -> str:
    """Accept what the delivery client itself would read as an absolute http or https URL.

    The same parser reads it here and when it fires (the WHATWG URL standard), so no spelling means
    one host to us and another to the client. That parser drops tabs and line breaks, mends missing
    slashes and skips superfluous ones; we refuse those instead.
    """
    if BLANK_OR_CONTROL.search(text):
        raise refuse("url", "Must not be blank or hold spaces, line breaks or control characters")
    found = AUTHORITY.match(text)
    if found is None:
        raise refuse("url", "Must be an absolute URL that starts with http:// or https://")
    authority = found.group(1)
    if "\\" in text:
        raise refuse("url", "Must not hold a backslash; write it as %5C")
    if "@" in authority:
        raise refuse("url", "Must not hold credentials; send them in an authorization header")
    if not authority:
        raise refuse("url", "Must name a host, right after the two slashes")
    try:
        url = Url(text)
    except ValueError as error:
        raise refuse("url", f"Is not a valid URL ({error})") from None
    if url.port == 0:
        raise refuse("url", "Must name a port other than 0, or none")
    name = (url.domain or "host").removesuffix(".")
    if len(name) > HOST_CHARACTERS_MAX or not all(map(LABEL.fullmatch, name.split("."))):
        raise refuse("url", "Must name a host of 253 characters at most, its labels of 1 to 63")
    return text


def check_headers(headers: Any) -> Any:
    """Accept header fields that go over the wire as they are and override none of ours.

    Stops at the first that is wrong, and names it.
    """
    if not isinstance(headers, dict):
        return headers  # refused by its type
    if len(headers) > HEADERS_MAX:
        raise refuse("headers", f"Must be {HEADERS_MAX} header fields at most")
    block = 0
    seen = set()
    for name, value in headers.items():
        lowered = name.lower()
        fault = _header_fault(name, value) or ("Is given twice" if lowered in seen else None)
        if fault:
            raise refuse("headers", f"{fault}; the header is {name[:80]!r}", field=name)
        seen.add(lowered)
        block += len(name) + len(value) + 4  # ": " and CRLF
    if block > HEADER_BYTES_MAX:
        raise refuse("headers", f"Must not take more than {HEADER_BYTES_MAX} bytes together")
    return headers


def encode_payload(payload: Any) -> Any:
    """Encode any JSON but a string, whose bytes depend on the content-type it goes under."""
    if isinstance(payload, str):
        return payload
    try:
        return json.dumps(
            payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
    except ValueError:
        message = "Must not hold a number that JSON cannot carry, such as 1e999"
        raise refuse("payload", message) from None


def as_it_is_sent(payload: bytes | str, headers: Mapping[str, str] | None) -> bytes:
    """Answer the bytes of a payload that `encode_payload` passed, under these headers."""
    if isinstance(payload, bytes):
        return payload
    return orjson.dumps(payload) if says_json(headers) else payload.encode()


def read_seconds(value: Any) -> float:
    """Read a duration: seconds, or ISO 8601 without years and months (they have no length)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # JSON's integers have no end, floats have
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str) and len(value) <= DURATION_CHARACTERS_MAX and value != "P":
        match = ISO_DURATION.fullmatch(value)
        if match and any(match.groupdict().values()):
            parts = match.groupdict(default="0")
            return sum(float(parts[unit]) * length for unit, length in SECONDS_IN.items())
    raise refuse("duration", 'Must be seconds as a number, or an ISO 8601 duration like "PT1M30S"')


def says_json(headers: Mapping[str, str] | None) -> bool:
    """Whether a payload under these headers goes as JSON: if they do not say, it does."""
    types = [value for name, value in (headers or {}).items() if name.lower() == "content-type"]
    media_type = (types[0] if types else "application/json").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _header_fault(name: str, value: Any) -> str | None:
    if not HEADER_NAME.fullmatch(name):
        return "Is not a header name (RFC 9110, token)"
    lowered = name.lower()
    if lowered in RESERVED_HEADERS or lowered.startswith(RESERVED_PREFIXES):
        return "Is set by the service; leave it out"
    if not isinstance(value, str):
        return "Must have a string as its value"
    if not HEADER_VALUE.fullmatch(value):
        return "Must have a value of visible ASCII"
    return None


WebhookUrl = Annotated[
    str, Field(min_length=1, max_length=URL_CHARACTERS_MAX), AfterValidator(check_url)
]
_Headers = Annotated[dict[str, str], Field(max_length=HEADERS_MAX)]
Headers = Annotated[_Headers, BeforeValidator(check_headers, _Headers)]
Payload = Annotated[Any, AfterValidator(encode_payload)]
_Seconds = Annotated[float, Field(ge=TIMEOUT_SECONDS_MIN, le=TIMEOUT_SECONDS_MAX)]
IsoDuration = Annotated[
    str, Field(max_length=DURATION_CHARACTERS_MAX, json_schema_extra={"format": "duration"})
]
Timeout = Annotated[_Seconds, BeforeValidator(read_seconds, _Seconds | IsoDuration)]
