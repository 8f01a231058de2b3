"""The executor: room, rhythm and draining. All concurrency is decided here.

poll ──claim──▶ held, until the instant ──▶ bulkhead ──▶ gate ──fire──▶ recorder ──▶ Postgres
                     by the database's clock      per destination              in batches
"""

import asyncio
import heapq
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from time import monotonic

import structlog
from prometheus_client import Gauge

from executor_service import gauges, health
from executor_service.breaker import Breakers
from executor_service.bulkhead import Bulkhead
from executor_service.claim import ON_TIME_SECONDS, Claimer
from executor_service.client import Clients, read_target
from executor_service.clock import DatabaseClock
from executor_service.egress import Egress
from executor_service.fire import Outcome, PutOff, Refused, Sender, run_id, showed_life
from executor_service.gate import Gate
from executor_service.lease import Lease
from executor_service.mark import Marker
from executor_service.partitions import make_partitions
from executor_service.prune import prune
from executor_service.record import Recorder
from executor_service.rescue import list_orphans, rescue
from executor_service.resolver import Resolver
from executor_service.rhythm import Rhythm
from executor_service.trace import fire_traced
from executor_service.trials import Trials
from shared import database, events, trials, wakeup
from shared.events import Event, EventType, Teller
from shared.runs.moves import Claim, Held
from shared.settings import ExecutorSettings
from shared.tracing import Tracing

# A claimer, a marker, a recorder, a heartbeat, a rescue, a maker of partitions, one who prunes and
# a trial may be at it.
CONNECTIONS = 8
# When less of the room than this is free, runs that wait for slow destinations are given back, to
# be due again a little later.
ROOM_KEPT_FREE = 0.25
PUT_OFF_SECONDS = 2.0
LAST_CLAIM_SECONDS_MAX = 2.0
PARTITIONS_SECONDS = 600
PRUNE_SECONDS = 3_600
ORPHANS_SECONDS = 10
GAUGES_SECONDS = 10
BEAT_SECONDS_MAX = 2.0
EXECUTING: EventType = "run.executing"

ROOM = Gauge("onthedot_executor_room", "Runs this executor could still take.")
IN_FLIGHT = Gauge("onthedot_webhooks_in_flight", "Webhooks being sent.")
CLOCK = Gauge("onthedot_clock_uncertainty_seconds", "How far we may lag the database's clock.")
WAITING = Gauge(
    "onthedot_outcomes_waiting", "Outcomes and returns that Postgres does not have yet."
)

log = structlog.stdlib.get_logger(__name__)


