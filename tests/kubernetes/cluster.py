"""What runs on the node: the chart's manifests, a receiver, and Postgres and Redis beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from tests.deploy.render import Renderer, plain, value_set
from tests.deployed import receiver
from tests.deployed.inbox import Inbox, eventually

from .engine import docker
from .node import Node

VALUES = "kubernetes-1.20"
READY_WITHIN_SECONDS = 240
INBOX = "inbox"


@dataclass(frozen=True)
class OutsideServers:
    """A Postgres and a Redis that Kubernetes does not run, as a cloud's are."""

    postgres: str
    redis: str

    @property
    def bridge(self) -> str:
        """This machine's address on Docker's bridge."""
        return docker("inspect", "--format", "{{.NetworkSettings.Gateway}}", self.redis).strip()

    @property
    def urls(self) -> dict[str, str]:
        """What the secret holds that the chart refers to."""
        return {
            "DATABASE_URL": f"postgresql://onthedot:onthedot@{address(self.postgres)}:5432/onthedot",
            "REDIS_URL": f"redis://{address(self.redis)}:6379/0",
        }


def address(container: str) -> str:
    """Where a container is on Docker's bridge."""
    return docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", container).strip()


@contextmanager
def outside_servers() -> Iterator[OutsideServers]:
    """Run them for this block."""
    started = []

    def start(*arguments: str) -> str:
        started.append(docker("run", "--detach", "--pull", "never", *arguments).strip())
        return started[-1]

    try:
        words = ("USER", "DB", "PASSWORD")
        of_postgres = [f"--env=POSTGRES_{word}=onthedot" for word in words]
        yield OutsideServers(start(*of_postgres, "postgres:17-alpine"), start("redis:7-alpine"))
    finally:
        docker("rm", "--force", "--volumes", *started)


class Cluster:
    """What a test may do to the cluster, and what it may see of it."""

    host: str
    receiver: str
    ready_after_seconds: float
    port = 80

    def __init__(self, node: Node, image: str, servers: OutsideServers) -> None:
        self.node = node
        self._image = image
        self._servers = servers

    def install(self) -> None:
        """Apply what the chart expects to find, then what it renders, and await that all runs."""
        inbox = self._start_inbox()
        self.receiver = f"http://{inbox}:{receiver.PORT}"
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "onthedot"},
            "stringData": self._servers.urls,
        }
        self.node.apply(secret)
        manifests = self._manifests(inbox)
        applied_at = monotonic()
        self.node.kubectl("apply", "--filename=-", given=manifests)
        self.host = self.node.get("service", "onthedot")["spec"]["clusterIP"]
        self.is_rolled_out()
        eventually(self._answers, within_seconds=READY_WITHIN_SECONDS)
        self.ready_after_seconds = monotonic() - applied_at

    def _answers(self) -> None:
        """Raise AssertionError until the service leads to a handler."""
        with self.api() as api:
            try:
                assert api.get("/readyz").json()["status"] == "ready"
            except (httpx.HTTPError, ValueError) as error:
                raise AssertionError(str(error)) from None

    def _start_inbox(self) -> str:
        program = {"receiver.py": Path(receiver.__file__).read_text()}
        source = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": INBOX},
            "data": program,
        }
        container = {
            "name": INBOX,
            "image": self._image,
            "command": ["python", "-u", "/program/receiver.py"],
            "volumeMounts": [{"name": "program", "mountPath": "/program"}],
            # Or else it gets what the others leave of the processor, and calls time out.
            "resources": {"requests": {"cpu": "200m"}},
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": INBOX},
            "spec": {
                "containers": [container],
                "volumes": [{"name": "program", "configMap": {"name": INBOX}}],
                "terminationGracePeriodSeconds": 0,
            },
        }
        self.node.apply(source, pod)
        wait = ("wait", "--for=condition=Ready", f"pod/{INBOX}", "--timeout=120s")
        self.node.kubectl(*wait, seconds=150)
        return str(self.node.get("pod", INBOX)["status"]["podIP"])

    def _manifests(self, inbox: str) -> str:
        """What the chart renders for 1.20, told of this image, this receiver and this machine."""
        values = value_set(VALUES)
        repository, _, tag = self._image.partition(":")
        values["image"] = {"repository": repository, "tag": tag, "pullPolicy": "Never"}
        values["executor"]["allowedPrivateNetworks"] = [f"{inbox}/32"]
        with Renderer.started() as renderer:
            return plain(renderer.render(values), VALUES)

    def is_rolled_out(self) -> None:
        """Wait until both deployments are as they should be."""
        for deployment in ("executor", "handler"):
            status = ("rollout", "status", f"deployment/onthedot-{deployment}")
            timeout = f"--timeout={READY_WITHIN_SECONDS}s"
            self.node.kubectl(*status, timeout, seconds=READY_WITHIN_SECONDS + 30)

    def scale_executors(self, replicas: int) -> None:
        """Ask for so many executors, and wait until they are ready, and the others are gone."""
        self.node.kubectl("scale", "deployment/onthedot-executor", f"--replicas={replicas}")
        self.is_rolled_out()

        def look() -> None:
            assert len(self.pods("executor")) == replicas

        eventually(look, within_seconds=READY_WITHIN_SECONDS)

    def pods(self, component: str) -> list[dict[str, Any]]:
        """The pods of a component, those that are ending included."""
        selector = f"--selector=app.kubernetes.io/component={component}"
        found: list[dict[str, Any]] = self.node.get("pods", selector)["items"]
        return found

    def kill(self, pod: str) -> None:
        """SIGKILL an executor's process, of which Kubernetes learns when it has happened."""
        labels = {"pod.name": pod, "container.name": "executor"}
        filters = [f"--filter=label=io.kubernetes.{name}={value}" for name, value in labels.items()]
        [container] = docker("ps", "--quiet", *filters).split()
        docker("kill", "--signal", "KILL", container)

    def api(self) -> httpx.Client:
        address = f"http://{self.host}:{self.port}"
        return httpx.Client(base_url=address, timeout=10, trust_env=False)  # no proxy's business

    def inbox(self) -> Inbox:
        return Inbox(self.receiver)

    def select(self, query: str) -> list[list[str]]:
        """The rows of a query, as psql prints them."""
        psql = ("psql", "--username=onthedot", "--no-align", "--tuples-only", "--command", query)
        printed = docker("exec", self._servers.postgres, *psql)
        return [line.split("|") for line in printed.splitlines()]
