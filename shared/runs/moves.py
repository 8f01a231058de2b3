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
from typing import Any, NamedTuple, TypeVar

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

# The columns of a job that may be changed, and the type that their values are written as.
CHANGEABLE = {
    "url": "",
    "method": "",
    "headers": "::jsonb",
    "payload": "::bytea",
    "timeout_seconds": "",
    "retry": "::jsonb",
    "delivery": "",
    "delay_seconds": "",
    "user_id": "",
    "labels": "::jsonb",
    "recurrence": "::jsonb",
    "max_lateness_seconds": "",
    "runs_begun": "",
}
_FORGET_LABELS = b"delete from job_labels where job_id = %(job_id)s"
_LABEL = b"""
insert into job_labels (application_id, name, value, run_at, job_id)
select application_id, label.key, label.value, run_at, id
from jobs, jsonb_each_text(labels) as label
where id = %(job_id)s
"""
_MOVE_LABELS = b"""
update job_labels set run_at = jobs.run_at from jobs where job_id = %(job_id)s and id = job_id
"""
_PAUSE_RECURRING = b"""
update jobs
set state = 'paused', version = version + 1, updated_at = now()
where id = any(%(job_ids)s::bigint[]) and recurrence is not null and state = 'active'
returning id
"""
Item = TypeVar("Item")

READS = ("lapsed", "held", "orphans", "heads")
SQL = {name: _load(name) for name in [*(move.name for move in LIFE), *READS]}


class NewJob(NamedTuple):
    """What to call, when, and how; valid already.

    When: at `run_at`, or after `delay_seconds`. Of a job that recurs that is the first occurrence.
    """

    application_id: int
    url: str
    method: str
    headers: str | None  # a JSON object of strings
    payload: bytes | None
    timeout_seconds: float
    delay_seconds: float
    retry: str | None  # `RetryPolicy.document()`
    delivery: Delivery
    run_at: int | None = None  # epoch microseconds
    user_id: str | None = None
    key: str | None = None
    labels: str | None = None  # a JSON object of strings
    recurrence: str | None = None  # `Recurrence.document()`
    jitter_seconds: float | None = None
    max_lateness_seconds: float | None = None
    contract: str | None = None
    traceparent: str | None = None  # of the request that asks for it


class Created(NamedTuple):
    """A job that was created."""

    job_id: int
    run_at: int  # epoch microseconds of its first run


class Run(NamedTuple):
    """A run that a move took, as it is told of."""

    job_id: int
    scheduled_for: int  # epoch microseconds
    attempt: int  # made so far
    application_id: int


class Edit(NamedTuple):
    """What to change of a job: the names in `changed`, which are the other fields'.

    `run_at` or `delay_seconds` move its run to another instant; with them go `recurrence`,
    `jitter_seconds` (by which `spread_seconds` is reckoned).
    """

    changed: Sequence[str]
    url: str | None = None
    method: str | None = None
    headers: str | None = None
    payload: bytes | None = None
    timeout_seconds: float | None = None
    delay_seconds: float | None = None
    retry: str | None = None
    delivery: str | None = None
    run_at: int | None = None  # epoch microseconds
    user_id: str | None = None
    labels: str | None = None
    recurrence: str | None = None
    max_lateness_seconds: float | None = None
    spread_seconds: float | None = None
    runs_begun: int | None = None  # 0: `max_runs` counts anew


class Head(NamedTuple):
    """The next occurrence of a job that recurs, due about now; locked until we commit."""

    job_id: int
    scheduled_for: int  # epoch microseconds
    due_at: int  # epoch microseconds
    now: int  # epoch microseconds, of the database's clock
    job_state: str
    recurrence: dict[str, Any]  # for `Recurrence.read`
    runs_begun: int
    is_busy: bool  # another run of the job has begun, or is about to, and has not ended
    application_id: int