class Executor:
    """One process start of the executor service."""

    def __init__(self, settings: ExecutorSettings) -> None:
        """Raises CannotTrace when a collector is named, and what speaks to it is not installed."""
        self._settings = settings
        endpoint = settings.otel_exporter_otlp_endpoint
        self._tracing = Tracing(endpoint, service="executor") if endpoint else None
        self._pool = database.open_pool(
            settings.database_url.get_secret_value(),
            name="executor",
            connections=CONNECTIONS,
            pin_plans=True,
        )
        self._redis = wakeup.connect(settings.redis_url.get_secret_value())
        self._event_redis = events.connect(settings.redis_url.get_secret_value())
        self._teller = Teller(self._event_redis)
        self._clock = DatabaseClock()
        self._lease = Lease(
            self._pool,
            self._clock,
            lease_seconds=settings.lease_seconds,
            margin_seconds=settings.lease_margin_seconds,
            claim_ahead_seconds=settings.claim_ahead_seconds,
        )
        self._sender = Sender(
            clients=Clients(
                connect_seconds=settings.connect_seconds,
                idle_per_host_max=settings.in_flight_per_destination_max,
                extra_ca_file=settings.extra_ca_file,
            ),
            resolver=Resolver(),
            egress=Egress(
                settings.private_networks,
                denied_ports=settings.denied_port_numbers,
                denied_names=settings.denied_names,
                denied_networks=settings.denied_networks,
            ),
            clock=self._clock,
            resolve_seconds=settings.resolve_seconds,
            may_send=lambda claim: self._lease.holds(claim.executor_id),
        )
        self._breakers = Breakers(
            self._redis,
            self._clock,
            failures_max=settings.breaker_failures,
            open_seconds=settings.breaker_open_seconds,
            open_seconds_max=settings.breaker_open_seconds_max,
        )
        self._marker = Marker(self._pool)
        self._gate = Gate(
            self._clock,
            self._breakers,
            self._marker,
            put_off_seconds_max=settings.breaker_put_off_seconds_max,
        )
        self._bulkhead = Bulkhead(
            self._fire,
            in_flight_max=settings.in_flight_max,
            per_destination_max=settings.in_flight_per_destination_max,
        )
        self._recorder = Recorder(self._pool, self._teller, settled=self._settled)
        self._claimer = Claimer(
            settings,
            self._pool,
            self._redis,
            self._lease,
            room=lambda: self._room,
            take=self._take,
            holds=self._holds,
        )
        self._trials_redis = trials.connect(settings.redis_url.get_secret_value())
        self._trials = Trials(
            self._trials_redis,
            self._pool,
            replace(self._sender, may_send=lambda _: True),  # nothing was claimed
            is_ready=lambda: self._lease.is_held,
        )
        self._rhythm = Rhythm()
        self._held: list[tuple[float, int, Claim]] = []  # a heap by due instant
        self._order = count()
        self._earlier = asyncio.Event()
        # All that takes up room: held, waiting, in flight, not yet recorded.
        self._mine: dict[tuple[int, int, int], Claim] = {}
        self._mine_bytes = 0

    @property
    def _room(self) -> int:
        if self._mine_bytes >= self._settings.room_bytes:
            return 0
        return self._settings.room - len(self._mine)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain. Raises what made a part of it fail for good."""
        settings = self._settings
        await self._pool.open()
        try:
            async with asyncio.TaskGroup() as group:
                always = [
                    group.create_task(self._recorder.run()),
                    group.create_task(self._marker.run()),
                    group.create_task(health.serve(settings, self._lease, self._redis)),
                ]
                self._rhythm.every(settings.poll_seconds, self._beat, name="heartbeat")
                self._rhythm.every(settings.poll_seconds, self._poll, name="poll")
                self._rhythm.every(settings.poll_seconds, self._rescue, name="rescue")
                self._rhythm.every(settings.poll_seconds, self._breakers.look, name="breakers")
                self._rhythm.every(ORPHANS_SECONDS, self._orphans, name="orphans")
                self._rhythm.every(GAUGES_SECONDS, self._gauges, name="gauges")
                self._rhythm.every(PARTITIONS_SECONDS, self._partitions, name="partitions")
                self._rhythm.every(PRUNE_SECONDS, self._prune, name="prune")
                always.append(group.create_task(self._rhythm.run()))
                claiming = group.create_task(self._claimer.run())
                trying = group.create_task(self._trials.run())
                working = [
                    claiming,
                    trying,
                    group.create_task(self._dispatch()),
                    group.create_task(wakeup.listen(self._redis, self._claimer.wake_up)),
                ]
                await stop.wait()
                # A claim under way is finished: cut off, it might be committed and its answer lost.
                self._claimer.stop()
                self._trials.stop()
                await asyncio.wait([claiming, trying], timeout=LAST_CLAIM_SECONDS_MAX)
                await _end(working)
                await self._drain()
                await self._rhythm.finish(BEAT_SECONDS_MAX)
                await _end(always)
        finally:
            await self._close()

    async def _beat(self) -> None:
        was_held = self._lease.is_held
        await self._lease.renew()
        if self._lease.is_held and not was_held:
            self._claimer.poll_within(0.0)
        ROOM.set(self._room)
        IN_FLIGHT.set(self._bulkhead.in_flight)
        CLOCK.set(self._clock.uncertainty_seconds)
        WAITING.set(self._recorder.waiting)

    async def _poll(self) -> None:
        self._make_room()
        self._claimer.poll_within(0.0)

    async def _rescue(self) -> None:
        if await rescue(self._pool, self._lease, self._teller):
            self._claimer.poll_within(0.0)

    async def _orphans(self) -> None:
        await list_orphans(self._pool)

    async def _gauges(self) -> None:
        await gauges.look(self._pool, self._clock)

    async def _partitions(self) -> None:
        await make_partitions(self._pool)

    async def _prune(self) -> None:
        await prune(self._pool, retention_days=self._settings.retention_days)

    def _take(self, claims: list[Claim], told: list[Event]) -> None:
        """Hold a batch until each run's instant; tell of it, and of what occurred before."""
        if self._teller.is_wanted:
            self._teller.tell(told)
            self._teller.tell(
                [
                    (EXECUTING, each.application_id, each.job_id, each.scheduled_for, each.attempt)
                    for each in claims
                ]
            )
        for claim in claims:
            heapq.heappush(self._held, (claim.due_at / 1e6, next(self._order), claim))
            self._mine[_key(claim)] = claim
            self._mine_bytes += _size(claim)
        self._earlier.set()

    def _holds(self, held: Held) -> bool:
        return _key(held) in self._mine

    async def _dispatch(self) -> None:
        """Hand each held run to the bulkhead when its instant has come by the database's clock.

        Timers of the event loop count whole milliseconds and fire a little early at times, so the
        clock is asked again before anything is handed over.
        """
        while True:
            self._earlier.clear()
            wait = self._held[0][0] - self._clock.now() if self._held else None
            if wait is None or wait > 0:
                try:
                    async with asyncio.timeout(wait):
                        await self._earlier.wait()
                except TimeoutError:
                    pass
                continue
            _, _, claim = heapq.heappop(self._held)
            is_fresh = _is_fresh(claim, self._clock.now())
            self._bulkhead.admit(_destination(claim), claim, is_fresh=is_fresh)

    async def _fire(self, claim: Claim) -> None:
        """Send one webhook, if nothing keeps it, and put down what came of it."""
        destination = _destination(claim)
        life = None
        try:
            life = await self._fire_or_not(claim, destination)
        except Exception:
            # Late is better than wrong, and loud better than lost: the run ends, and takes no room.
            log.exception("run.broke_the_executor", run_id=run_id(claim), job_id=claim.job_id)
            outcome = Refused("internal: the executor failed over this run; see its log")
            self._recorder.put(claim, outcome, started_at=None, finished_at=self._clock.now())
        await self._breakers.learn(destination, answered=life)

    async def _fire_or_not(self, claim: Claim, destination: str) -> bool | None:
        """Answer whether the destination showed life; None when nothing was learnt of it."""
        hindrance = await self._gate.hindrance(claim, destination)
        started_at = None if hindrance else self._clock.now()
        outcome = hindrance or await self._attempt(claim)
        if isinstance(outcome, PutOff):
            self._recorder.give_back([claim], delay_seconds=outcome.seconds)
            return None
        finished_at = max(started_at or 0.0, self._clock.now())
        self._recorder.put(claim, outcome, started_at=started_at, finished_at=finished_at)
        return showed_life(outcome)

    async def _attempt(self, claim: Claim) -> Outcome | PutOff:
        if self._tracing is None:
            return await self._sender.fire(claim)
        return await fire_traced(self._tracing.tracer, self._sender, claim)

    def _settled(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            if self._mine.pop(_key(claim), None) is not None:
                self._mine_bytes -= _size(claim)
        self._claimer.room_was_made()

    def _make_room(self) -> None:
        """When the room is short, put off what waits for destinations that do not keep up."""
        settings = self._settings
        self._bulkhead.look()
        runs = int(settings.room * ROOM_KEPT_FREE) - (settings.room - len(self._mine))
        size = int(settings.room_bytes * ROOM_KEPT_FREE) - (settings.room_bytes - self._mine_bytes)
        if runs > 0 or size > 0:
            surplus = self._bulkhead.take_from_slow(runs=runs, size=size)
            self._recorder.give_back(surplus, delay_seconds=PUT_OFF_SECONDS)

    async def _drain(self) -> None:
        """Give back what was not sent, finish what was, record it, leave."""
        deadline = monotonic() + self._settings.stop_grace_seconds + self._settings.lease_seconds
        unsent = [claim for _, _, claim in self._held] + self._bulkhead.take_waiting()
        log.info("executor.draining", unsent=len(unsent), in_flight=self._bulkhead.in_flight)
        self._held.clear()
        self._rhythm.stop("poll")
        self._rhythm.stop("rescue")
        self._recorder.give_back(unsent)
        await wakeup.publish(self._redis, due_in_seconds=0)
        grace_seconds = self._settings.stop_grace_seconds
        await asyncio.gather(
            self._bulkhead.finish(grace_seconds), self._trials.finish(grace_seconds)
        )
        try:
            # What was answered and is not recorded will be sent again: all the time there is.
            async with asyncio.timeout(deadline - monotonic()):
                await self._recorder.drained()
                self._rhythm.stop("heartbeat")
                await self._lease.leave()
        except database.Failure as error:
            log.warning(
                "executor.left_unrecorded", runs=len(self._mine), error=type(error).__name__
            )

    async def _close(self) -> None:
        self._sender.resolver.close()
        await self._sender.clients.close()
        await self._teller.close()
        await self._event_redis.aclose()
        await self._redis.aclose()
        await self._trials_redis.aclose()
        await self._pool.close(timeout=2.0)
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended.

    Once is not enough: psycopg waits by `asyncio.wait_for`, which before Python 3.12 can lose a
    cancellation that comes just as the wait ends (bpo-37658).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.2)


def _key(claim: Claim | Held) -> tuple[int, int, int]:
    return claim.job_id, claim.scheduled_for, claim.fence


def _size(claim: Claim) -> int:
    return len(claim.payload) if claim.payload is not None else 0


def _is_fresh(claim: Claim, now: float) -> bool:
    """Whether a run is on time and here for the first time.

    A retry, a replay, backlog, or what was put off, gives way to what is.
    """
    return claim.due_at == claim.instant and claim.due_at / 1e6 > now - ON_TIME_SECONDS


def _destination(claim: Claim) -> str:
    try:
        return read_target(claim.url).destination
    except ValueError:
        return "invalid"  # fails when it is fired, with its reason
