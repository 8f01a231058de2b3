"""`/healthz`, `/readyz` and `/metrics` of an executor, on a port of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from executor_service.lease import Lease
from shared import wakeup
from shared.settings import ExecutorSettings


class _Server(uvicorn.Server):
    """uvicorn as a guest in the executor's event loop: signals stay with the executor."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: ExecutorSettings, lease: Lease, redis: Redis) -> None:
    """Serve until cancelled. An executor is ready while it holds its lease."""

    async def healthz(_: Request) -> Response:
        return _json({"status": "alive"})

    async def readyz(_: Request) -> Response:
        held = lease.is_held
        body = {
            "status": "ready" if held else "not ready",
            "lease": "held" if held else "not held",
            "executor": lease.executor_id,
        }
        return _json(body, status=200 if held else 503)

    async def metrics(_: Request) -> Response:
        await wakeup.is_up(redis)
        return Response(generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})

    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    )
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.health_host,
            port=settings.health_port,
            access_log=False,
            log_config=None,
            server_header=False,
            lifespan="off",
        )
    )
    try:
        await server.serve()
    except SystemExit:  # uvicorn's word for a port that is taken
        raise OSError(
            f"HEALTH_PORT: {settings.health_host}:{settings.health_port} is taken; choose another"
        ) from None
    finally:
        for listener in getattr(server, "servers", ()):
            listener.close()


def _json(body: object, *, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
