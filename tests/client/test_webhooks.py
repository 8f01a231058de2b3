"""The verification of webhooks, with the reference library as the judge, in both directions."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
from hypothesis import given, settings
from hypothesis import strategies as st

from onthedot import Onthedot, Verifier, WebhookError
from tests.eventually import eventually
from tests.receiver import Receiver

OLD, NEW = ("whsec_" + base64.b64encode(bytes([number]) * 32).decode() for number in (7, 8))
ID = "run_17_1795233941243522"
BODY = json.dumps({"type": "timer.fired", "data": {"ü": 1}}, ensure_ascii=False)


def signed_by_the_reference(
    secret: str, body: str = BODY, *, at: datetime | None = None
) -> dict[str, str]:
    at = at or datetime.now(UTC)
    signature = standardwebhooks.Webhook(secret).sign(ID, at, body)
    return {
        "Webhook-Id": ID,
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": signature,
    }


@settings(max_examples=50, deadline=None)
@given(body=st.text(), key=st.binary(min_size=24, max_size=64))
def test_what_the_reference_signs_verifies(body: str, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    webhook = Verifier(secret).verify(signed_by_the_reference(secret, body), body)
    assert (webhook.id, webhook.body) == (ID, body.encode())
    assert abs(webhook.timestamp - datetime.now(UTC)) < timedelta(seconds=30)


@settings(max_examples=50, deadline=None)
@given(body=st.text(), key=st.binary(min_size=24, max_size=64))
def test_what_we_sign_the_reference_verifies(body: str, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    headers = Verifier(secret).sign(ID, body)
    standardwebhooks.Webhook(secret).verify(body, headers, json_parse=False)


def test_during_a_rotation_either_secret_will_do() -> None:
    both = Verifier(NEW, OLD)
    for secret in (OLD, NEW):
        assert both.verify(signed_by_the_reference(secret), BODY).json()["data"] == {"ü": 1}
    headers = both.sign(ID, BODY)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (OLD, NEW):
        standardwebhooks.Webhook(secret).verify(BODY, headers)
        assert Verifier(secret).verify(headers, BODY).id == ID


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("webhook-id", "run_18_1", "does not hold"),
        ("webhook-signature", "v1,AAAA", "does not hold"),
        ("webhook-signature", "v1", "does not hold"),
        ("webhook-signature", "v2,{signature}", "does not hold"),
        ("webhook-signature", "v1,ü", "does not hold"),
        ("webhook-signature", "v1,\udcff", "no text"),
        ("webhook-id", "run_\udcff", "no text"),
        ("webhook-signature", "", "has no"),
        ("webhook-timestamp", "soon", "whole number"),
        ("webhook-timestamp", "1e9", "whole number"),
        ("webhook-timestamp", "-5", "whole number"),
        ("webhook-timestamp", "9" * 400, "whole number"),
        ("webhook-timestamp", "1000000000", "too old"),
        ("webhook-timestamp", "9000000000", "too far in the future"),
    ],
)
def test_what_was_meddled_with_does_not_verify(header: str, value: str, reason: str) -> None:
    verifier = Verifier(OLD)
    headers = verifier.sign(ID, BODY)
    headers[header] = value.format(signature=headers["webhook-signature"].partition(",")[2])
    with pytest.raises(WebhookError, match=reason):
        verifier.verify(headers, BODY)


def test_another_body_or_another_secret_does_not_verify() -> None:
    headers = Verifier(OLD).sign(ID, BODY)
    with pytest.raises(WebhookError):
        Verifier(OLD).verify(headers, BODY + " ")
    with pytest.raises(WebhookError):
        Verifier(NEW).verify(headers, BODY)
    with pytest.raises(WebhookError):
        Verifier(OLD).verify({}, BODY)


def test_a_body_that_is_no_text_does_not_verify() -> None:
    with pytest.raises(WebhookError, match="no text"):
        Verifier(OLD).verify(Verifier(OLD).sign(ID, BODY), "\udcff")


def test_a_secret_is_taken_without_its_prefix_as_the_reference_takes_it() -> None:
    bare = OLD.removeprefix("whsec_")
    assert Verifier(bare).verify(signed_by_the_reference(bare), BODY).id == ID


@pytest.mark.parametrize("minutes", [-6, 6])
def test_the_tolerance_is_five_minutes_or_yours(minutes: int) -> None:
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    headers = signed_by_the_reference(OLD, at=at)
    with pytest.raises(WebhookError, match="too"):
        Verifier(OLD).verify(headers, BODY)
    assert Verifier(OLD, tolerance=timedelta(minutes=7)).verify(headers, BODY)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(OLD).verify(BODY, headers)


def test_a_secret_that_is_none_is_refused_and_not_told() -> None:
    for secret in ("whsec_", "whsec_not base64!", ""):
        with pytest.raises(ValueError, match=r"^secrets: ") as refused:
            Verifier(secret)
        assert "not base64!" not in str(refused.value)
    with pytest.raises(ValueError, match=r"^secrets: "):
        Verifier()


async def test_a_webhook_that_an_executor_sent_verifies(
    onthedot: Onthedot, receiver: Receiver
) -> None:
    job = onthedot.jobs.create(receiver.url("/verified"))

    def came() -> None:
        assert receiver.calls

    await eventually(came)
    [call] = receiver.calls
    secret = onthedot.signing_secret()
    assert secret.secret not in repr(secret)
    webhook = Verifier(*secret.all).verify(call.headers, call.body)
    assert webhook.json()["data"]["id"] == job.id
