"""Checks a webhook's signature in the few lines that a receiver needs.

See https://github.com/standard-webhooks/standard-webhooks, "Verifying webhook authenticity". A
receiver that acts on webhooks should also refuse an old `webhook-timestamp`; this one only looks.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

PREFIX = "whsec_"


def holds(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether one of the signatures was made with this secret, for this id, timestamp and body."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return False
    signed = f"{headers.get('webhook-id', '')}.{headers.get('webhook-timestamp', '')}.".encode()
    expected = base64.b64encode(hmac.digest(key, signed + body, hashlib.sha256)).decode()
    # Several, separated by spaces, while a secret is being replaced by another.
    return any(
        hmac.compare_digest(f"v1,{expected}".encode(), candidate.encode())
        for candidate in headers.get("webhook-signature", "").split(" ")
    )
