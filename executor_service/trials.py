"""Trials: a call that somebody wants to see before there is a job, or a look whether it may be.

Asked for by a handler, through Redis; made here, by what sends webhooks: the same egress rules, the
same limits, the same signature. No run, no lease, no history; nothing is tried twice.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

import structlog
from prometheus_client import Counter
from pyreqwest.response import Response
from redis.asyncio import Redis
from sqlalchemy import Integer, bindparam, case, func, select

from executor_service.client import read_target
from executor_service.fire import RESPONSE_READ_MAX, Delivered, PutOff, Sender, read_body
from executor_service.resolver import ResolverBusy
from shared import database, trials
from shared.database import Pool, Read
from shared.runs.model import applications
from shared.runs.moves import Claim
from shared.trials import Called, Looked, Reply, Trial, Unable, Vetted

AT_ONCE_MAX = 10
HEADER_BYTES_MAX = 8_192  # of an answer's header fields, told to the caller
SECRETS_SECONDS_MAX = 2.0
AWAY_SECONDS = 1.0  # after a failure, Redis is left alone for so long
REST_SECONDS = 0.2  # without room, or without Postgres
NO_JOB = 0  # in the event: ids of jobs begin at 1

TRIED = Counter("onthedot_trials", "Calls and looks for callers who wait.", ["kind"])

_overlaps = applications.c.previous_secret_until > func.current_timestamp()
_SECRETS = Read(
    select(
        applications.c.signing_secret,
        case((_overlaps, applications.c.previous_signing_secret)),
    ).where(applications.c.id == bindparam("application_id", type_=Integer))
)

log = structlog.stdlib.get_logger(__name__)


class Trials:
    """Takes trials while there is room, and tries them."""

    def __init__(
        self, redis: Redis, pool: Pool, sender: Sender, *, is_ready: Callable[[], bool]
    ) -> None:
        """`is_ready`: whether Postgres is at hand, for its clock and the secrets."""
        self._redis = redis
        self._pool = pool
        self._sender = sender
        self._is_ready = is_ready
        self._reading = asyncio.Lock()  # so that trials take one connection of the pool at most
        self._under_way: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Take trials until `stop`, through outages of Redis and Postgres."""
        while not self._stopped.is_set():
            if len(self._under_way) >= AT_ONCE_MAX or not self._is_ready():
                await self._rest(REST_SECONDS)
                continue
            try:
                trial = await self._next()
            except trials.Away as error:
                log.debug("trials.deaf", error=type(error).__name__)
                await self._rest(AWAY_SECONDS)
                continue
            if trial is not None:
                task = asyncio.create_task(self._serve(trial))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)

    def stop(self) -> None:
        """Take no more: `run` ends within a moment."""
        self._stopped.set()

    async def finish(self, grace_seconds: float) -> None:
        """Wait for what is under way; after the grace, cut it off and tell those who wait."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=grace_seconds)
        for task in self._under_way:
            task.cancel()
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _next(self) -> Trial | None:
        trial_id = await trials.next_id(self._redis)
        if trial_id is None:
            return None
        if self._stopped.is_set():
            await trials.put_back(self._redis, trial_id)
            return None
        return await trials.take(self._redis, trial_id)

    async def _serve(self, trial: Trial) -> None:
        """Try, and reply; whoever asked may have gone."""
        TRIED.labels("call" if trial.call else "look").inc()
        try:
            said = await (self._call(trial) if trial.call else self._look(trial))
        except asyncio.CancelledError:
            said = Unable("The executor stopped.")
        except Exception as error:  # noqa: BLE001  # no trial may harm what is not one
            # Its message may quote the URL.
            log.error("trial.failed", error=type(error).__name__)
            said = Unable("The executor failed over it; see its log.")
        try:
            await trials.reply(self._redis, trial, said)
        except trials.Away as error:
            log.debug("trial.unheard", error=type(error).__name__)

    async def _call(self, trial: Trial) -> Reply:
        try:
            async with self._reading, asyncio.timeout(SECRETS_SECONDS_MAX):
                secrets = await _SECRETS.row(self._pool, application_id=trial.application_id)
        except database.Failure:
            return Unable("The executor cannot read the signing secret: Postgres is away.")
        if secrets is None:
            return Unable("The application is gone.")
        claim = self._claim(trial, *secrets)
        answer = _Answer()
        began = monotonic()
        outcome = await self._sender.call(claim, webhook_id=f"test_{trial.id}", read=answer.read)
        duration_ms = round((monotonic() - began) * 1_000, 3)
        if isinstance(outcome, PutOff):
            return Unable("The executor could not even look the name up: its resolver is busy.")
        return Called(
            is_delivered=isinstance(outcome, Delivered),
            status=outcome.status,
            headers=answer.headers,
            body=answer.body,
            is_whole=answer.is_whole,
            duration_ms=duration_ms,
            error=None if isinstance(outcome, Delivered) else outcome.error,
        )

    def _claim(self, trial: Trial, secret: bytes, previous: bytes | None) -> Claim:
        """Answer what a claim would be, were there a run that is due now."""
        now = int(self._sender.clock.now() * 1e6)
        return Claim(
            job_id=NO_JOB,
            scheduled_for=now,
            due_at=now,
            fence=1,
            attempt=1,
            attempts_forgiven=0,
            instant=now,
            replayed_at=None,
            url=trial.url,
            method=trial.method,
            headers=trial.headers,
            payload=trial.payload,
            timeout_seconds=trial.timeout_seconds,
            retry=None,
            is_at_most_once=True,  # nobody tries again: so it has a connection of its own
            max_lateness_seconds=None,
            recurs=False,
            traceparent=None,
            signing_secret=secret,
            previous_secret=previous,
            application_id=trial.application_id,
            executor_id="",
        )

    async def _look(self, trial: Trial) -> Reply:
        """Look a host up and ask the egress rules, without a connection to it."""
        try:
            target = read_target(trial.url)
        except ValueError:
            return Looked([], refusal=None, error="invalid: the URL names no host")
        egress = self._sender.egress
        denied = egress.refusal_of(target.host, target.port)
        if denied is not None:
            return Looked([], refusal=denied, error=None)
        seconds = min(self._sender.resolve_seconds, trial.timeout_seconds)
        found = [] if target.address is None else [target.address]
        try:
            found = found or await self._sender.resolver.resolve(target.host, seconds=seconds)
        except ResolverBusy:
            return Unable("The executor could not even look the name up: its resolver is busy.")
        except TimeoutError:
            return Looked([], refusal=None, error="dns: no answer in time")
        except OSError as error:
            return Looked([], refusal=None, error=f"dns: {error.strerror}")
        vetted = [Vetted(str(address), egress.refusal(address)) for address in found]
        return Looked(vetted, refusal=None, error=None)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass


class _Answer:
    """As much of an answer as its caller is told: more than history keeps."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.is_whole = False

    async def read(self, response: Response) -> bytes:
        self.headers = _headers(response)
        self.body, self.is_whole = await read_body(response, kept_max=RESPONSE_READ_MAX)
        return self.body


def _headers(response: Response) -> list[tuple[str, str]]:
    """The header fields in their order, up to a limit; without those that are no text."""
    fields: list[tuple[str, str]] = []
    left = HEADER_BYTES_MAX
    for name in dict.fromkeys(response.headers.keys()):
        try:
            values = response.get_header_all(name)
        except ValueError:
            continue
        for value in values:
            left -= len(name) + len(value) + 4  # ": " and CRLF
            if left < 0:
                return fields
            fields.append((name, value))
    return fields