class Occurrence(NamedTuple):
    """A next occurrence that may be claimed now, and the one that takes its place."""

    job_id: int
    scheduled_for: int  # epoch microseconds
    next_for: int | None  # epoch microseconds; None: it was the last
    spread_seconds: float
    queues: bool = False  # the one after it waits for it, and is not missed meanwhile


class PassedOver(NamedTuple):
    """A next occurrence that ends unsent, with those after it, and the one that is next then."""

    job_id: int
    scheduled_for: int  # epoch microseconds
    passed: Sequence[int]  # epoch microseconds, the first of them included
    next_for: int | None
    spread_seconds: float
    reason: str


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
    instant: int  # epoch microseconds: `scheduled_for`, and the jitter of its job
    replayed_at: int | None  # epoch microseconds
    url: str
    method: str
    headers: dict[str, str] | None
    payload: bytes | None
    timeout_seconds: float
    retry: dict[str, Any] | None  # for `RetryPolicy.read`
    is_at_most_once: bool
    max_lateness_seconds: float | None
    recurs: bool
    traceparent: str | None  # of the request that created its job
    signing_secret: bytes
    previous_secret: bytes | None  # while a rotation overlaps
    application_id: int
    executor_id: str

    @property
    def age_from(self) -> int:
        """Epoch microseconds of the instant, or the replay, from which `max_age` counts."""
        return self.instant if self.replayed_at is None else self.replayed_at


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


async def create(connection: Connection, jobs: Sequence[NewJob]) -> list[Created]:
    """Create each job and its first run, pending; answer them in order.

    Raises UniqueViolation of `jobs_key` when a job of the application has the key already.
    """
    payloads = [job.payload for job in jobs]
    values = {
        "application_ids": _array([job.application_id for job in jobs]),
        "urls": [job.url for job in jobs],
        "methods": _array([job.method for job in jobs]),
        "headers": _given([job.headers for job in jobs]),
        "payloads": None if all(payload is None for payload in payloads) else payloads,
        "timeouts": _array([job.timeout_seconds for job in jobs]),
        "delays": _array([job.delay_seconds for job in jobs]),
        "retries": _given([job.retry for job in jobs]),
        "deliveries": None if all(map(_is_default, jobs)) else [job.delivery for job in jobs],
        "run_ats": _given([job.run_at for job in jobs]),
        "user_ids": _given([job.user_id for job in jobs]),
        "keys": _given([job.key for job in jobs]),
        "labels": _given([job.labels for job in jobs]),
        "recurrences": _given([job.recurrence for job in jobs]),
        "jitters": _given([job.jitter_seconds for job in jobs]),
        "latenesses": _given([job.max_lateness_seconds for job in jobs]),
        "contracts": _given([job.contract for job in jobs]),
        "traceparents": _given([job.traceparent for job in jobs]),
    }
    cursor = await connection.execute(SQL["create"], values)
    return [Created._make(row) for row in await cursor.fetchall()]


async def edit(
    connection: Connection, *, job_id: int, application_id: int, edit: Edit
) -> int | None:
    """Change a job, in the caller's transaction, and answer the instant of its run.

    Epoch microseconds; None when there is nothing that has not begun. Both rows change in one
    transaction: a claim sees both as they were, or as they are.
    """
    is_retimed = "run_at" in edit.changed or "delay_seconds" in edit.changed
    values = {
        "job_id": job_id,
        "application_id": application_id,
        "is_retimed": is_retimed,
        "run_at": edit.run_at if "run_at" in edit.changed else None,
        "delay_seconds": edit.delay_seconds if "delay_seconds" in edit.changed else None,
        "is_next": edit.recurrence is not None,
        "spread": edit.spread_seconds,
    }
    cursor = await connection.execute(SQL["edit"], values)
    row = await cursor.fetchone()
    if row is None:
        return None
    await change(connection, job_id=job_id, edit=edit, instant=row[0])
    return int(row[0])


