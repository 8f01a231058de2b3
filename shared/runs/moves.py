"""One function per arrow of `LIFE`: frozen values in and out, the statement in `sql/` beside it.

A move never commits; on a pool's autocommit connection each is a transaction of its own. Every
move guards the state it leaves, so it answers which runs it moved: a run not among them was no
longer ours, which is an answer and no error.

Between Postgres and an executor, instants travel as numbers: planned ones, which are keys, as epoch
microseconds, exact; measured ones as epoch seconds. Columns travel as array literals, joined here:
psycopg would dump a list element by element in Python, ten times as slow (12 µs a run in all).
"""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from shared.database import Connection
from shared.runs.lifecycle import LIFE, Delivery
from shared.runs.policy import DEFAULT_POLICY


def _load(name: str) -> bytes:
    return (files("shared.runs") / "sql" / f"{name}.sql").read_bytes()


# In this order. What is marked while the first runs is left for the second: an executor that comes
# to life marks a run either before the first has passed it, or not at all.
RESCUES = ("rescue_unsent", "doubt_abandoned", "bury_abandoned", "rescue")

# Attempts are counted on by replays, in two bytes.
REPLAYED_ATTEMPT_MAX = 30_000

SQL = {name: _load(name) for name in [*(move.name for move in LIFE), "lapsed", "held", "orphans"]}


class NewTimer(NamedTuple):
    """What to call and after how many seconds; valid already."""

    application_id: int
    url: str
    method: str
    headers: str | None  # a JSON object of strings
    payload: bytes | None
    timeout_seconds: float
    delay_seconds: float
    retry: str | None  # `RetryPolicy.document()`
    delivery: Delivery


class Edit(NamedTuple):
    """What to change of a job: the names in `changed`, which are the other fields'."""

    changed: Sequence[str]
    url: str | None = None
    method: str | None = None
    headers: str | None = None
    payload: bytes | None = None
    timeout_seconds: float | None = None
    delay_seconds: float | None = None
    retry: str | None = None
    delivery: str | None = None


class DeadLetters(NamedTuple):
    """Which dead letters: all that fit every field that is given."""

    application_id: int
    job_id: int | None = None
    scheduled_for_us: int | None = None  # epoch microseconds
    state: str | None = None
    finished_from: float | None = None  # epoch seconds
    finished_to: float | None = None  # epoch seconds; until now, unless given
    host: str | None = None  # in lower case


class Claim(NamedTuple):
    """A run that is ours to fire, as long as our lease holds and its fence has not grown."""

    job_id: int
    scheduled_for: int  # epoch microseconds
    due_at: int  # epoch microseconds
    fence: int
    attempt: int  # the number of the attempt that this claim may make, from 1
    attempts_forgiven: int  # of these, spent before a replay
    age_from: int  # epoch microseconds: the instant, or the replay, from which `max_age` counts
    url: str
    method: str
    headers: dict[str, str] | None
    payload: bytes | None
    timeout_seconds: float
    retry: dict[str, Any] | None  # for `RetryPolicy.read`
    is_at_most_once: bool
    signing_secret: bytes
    previous_secret: bytes | None  # while a rotation overlaps
    executor_id: str


class Held(NamedTuple):
    """As much of a claim as it takes to give it back."""

    job_id: int
    scheduled_for: int  # epoch microseconds
    fence: int


class Attempt(NamedTuple):
    """One attempt that was made under a claim, by the database's clock, and what came of it."""

    claim: Claim
    started_at: float | None  # epoch seconds; None: it was not sent
    finished_at: float  # epoch seconds
    lateness_ms: float | None
    http_status: int | None = None
    response: bytes | None = None
    error: str | None = None
    retry_in_seconds: float | None = None  # None: there is no next attempt


async def create(connection: Connection, timers: Sequence[NewTimer]) -> list[int]:
    """Create a job and its pending run for each; answer their ids, in order."""
    headers = [timer.headers for timer in timers]
    payloads = [timer.payload for timer in timers]
    retries = [timer.retry for timer in timers]
    values = {
        "application_ids": _array([timer.application_id for timer in timers]),
        "urls": [timer.url for timer in timers],
        "methods": _array([timer.method for timer in timers]),
        "headers": headers if any(headers) else None,
        "payloads": None if all(payload is None for payload in payloads) else payloads,
        "timeouts": _array([timer.timeout_seconds for timer in timers]),
        "delays": _array([timer.delay_seconds for timer in timers]),
        "retries": retries if any(retries) else None,
        "deliveries": None if all(map(_is_default, timers)) else [t.delivery for t in timers],
    }
    cursor = await connection.execute(SQL["create"], values)
    return [row[0] for row in await cursor.fetchall()]


async def edit(connection: Connection, *, job_id: int, application_id: int, edit: Edit) -> bool:
    """Change a job whose run has not begun; False when it has, or is over, or never was."""
    values = edit._asdict() | {
        "changed": list(edit.changed),
        "job_id": job_id,
        "application_id": application_id,
    }
    return bool(await _record(connection, "edit", values))


async def claim(
    connection: Connection,
    *,
    executor_id: str,
    late_seconds: float,
    ahead_seconds: float,
    most: int,
) -> list[Claim]:
    """Claim the earliest pending runs due from `late_seconds` ago to `ahead_seconds` from now.

    None, when the claimer's own lease has lapsed or was never taken.
    """
    cursor = await connection.execute(
        SQL["claim"],
        {
            "executor_id": executor_id,
            "late_seconds": late_seconds,
            "ahead_seconds": ahead_seconds,
            "most": most,
        },
        binary=True,
    )
    return [Claim._make((*row, executor_id)) for row in await cursor.fetchall()]


