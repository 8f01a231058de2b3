"""Where a server is, and how a client introduces itself."""

import httpx

from onthedot.version import VERSION

USER_AGENT = f"onthedot-python/{VERSION}"


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
