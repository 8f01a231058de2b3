"""The stream of events as a handler finds it in Redis: places in it, and what comes after one.

A stream lives as long as a handler listens, and for the window after. `onthedot:events:since` keeps
the place since when it has been listened to without a break, in one life of Redis: whoever was told
something later than that, and no later than the stream reaches back, has missed nothing.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import orjson
from redis.exceptions import RedisError

from shared import events
from shared.events import ENTRIES_MAX, FIELD, STREAM, Event

SINCE = "onthedot:events:since"
# Waits for news so long before it looks after the stream; the answer may take a little longer.
BLOCK_SECONDS = 1.0
ANSWER_SECONDS_MAX = 3.0
PAGE_ENTRIES = 20
WHOLE = 1 << 32  # a position after every event of an entry
NUMBER_MAX = 2**64 - 1
PLACE = re.compile(r"([0-9]{1,20})-([0-9]{1,20})(?:\.([0-9]{1,9}))?", re.ASCII)
AWAY = (RedisError, OSError, TimeoutError)

# Say that we listen, and where the stream is now. It begins anew when there was none, or when Redis
# was started anew, which may have cost it its latest entries.
_MARK = """
local entry = redis.call('xadd', KEYS[1], 'maxlen', '~', ARGV[2], '*', ARGV[4], '[]')
local since, life = string.match(redis.call('get', KEYS[2]) or '', '^(%S+) (%S*)$')
if redis.call('xlen', KEYS[1]) == 1 or not since or life ~= ARGV[3] then since = entry end
redis.call('set', KEYS[2], since .. ' ' .. ARGV[3], 'ex', ARGV[1])
redis.call('expire', KEYS[1], ARGV[1])
return {entry, since, redis.call('xrange', KEYS[1], '-', '+', 'count', 1)[1][1]}
"""


class Place(NamedTuple):
    """A place in the stream: after so many events of the entry with this id."""

    milliseconds: int
    number: int
    position: int = WHOLE

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read a place, such as `1795252201661-0.17`; None for what is none."""
        match = PLACE.fullmatch(text)
        if match is None:
            return None
        place = cls(int(match[1]), int(match[2]), WHOLE if match[3] is None else int(match[3]))
        return place if max(place.milliseconds, place.number) <= NUMBER_MAX else None

    @property
    def entry(self) -> str:
        """The id of the entry."""
        return f"{self.milliseconds}-{self.number}"

    def __str__(self) -> str:
        """Write it as a listener is told it."""
        return self.entry if self.position == WHOLE else f"{self.entry}.{self.position}"


class Told(NamedTuple):
    """An event where it stands in the stream, told at so many epoch milliseconds of Redis's."""

    place: Place
    at_ms: int
    event: Event


class Mark(NamedTuple):
    """What the stream was like at a moment when we said that we listen."""

    place: Place
    since: Place  # nobody ceased to listen, and Redis lived, since then
    first: Place  # before the first entry that is kept


class Source:
    """The stream, read by one handler. Raises one of AWAY while Redis is away."""

    def __init__(self, redis_url: str, *, window_seconds: int) -> None:
        self._redis = events.connect(redis_url, timeout_seconds=ANSWER_SECONDS_MAX)
        self._window_seconds = window_seconds

    async def mark(self) -> Mark:
        """Say that we listen; to be repeated well within the window."""
        life = (await self._redis.info("server")).get("run_id", "")
        keys_and_values = (STREAM, SINCE, self._window_seconds, ENTRIES_MAX, life, FIELD)
        found: Any = await self._redis.eval(_MARK, 2, *keys_and_values)
        entry, since, first = [_place(text) for text in found]
        return Mark(entry, since, first._replace(position=0))

    async def news(self, after: Place) -> Sequence[tuple[Place, list[Told]]]:
        """Answer entries after this one, whole; wait a while for the next, if there is none."""
        answer: Any = await self._redis.xread(
            {STREAM: after.entry}, count=PAGE_ENTRIES, block=round(BLOCK_SECONDS * 1_000)
        )
        if not answer:
            return []
        streams = answer.values() if isinstance(answer, dict) else [found for _, found in answer]
        return [_read(entry, fields) for found in streams for entry, fields in _flat(found)]

    async def page(self, after: Place) -> tuple[Place | None, list[tuple[Place, list[Told]]]]:
        """Answer what is before the first entry kept, and entries from this one on, itself too."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xrange(STREAM, count=1)
            pipeline.xrange(STREAM, min=after.entry, count=PAGE_ENTRIES)
            kept, found = await pipeline.execute()
        first = _place(kept[0][0])._replace(position=0) if kept else None
        return first, [_read(entry, fields) for entry, fields in found]

    async def close(self) -> None:
        """Let go of Redis."""
        await self._redis.aclose()


def _flat(found: Any) -> Any:
    """RESP3 answers a list of lists of entries where RESP2 answers one of entries."""
    return (
        found[0]
        if found and isinstance(found[0], list) and found[0] and not isinstance(found[0][0], str)
        else found
    )


def _place(text: str) -> Place:
    place = Place.read(text)
    assert place is not None  # noqa: S101  # Redis wrote it
    return place


def _read(entry: str, fields: dict[str, str]) -> tuple[Place, list[Told]]:
    place = _place(entry)
    return place, list(_events(place, fields.get(FIELD, "[]")))


def _events(place: Place, batch: str) -> Iterator[Told]:
    """Read the events of an entry. Anyone may write to a stream; what is no batch says nothing."""
    position = 0
    try:
        for waited_ms, group in orjson.loads(batch):
            at_ms = place.milliseconds - int(waited_ms)
            for kind, application_id, job_id, scheduled_for, attempt in group:
                position += 1
                event = (kind, application_id, job_id, scheduled_for, attempt)
                yield Told(place._replace(position=position), at_ms, event)
    except (ValueError, TypeError):
        return
