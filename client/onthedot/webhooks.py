"""How a receiver knows that a webhook is Onthedot's (Standard Webhooks 1.0.0)."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from onthedot.errors import WebhookError

PREFIX = "whsec_"
VERSION = "v1"
SIGNATURES_MAX = 20
TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook that is genuine. `id` is the same on every attempt: what was done once, skip."""

    id: str
    timestamp: datetime
    body: bytes

    def json(self) -> Any:
        """Parse the body; raises ValueError if it is no JSON."""
        return json.loads(self.body)


class Verifier:
    """Verifies webhooks by a secret, or by several while one is being replaced by another.

    Secrets are `whsec_` and base64, as the server answers them, or that base64 alone, as other
    libraries keep them. Raises ValueError for others.
    """

    def __init__(self, *secrets: str, tolerance: timedelta = TOLERANCE) -> None:
        if not secrets:
            raise ValueError("secrets: give one, or two during a rotation")
        self._keys = [_key(secret) for secret in secrets]
        self._tolerance_seconds = tolerance.total_seconds()

    def verify(self, headers: Mapping[str, str], body: bytes | str) -> Webhook:
        """Answer the webhook, or raise WebhookError if it is not genuine or not of now.

        Give the body as it came, byte by byte: JSON that was parsed and written again differs.
        """
        given = {name.lower(): value for name, value in headers.items()}
        message_id, timestamp, signatures = (
            given.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
        )
        if not (message_id and timestamp and signatures):
            raise WebhookError("It has no webhook-id, webhook-timestamp or webhook-signature.")
        sent_at = self._read_timestamp(timestamp)
        try:
            raw = body.encode() if isinstance(body, str) else body
            expected = [_signature(key, message_id, timestamp, raw) for key in self._keys]
            is_genuine = _any_matches(expected, signatures.split(" ")[:SIGNATURES_MAX])
        except UnicodeEncodeError:
            raise WebhookError("A header or its body is no text that anybody signed.") from None
        if not is_genuine:
            raise WebhookError("Its signature does not hold: another secret, or another body.")
        return Webhook(message_id, sent_at, raw)

    def sign(
        self, message_id: str, body: bytes | str, *, timestamp: datetime | None = None
    ) -> dict[str, str]:
        """Answer the headers of a webhook that verifies: for the tests of a receiver."""
        raw = body.encode() if isinstance(body, str) else body
        seconds = str(int(time.time() if timestamp is None else timestamp.timestamp()))
        signatures = [_signature(key, message_id, seconds, raw) for key in self._keys]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": seconds,
            "webhook-signature": " ".join(f"{VERSION},{each.decode()}" for each in signatures),
        }

    def _read_timestamp(self, text: str) -> datetime:
        if not (text.isascii() and text.isdigit() and len(text) <= 12):
            raise WebhookError("Its webhook-timestamp is not a whole number of seconds.")
        age_seconds = time.time() - int(text)
        if abs(age_seconds) > self._tolerance_seconds:
            which = "old" if age_seconds > 0 else "far in the future"
            raise WebhookError(f"Its webhook-timestamp is too {which}.")
        return datetime.fromtimestamp(int(text), UTC)


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        # Never the secret itself.
        raise ValueError(f"secrets: each is {PREFIX!r} and base64, as the server answers it")
    return key


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> bytes:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256))


def _any_matches(expected: Sequence[bytes], candidates: Sequence[str]) -> bool:
    """Compare each with each, in a time that tells nothing of where they differ."""
    holds = False
    for candidate in candidates:
        version, _, signature = candidate.partition(",")
        if version != VERSION:
            continue
        for each in expected:
            holds |= hmac.compare_digest(each, signature.encode())
    return holds
