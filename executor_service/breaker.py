"""The breaker: while a destination is down, its runs are put off and cost no attempt.

    closed ──failures in a row──▶ open ──its time is over──▶ half-open ──answer──▶ closed
                                   ▲                            │
                                   └──── the probe fails ───────┘  for twice as long

Each executor counts for itself; what one finds out, all know after their next look. Open breakers
stand in one Redis hash, with the moment of the next probe by the database's clock, the only one
that executors share. A key that expires lets one probe through among all of them. A breaker that
was in the hash and is there no more was closed elsewhere.

This saves attempts and guards nothing. Without Redis each executor opens and probes by itself; a
hash that is lost closes everything.
"""

import asyncio
import math
from collections.abc import Mapping
from random import uniform
from secrets import token_hex
from time import monotonic
from typing import NamedTuple

import orjson
import structlog
from prometheus_client import Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from executor_service.clock import DatabaseClock

HASH = "onthedot:breakers"
PROBE = "onthedot:breaker-probe:"
BREAKERS_MAX = 1_000
FAILING_MAX = 10_000  # destinations whose failures are counted
# Put-off runs come back spread over this long after the breaker may close, at most; or, where they
# are many, so many a second: else a herd would go round claims and breaker instead of waiting.
SPREAD_SECONDS_MAX = 2.0
COMING_BACK_PER_SECOND = 500
# So long are runs put off while a probe is under way, if few.
PROBING_SECONDS_MIN, PROBING_SECONDS_MAX = 1.0, 2.0
PROBE_SLACK_SECONDS = 1.0  # beyond its timeout; then who sent it is taken for dead
# Nothing waits behind a breaker that nobody has probed for so long: longer than a probe takes.
STALE_SECONDS = 600.0
# How far executors may disagree about the database's clock.
CLOCKS_APART_SECONDS = 2.0
REDIS_SECONDS_MAX = 0.5
AWAY_SECONDS = 1.0  # after a failure, Redis is left alone for so long

OPEN = Gauge("onthedot_breakers_open", "Destinations whose breaker is open, as known here.")
TRANSITIONS = Counter("onthedot_breaker_transitions", "Made here, by the state entered.", ["state"])
PUT_OFF = Counter("onthedot_breaker_put_off", "Runs put off by an open breaker.")

# Give up a probe's place, unless its time was over and another has it.
_FREE = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end return 1"

log = structlog.stdlib.get_logger(__name__)


class _Opening(NamedTuple):
    probe_at: float  # epoch seconds by the database's clock
    open_seconds: float


class _Probe(NamedTuple):
    until: float  # by our monotonic clock; then nobody waits for it any more
    token: str = ""
    task: asyncio.Task[object] | None = None  # that makes the attempt; None: another executor's


