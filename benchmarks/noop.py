"""The floor of creating: the same route without a database: `python -m benchmarks.noop PORT`.

Same framework, same reading and checking of the body, same answer; nothing is kept.
"""

import sys

import orjson
import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response

from handler_service import bodies, problems
from handler_service.schemas.timers import TimerIn
from shared import garbage

router = APIRouter()


@router.post("/timers", status_code=201)
async def create_timer(request: Request) -> Response:
    timer = await bodies.read(request, TimerIn, bytes_max=1_000_000)
    body = orjson.dumps({"id": 1, "time_left": timer.delay_seconds})
    return Response(body, 201, headers={"location": "/timers/1"}, media_type="application/json")


@router.get("/readyz")
async def readyz() -> Response:
    return Response(b"{}", media_type="application/json")


if __name__ == "__main__":
    app = FastAPI()
    app.router.routes[:0] = router.routes  # as the handler does
    problems.install(app)
    garbage.spare_what_stays()
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
    )
