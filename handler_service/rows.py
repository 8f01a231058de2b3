"""How what a caller sends becomes what a row of `jobs` holds."""

from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from handler_service.bodies import ENVELOPE_BYTES_MAX
from handler_service.context import Context
from handler_service.planning import Planned
from handler_service.problems import BodyTooLarge, InvalidRequest
from handler_service.schemas.request_parts import WITHOUT_PAYLOAD
from handler_service.schemas.webhooks import WebhookIn, no_payload
from handler_service.violations import Violation
from shared import tracing
from shared.runs.moves import NewJob

BATCH_BYTES_MAX = 8_388_608
# A client that escapes whatever is not ASCII needs so many bytes for one that we send ("é", "😀").
SPELLING = 3


def new_jobs(
    context: Context,
    wanted: Sequence[tuple[WebhookIn, Planned]],
    *,
    keys: Sequence[str | None],
    places: Sequence[str],
    contract: str | None = None,
) -> list[NewJob]:
    """Make rows; refuse those whose payload is too large by their places in the body."""
    payloads = [webhook.encoded_payload(webhook.headers) for webhook, _ in wanted]
    check_sizes(payloads, places, bytes_max=context.settings.payload_bytes_max)
    return [
        NewJob(
            application_id=context.application_id,
            url=webhook.url,
            method=webhook.method,
            headers=json_document(webhook.headers),
            payload=payload,
            timeout_seconds=webhook.timeout,
            delay_seconds=planned.delay_seconds,
            retry=webhook.retry.document(),
            delivery=webhook.delivery,
            run_at=planned.run_at,
            user_id=webhook.user,
            key=key,
            labels=json_document(webhook.labels),
            recurrence=None if planned.recurrence is None else planned.recurrence.document(),
            jitter_seconds=planned.jitter_seconds,
            max_lateness_seconds=webhook.max_lateness,
            contract=contract,
            traceparent=tracing.creator.get(),
        )
        for (webhook, planned), payload, key in zip(wanted, payloads, keys, strict=True)
    ]


def webhook_values(webhook: WebhookIn, payload: bytes | None) -> dict[str, Any]:
    """Say what a webhook writes into its columns, but for when it runs."""
    return {
        "url": webhook.url,
        "method": webhook.method,
        "headers": json_document(webhook.headers),
        "payload": payload,
        "timeout_seconds": webhook.timeout,
        "retry": webhook.retry.document(),
        "delivery": webhook.delivery.value,
        "user_id": webhook.user,
        "labels": json_document(webhook.labels),
        "max_lateness_seconds": webhook.max_lateness,
    }


class Requested(Protocol):
    """The request of a job as it is, as far as a change of it has to know."""

    @property
    def method(self) -> str:
        """The method it is called with."""

    @property
    def headers(self) -> dict[str, str] | None:
        """The headers it is called with."""

    @property
    def has_payload(self) -> bool:
        """Whether it carries a payload of its own."""


def changed_webhook_values(
    context: Context, wanted: WebhookIn, present: Requested
) -> dict[str, Any]:
    """Say what a change writes, seen together with what stays; refuse what does not go together."""
    given = wanted.model_fields_set
    method = wanted.method if "method" in given else present.method
    headers = wanted.headers if "headers" in given else present.headers
    payload = wanted.encoded_payload(headers)
    if method in WITHOUT_PAYLOAD and (payload is not None or present.has_payload):
        field = "method" if payload is None else "payload"
        raise InvalidRequest([Violation(f"#/{field}", f"{no_payload(method)}.")])
    check_sizes([payload], ["#"], bytes_max=context.settings.payload_bytes_max)
    return webhook_values(wanted, payload)


# The columns of a webhook's fields, where they have another name.
COLUMNS = {"timeout": "timeout_seconds", "max_lateness": "max_lateness_seconds", "user": "user_id"}


def job_bytes_max(context: Context) -> int:
    """Say how long the body of one job may be, however its client spelt the payload."""
    return context.settings.payload_bytes_max * SPELLING + ENVELOPE_BYTES_MAX


def check_sizes(payloads: Sequence[bytes | None], places: Sequence[str], *, bytes_max: int) -> None:
    """Refuse payloads that are too large, by their places in the body."""
    too_large = [
        f"{place}/payload"
        for place, payload in zip(places, payloads, strict=True)
        if payload is not None and len(payload) > bytes_max
    ]
    if too_large:
        raise BodyTooLarge(f"{', '.join(too_large)}: may have {bytes_max:,} bytes at most.")


def json_document(words: dict[str, str] | None) -> str | None:
    """Write headers or labels as their row keeps them; none are null."""
    return orjson.dumps(words).decode() if words else None
