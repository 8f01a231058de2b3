"""Says what runs where, and what to try first."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from local_stack.services import Service
from local_stack.settings import StackSettings
from local_stack.stack import Stack

LABEL_WIDTH = 12

ADVICE = """\
See the whole trip of a timer. In another terminal, start a receiver:

  {receiver}

and ask for a webhook in five seconds:

  curl {url}/timers -H 'content-type: application/json' \\
    -d '{{"seconds": 5, "url": "http://127.0.0.1:9000/hook"}}'

Ctrl-C stops everything and keeps the data. What follows are the logs.
"""


def summary(stack: Stack) -> str:
    """Compose the block that is printed once all runs."""
    rows = "\n".join(f"  {label:<{LABEL_WIDTH}}{text}" for label, text in _rows(stack))
    url = f"http://127.0.0.1:{stack.settings.port}"
    advice = ADVICE.format(receiver=_receiver(stack.settings), url=url)
    return f"\nOnthedot runs.\n\n{rows}\n\n{advice}"


def without_password(url: str) -> str:
    """Leave of a URL what may be shown: no password, and no parameters, which may hold one."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    return f"{parts.scheme}://{user}{parts.netloc.rpartition('@')[2]}{parts.path}"


def _rows(stack: Stack) -> Iterator[tuple[str, str]]:
    if stack.handler is not None:
        yield "handler", f"{stack.handler.url}  (process {_pid(stack.handler)})"
        yield "docs", f"{stack.handler.url}/docs"
    for executor in stack.executors:
        yield executor.name, f"{executor.url}/readyz  (process {_pid(executor)})"
    yield "postgres", f"{without_password(stack.database_url)}  ({_postgres(stack)})"
    yield "redis", f"{without_password(stack.redis_url)}  ({_redis(stack)})"
    yield "data", f"{stack.settings.data_dir}  (logs in {stack.settings.data_dir / 'logs'})"


def _postgres(stack: Stack) -> str:
    if stack.postgres is None:
        return "yours"
    postgres = stack.postgres
    return f"PostgreSQL {postgres.version}, password in {_shown(postgres.password_file)}"


def _redis(stack: Stack) -> str:
    if stack.redis is None:
        return "yours"
    return f"{stack.redis.version}, password in {_shown(stack.redis.password_file)}"


def _receiver(settings: StackSettings) -> str:
    is_default = settings.data_dir == StackSettings.model_fields["data_dir"].default
    return "make receiver" if is_default else f"make receiver DATA_DIR='{settings.data_dir}'"


def _shown(path: Path) -> str:
    """A path as a person in this directory would write it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _pid(service: Service) -> int:
    return service.process.pid if service.process else 0
