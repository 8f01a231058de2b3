"""Fire: one HTTP attempt at a run, and what came of it. Knows no database."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from time import monotonic

import orjson
from pyreqwest.exceptions import PyreqwestError, RequestError, RequestTimeoutError
from pyreqwest.request import StreamRequest
from pyreqwest.response import Response

from executor_service.client import Clients, Target, read_target, reason, was_never_sent
from executor_service.clock import DatabaseClock
from executor_service.egress import Address, Egress
from executor_service.resolver import Resolver, ResolverBusy
from executor_service.retry import is_retried, retry_after_seconds
from executor_service.signing import signature
from shared import VERSION
from shared.runs.moves import Claim

RESPONSE_READ_MAX = 65_536  # bytes read before the connection is cut
RESPONSE_KEPT_MAX = 1_024  # bytes kept in history
NO_CONTENT = 204
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
# The client's to set. The handler refuses them; a row that came another way must not smuggle them.
OF_THE_CONNECTION = ("host", "content-length", "transfer-encoding", "connection")
USER_AGENT = f"onthedot/{VERSION}"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver answered 2xx."""

    status: int
    response: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """Worth another attempt: no answer, or one that says try again.

    `was_sent` is False only when it is certain that no byte of the request left. `showed_life` is
    False when the destination kept silent, and None when this attempt says nothing about it.
    """

    error: str
    status: int | None = None
    response: bytes | None = None
    retry_after: float | None = None
    was_sent: bool = True
    showed_life: bool | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Final: the receiver refused it, or we may not or cannot send it."""

    error: str
    status: int | None = None
    response: bytes | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """Not sent, and not to be: it would have begun later than its job allows."""

    error: str
    status: int | None = None
    response: bytes | None = None


@dataclass(frozen=True, slots=True)
class PutOff:
    """Not sent, for want of something of ours: no attempt. To be due again in so many seconds."""

    seconds: float


Outcome = Delivered | Failed | Refused | Skipped
# Reads an answer's body and answers what of it belongs to the outcome. The status has been said by
# then: whatever happens while it reads does not unsay it.
Reader = Callable[[Response], Awaitable[bytes]]
# How long a run is put off when its name could not be asked for.
RESOLVER_SECONDS = 2.0
# Who waits more briefly cannot tell a destination that is down from one that takes its time.
TELLING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Sender:
    """What it takes to send a webhook."""

    clients: Clients
    resolver: Resolver
    egress: Egress
    clock: DatabaseClock
    resolve_seconds: float
    may_send: Callable[[Claim], bool]  # asked last: looking up a name takes its time

    async def fire(self, claim: Claim) -> Outcome | PutOff:
        """Make one attempt at a run, within its timeout. Whatever happens is an outcome."""
        return await self.call(claim, webhook_id=run_id(claim), read=_head)

    async def call(self, claim: Claim, *, webhook_id: str, read: Reader) -> Outcome | PutOff:
        """Make one call, within its timeout, and let `read` read the answer.

        The client keeps the timeout, from connecting to the end of the answer.
        """
        try:
            return await self._attempt(claim, webhook_id, read)
        except asyncio.CancelledError:
            return Failed("stopped: the executor stopped before the answer came")
        except Exception as error:  # noqa: BLE001  # one run that cannot be sent must not stop the others
            return Refused(f"invalid: the stored webhook cannot be sent ({type(error).__name__})")

    async def _attempt(self, claim: Claim, webhook_id: str, read: Reader) -> Outcome | PutOff:
        deadline = monotonic() + claim.timeout_seconds
        target = read_target(claim.url)
        denied = self.egress.refusal_of(target.host, target.port)
        if denied is not None:
            return Refused(f"egress: {denied}")
        seconds = min(self.resolve_seconds, claim.timeout_seconds)
        addresses = await self._addresses(target, seconds)
        if not isinstance(addresses, list):
            return addresses
        headers, body = self._message(claim, webhook_id)
        # A kept connection may be closing just now, and then nobody knows whether we were heard.
        reuse = claim.attempt == 1 and not claim.is_at_most_once
        outcome: Outcome = Failed("dns: the name has no address", was_sent=False)
        for address in addresses:
            request = self.clients.request(claim.method, target, address, reuse=reuse)
            request = request.headers(headers)
            if body:
                request = request.body_bytes(body)
            # Nothing of the response is read ahead: the status is known as soon as it is said.
            request = request.timeout(_until(deadline)).streamed_read_buffer_limit(0)
            if not self.may_send(claim):
                return PutOff(0.0)
            outcome = await self._send(claim, request.build_streamed(), read)
            if not isinstance(outcome, Failed) or outcome.was_sent:
                break
        return outcome

    async def _send(self, claim: Claim, request: StreamRequest, read: Reader) -> Outcome:
        """Send a request that is ready. From here on, whatever happens is no fault of the row."""
        in_a_hurry = claim.timeout_seconds < TELLING_SECONDS
        try:
            async with request as response:
                return _outcome(response, await read(response), now=self.clock.now())
        except RequestTimeoutError as error:
            was_sent = not was_never_sent(error)
            text = f"timeout: no answer within {claim.timeout_seconds:g} s"
            return Failed(
                text if was_sent else "connect: no connection in time",
                was_sent=was_sent,
                showed_life=None if in_a_hurry else False,
            )
        except RequestError as error:
            was_sent = not was_never_sent(error)
            kind = "connection" if was_sent else "connect"
            return Failed(f"{kind}: {reason(error)}", was_sent=was_sent, showed_life=False)
        except Exception as error:  # noqa: BLE001  # an answer that nobody foresaw is no reason to bury
            return Failed(f"client: {type(error).__name__}")

    async def _addresses(
        self, target: Target, seconds: float
    ) -> list[Address] | Failed | Refused | PutOff:
        """The addresses that may be reached, or why there are none."""
        if target.address is not None:
            found = [target.address]
        else:
            try:
                found = await self.resolver.resolve(target.host, seconds=seconds)
            except ResolverBusy:
                return PutOff(RESOLVER_SECONDS)
            except asyncio.CancelledError:  # the executor stops, and nothing was sent
                return PutOff(0.0)
            except TimeoutError:
                return Failed("dns: no answer in time", was_sent=False)
            except OSError as error:
                return Failed(f"dns: {error.strerror}", was_sent=False)
        allowed = [address for address in found if self.egress.refusal(address) is None]
        if found and not allowed:
            refusal = self.egress.refusal(found[0])
            return Refused(f"egress: {found[0]} may not be reached: {refusal}")
        return allowed

    def _message(self, claim: Claim, webhook_id: str) -> tuple[dict[str, str], bytes]:
        """The headers and the body, signed: the job's own, and ours over them."""
        scheduled_for = _rfc3339(claim.scheduled_for)
        body = claim.payload
        if body is None:
            body = _event(claim, scheduled_for) if claim.method in WITH_BODY else b""
        headers = {}
        if claim.headers:
            headers = {name.lower(): value for name, value in claim.headers.items()}
            for name in OF_THE_CONNECTION:
                headers.pop(name, None)
        if body:
            headers.setdefault("content-type", "application/json")
        timestamp = int(self.clock.now())
        secrets = [secret for secret in (claim.signing_secret, claim.previous_secret) if secret]
        headers |= {
            "user-agent": USER_AGENT,
            "webhook-id": webhook_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(webhook_id, timestamp, body, secrets),
            "onthedot-scheduled-for": scheduled_for,
            "onthedot-attempt": str(claim.attempt),
        }
        return headers, body


