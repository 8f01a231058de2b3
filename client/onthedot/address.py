"""Where a server is, and how a client introduces itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from onthedot.version import VERSION

USER_AGENT = f"onthedot-python/{VERSION}"


@dataclass(frozen=True, slots=True)
class Address:
    """What every request to one server has in common; the headers may hold a key."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    timeout: float


def address(base_url: str, api_key: str | None, timeout: float) -> Address:
    """Answer the address of a server; raises ValueError, which says the remedy, if it is none."""
    # A path is joined by hand, which keeps what is quoted in it.
    return Address(str(checked(base_url)).rstrip("/"), headers(api_key), timeout)


def checked(base_url: str) -> httpx.URL:
    """Answer the address; raises ValueError, which says the remedy, if it is none."""
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ValueError(f"base_url: {error}") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("base_url: begin with http:// or https://, like http://localhost:8080")
    if url.userinfo:
        raise ValueError("base_url: must hold no credentials; give the key as api_key")
    return url


def headers(api_key: str | None) -> dict[str, str]:
    """Answer what every request carries; raises ValueError for a key that no header can hold."""
    sent = {"user-agent": USER_AGENT}
    if api_key is not None:
        if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
            raise ValueError("api_key: must be printable ASCII, without line breaks")
        sent["authorization"] = f"Bearer {api_key}"
    return sent
