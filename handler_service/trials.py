"""Trials: has executors try what a caller wants to see at once, and waits for what they say."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import Redis

from handler_service.problems import NoExecutor, NoReply, RedisAway, TooManyTrials, Unavailable
from shared import trials
from shared.trials import Called, Looked, Reply, Trial, Unable

AT_ONCE_MAX = 20
# Beyond its timeout an executor reads a secret and writes its reply.
SLACK_SECONDS = 5.0


class Trials:
    """What one handler has under way with executors."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._under_way = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place among those who wait; raises TooManyTrials when there is none."""
        if self._under_way >= AT_ONCE_MAX:
            raise TooManyTrials(AT_ONCE_MAX)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def call(self, trial: Trial) -> Called:
        """Have a call made.

        Raises RedisAway, NoExecutor, NoReply, or Unavailable when the executor could not try.
        """
        said = await self._try(trial)
        if not isinstance(said, Called):
            raise NoReply
        return said

    async def look(self, trial: Trial) -> Looked:
        """Have a host looked at; raises as `call` does."""
        said = await self._try(trial)
        if not isinstance(said, Looked):
            raise NoReply
        return said

    async def _try(self, trial: Trial) -> Reply:
        try:
            await trials.ask(self._redis, trial)
            said = await trials.hear(self._redis, trial, seconds=trials.TAKE_SECONDS)
            if said is None:
                if await trials.withdraw(self._redis, trial):
                    raise NoExecutor(trials.TAKE_SECONDS)
                seconds = trial.timeout_seconds + SLACK_SECONDS
                said = await trials.hear(self._redis, trial, seconds=seconds)
        except trials.Away:
            raise RedisAway from None
        if said is None:
            raise NoReply
        if isinstance(said, Unable):
            raise Unavailable(said.reason)
        return said