async def rearm(connection: Connection, *, job_id: int, application_id: int, edit: Edit) -> bool:
    """Give a job whose run is over another one, changed like this; False: it is not over.

    In the caller's transaction. `edit` says when.
    """
    values = {
        "job_id": job_id,
        "application_id": application_id,
        "run_at": edit.run_at,
        "delay_seconds": edit.delay_seconds,
        "is_next": edit.recurrence is not None,
        "spread": edit.spread_seconds,
    }
    cursor = await connection.execute(SQL["rearm"], values)
    row = await cursor.fetchone()
    if row is None:
        return False
    await change(connection, job_id=job_id, edit=edit, instant=row[0])
    return True


async def change(connection: Connection, *, job_id: int, edit: Edit, instant: int | None) -> None:
    """Write what changed into a job's row; no move of a run, but part of one, and after it.

    The row of the run is locked first, as by every move: so that two of them cannot lock each
    other out.
    """
    columns = [name for name in CHANGEABLE if name in edit.changed]
    values: dict[str, Any] = {name: getattr(edit, name) for name in columns}
    settings = [f"{name} = %({name})s{CHANGEABLE[name]}" for name in columns]
    if instant is not None:
        values["instant"] = instant
        settings.append(
            "run_at = to_timestamp(%(instant)s / 1000000)"
            " + mod(%(instant)s, 1000000) * interval '1 microsecond'"
        )
    settings.append("version = version + 1, updated_at = now()")
    statement = f"update jobs set {', '.join(settings)} where id = %(job_id)s"  # noqa: S608  # our names
    await connection.execute(statement.encode(), values | {"job_id": job_id})
    if "labels" in edit.changed:
        await connection.execute(_FORGET_LABELS, {"job_id": job_id})
        await connection.execute(_LABEL, {"job_id": job_id})
    elif instant is not None:
        await connection.execute(_MOVE_LABELS, {"job_id": job_id})


async def heads(
    connection: Connection, *, late_seconds: float, ahead_seconds: float, most: int
) -> list[Head]:
    """Lock the earliest next occurrences due in a window around now, and answer them."""
    values = {"late_seconds": late_seconds, "ahead_seconds": ahead_seconds, "most": most}
    cursor = await connection.execute(SQL["heads"], values, binary=True)
    return [Head._make(row) for row in await cursor.fetchall()]


async def occur(connection: Connection, occurrences: Sequence[Occurrence]) -> list[int]:
    """Let next occurrences be claimed, and make those after them; answer the jobs it moved.

    A job that was paused or ended meanwhile is left as it is.
    """
    values = {
        "job_ids": _array([each.job_id for each in occurrences]),
        "scheduled_fors": _array([each.scheduled_for for each in occurrences]),
        "next_fors": _array([each.next_for for each in occurrences]),
        "spreads": _array([each.spread_seconds for each in occurrences]),
        "queues": _array([each.queues for each in occurrences]),
    }
    return await _record(connection, "occur", values)


async def pass_over(connection: Connection, passed: PassedOver) -> bool:
    """End occurrences unsent, and go on with the next one that is not."""
    values = {
        "job_id": passed.job_id,
        "scheduled_for": passed.scheduled_for,
        "passed": list(passed.passed),
        "next_for": passed.next_for,
        "spread": passed.spread_seconds,
        "reason": passed.reason,
    }
    return bool(await _record(connection, "pass_over", values))


async def wait(connection: Connection, waiting: Sequence[Head], *, seconds: float) -> list[int]:
    """Put off next occurrences that come after a run which is still at it."""
    values = {
        "job_ids": _array([head.job_id for head in waiting]),
        "scheduled_fors": _array([head.scheduled_for for head in waiting]),
        "seconds": seconds,
    }
    return await _record(connection, "wait", values)


async def hold(connection: Connection, job_ids: Sequence[int]) -> list[int]:
    """Hold what is pending of paused jobs until they are resumed."""
    return await _record(connection, "hold", {"job_ids": list(job_ids)})


async def resume(connection: Connection, *, job_id: int) -> bool:
    """Make due again what was held of a job; the job is active by now, and that is committed."""
    return bool(await _record(connection, "resume", {"job_id": job_id}))


