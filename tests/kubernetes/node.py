"""A Kubernetes of one node on this machine, of its own programs: control plane, kubelet, proxy.

It needs root, a Docker engine, etcd, and the other programs of one version from 1.20 to 1.23, the
last whose kubelet speaks to Docker. Pods live on Docker's own bridge. There is no cluster DNS, and
nothing enforces network policies.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from local_stack import ports
from tests.deployed.command import answer_of
from tests.deployed.inbox import eventually

from .engine import docker

PROGRAMS = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kubelet", "kube-proxy", "kubectl"),
)
STARTED_WITHIN_SECONDS = 120
ENDED_WITHIN_SECONDS = 20

NAME = "node"
SERVICES = "10.213.64.0/24"
CGROUPS = "kubepods"


class MissingError(Exception):
    """What this machine lacks to be a node."""


def programs(directory: str) -> dict[str, str]:
    """Find every program in a directory, or on the PATH. Raises MissingError, naming the rest."""
    if os.geteuid() != 0:
        raise MissingError("a kubelet must be root")
    if any(_chains().values()):
        raise MissingError("this machine is a node already, or was one: iptables names KUBE-...")
    found = {name: shutil.which(name, path=directory or None) for name in PROGRAMS}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        where = directory or "the PATH"
        raise MissingError(f"{', '.join(missing)}: not in {where} (KUBERNETES_BIN names another)")
    paths = {name: path for name, path in found.items() if path is not None}
    printed = _run(paths["kubelet"], "--version")
    version = re.search(r"v1\.(\d+)", printed)
    if version is None or not 20 <= int(version[1]) <= 23:
        raise MissingError(f"{printed.strip()} does not speak to Docker: 1.20 to 1.23 do")
    return paths


class Node:
    """What may be asked of a running node."""

    def __init__(self, paths: dict[str, str], kubeconfig: Path) -> None:
        self._kubectl = [paths["kubectl"], f"--kubeconfig={kubeconfig}"]

    def kubectl(self, *arguments: str, given: str | None = None, seconds: float = 120) -> str:
        """Run kubectl, and answer what it printed; a failure tells what it complained of."""
        return answer_of(*self._kubectl, *arguments, given=given, seconds=seconds)

    def get(self, *arguments: str) -> dict:
        """Answer objects as they are."""
        found: dict = json.loads(self.kubectl("get", "--output=json", *arguments))
        return found

    def apply(self, *objects: dict) -> None:
        """Create what these objects describe, or change it to that."""
        self.kubectl("apply", "--filename=-", given=yaml.safe_dump_all(objects))

    def is_ready(self) -> None:
        """Raise AssertionError until pods may be scheduled."""
        conditions = [
            (condition["type"], condition["status"])
            for node in self.get("nodes")["items"]
            for condition in node["status"]["conditions"]
        ]
        assert ("Ready", "True") in conditions, conditions
        self.kubectl("get", "serviceaccount", "default")


@contextmanager
def running(
    paths: dict[str, str], directory: Path, *, bridge: str, pause_image: str
) -> Iterator[Node]:
    """Run a node whose data and logs are in a directory; afterwards nothing of it is left.

    `bridge` is this machine's address on Docker's bridge.
    """
    token = secrets.token_hex(16)
    api = f"https://127.0.0.1:{(api_port := ports.choose())}"
    kubeconfig = _write_kubeconfig(directory, api, token)
    (directory / "tokens.csv").write_text(f"{token},test,test,system:masters\n")
    key = directory / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], capture_output=True, check=True)
    etcd = f"http://127.0.0.1:{ports.choose()}"
    peers = f"http://127.0.0.1:{ports.choose()}"
    kubelet_port = ports.choose()
    kubelet_data = directory / "kubelet"
    commands = {
        "etcd": (
            f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
        ),
        "kube-apiserver": (
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--advertise-address={bridge}",
            f"--secure-port={api_port}",
            f"--cert-dir={directory / 'certificates'}",
            f"--token-auth-file={directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={SERVICES}",
            "--service-account-issuer=https://node.test",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--kubelet-preferred-address-types=InternalIP",
        ),
        "kube-controller-manager": (
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            f"--service-account-private-key-file={key}",
            f"--cert-dir={directory / 'certificates'}",
            "--port=0",
            f"--secure-port={ports.choose()}",
        ),
        "kube-scheduler": (
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            f"--cert-dir={directory / 'certificates'}",
            "--port=0",
            f"--secure-port={ports.choose()}",
        ),
        "kubelet": (
            f"--kubeconfig={kubeconfig}",
            f"--config={_write_kubelet_settings(directory, bridge, kubelet_port)}",
            f"--root-dir={kubelet_data}",
            f"--cert-dir={directory / 'certificates'}",
            f"--hostname-override={NAME}",
            f"--node-ip={bridge}",
            "--container-runtime=docker",
            f"--experimental-dockershim-root-directory={directory / 'dockershim'}",
            f"--pod-infra-container-image={pause_image}",
        ),
        "kube-proxy": (
            f"--kubeconfig={kubeconfig}",
            "--proxy-mode=iptables",
            f"--hostname-override={NAME}",
            "--conntrack-max-per-core=0",
            f"--metrics-bind-address=127.0.0.1:{ports.choose()}",
            f"--healthz-bind-address=127.0.0.1:{ports.choose()}",
        ),
    }
    node = Node(paths, kubeconfig)
    with ExitStack() as block:
        block.callback(_clean_up, paths, kubelet_data)
        for name, flags in commands.items():
            block.enter_context(_process(paths[name], flags, directory / f"{name}.log"))
            if name == "kube-apiserver":
                eventually(lambda: _answers(api), within_seconds=STARTED_WITHIN_SECONDS)
        eventually(node.is_ready, within_seconds=STARTED_WITHIN_SECONDS)
        yield node
        # While the kubelet can still take down what it made.
        node.kubectl("delete", "deployments,jobs,pods", "--all", "--wait")


def _write_kubeconfig(directory: Path, api: str, token: str) -> Path:
    path = directory / "kubeconfig"
    cluster = {"server": api, "insecure-skip-tls-verify": True}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": "test"}}],
        "current-context": NAME,
    }
    path.write_text(yaml.safe_dump(document))
    return path


def _write_kubelet_settings(directory: Path, address: str, port: int) -> Path:
    path = directory / "kubelet.yaml"
    driver = docker("info", "--format", "{{.CgroupDriver}}").strip()
    document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "port": port,
        "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": driver,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        # This machine's disk and images are none of its business.
        "evictionHard": {"memory.available": "50Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "resolvConf": "/etc/resolv.conf",
    }
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def _process(program: str, flags: tuple[str, ...], log: Path) -> Iterator[None]:
    """Run a program for this block; tell its last words if it ended before."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [program, *flags], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield
    finally:
        if process.poll() is not None:
            print(f"{program} ended: {log.read_text()[-2_000:]}")  # noqa: T201
        process.terminate()
        try:
            process.wait(ENDED_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(api: str) -> None:
    unverified = ssl._create_unverified_context()  # noqa: S323  # its certificate is its own
    try:
        with urllib.request.urlopen(f"{api}/readyz", context=unverified, timeout=5) as answer:
            assert answer.status == 200
    except OSError as error:
        raise AssertionError(str(error)) from None


def _clean_up(paths: dict[str, str], kubelet_data: Path) -> None:
    """Take away what a kubelet leaves: containers, mounts, cgroups, rules of the packet filter."""
    containers = docker("ps", "--all", "--quiet", "--filter", "label=io.kubernetes.pod.name")
    if containers:
        docker("rm", "--force", "--volumes", *containers.split())
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in reversed(places):  # what is mounted last lies on top
        if place.startswith(str(kubelet_data)):
            subprocess.run(["umount", place], check=False)
    for group in sorted(Path("/sys/fs/cgroup").glob(f"*/{CGROUPS}/**/"), reverse=True):
        with contextlib.suppress(OSError):
            group.rmdir()
    subprocess.run([paths["kube-proxy"], "--cleanup"], capture_output=True, check=False)
    for table, chains in _chains().items():
        for order in ("--flush", "--delete-chain"):  # all are empty before the first goes
            for chain in chains:
                _run("iptables", "--table", table, order, chain)


def _chains() -> dict[str, list[str]]:
    """The packet filter's chains that a node makes, by table."""
    return {
        table: re.findall("^:(KUBE-[^ ]+)", _run("iptables-save", "--table", table), re.MULTILINE)
        for table in ("nat", "filter", "mangle")
    }


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
