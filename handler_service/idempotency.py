"""`Idempotency-Key`: who asks again, not knowing whether we heard, gets the first answer again.

The answer is stored in the transaction that made what it tells of: there is never one without the
other. A request with a key has a transaction of its own for that, beside the group commit.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import NamedTuple

import orjson
from fastapi import Request, Response
from sqlalchemy import ColumnElement, Integer, Text, bindparam, func, literal_column, select

from handler_service.context import Context
from handler_service.openapi import header
from handler_service.problems import IdempotencyInProgress, IdempotencyKeyReused, InvalidRequest
from handler_service.transaction import Creator
from handler_service.violations import Violation
from shared.database import Connection, Read
from shared.runs.model import idempotency_keys

NAME = "Idempotency-Key"
KEY_CHARACTERS_MAX = 255
IN_PROGRESS = IdempotencyInProgress()
REPLAYED = header(
    "Idempotency-Replayed", "With the first answer to this key, given once more.", "true"
)
# Joined with `json_body` in the description of an endpoint.
PARAMETER = {
    "parameters": [
        {
            "name": NAME,
            "in": "header",
            "required": False,
            "description": "A name of your own for this request, such as a UUID. Asked again with "
            "the same key and body within 24 hours, nothing is made a second time: the first "
            "answer is given again. The same key with another body is refused. A refusal is not "
            "kept.",
            "schema": {
                "type": "string",
                "minLength": 1,
                "maxLength": KEY_CHARACTERS_MAX,
                "pattern": "^[!-~]+$",
            },
            "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
        }
    ]
}

Make = Callable[[Creator], Awaitable[Response]]

_KEPT: ColumnElement[timedelta] = literal_column("interval '24 hours'")
_FIRST = Read(
    select(
        idempotency_keys.c.fingerprint,
        idempotency_keys.c.status,
        idempotency_keys.c.headers,
        idempotency_keys.c.body,
    ).where(
        idempotency_keys.c.application_id == bindparam("application_id", type_=Integer),
        idempotency_keys.c.key == bindparam("key", type_=Text),
        idempotency_keys.c.created_at > func.now() - _KEPT,
    )
)
# A first answer that is not kept any more gives way; one that is never does.
_KEEP = b"""
insert into idempotency_keys (application_id, key, fingerprint, status, headers, body)
values (
    %(application_id)s, %(key)s, %(fingerprint)s, %(status)s, %(headers)s::jsonb, %(body)s
)
on conflict (application_id, key) do update
set
    fingerprint = excluded.fingerprint,
    status = excluded.status,
    headers = excluded.headers,
    body = excluded.body,
    created_at = excluded.created_at
where idempotency_keys.created_at <= now() - interval '24 hours'
"""
# Not with the read in one statement: that would see what was committed before it had the lock.
_LOCK = b"select pg_try_advisory_xact_lock(%s::bigint)"


class _Asked(NamedTuple):
    application_id: int
    key: str
    fingerprint: bytes


async def answer_once(
    request: Request,
    context: Context,
    raw: bytes,
    make: Make,
    *,
    seconds: float | None = None,
) -> Response:
    """Answer what `make` answers, once for each key; without a key, each time.

    `raw` is the body. `make` reads it, checks it, and creates by the creator that it is given, and
    by nothing else; it refuses by raising. Under a key it is called within the transaction (of
    `seconds` at most, or the time to wait), so what
    it wants said to others waits for `Transaction.after_commit`. It is not called for a replay,
    which is as valid as it was the first time, whatever the clock says by now.

    Raises InvalidRequest for what is no key, IdempotencyKeyReused for another request under the
    same one, IdempotencyInProgress while the first is not done. What `make` raises is not kept.
    """
    if NAME not in request.headers:
        return await make(context.group_commit)
    key = _key(request.headers.getlist(NAME))
    asked = _Asked(context.application_id, key, _fingerprint(request, raw))
    async with context.group_commit.transaction(seconds=seconds) as transaction:
        await _lock(transaction.connection, asked)
        replayed = await _first_answer(transaction.connection, asked)
        if replayed is not None:
            return replayed
        response = await make(transaction)
        await _keep(transaction.connection, asked, response)
    return response


def _key(given: Sequence[str]) -> str:
    if len(given) > 1:
        raise InvalidRequest([Violation(NAME, "Is given more than once; send one.")])
    [key] = given
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX or not all("!" <= each <= "~" for each in key):
        limits = f"Must have 1 to {KEY_CHARACTERS_MAX} visible ASCII characters, without spaces."
        raise InvalidRequest([Violation(NAME, limits)])
    return key


def _fingerprint(request: Request, raw: bytes) -> bytes:
    """Tell requests apart by method, target and the body's very bytes.

    Not by what the body says: a client asks again with what it sent, and two documents that say the
    same to us today may not do so tomorrow.
    """
    fingerprint = hashlib.sha256(f"{request.method} {request.url.path}".encode())
    fingerprint.update(f"?{request.url.query}\n".encode())
    fingerprint.update(raw)
    return fingerprint.digest()


async def _lock(connection: Connection, asked: _Asked) -> None:
    """Hold the key until the transaction ends; a handler that dies gives it up."""
    cursor = await connection.execute(_LOCK, (lock_number(asked.application_id, asked.key),))
    if await cursor.fetchone() != (True,):
        raise IdempotencyInProgress


def lock_number(application_id: int, key: str) -> int:
    """Name a key among advisory locks: below nought, where `job_lock` names nothing."""
    digest = hashlib.sha256(f"{application_id} {key}".encode()).digest()
    return -1 - (int.from_bytes(digest[:8], "big") >> 1)


async def _first_answer(connection: Connection, asked: _Asked) -> Response | None:
    row = await _FIRST.row(connection, application_id=asked.application_id, key=asked.key)
    if row is None:
        return None
    fingerprint, status, headers, body = row
    if fingerprint != asked.fingerprint:
        raise IdempotencyKeyReused(NAME)
    return Response(body, status_code=status, headers=headers | {"idempotency-replayed": "true"})


async def _keep(connection: Connection, asked: _Asked, response: Response) -> None:
    values = asked._asdict() | {
        "status": response.status_code,
        "headers": orjson.dumps(dict(response.headers)).decode(),
        "body": response.body,
    }
    cursor = await connection.execute(_KEEP, values)
    if cursor.rowcount != 1:  # somebody works without our lock, and was first
        raise IdempotencyInProgress
