"""The stack of docker-compose.yml: what a test may do to it, and what it may see of it."""

import json
import os
import random
import secrets
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "tests/compose/docker-compose.test.yml")
SERVICES = ("handler", "executor", "postgres", "redis")

BUILD_SECONDS = 900
UP_SECONDS = 240
POLL_SECONDS = 0.1

Seen = TypeVar("Seen")


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A request that a receiver got."""

    at: float  # Unix seconds, by the clock that all containers share
    path: str
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Inbox:
    """What a receiver got since it was started."""

    address: str

    def all(self) -> list[Webhook]:
        """Every webhook, in the order of arrival."""
        return [Webhook(**webhook) for webhook in httpx.get(self.address, timeout=10).json()]


class Stack:
    """What a test may do to the running stack, and what it may look at."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.image = f"onthedot:{project}"
        # A network for the receivers that hardly collides with one of the machine's own.
        subnet = f"10.{random.randrange(200, 256)}.{random.randrange(256)}.0/28"
        docker_settings = os.environ  # noqa: TID251  # which engine to speak to; no setting of ours
        self._environment = docker_settings | {
            "PORT": "0",  # any free one
            "EXECUTORS": "2",
            "IMAGE": self.image,
            "LOG_FORMAT": "json",
            "POSTGRES_PASSWORD": secrets.token_hex(16),
            "REDIS_PASSWORD": secrets.token_hex(16),
            "ALLOWED_PRIVATE_NETWORKS": subnet,
            "RECEIVERS_SUBNET": subnet,
        }

    # What a person would type.

    def docker(self, *arguments: str, seconds: float = 60) -> str:
        """Run docker, and answer what it printed; a failure tells what it complained of."""
        done = subprocess.run(
            ["docker", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def compose(self, *arguments: str, seconds: float = 120) -> str:
        files = [argument for file in FILES for argument in ("--file", file)]
        return self.docker(
            "compose", "--project-name", self.project, *files, *arguments, seconds=seconds
        )

    def up(self, *arguments: str) -> None:
        """Bring everything up and wait until each service answers that it is ready."""
        wait = ("--detach", "--wait", "--wait-timeout", str(UP_SECONDS))
        self.compose("up", *wait, *arguments, seconds=BUILD_SECONDS)

    # What a client sees.

    def address(self, service: str, port: int) -> str:
        """Where a port of a service is published; it changes when a container is made anew."""
        return "http://" + self.compose("port", service, str(port)).strip()

    def api(self) -> httpx.Client:
        return httpx.Client(base_url=self.address("handler", 8080), timeout=10)

    def inbox(self, receiver: str = "receiver") -> Inbox:
        return Inbox(self.address(receiver, 9000))

    # What an operator sees.

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """What the engine knows of the containers that exist, running or not."""
        ids = self.compose("ps", "--all", "--quiet", *services).split()
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids))
        return found

    def select(self, query: str) -> list[list[str]]:
        """The rows of a query, as psql prints them."""
        psql = ("psql", "--username=onthedot", "--no-align", "--tuples-only", "--command", query)
        printed = self.compose("exec", "--no-TTY", "postgres", *psql)
        return [line.split("|") for line in printed.splitlines()]

    def logs(self, *arguments: str) -> str:
        logs = self.compose("logs", "--no-color", *arguments)
        return logs.replace("\x1b[2K", "")  # some versions clear each line, even in a pipe


def eventually(look: Callable[[], Seen], *, within_seconds: float) -> Seen:
    """Look again until the assertion in `look` holds, and answer what it saw."""
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            return look()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)
