"""The stack of docker-compose.yml: what a test may do to it, and what it may see of it."""

import json
import os
import random
import secrets
from pathlib import Path
from typing import Any

import httpx

from local_stack import ports
from tests.deployed.command import answer_of
from tests.deployed.inbox import Inbox

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "tests/compose/docker-compose.test.yml")
SERVICES = ("handler", "executor", "postgres", "redis")

BUILD_SECONDS = 900
UP_SECONDS = 240


class Stack:
    """What a test may do to the running stack, and what it may look at."""

    host = "127.0.0.1"
    receiver = "http://inbox:9000"

    def __init__(self, project: str) -> None:
        self.project = project
        self.image = f"onthedot:{project}"
        self.port = ports.choose()
        # Networks that hardly collide with one of the machine's own.
        subnet = f"10.{random.randrange(200, 256)}.{random.randrange(256)}.0/28"
        self.demo_network = f"198.{random.choice((18, 19))}.{random.randrange(256)}"
        docker_settings = os.environ  # noqa: TID251  # which engine to speak to; no setting of ours
        self._environment = docker_settings | {
            "PORT": str(self.port),
            "EXECUTORS": "2",
            "IMAGE": self.image,
            "LOG_FORMAT": "json",
            "POSTGRES_PASSWORD": secrets.token_hex(16),
            "REDIS_PASSWORD": secrets.token_hex(16),
            "ALLOWED_PRIVATE_NETWORKS": subnet,
            "DEMO_NETWORK": self.demo_network,
            "RECEIVERS_SUBNET": subnet,
        }

    # What a person would type.

    def docker(self, *arguments: str, seconds: float = 60) -> str:
        """Run docker, and answer what it printed; a failure tells what it complained of."""
        return answer_of("docker", *arguments, seconds=seconds, cwd=ROOT, env=self._environment)

    def compose(self, *arguments: str, seconds: float = 120) -> str:
        files = [argument for file in FILES for argument in ("--file", file)]
        return self.docker(
            "compose", "--project-name", self.project, *files, *arguments, seconds=seconds
        )

    def up(self, *arguments: str, profiles: tuple[str, ...] = ()) -> None:
        """Bring everything up and wait until each service answers that it is ready."""
        profile = [argument for name in profiles for argument in ("--profile", name)]
        wait = ("--detach", "--wait", "--wait-timeout", str(UP_SECONDS))
        self.compose(*profile, "up", *wait, *arguments, seconds=BUILD_SECONDS)

    # What goes wrong.

    def crash(self, container: str) -> None:
        """SIGKILL a container's process from outside, as the kernel does when memory is short.

        After a `docker kill` the engine would not start it again: somebody wanted it to stop.
        """
        process = self.docker("inspect", "--format", "{{.State.Pid}}", container).strip()
        kill = f"import os; os.kill({process}, 9)"
        as_root = ("--rm", "--pid", "host", "--network", "none", "--user", "0")
        self.docker("run", *as_root, self.image, "python", "-c", kill)

    # What a client sees.

    def address(self, service: str, port: int) -> str:
        """Where a port of a service is published; it changes when a container is made anew."""
        return "http://" + self.compose("port", service, str(port)).strip()

    def api(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://{self.host}:{self.port}", timeout=10)

    def inbox(self, receiver: str = "inbox") -> Inbox:
        return Inbox(self.address(receiver, 9000))

    # What an operator sees.

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """What the engine knows of the containers that exist, running or not."""
        ids = self.compose("ps", "--all", "--quiet", *services).split()
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", *ids))
        return found

    def container(self, service: str) -> str:
        """The id of the one container that a service has."""
        [found] = self.containers(service)
        return str(found["Id"])

    def select(self, query: str) -> list[list[str]]:
        """The rows of a query, as psql prints them."""
        psql = ("psql", "--username=onthedot", "--no-align", "--tuples-only", "--command", query)
        printed = self.compose("exec", "--no-TTY", "postgres", *psql)
        return [line.split("|") for line in printed.splitlines()]

    def logs(self, *arguments: str) -> str:
        logs = self.compose("logs", "--no-color", *arguments)
        return logs.replace("\x1b[2K", "")  # some versions clear each line, even in a pipe


def is_ready(container: dict[str, Any]) -> bool:
    return container["State"]["Running"] and container["State"]["Health"]["Status"] == "healthy"