async def trigger(connection: Connection, *, job_id: int, application_id: int) -> int | None:
    """Make a run that is due now; answer its instant in epoch microseconds.

    None: there is no such job, or it was ended.
    """
    values = {"job_id": job_id, "application_id": application_id}
    cursor = await connection.execute(SQL["trigger"], values)
    row = await cursor.fetchone()
    return None if row is None else int(row[0])


async def pause_recurring(connection: Connection, job_ids: Sequence[int]) -> list[int]:
    """Pause the jobs among these that recur, for a reason of ours; answer which.

    What is pending of them is to be held when that is committed.
    """
    cursor = await connection.execute(_PAUSE_RECURRING, {"job_ids": list(job_ids)})
    return [row[0] for row in await cursor.fetchall()]


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


async def skip(connection: Connection, attempts: Sequence[Attempt]) -> list[int]:
    """End the runs that would have begun later than their jobs allow."""
    values = columns(attempts) | {"errors": [attempt.error for attempt in attempts]}
    return await _record(connection, "skip", values)


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


async def rescue(connection: Connection, *, executor_id: str) -> dict[str, list[Run]]:
    """Take back every run of the other executors whose lease has lapsed, and forget those.

    One transaction: a lapsed executor either renews its lease first and keeps all it held, or finds
    itself forgotten and holds nothing. Answers which runs each of the four moves took.
    """
    async with connection.transaction():
        cursor = await connection.execute(SQL["lapsed"], {"executor_id": executor_id})
        lapsed = [row[0] for row in await cursor.fetchall()]
        if not lapsed:
            return {}
        values = {"lapsed": lapsed, "max_attempts": DEFAULT_POLICY.max_attempts}
        moved = {name: await _runs(connection, name, values) for name in RESCUES}
        await connection.execute("delete from executors where id = any(%s)", (lapsed,))
        return moved


async def list_orphans(connection: Connection) -> int:
    """Put executors that hold runs but are not on the list back on it, as lapsed; say how many."""
    cursor = await connection.execute(SQL["orphans"])
    return cursor.rowcount


async def cancel(connection: Connection, *, job_id: int, application_id: int | None) -> list[Run]:
    """Cancel what is pending of a job and end the job; answer which runs, none if none was pending.

    `application_id` is the caller's; None when it is us who asks.
    Of a job that recurs, ask again until nothing is: an occurrence may be made meanwhile.
    """
    return await cancel_all(connection, [job_id], application_id=application_id)


async def cancel_all(
    connection: Connection, job_ids: Sequence[int], *, application_id: int | None
) -> list[Run]:
    """Cancel what is pending of jobs and end those of which something was; answer the runs."""
    values = {"job_ids": list(job_ids), "application_id": application_id}
    return await _runs(connection, "cancel", values)


async def replay(connection: Connection, letters: DeadLetters, *, most: int) -> list[Run]:
    """Make dead letters pending again, the oldest first; answer which."""
    values = letters._asdict() | {"most": most, "attempt_max": REPLAYED_ATTEMPT_MAX}
    return await _runs(connection, "replay", values)


async def _record(connection: Connection, name: str, values: dict[str, Any]) -> list[int]:
    cursor = await connection.execute(SQL[name], values)
    return [row[0] for row in await cursor.fetchall()]


async def _runs(connection: Connection, name: str, values: dict[str, Any]) -> list[Run]:
    cursor = await connection.execute(SQL[name], values)
    return [Run._make(row) for row in await cursor.fetchall()]


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


def _is_default(job: NewJob) -> bool:
    return job.delivery == Delivery.AT_LEAST_ONCE


def _given(values: list[Item | None]) -> list[Item | None] | None:
    """A column of which nothing is given costs nothing."""
    return None if all(value is None for value in values) else values


def _array(values: Sequence[float | str | None]) -> str:
    """Write an array literal. For numbers and plain words only: nothing is quoted."""
    return f"{{{','.join(map(str, values))}}}".replace("None", "null")