class Breakers:
    """The breakers of all destinations, as this executor knows them.

    For one attempt, `put_off_seconds` and `learn` are called in the same task. So the outcome of a
    probe is told from that of an attempt which began before the breaker opened.
    """

    def __init__(
        self,
        redis: Redis,
        clock: DatabaseClock,
        *,
        failures_max: int,
        open_seconds: float,
        open_seconds_max: float,
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._failures_max = failures_max
        self._open_seconds = open_seconds
        self._open_seconds_max = open_seconds_max
        self._failures: dict[str, int] = {}  # in a row; of closed ones, the latest to fail last
        self._open: dict[str, _Opening] = {}
        self._probes: dict[str, _Probe] = {}  # of open ones
        self._put_off: dict[str, int] = {}  # by open ones, since they opened
        self._untold: set[str] = set()  # whose state here Redis may not know
        self._to_free: dict[str, str] = {}  # tokens of probes that have ended
        self._is_telling = False
        self._away_until = -math.inf

    async def put_off_seconds(self, destination: str, *, timeout_seconds: float) -> float | None:
        """Answer for how long to put a run off; None: send it now, be it as the probe."""
        if destination not in self._open:
            return None
        seconds = self._wait_seconds(destination)
        if seconds is None:
            if await self._may_probe(destination, timeout_seconds + PROBE_SLACK_SECONDS):
                TRANSITIONS.labels("half_open").inc()
                return None
            seconds = self._wait_seconds(destination)
        if seconds is not None:
            PUT_OFF.inc()
            seconds += self._herd_seconds(destination)
        return seconds

    async def learn(self, destination: str, *, answered: bool | None) -> None:
        """Take in what an attempt says about its destination; None is nothing, as of a DNS failure.

        Any answer is proof of life, one of 500 too.
        """
        if destination in self._open:
            has_changed = self._learn_of_open(destination, answered)
        elif answered is False:
            has_changed = self._count(destination)
        else:
            has_changed = False
            if answered:
                self._failures.pop(destination, None)
        if has_changed:
            OPEN.set(len(self._open))
            await self._tell()

    async def look(self) -> None:
        """See what other executors found out; to be called each poll. Never raises."""
        await self._tell(always=True)
        self._set_right(self._clock.now())
        OPEN.set(len(self._open))

    def _herd_seconds(self, destination: str) -> float:
        """How much longer one of many waits, at random."""
        count = self._put_off[destination] = self._put_off.get(destination, 0) + 1
        return _between(0.0, max(0.0, count / COMING_BACK_PER_SECOND - SPREAD_SECONDS_MAX))

    def _wait_seconds(self, destination: str) -> float | None:
        """How long a run must wait, spread so that a herd does not come back as one.

        None: the breaker is closed, or it is time for a probe.
        """
        opening = self._open.get(destination)
        if opening is None:
            return None
        wait = min(opening.probe_at - self._clock.now(), opening.open_seconds)
        if wait > 0:
            return wait + _between(0.0, min(opening.open_seconds / 2, SPREAD_SECONDS_MAX))
        probe = self._probes.get(destination)
        if probe is None or monotonic() >= probe.until:
            return None
        return _between(PROBING_SECONDS_MIN, PROBING_SECONDS_MAX)

    async def _may_probe(self, destination: str, seconds: float) -> bool:
        """Take the one place for a probe among all executors, if it is free.

        It is taken here first, so that one run alone asks. The hash is read in the same breath: the
        place may be free because a probe has just come back.
        """
        probe = _Probe(monotonic() + seconds, token_hex(8), asyncio.current_task())
        self._probes[destination] = probe
        is_free, is_due = True, True
        if monotonic() >= self._away_until:
            try:
                async with asyncio.timeout(REDIS_SECONDS_MAX), self._redis.pipeline() as pipeline:
                    pipeline.set(
                        PROBE + destination, probe.token, nx=True, px=math.ceil(seconds * 1_000)
                    )
                    pipeline.hget(HASH, destination)
                    is_free, found = await pipeline.execute()
            except (RedisError, OSError, TimeoutError) as error:
                self._lose(error)
            else:
                self._adopt(destination, found)
                opening = self._open.get(destination)
                is_due = opening is not None and opening.probe_at <= self._clock.now()
        if is_free and is_due:
            return True
        if self._probes.get(destination) is probe:
            del self._probes[destination]
        if is_free:
            self._to_free[destination] = probe.token
            await self._tell()
        elif destination in self._open:
            # Another executor's it is: for a while, nobody here asks again.
            self._probes[destination] = _Probe(monotonic() + PROBING_SECONDS_MIN)
        return False

    def _learn_of_open(self, destination: str, answered: bool | None) -> bool:
        """Whether anything changed. An attempt that is no probe and failed says nothing new."""
        probe = self._probes.get(destination)
        if answered:
            self._close(destination)
            TRANSITIONS.labels("closed").inc()
            log.info("breaker.closed", destination=destination)
            return True
        if probe is None or probe.task is not asyncio.current_task():
            return False
        del self._probes[destination]
        self._to_free[destination] = probe.token
        if answered is False:
            seconds = min(self._open[destination].open_seconds * 2, self._open_seconds_max)
            self._open_for(destination, seconds)
        return True

    def _count(self, destination: str) -> bool:
        """Count a failure in a row; whether that opened the breaker."""
        failures = self._failures.pop(destination, 0) + 1
        if failures >= self._failures_max and len(self._open) < BREAKERS_MAX:
            self._open_for(destination, self._open_seconds)
            return True
        self._failures[destination] = failures
        if len(self._failures) > FAILING_MAX:
            del self._failures[next(iter(self._failures))]
        return False

    def _open_for(self, destination: str, seconds: float) -> None:
        self._open[destination] = _Opening(self._clock.now() + seconds, seconds)
        self._put_off.pop(destination, None)
        self._untold.add(destination)
        TRANSITIONS.labels("opened").inc()
        log.warning("breaker.opened", destination=destination, open_seconds=seconds)

    def _close(self, destination: str) -> None:
        self._forget(destination)
        self._untold.add(destination)

    def _forget(self, destination: str) -> None:
        self._open.pop(destination, None)
        self._put_off.pop(destination, None)
        probe = self._probes.pop(destination, None)
        if probe is not None and probe.token:
            self._to_free[destination] = probe.token

    async def _tell(self, *, always: bool = False) -> None:
        """Tell Redis what changed here, and hear how things stand.

        One task at a time, for all: what changes meanwhile is told in a second round, or at the
        next look.
        """
        if self._is_telling or monotonic() < self._away_until:
            return
        self._is_telling = True
        try:
            async with asyncio.timeout(REDIS_SECONDS_MAX):
                if always or self._untold or self._to_free:
                    await self._exchange()
                if self._untold or self._to_free:
                    await self._exchange()
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)
        finally:
            self._is_telling = False

    async def _exchange(self) -> None:
        """Say all that is untold and hear the hash, in one transaction.

        A probe's place is freed with its outcome, not before: who takes it next reads that.
        """
        told = {destination: self._open.get(destination) for destination in self._untold}
        freed = dict(self._to_free)
        async with self._redis.pipeline() as pipeline:
            for destination, opening in told.items():
                if opening is None:
                    pipeline.hdel(HASH, destination)
                else:
                    pipeline.hset(HASH, destination, orjson.dumps(opening._asdict()).decode())
            for destination, token in freed.items():
                pipeline.eval(_FREE, 1, PROBE + destination, token)
            pipeline.hgetall(HASH)
            *_, standing = await pipeline.execute()
        # What changed once more while we spoke is still untold.
        self._untold -= {one for one, opening in told.items() if self._open.get(one) == opening}
        self._to_free = dict(self._to_free.items() - freed.items())
        self._adopt_all(standing)

    def _adopt_all(self, standing: Mapping[str, str]) -> None:
        for destination in self._open.keys() | standing.keys():
            self._adopt(destination, standing.get(destination))

    def _adopt(self, destination: str, text: str | None) -> None:
        """Take over how a breaker stands in Redis, unless we know better."""
        if destination in self._untold:
            return
        if text is None:
            self._forget(destination)
            return
        opening = _read(text, self._open_seconds_max)
        if opening is None:
            self._untold.add(destination)  # written over, or removed
        elif destination in self._open or len(self._open) < BREAKERS_MAX:
            self._open[destination] = opening
            self._failures.pop(destination, None)

    def _set_right(self, now: float) -> None:
        """Forget what nobody probes; probe now where the database's clock was set."""
        if not math.isfinite(now):
            return  # it was not read yet
        for destination, opening in list(self._open.items()):
            wait = opening.probe_at - now
            if wait < -STALE_SECONDS:
                self._close(destination)
            elif wait > opening.open_seconds + CLOCKS_APART_SECONDS:
                self._open[destination] = opening._replace(probe_at=now)
                self._untold.add(destination)

    def _lose(self, error: Exception) -> None:
        log.debug("breaker.redis_away", error=type(error).__name__)
        self._away_until = monotonic() + AWAY_SECONDS
        if len(self._untold) > 2 * BREAKERS_MAX:
            # Those closed here would be found half-open in Redis, once it is back, and probed.
            self._untold &= self._open.keys()
            self._to_free.clear()


def _between(least: float, most: float) -> float:
    return uniform(least, most)  # noqa: S311  # spreads a herd, hides nothing


def _read(text: str, open_seconds_max: float) -> _Opening | None:
    """What an executor wrote; None for what none can have written."""
    try:
        found = orjson.loads(text)
        opening = _Opening(float(found["probe_at"]), float(found["open_seconds"]))
    except (ValueError, TypeError, KeyError):
        return None
    if not math.isfinite(sum(opening)) or opening.open_seconds <= 0:
        return None
    return opening._replace(open_seconds=min(opening.open_seconds, open_seconds_max))
