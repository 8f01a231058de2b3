"""Trials: what a handler asks an executor to try at once, for a caller who waits for the answer.

Through Redis, because a handler never makes outbound calls and does not know the egress rules:

    handler    SET request, RPUSH id ──▶ BLPOP reply ………… gives up: DEL request, LREM id
    executor   BLPOP id ──▶ GETDEL request ──▶ tries ──▶ RPUSH reply, EXPIRE

Taking a request is deleting it, so one executor has it at most, and a handler that deletes it
itself knows that nobody will. A request holds a caller's URL, headers and payload, which may be
secrets: it stands in Redis until it is taken, `REQUEST_SECONDS` at most; a reply until it is read,
`REPLY_SECONDS` at most. The signing secret never does: executors read it in Postgres.
"""

import asyncio
import re
from base64 import b64decode, b64encode
from time import monotonic
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

QUEUE = "onthedot:trials"
REQUEST = "onthedot:trial-request:"
REPLY = "onthedot:trial-reply:"
TAKE_SECONDS = 3.0  # then nobody has room, or nobody is there
REQUEST_SECONDS = 10  # should the handler die meanwhile
QUEUE_SECONDS = 60
REPLY_SECONDS = 10
POP_SECONDS = 1.0  # one wait at most: whoever waits looks up in between
ID = re.compile(rb"[0-9a-f]{32}")

# What either side meets when Redis is away, or is no Redis of ours.
Away = (RedisError, OSError, TimeoutError)


class Trial(NamedTuple):
    """What to try: to make a call, or only to look whether it could be made."""

    id: str
    application_id: int
    url: str
    timeout_seconds: float
    call: bool = True  # False: look the host up and ask the egress rules
    method: str = "POST"
    headers: dict[str, str] | None = None
    payload: bytes | None = None  # None: the event


class Called(NamedTuple):
    """What came of a call; `status` is None when there was no answer, and `error` says why."""

    is_delivered: bool
    status: int | None
    headers: list[tuple[str, str]]
    body: bytes
    is_whole: bool  # whether the body ended before its limit, and well
    duration_ms: float
    error: str | None


class Vetted(NamedTuple):
    """An address of a host, and why it may not be reached; None: it may."""

    address: str
    refusal: str | None


class Looked(NamedTuple):
    """What is known of a host without calling it.

    `refusal`: why it may not be called whatever its address, and then it is not looked up. `error`:
    why it has no address.
    """

    addresses: list[Vetted]
    refusal: str | None
    error: str | None


class Unable(NamedTuple):
    """The executor could not even try, for a reason of its own."""

    reason: str


Reply = Called | Looked | Unable


def connect(url: str) -> Redis:
    """Describe connections that wait for longer than `wakeup.connect` lets them, in bytes.

    What meets a connection that died while it was idle is tried once more, on a new one. Doubled,
    an id or a reply is passed over; a request that was taken or deleted then passes for taken.
    """
    return Redis.from_url(
        url,
        socket_timeout=POP_SECONDS + 1.0,
        socket_connect_timeout=1.0,
        health_check_interval=15,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )


def new_id() -> str:
    """Make up the id of a trial."""
    return uuid4().hex


async def ask(redis: Redis, trial: Trial) -> None:
    """Put a trial up to be taken. Raises one of `Away`."""
    async with redis.pipeline() as pipe:
        pipe.set(REQUEST + trial.id, _write(trial), ex=REQUEST_SECONDS)
        pipe.rpush(QUEUE, trial.id)
        pipe.expire(QUEUE, QUEUE_SECONDS)
        await pipe.execute()


async def withdraw(redis: Redis, trial: Trial) -> bool:
    """Take a trial back; False when an executor has taken it. Raises one of `Away`."""
    async with redis.pipeline() as pipe:
        pipe.delete(REQUEST + trial.id)
        pipe.lrem(QUEUE, 0, trial.id)
        deleted, _ = await pipe.execute()
    return bool(deleted)


async def hear(redis: Redis, trial: Trial, *, seconds: float) -> Reply | None:
    """Wait for the reply to a trial; None when there is none in time. Raises one of `Away`."""
    deadline = monotonic() + seconds
    while (left := deadline - monotonic()) > 0:
        raw = await _pop(redis, REPLY + trial.id, seconds=left)
        if raw is not None:
            return _read_reply(raw)
    return None


async def next_id(redis: Redis) -> str | None:
    """Wait a moment for the id of a trial; None when there is none. Raises one of `Away`."""
    raw = await _pop(redis, QUEUE, seconds=POP_SECONDS)
    return raw.decode() if raw is not None and ID.fullmatch(raw) else None


async def put_back(redis: Redis, trial_id: str) -> None:
    """Leave a trial that was not taken to the next executor. Raises one of `Away`."""
    await redis.lpush(QUEUE, trial_id)


async def take(redis: Redis, trial_id: str) -> Trial | None:
    """Take a trial; None when it was withdrawn, or is no trial of this version. Raises `Away`."""
    raw = await redis.getdel(REQUEST + trial_id)
    return None if raw is None else _read(raw)


async def reply(redis: Redis, trial: Trial, said: Reply) -> None:
    """Reply to whoever still waits. Raises one of `Away`."""
    async with redis.pipeline() as pipe:
        pipe.rpush(REPLY + trial.id, _write_reply(said))
        pipe.expire(REPLY + trial.id, REPLY_SECONDS)
        await pipe.execute()


async def _pop(redis: Redis, key: str, *, seconds: float) -> bytes | None:
    # Redis takes 0 for ever.
    wait = max(0.01, min(seconds, POP_SECONDS))
    async with asyncio.timeout(wait + 1.0):
        popped = await redis.blpop([key], timeout=wait)
    return None if popped is None else popped[1]  # type: ignore[return-value]  # not decoded


def _write(trial: Trial) -> bytes:
    payload = None if trial.payload is None else b64encode(trial.payload).decode()
    return orjson.dumps({**trial._asdict(), "payload": payload})


def _read(raw: bytes | str) -> Trial | None:
    try:
        said = orjson.loads(raw)
        payload = None if said["payload"] is None else b64decode(said["payload"])
        return Trial(**{**said, "payload": payload})
    except (ValueError, TypeError, KeyError):
        return None


def _write_reply(said: Reply) -> bytes:
    fields: dict[str, Any] = said._asdict()
    if isinstance(said, Called):
        fields["body"] = b64encode(said.body).decode()
    elif isinstance(said, Looked):
        fields["addresses"] = [tuple(each) for each in said.addresses]
    return orjson.dumps({"kind": type(said).__name__, "said": fields})


def _read_reply(raw: bytes) -> Reply | None:
    try:
        document = orjson.loads(raw)
        fields = document["said"]
        match document["kind"]:
            case "Called":
                headers = [(name, value) for name, value in fields["headers"]]
                return Called(**{**fields, "headers": headers, "body": b64decode(fields["body"])})
            case "Looked":
                addresses = [Vetted(*each) for each in fields["addresses"]]
                return Looked(**{**fields, "addresses": addresses})
            case _:
                return Unable(**fields)
    except (ValueError, TypeError, KeyError):
        return None
