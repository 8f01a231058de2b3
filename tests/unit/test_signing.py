"""Signing, against the specification's own example and its reference implementation."""

import base64
import json
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from executor_service.signing import signature

# The example of the Standard Webhooks specification 1.0.0 ("Signature scheme").
SECRET = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
PAYLOAD = b'{"test": 2432232314}'
WEBHOOK_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330


def test_the_published_example_is_signed_as_published() -> None:
    assert (
        signature(WEBHOOK_ID, TIMESTAMP, PAYLOAD, [SECRET])
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@given(secret=st.binary(min_size=24, max_size=64), body=st.text())
def test_the_reference_implementation_accepts_every_signature(secret: bytes, body: str) -> None:
    payload = json.dumps({"text": body})
    now = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": "run_1_2",
        "webhook-timestamp": str(now),
        "webhook-signature": signature("run_1_2", now, payload.encode(), [b"0" * 24, secret]),
    }
    key = "whsec_" + base64.b64encode(secret).decode()
    assert Webhook(key).verify(payload, headers) == {"text": body}


BYTES = st.binary(min_size=24, max_size=64)


def headers_of(body: str, secrets: list[bytes]) -> dict[str, str]:
    now = int(datetime.now(UTC).timestamp())
    return {
        "webhook-id": "run_1_2",
        "webhook-timestamp": str(now),
        "webhook-signature": signature("run_1_2", now, body.encode(), secrets),
    }


def webhook_of(secret: bytes) -> Webhook:
    return Webhook("whsec_" + base64.b64encode(secret).decode())


@given(secrets=st.lists(BYTES, min_size=2, max_size=2, unique=True), text=st.text())
def test_while_a_rotation_overlaps_either_secret_verifies_and_no_other(
    secrets: list[bytes], text: str
) -> None:
    new, old = secrets
    payload = json.dumps({"text": text})
    headers = headers_of(payload, [new, old])
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (new, old):
        assert webhook_of(secret).verify(payload, headers) == {"text": text}
    stranger = sha256(new + old).digest()
    with pytest.raises(WebhookVerificationError):
        webhook_of(stranger).verify(payload, headers)


@given(secrets=st.lists(BYTES, min_size=1, max_size=2), text=st.text(min_size=1))
def test_what_is_changed_on_the_way_does_not_verify(secrets: list[bytes], text: str) -> None:
    payload = json.dumps({"text": text})
    headers = headers_of(payload, secrets)
    later = str(int(headers["webhook-timestamp"]) + 1)
    changes = [
        (payload + " ", headers),
        (payload, headers | {"webhook-id": "run_1_3"}),
        (payload, headers | {"webhook-timestamp": later}),
        (payload, headers | {"webhook-signature": headers["webhook-signature"].swapcase()}),
    ]
    for secret in secrets:
        for changed, told in changes:
            with pytest.raises(WebhookVerificationError):
                webhook_of(secret).verify(changed, told)
