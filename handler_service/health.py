"""`/healthz`, `/readyz`, `/metrics`: does this process live, can it serve, what has it done."""

import asyncio
from typing import Literal

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from handler_service.context import Context
from handler_service.schemas.body import answer
from shared import database, wakeup

# The revision this code was written for; a database behind it is not ready, one ahead of it is.
SCHEMA_REVISION = "0004"

router = APIRouter(tags=["health"])


class AliveOut(BaseModel):
    """The process answers."""

    model_config = answer({"status": "alive"})

    status: Literal["alive"]


class ReadyOut(BaseModel):
    """What this handler can reach; Redis is not required."""

    model_config = answer({"status": "ready", "postgres": "ok", "redis": "ok"})

    status: Literal["ready", "not ready", "leaving"]
    postgres: Literal["ok", "unreachable", "not migrated"]
    redis: Literal["ok", "unreachable"]


@router.get(
    "/healthz",
    response_model=AliveOut,
    operation_id="healthz",
    summary="Is the process alive",
    response_description="It is",
)
async def healthz() -> Response:
    """Answer 200 as long as the process answers at all."""
    return Response(b'{"status":"alive"}', media_type="application/json")


@router.get(
    "/readyz",
    response_model=ReadyOut,
    operation_id="readyz",
    summary="Can it serve",
    response_description="It can",
    responses={
        503: {
            "model": ReadyOut,
            "description": "Postgres cannot be reached or is not migrated, or the handler is about "
            "to stop",
        }
    },
)
async def readyz(request: Request) -> Response:
    """Answer 200 when Postgres is reachable and migrated. Redis is reported, not required.

    A handler that was told to stop answers 503, and serves on until nobody asks it any more.
    """
    context = Context.of(request)
    postgres, redis = await asyncio.gather(_postgres(context), _redis(context))
    status = "ready" if postgres == "ok" else "not ready"
    if context.leaving.is_set():
        status = "leaving"
    return Response(
        orjson.dumps({"status": status, "postgres": postgres, "redis": redis}),
        status_code=200 if status == "ready" else 503,
        media_type="application/json",
    )


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    operation_id="metrics",
    summary="Metrics for Prometheus",
    response_description="In Prometheus's text format",
)
async def metrics(request: Request) -> Response:
    """Answer the counters and histograms of this process."""
    await wakeup.is_up(Context.of(request).redis)
    return Response(generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})


async def _postgres(context: Context) -> str:
    try:
        async with asyncio.timeout(2.0), context.pool.connection(timeout=1.5) as connection:
            cursor = await connection.execute("select max(version_num) from alembic_version")
            row = await cursor.fetchone()
    except database.Unavailable:
        return "unreachable"
    except database.NotMigrated:
        return "not migrated"
    return "ok" if row and row[0] and row[0] >= SCHEMA_REVISION else "not migrated"


async def _redis(context: Context) -> str:
    return "ok" if await wakeup.is_up(context.redis) else "unreachable"
