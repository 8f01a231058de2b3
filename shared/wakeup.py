"""The wake-up: a hint, by Redis, that a run is due before the next poll.

Only a hint: it carries no run and no promise. Lost, late or doubled, it costs at most one poll's
lateness, because every executor polls each second anyway.
"""

import asyncio
import re
from collections.abc import Callable

import structlog
from prometheus_client import Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

CHANNEL = "onthedot:wake-up"
# A run due within this many seconds may come before the poll that would claim it at leisure.
WAKE_UP_WITHIN_SECONDS = 2.0
MILLISECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)

UP = Gauge("onthedot_redis_up", "1 while Redis answers this process, looked at for each scrape.")

log = structlog.stdlib.get_logger(__name__)


def connect(url: str) -> Redis:
    """Describe a connection to Redis that fails soon rather than holds up what it is a hint for."""
    return Redis.from_url(
        url,
        socket_timeout=0.5,
        socket_connect_timeout=0.5,
        health_check_interval=15,
        decode_responses=True,
        encoding_errors="replace",
    )


async def is_up(redis: Redis) -> bool:
    """Whether Redis answers; it takes a second at most to say no."""
    try:
        await redis.ping()
    except (RedisError, OSError, TimeoutError):
        UP.set(0)
        return False
    UP.set(1)
    return True


async def publish(redis: Redis, *, due_in_seconds: float) -> bool:
    """Tell the executors that something is due in so many seconds; False when Redis is away."""
    try:
        await redis.publish(CHANNEL, str(max(0, round(due_in_seconds * 1000))))
    except (RedisError, OSError, TimeoutError):
        return False
    return True


async def listen(redis: Redis, heard: Callable[[float], None]) -> None:
    """Call `heard(seconds until due)` for each wake-up, for ever, through outages of Redis."""
    while True:
        try:
            async with redis.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(CHANNEL)
                heard(0.0)  # something may have been said while nobody listened
                while True:
                    message = await channel.get_message(timeout=5.0)
                    # Anyone may say anything on a channel; what is no number says nothing.
                    if message is not None and MILLISECONDS.fullmatch(str(message["data"])):
                        heard(int(message["data"]) / 1000)
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("wakeup.deaf", error=type(error).__name__)
            await asyncio.sleep(1.0)
