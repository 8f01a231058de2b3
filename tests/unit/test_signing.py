"""Signing, against the specification's own example and its reference implementation."""

import base64
import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

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
