"""`python -m handler_service`: settings → application → uvicorn.

Here alone the environment is read.
"""

import signal
import sys

import structlog
import uvicorn
from pydantic import ValidationError

from handler_service.app import create_app
from handler_service.protocol import Protocol
from handler_service.server import Server
from shared import VERSION, garbage
from shared.settings import HandlerSettings, explain
from shared.telemetry import configure_logging, tell_build
from shared.tracing import CannotTrace


def main() -> int:
    """Serve until SIGTERM and while it drains; requests under way are finished."""
    try:
        settings = HandlerSettings()
    except ValidationError as refusal:
        print(explain(refusal), file=sys.stderr)  # noqa: T201  # before logging is configured
        return 2
    configure_logging(form=settings.log_format, level=settings.log_level, service="handler")
    log = structlog.stdlib.get_logger("handler")
    tell_build("handler")
    log.info("handler.started", version=VERSION, **settings.model_dump(mode="json"))
    try:
        app = create_app(settings)
    except CannotTrace as refusal:
        print(refusal, file=sys.stderr)  # noqa: T201  # as for any setting that cannot be
        return 2
    server = Server(
        app,
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=Protocol,
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=65,
            timeout_graceful_shutdown=15,
        ),
        drain_seconds=settings.drain_seconds,
    )
    # When it has stopped, uvicorn raises again the signal that stopped it; here that is no news.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    garbage.spare_what_stays()
    server.run()
    log.info("handler.stopped")
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
