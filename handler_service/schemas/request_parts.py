"""The parts of a webhook that a caller may set, and what makes each of them valid.

Each check says which rule it holds to, so that a webhook that was accepted can be sent.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from pyreqwest.http import Url

URL_CHARACTERS_MAX = 2_048
HEADER_BYTES_MAX = 8_192
TIMEOUT_SECONDS_MAX = 120
TIMEOUT_SECONDS_DEFAULT = 15.0

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
WITHOUT_PAYLOAD = frozenset({"GET", "HEAD"})  # RFC 9110, 9.3.1: content of a GET has no meaning

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
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?)"
)
SECONDS_IN = {"weeks": 604_800, "days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}


def check_url(text: str) -> str:
    """Accept what the delivery client itself would read as an absolute http or https URL.

    The same parser reads it here and when it fires (the WHATWG URL standard), so no spelling means
    one host to us and another to the client. That parser drops tabs and line breaks and mends
    missing slashes; we refuse those instead.
    """
    if any(character <= " " or character == "\x7f" for character in text):
        raise _refuse("url", "Must not be blank or hold spaces, line breaks or control characters")
    if not text.lower().startswith(("http://", "https://")):
        raise _refuse("url", "Must be an absolute URL that starts with http:// or https://")
    if "\\" in text:
        raise _refuse("url", "Must not hold a backslash; write it as %5C")
    try:
        url = Url(text)
    except ValueError as error:
        raise _refuse("url", f"Is not a valid URL ({error})") from None
    if url.username or url.password is not None:
        raise _refuse("url", "Must not hold credentials; send them in an authorization header")
    if not url.host_str or url.port == 0:
        raise _refuse("url", "Must name a host, and a port other than 0")
    return text


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Accept header fields that go over the wire as they are and override none of ours."""
    block = 0
    seen = set()
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name):
            raise _refuse("headers", f"{name[:80]!r} is not a header name (RFC 9110, token)")
        lowered = name.lower()
        if lowered in RESERVED_HEADERS or lowered.startswith(RESERVED_PREFIXES):
            raise _refuse("headers", f"{name!r} is set by the service; leave it out")
        if lowered in seen:
            raise _refuse("headers", f"{name!r} is given twice; names ignore case")
        if not HEADER_VALUE.fullmatch(value):
            raise _refuse("headers", f"The value of {name!r} must be visible ASCII")
        seen.add(lowered)
        block += len(name) + len(value) + 4  # ": " and CRLF
    if block > HEADER_BYTES_MAX:
        raise _refuse("headers", f"Must not take more than {HEADER_BYTES_MAX} bytes together")
    return headers


def read_seconds(value: Any) -> float:
    """Read a duration: seconds, or ISO 8601 without years and months (they have no length)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and len(value) <= 64 and value != "P":
        match = ISO_DURATION.fullmatch(value)
        if match and any(match.groupdict().values()):
            parts = match.groupdict(default="0")
            return sum(float(parts[unit]) * length for unit, length in SECONDS_IN.items())
    raise _refuse("duration", 'Must be seconds as a number, or an ISO 8601 duration like "PT1M30S"')


def _refuse(kind: str, message: str) -> PydanticCustomError:
    # Braces in a message would be read as places to fill in.
    return PydanticCustomError(f"invalid_{kind}", "{message}", {"message": message})


WebhookUrl = Annotated[
    str, Field(min_length=1, max_length=URL_CHARACTERS_MAX), AfterValidator(check_url)
]
Headers = Annotated[dict[str, str], Field(max_length=100), AfterValidator(check_headers)]
Timeout = Annotated[
    float, Field(gt=0, le=TIMEOUT_SECONDS_MAX), BeforeValidator(read_seconds, float | str)
]