def showed_life(outcome: Outcome) -> bool | None:
    """Whether the destination answered at all; None when this attempt says nothing about it."""
    if outcome.status is not None:
        return True
    return outcome.showed_life if isinstance(outcome, Failed) else None


def error_class(error: str) -> str:
    """Answer the class that an error begins with; the rest may quote what was sent or answered."""
    return error.partition(":")[0]


def run_id(claim: Claim) -> str:
    """Answer the webhook-id: the same for every attempt at a run; without a dot."""
    return f"run_{claim.job_id}_{claim.scheduled_for}"


def _until(deadline: float) -> timedelta:
    return timedelta(seconds=max(0.001, deadline - monotonic()))


def _event(claim: Claim, scheduled_for: str) -> bytes:
    data = {"id": claim.job_id, "scheduled_for": scheduled_for, "attempt": claim.attempt}
    return orjson.dumps({"type": "timer.fired", "timestamp": scheduled_for, "data": data})


@lru_cache(maxsize=1_024)
def _rfc3339(epoch_microseconds: int) -> str:
    """Write an instant in UTC with milliseconds; runs of a herd share theirs."""
    instant = datetime.fromtimestamp(epoch_microseconds // 1_000 / 1_000, UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _head(response: Response) -> bytes:
    """Read the body up to its limit and answer its first bytes, as history keeps them."""
    kept, _ = await read_body(response, kept_max=RESPONSE_KEPT_MAX)
    return kept


async def read_body(response: Response, *, kept_max: int) -> tuple[bytes, bool]:
    """Read a body up to `RESPONSE_READ_MAX`; answer its first bytes, and whether it came to an end.

    The status has been said by now. A body that breaks off, drips or never ends does not unsay it.
    """
    if response.status == NO_CONTENT:
        return b"", True
    kept = bytearray()
    size = 0
    is_whole = False
    try:
        while size < RESPONSE_READ_MAX:
            chunk = await response.body_reader.read_chunk()
            if not chunk:
                is_whole = size <= kept_max
                break
            size += len(chunk)
            if len(kept) < kept_max:
                kept += chunk[: kept_max - len(kept)]
    except (PyreqwestError, asyncio.CancelledError):
        pass
    return bytes(kept), is_whole


def _outcome(response: Response, head: bytes, *, now: float) -> Outcome:
    status = response.status
    if 200 <= status < 300:
        return Delivered(status, head)
    error = f"status: the receiver answered {status}"
    if is_retried(status):
        retry_after = retry_after_seconds(_text(response, "retry-after"), now=now)
        return Failed(error, status, head, retry_after)
    return Refused(error, status, head)


def _text(response: Response, name: str) -> str | None:
    """A header field of the answer; None where there is none, or it is no text."""
    try:
        return response.get_header(name)
    except ValueError:
        return None
