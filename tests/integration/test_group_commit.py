"""Group commit: every create is written, whatever moment it comes at."""

import asyncio

import pytest

from handler_service import create
from handler_service.announce import Announcer
from handler_service.create import GroupCommit
from shared import events, wakeup
from shared.database import Pool
from shared.events import Teller
from shared.runs.lifecycle import Delivery
from shared.runs.moves import NewJob

TIMER = NewJob(
    1, "http://127.0.0.1:9/", "POST", None, None, 5.0, 60.0, None, Delivery.AT_LEAST_ONCE
)


async def test_a_create_that_comes_as_the_last_writer_leaves_is_written(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is answered and creates again at once finds a writer that will not look again."""
    monkeypatch.setattr(create, "WRITERS", 1)
    redis = wakeup.connect(redis_url)
    event_redis = events.connect(redis_url)
    teller = Teller(event_redis)
    group_commit = GroupCommit(pool, Announcer(redis), teller, waiting_max=10, wait_seconds=5.0)
    async with asyncio.timeout(10):
        ids = [await group_commit.create(TIMER) for _ in range(5)]
    assert len(set(ids)) == 5
    await group_commit.close()
    await teller.close()
    await event_redis.aclose()
    await redis.aclose()
