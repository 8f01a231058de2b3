"""Criteria: everything that makes a job valid, each asked for itself; so all faults show at once.

They are asked of the document as it came: one field that is wrong hides nothing about the others.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from handler_service import bodies, planning
from handler_service.problems import InvalidRequest
from handler_service.schemas import instants
from handler_service.schemas.jobs import JobIn
from handler_service.schemas.request_parts import (
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    URL_CHARACTERS_MAX,
    WITHOUT_PAYLOAD,
    as_it_is_sent,
    check_url,
    encode_payload,
)
from handler_service.schemas.webhooks import no_payload
from handler_service.schemas.when import FIELDS, WhenIn
from handler_service.violations import Violation
from shared import database
from shared.trials import Looked

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):")
ADDRESSES_TOLD_MAX = 10


class Criterion(NamedTuple):
    """One thing that makes a job valid; `met` is None when it could not be asked."""

    name: str
    met: bool | None
    detail: str


class Unasked(NamedTuple):
    """Why no executor said anything of a host."""

    reason: str


class Verdict(NamedTuple):
    """Every criterion, and what a create would refuse, place by place."""

    criteria: list[Criterion]
    violations: list[Violation]

    @property
    def is_valid(self) -> bool:
        """Whether all is known to be well."""
        return all(criterion.met is True for criterion in self.criteria)


Look = Callable[[str], Awaitable[Looked | Unasked]]
Clock = Callable[[], Awaitable[datetime]]


async def judge(document: Any, *, payload_bytes_max: int, look: Look, clock: Clock) -> Verdict:
    """Ask everything of a job as it came. `look` asks an executor of a URL, `clock` Postgres."""
    violations = _violations(document)
    job = document if isinstance(document, dict) else {}
    url = _url(job)
    return Verdict(
        [
            Criterion(
                "fields",
                not violations,
                "Follow the contract."
                if not violations
                else f"{len(violations)} do not; see errors.",
            ),
            _scheme(job),
            url,
            *await _host(job, url, look),
            await _schedule(job, clock),
            _sizes(job, payload_bytes_max),
            _body(job),
        ],
        violations,
    )


def _violations(document: Any) -> list[Violation]:
    try:
        JobIn.model_validate(document)
    except ValidationError as refusal:
        return bodies.violations_of(refusal)
    return []


def _scheme(job: Mapping[str, Any]) -> Criterion:
    url = job.get("url")
    if not isinstance(url, str):
        return Criterion("scheme", None, "There is no url.")
    found = SCHEME.match(url)
    if found is None:
        return Criterion("scheme", False, "Must be http or https; there is none.")
    scheme = found.group(1).lower()
    if scheme not in {"http", "https"}:
        return Criterion("scheme", False, f"Must be http or https; is {scheme}.")
    return Criterion("scheme", True, f"Is {scheme}.")


def _url(job: Mapping[str, Any]) -> Criterion:
    url = job.get("url")
    if not isinstance(url, str):
        return Criterion("url", None, "There is no url.")
    try:
        check_url(url)
    except PydanticCustomError as refusal:
        return Criterion("url", False, f"{refusal.message()}.")
    return Criterion("url", True, "Can be called.")


async def _host(job: Mapping[str, Any], url: Criterion, look: Look) -> list[Criterion]:
    if not url.met or len(job["url"]) > URL_CHARACTERS_MAX:
        return _of_the_host(None, "There is no url that can be called.")
    found = await look(job["url"])
    if isinstance(found, Unasked):
        return _of_the_host(None, found.reason)
    if found.refusal is not None:
        resolves = Criterion("host_resolves", None, "Was not looked up: it may not be called.")
        return [resolves, Criterion("address_allowed", False, f"{_sentence(found.refusal)}.")]
    if found.error is not None or not found.addresses:
        told = found.error or "dns: the name has no address"
        allowed = Criterion("address_allowed", None, "There is no address.")
        return [Criterion("host_resolves", False, f"{_sentence(told)}."), allowed]
    told = ", ".join(each.address for each in found.addresses[:ADDRESSES_TOLD_MAX])
    refused = [
        f"{each.address} may not be reached: {each.refusal}"
        for each in found.addresses[:ADDRESSES_TOLD_MAX]
        if each.refusal is not None
    ]
    # As executors go by it: those that may be reached are tried, the others are left out.
    is_allowed = any(each.refusal is None for each in found.addresses)
    detail = "; ".join(refused) if refused else "May be reached"
    return [
        Criterion("host_resolves", True, f"To {told}."),
        Criterion("address_allowed", is_allowed, f"{detail}."),
    ]


def _of_the_host(met: bool | None, detail: str) -> list[Criterion]:
    return [Criterion(name, met, detail) for name in ("host_resolves", "address_allowed")]


async def _schedule(job: Mapping[str, Any], clock: Clock) -> Criterion:
    name = "schedule_lies_ahead"
    try:
        when = WhenIn.model_validate({field: job[field] for field in FIELDS if field in job})
    except ValidationError as refusal:
        [first, *_] = bodies.violations_of(refusal)
        return Criterion(name, False, f"{first.pointer}: {first.detail}")
    said = {field: getattr(when, field) for field in FIELDS}
    needs_the_clock = planning.needs_the_clock(said)
    try:
        # A delay is counted by Postgres when the job is made; for its bound any clock will do.
        now = await clock() if needs_the_clock else datetime.now(UTC)
        planned = await planning.plan(said, now=now)
    except (*database.Unavailable, database.NotMigrated):
        return Criterion(name, None, "The database's clock cannot be asked.")
    except InvalidRequest as refusal:
        return Criterion(name, False, refusal.detail)
    if planned.run_at is not None:
        first_run = instants.write_instant(planned.run_at)
        return Criterion(name, True, f"It runs first at {first_run}.")
    if planned.delay_seconds:
        return Criterion(name, True, f"It runs after {planned.delay_seconds:g} seconds.")
    return Criterion(name, True, "It runs at once.")


def _sizes(job: Mapping[str, Any], payload_bytes_max: int) -> Criterion:
    faults = []
    url, headers = job.get("url"), _headers(job)
    if isinstance(url, str) and len(url) > URL_CHARACTERS_MAX:
        faults.append(f"url has {len(url):,} characters, {URL_CHARACTERS_MAX:,} at most")
    if len(headers) > HEADERS_MAX:
        faults.append(f"headers are {len(headers):,}, {HEADERS_MAX:,} at most")
    block = sum(len(name) + len(value) + 4 for name, value in headers.items())
    if block > HEADER_BYTES_MAX:
        faults.append(f"headers take {block:,} bytes, {HEADER_BYTES_MAX:,} at most")
    payload = _payload(job)
    if isinstance(payload, bytes) and len(payload) > payload_bytes_max:
        faults.append(f"payload has {len(payload):,} bytes, {payload_bytes_max:,} at most")
    if faults:
        return Criterion("sizes", False, f"{_sentence('; '.join(faults))}.")
    return Criterion("sizes", True, "Are within the limits.")


def _body(job: Mapping[str, Any]) -> Criterion:
    method = job.get("method", "POST")
    if not isinstance(method, str):
        return Criterion("body", None, "There is no method.")
    if "payload" in job and method in WITHOUT_PAYLOAD:
        return Criterion("body", False, f"{no_payload(method)}.")
    payload = _payload(job)
    if isinstance(payload, PydanticCustomError):
        return Criterion("body", False, f"{payload.message()}.")
    if payload is not None:
        return Criterion("body", True, f"Is the payload, {len(payload):,} bytes of it.")
    is_event = method not in WITHOUT_PAYLOAD | {"DELETE"}
    return Criterion("body", True, "Is the event." if is_event else "There is none.")


def _payload(job: Mapping[str, Any]) -> bytes | PydanticCustomError | None:
    """The bytes that would be sent, or why there can be none."""
    if "payload" not in job:
        return None
    try:
        return as_it_is_sent(encode_payload(job["payload"]), _headers(job))
    except PydanticCustomError as refusal:
        return refusal


def _headers(job: Mapping[str, Any]) -> dict[str, str]:
    """The header fields, as far as they can be read."""
    headers = job.get("headers")
    given = headers.items() if isinstance(headers, dict) else ()
    return {name: value for name, value in given if isinstance(value, str)}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
