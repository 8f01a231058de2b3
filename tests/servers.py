"""A Postgres and a Redis to test on: those named, else containers, else embedded ones."""

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import docker
from docker.errors import DockerException
from testcontainers.community.postgres import PostgresContainer
from testcontainers.community.redis import RedisContainer
from testcontainers.core.config import testcontainers_config

from local_stack.postgres import Postgres
from local_stack.valkey import Valkey


class Servers(NamedTuple):
    """Where they are, and as whom a test may do what it likes there."""

    database_url: str
    redis_url: str
    kind: str


@contextmanager
def start(directory: Path) -> Iterator[Servers]:
    """Start what is not given by TEST_DATABASE_URL and TEST_REDIS_URL."""
    database_url = os.environ.get("TEST_DATABASE_URL")  # noqa: TID251  # the tests' own settings
    redis_url = os.environ.get("TEST_REDIS_URL")  # noqa: TID251
    with ExitStack() as stack:
        if database_url and redis_url:
            yield Servers(database_url, redis_url, "given")
        else:
            started = _containers(stack) or _embedded(stack, directory)
            yield Servers(
                database_url or started.database_url, redis_url or started.redis_url, started.kind
            )


def _containers(stack: ExitStack) -> Servers | None:
    """Containers, where a Docker engine answers that has or can get the images; else None."""
    if not _docker_answers():
        return None
    # The containers end with this process; the watchdog would be one more image to get.
    testcontainers_config.ryuk_disabled = True
    try:
        postgres = stack.enter_context(PostgresContainer("postgres:17-alpine", driver=None))
        redis = stack.enter_context(RedisContainer("redis:7-alpine"))
    except (DockerException, OSError):
        return None
    redis_url = f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}/0"
    return Servers(postgres.get_connection_url(), redis_url, "containers")


def _docker_answers() -> bool:
    answers = True
    with warnings.catch_warnings():
        # The client leaves its socket open when nobody answers: found here, not in some later test.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            docker.from_env(timeout=3).ping()
        except (DockerException, OSError):
            answers = False
        gc.collect()
    return answers


def _embedded(stack: ExitStack, directory: Path) -> Servers:
    # What a crash of the machine loses of a test is no loss.
    settings = {"fsync": "off", "max_connections": "200"}
    postgres = Postgres(directory / "postgres", settings=settings)
    redis = Valkey(directory / "redis", durable=False)
    for server in (postgres, redis):
        server.start()
        stack.callback(server.stop)
    return Servers(postgres.url, redis.url, "embedded")
