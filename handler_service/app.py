"""The application: its life, its routes, its problems.

`python -m handler_service.app` prints its OpenAPI document.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from handler_service import (
    bulk_cancel,
    dead_letters,
    events,
    forecast,
    health,
    history,
    job_edits,
    job_export,
    job_import,
    job_lists,
    job_trials,
    jobs,
    keyed_jobs,
    ledger,
    openapi,
    problems,
    requests,
    schedules,
    signing_secret,
    stats,
    timer_edits,
    timers,
)
from handler_service.announce import Announcer
from handler_service.context import Context
from handler_service.create import GroupCommit
from handler_service.event_source import Source
from handler_service.listeners import Listeners
from handler_service.trials import Trials
from shared import VERSION, database, trials, wakeup
from shared.events import Teller, connect
from shared.settings import HandlerSettings
from shared.tracing import Tracing


def create_app(settings: HandlerSettings) -> FastAPI:
    """Build the application. While Postgres is away it starts and answers 503.

    Raises CannotTrace when a collector is named, and what speaks to it is not installed.
    """
    endpoint = settings.otel_exporter_otlp_endpoint
    tracing = Tracing(endpoint, service="handler") if endpoint else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = database.open_pool(
            settings.database_url.get_secret_value(),
            name="handler",
            connections=settings.database_connections,
            pin_plans=True,
        )
        redis_url = settings.redis_url.get_secret_value()
        redis = wakeup.connect(redis_url)
        event_redis = connect(redis_url)
        teller = Teller(event_redis)
        source = Source(redis_url, window_seconds=settings.events_window_seconds)
        listeners = Listeners(source, most=settings.events_listeners_max)
        announcer = Announcer(redis)
        group_commit = GroupCommit(
            pool,
            announcer,
            teller,
            waiting_max=settings.creates_waiting_max,
            wait_seconds=settings.create_wait_seconds,
        )
        trials_redis = trials.connect(settings.redis_url.get_secret_value())
        context = Context(
            settings,
            pool,
            redis,
            announcer,
            group_commit,
            teller,
            listeners,
            Trials(trials_redis),
        )
        context.install(app)
        await pool.open()
        try:
            yield
        finally:
            await group_commit.close()
            await announcer.close()
            await teller.close()
            await listeners.close()
            await pool.close()
            await event_redis.aclose()
            await redis.aclose()
            await trials_redis.aclose()
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    app = FastAPIOffline(
        title="Onthedot",
        description=(
            "Hand us a webhook and a time; we make that call on the dot, once. Every answer "
            "carries `X-Request-Id`, the request's own if it brings one; our log has it too."
        ),
        version=VERSION,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        # Asked for at each request, 10 µs of a create; see `requests`, which traces in less.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    # Not include_router: it matches twice what it includes, 12 µs of the 55 of a create.
    resources = (
        timers,
        timer_edits,
        jobs,
        job_lists,
        keyed_jobs,
        job_edits,
        bulk_cancel,
        job_export,
        job_import,
        schedules,
        job_trials,
        history,
        dead_letters,
        ledger,
        stats,
        forecast,
        events,
        signing_secret,
        health,
    )
    app.router.routes[:0] = [route for each in resources for route in each.router.routes]
    problems.install(app)
    app.add_middleware(requests.Requests, tracer=None if tracing is None else tracing.tracer)
    openapi.install(app)
    return app


if __name__ == "__main__":
    print(json.dumps(create_app(HandlerSettings()).openapi(), indent=2))  # noqa: T201  # a file
