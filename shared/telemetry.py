"""How the services speak to the people who run them: structured logs.

Events are named `noun.verb` (`run.claimed`, `lease.lost`). What may hold a secret (a webhook's URL,
headers or payload, a database URL) is never given to a logger.
"""

import logging
import sys
from typing import Literal

import structlog
from prometheus_client import Gauge
from structlog.typing import Processor

from shared import VERSION

BUILD = Gauge("onthedot_build_info", "1, labelled with what runs here.", ["version", "service"])


def tell_build(service: str) -> None:
    """Let metrics say which service this process is, and of which version."""
    BUILD.labels(VERSION, service).set(1)


def configure_logging(*, form: Literal["auto", "json", "pretty"], level: str, service: str) -> None:
    """Send every log of this process, the libraries' included, to stderr as one line per event."""
    pretty = form == "pretty" or (form == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)
        if pretty
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # Libraries that tell each of their steps: only their warnings are news.
    for noisy in ("httpx", "uvicorn", "psycopg.pool", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # A beat that absorbs the next one is the rhythm's intention, not a warning.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(service)
    logger.debug("logging.configured", form="pretty" if pretty else "json", level=level)
