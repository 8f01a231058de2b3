"""Signing: how a receiver knows that a call is ours and unchanged (Standard Webhooks 1.0.0)."""

import hmac
from base64 import b64encode
from collections.abc import Iterable


def signature(webhook_id: str, timestamp: int, body: bytes, secrets: Iterable[bytes]) -> str:
    """Answer the header's value: one `v1,` signature per secret; two while a rotation overlaps.

    Each is HMAC-SHA256 over `id.timestamp.body` in base64. `webhook_id` holds no dot, `timestamp`
    is Unix seconds.
    """
    content = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
    return " ".join(
        "v1," + b64encode(hmac.digest(secret, content, "sha256")).decode() for secret in secrets
    )
