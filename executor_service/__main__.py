"""`python -m executor_service`: settings → executor → run until SIGTERM.

Here alone the environment is read.
"""

import asyncio
import resource
import signal
import sys

import structlog
import uvloop
from pydantic import ValidationError

from executor_service.executor import Executor
from shared import VERSION, garbage
from shared.settings import ExecutorSettings, explain
from shared.telemetry import configure_logging, tell_build
from shared.tracing import CannotTrace


def main() -> int:
    """Run one executor; 0 after a clean stop."""
    try:
        settings = ExecutorSettings()
    except ValidationError as refusal:
        print(explain(refusal), file=sys.stderr)  # noqa: T201  # before logging is configured
        return 2
    configure_logging(form=settings.log_format, level=settings.log_level, service="executor")
    log = structlog.stdlib.get_logger("executor")
    tell_build("executor")
    log.info("executor.started", version=VERSION, **settings.model_dump(mode="json"))
    _allow_many_sockets()
    exit_code = 0
    try:
        uvloop.run(_run_until_signal(settings))
    except* CannotTrace as refusals:
        log.error("executor.failed", reason=[str(refusal) for refusal in refusals.exceptions])
        exit_code = 2
    except* OSError as failures:
        log.error("executor.failed", reason=[str(failure) for failure in failures.exceptions])
        exit_code = 1
    log.info("executor.stopped", exit_code=exit_code)
    return exit_code


async def _run_until_signal(settings: ExecutorSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    executor = Executor(settings)
    garbage.spare_what_stays()
    await executor.run(stop)


def _allow_many_sockets() -> None:
    """Each webhook in flight is an open file; many systems grant 1,024 until asked for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
