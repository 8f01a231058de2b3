"""A process that renders charts: Helm's own library, against a cluster that takes everything.

There is no `helm` on every machine that tests, and its library has no rendering without a cluster:
so it installs, into its memory, and is told that whatever it sent is there. Each line that comes in
is `{"chart", "values", "upgrade"}` as JSON; each line that goes out is the release, or
`{"refused": why}`.
"""

import asyncio
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import helm_sdkpy
import yaml

# What this cluster has: its kinds by group and version, the plural made of them by adding an s.
KINDS = {
    "v1": ["ConfigMap", "Secret", "Service", "ServiceAccount", "Pod", "PersistentVolumeClaim"],
    "apps/v1": ["Deployment", "StatefulSet"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
    "batch/v1": ["Job"],
    "gateway.networking.k8s.io/v1": ["HTTPRoute"],
    "keda.sh/v1alpha1": ["ScaledObject", "TriggerAuthentication"],
    "monitoring.coreos.com/v1": ["PodMonitor", "PrometheusRule", "ServiceMonitor"],
    "networking.k8s.io/v1": ["Ingress", "NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
    "postgresql.cnpg.io/v1": ["Cluster"],
}
# Of the release, and of its namespace.
NAME = "onthedot"
VERSION = {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}
NOT_FOUND = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"} | {
    "code": 404
}
DONE = {"conditions": [{"type": "Complete", "status": "True"}]}
CREATED: list[dict[str, Any]] = []
GROUPS = [
    {"name": group, "versions": [version], "preferredVersion": version}
    for group, version in (
        (name.partition("/")[0], {"groupVersion": name, "version": name.partition("/")[2]})
        for name in KINDS
        if "/" in name
    )
]


def plural(kind: str) -> str:
    """The name of a kind in a path."""
    name = kind.lower()
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def discovery(path: str) -> dict[str, Any] | None:
    """What a cluster says of itself, or None where it is asked for something else."""
    match path.split("/"):
        case ["version"]:
            return VERSION
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": GROUPS}
        case ["api" | "apis", *rest] if (name := "/".join(rest)) in KINDS:
            resources = [
                {"name": plural(kind), "singularName": "", "namespaced": True, "kind": kind}
                | {"verbs": ["create", "delete", "get", "list", "patch", "watch"]}
                for kind in KINDS[name]
            ]
            return {"kind": "APIResourceList", "groupVersion": name, "resources": resources}
    return None


class Cluster(BaseHTTPRequestHandler):
    """An API server where every object is created, every Job is done, and nothing is kept."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Stay quiet: the release is the only output."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if (found := discovery(path.strip("/"))) or path.startswith("/openapi"):
            self._answer(found)
        elif "watch=true" in query:
            self._answer(NOT_FOUND, status=404)  # then whoever waits asks for lists instead
        elif "limit=" in query:
            items = [each for each in CREATED if plural(each["kind"]) == path.rpartition("/")[2]]
            self._answer({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
        else:
            self._answer(NOT_FOUND, status=404)

    def do_POST(self) -> None:
        created = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        CREATED.append(created | ({"status": DONE} if created["kind"] == "Job" else {}))
        self._answer(created, status=201)

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(NOT_FOUND, status=404)

    def _answer(self, answer: Any, *, status: int = 200) -> None:
        body = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Takes it as it comes when Helm hangs up on what it no longer waits for."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


async def release(server: str, order: dict[str, Any]) -> dict[str, Any]:
    """Install a chart into nothing, and upgrade it if asked; the release as Helm would keep it."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stub", "cluster": {"server": server}}],
        "users": [{"name": "stub", "user": {}}],
        "contexts": [{"name": "stub", "context": {"cluster": "stub", "user": "stub"}}],
        "current-context": "stub",
    }
    cluster = helm_sdkpy.Configuration(namespace=NAME, kubeconfig=yaml.safe_dump(config))
    options = {"values": order["values"], "wait": False, "timeout": 20}
    made = await helm_sdkpy.Install(cluster).run(NAME, order["chart"], **options)
    if order["upgrade"]:
        made = await helm_sdkpy.Upgrade(cluster).run(NAME, order["chart"], **options)
    return made


def main() -> None:
    """Answer line by line until there are no more."""
    server = Server(("127.0.0.1", 0), Cluster)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:
        try:
            answer = asyncio.run(
                release(f"http://127.0.0.1:{server.server_port}", json.loads(line))
            )
        except helm_sdkpy.HelmError as refusal:
            answer = {"refused": str(refusal)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