async def mark(connection: Connection, claims: Sequence[Claim]) -> set[tuple[int, int]]:
    """Say, durably, that at-most-once runs are about to be sent.

    Answers job and `scheduled_for` of those that may be: the others are not ours any more.
    """
    cursor = await connection.execute(SQL["mark"], _keys(claims), binary=True)
    return {(row[0], row[1]) for row in await cursor.fetchall()}


async def deliver(connection: Connection, attempts: Sequence[Attempt]) -> list[int]:
    """End the runs whose webhooks were accepted; answer the jobs of those that were still ours."""
    return await _record(connection, "deliver", columns(attempts))


async def retry(connection: Connection, attempts: Sequence[Attempt]) -> list[int]:
    """Make runs whose attempt failed due again, each after its `retry_in_seconds`."""
    values = columns(attempts) | {
        "errors": [attempt.error for attempt in attempts],
        "delays": [attempt.retry_in_seconds for attempt in attempts],
    }
    return await _record(connection, "retry", values)


async def bury(connection: Connection, attempts: Sequence[Attempt]) -> list[int]:
    """End the runs that failed for good: dead letters."""
    values = columns(attempts) | {"errors": [attempt.error for attempt in attempts]}
    return await _record(connection, "bury", values)


async def doubt(connection: Connection, attempts: Sequence[Attempt]) -> list[int]:
    """End the at-most-once runs of which nobody knows whether they were processed."""
    values = columns(attempts) | {"errors": [attempt.error for attempt in attempts]}
    return await _record(connection, "doubt", values)


async def held_by(connection: Connection, *, executor_id: str, ahead_seconds: float) -> list[Held]:
    """Answer every claim that stands under this id."""
    values = {"executor_id": executor_id, "ahead_seconds": ahead_seconds}
    cursor = await connection.execute(SQL["held"], values, binary=True)
    return [Held._make(row) for row in await cursor.fetchall()]


async def release(
    connection: Connection, claims: Sequence[Claim | Held], *, delays: Sequence[float] | None = None
) -> list[int]:
    """Give back claims that were certainly not sent, each due again no sooner than its delay."""
    values = _keys(claims) | {"delays": _array([0.0] * len(claims) if delays is None else delays)}
    return await _record(connection, "release", values)


async def rescue(connection: Connection, *, executor_id: str) -> dict[str, int]:
    """Take back every run of the other executors whose lease has lapsed, and forget those.

    One transaction: a lapsed executor either renews its lease first and keeps all it held, or finds
    itself forgotten and holds nothing. Answers how many runs each of the four moves took.
    """
    async with connection.transaction():
        cursor = await connection.execute(SQL["lapsed"], {"executor_id": executor_id})
        lapsed = [row[0] for row in await cursor.fetchall()]
        if not lapsed:
            return {}
        values = {"lapsed": lapsed, "max_attempts": DEFAULT_POLICY.max_attempts}
        moved = {name: len(await _record(connection, name, values)) for name in RESCUES}
        await connection.execute("delete from executors where id = any(%s)", (lapsed,))
        return moved


async def list_orphans(connection: Connection) -> int:
    """Put executors that hold runs but are not on the list back on it, as lapsed; say how many."""
    cursor = await connection.execute(SQL["orphans"])
    return cursor.rowcount


async def cancel(connection: Connection, *, job_id: int, application_id: int) -> bool:
    """Cancel what is pending of a job and end the job; False when nothing of it was pending."""
    values = {"job_id": job_id, "application_id": application_id}
    return bool(await _record(connection, "cancel", values))


async def replay(connection: Connection, letters: DeadLetters, *, most: int) -> int:
    """Make dead letters pending again, the oldest first; answer how many."""
    values = letters._asdict() | {"most": most, "attempt_max": REPLAYED_ATTEMPT_MAX}
    return len(await _record(connection, "replay", values))


async def _record(connection: Connection, name: str, values: dict[str, Any]) -> list[int]:
    cursor = await connection.execute(SQL[name], values)
    return [row[0] for row in await cursor.fetchall()]


def _keys(claims: Sequence[Claim | Held]) -> dict[str, Any]:
    return {
        "job_ids": _array([claim.job_id for claim in claims]),
        "scheduled_fors": _array([claim.scheduled_for for claim in claims]),
        "fences": _array([claim.fence for claim in claims]),
    }


def columns(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Answer what the statements that record attempts are given, a column each."""
    responses = [attempt.response for attempt in attempts]
    return _keys([attempt.claim for attempt in attempts]) | {
        "executor_ids": _array([attempt.claim.executor_id for attempt in attempts]),
        "attempts": _array([attempt.claim.attempt for attempt in attempts]),
        "started_ats": _array([attempt.started_at for attempt in attempts]),
        "finished_ats": _array([attempt.finished_at for attempt in attempts]),
        "lateness_mss": _array([attempt.lateness_ms for attempt in attempts]),
        "http_statuses": _array([attempt.http_status for attempt in attempts]),
        "responses": responses if any(responses) else None,
    }


def _is_default(timer: NewTimer) -> bool:
    return timer.delivery == Delivery.AT_LEAST_ONCE


def _array(values: Sequence[float | str | None]) -> str:
    """Write an array literal. For numbers and plain words only: nothing is quoted."""
    return f"{{{','.join(map(str, values))}}}".replace("None", "null")
