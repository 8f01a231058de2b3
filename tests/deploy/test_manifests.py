"""What the chart renders is what Kubernetes, and the operators, take."""

import fcntl
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import validate
from kubernetes_validate.utils import all_versions

from tests.deploy.render import PLAIN, PLAIN_FILES, Object, Release, plain

CUSTOM_KINDS = Path(__file__).parent / "custom_kinds"
OLDEST, NEWEST = all_versions()[0], all_versions()[-1]


def is_custom(each: Object) -> bool:
    group, _, rest = each["apiVersion"].partition("/")
    return bool(rest) and "." in group and not group.endswith("networking.k8s.io")


def is_gateway(each: Object) -> bool:
    return bool(each["apiVersion"].startswith("gateway.networking.k8s.io/"))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_object_of_its_own_kinds(
    releases: dict[str, Release], version: str
) -> None:
    # Each is looked at once: many are the same in several releases.
    own = {
        json.dumps(each): each
        for release in releases.values()
        for each in release.objects
        if not is_custom(each) and not is_gateway(each)
    }
    assert {each["kind"] for each in own.values()} == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Ingress",
        "Job",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    }
    for each in own.values():
        validate(each, version, strict=True)


Faults = Callable[[list[Object]], list[str]]


@pytest.fixture(scope="session")
def faults(pytestconfig: pytest.Config) -> Faults:
    """What is wrong with objects of the operators' kinds, by the schemas that these publish."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not here, which validate the operators' kinds")
    assert pytestconfig.cache is not None
    # Kept for the next time; and several test processes share it.
    directory = pytestconfig.cache.mkdir("custom_kinds")
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (CUSTOM_KINDS / "package-lock.json").read_bytes()
        installed = directory / "installed.json"
        if not installed.exists() or installed.read_bytes() != wanted:
            shutil.copytree(CUSTOM_KINDS, directory, dirs_exist_ok=True)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
            subprocess.run(command, cwd=directory, check=True, timeout=100)
            installed.write_bytes(wanted)
        shutil.copy(CUSTOM_KINDS / "validate.mjs", directory)

    def find(objects: list[Object]) -> list[str]:
        done = subprocess.run(
            ["node", "validate.mjs"],
            cwd=directory,
            input=json.dumps(objects),
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return done.stdout.splitlines()

    return find


def test_the_operators_take_every_object_of_theirs(
    releases: dict[str, Release], faults: Faults
) -> None:
    theirs = [
        each
        for release in releases.values()
        for each in release.objects
        if is_custom(each) or is_gateway(each)
    ]
    assert {each["kind"] for each in theirs} == {
        "Cluster",
        "HTTPRoute",
        "PodMonitor",
        "PrometheusRule",
        "ScaledObject",
        "ServiceMonitor",
        "TriggerAuthentication",
    }
    assert faults(theirs) == []


def test_what_an_operator_would_refuse_or_drop_is_found(
    releases: dict[str, Release], faults: Faults
) -> None:
    scaled = releases["keda"].of_kind("ScaledObject")[0]
    spec: dict[str, Any] = scaled["spec"]
    wrong = [
        {**scaled, "spec": {**spec, "minReplicas": 1}},
        {**scaled, "spec": {**spec, "maxReplicaCount": "many"}},
        {**scaled, "spec": {"scaleTargetRef": spec["scaleTargetRef"]}},
    ]
    found = faults(wrong)
    assert len(found) == 3
    assert "minReplicas" in found[0]
    assert "maxReplicaCount" in found[1]
    assert "triggers" in found[2]


@pytest.mark.parametrize("file", PLAIN_FILES)
def test_the_plain_manifests_are_what_the_chart_renders(
    releases: dict[str, Release], file: str
) -> None:
    name = PLAIN_FILES[file]
    assert (PLAIN / file).read_text() == plain(releases[name], name), "run `make docs`"


def test_the_plain_manifests_say_nothing_of_helm() -> None:
    for file in PLAIN_FILES:
        assert "helm.sh" not in (PLAIN / file).read_text()
    overlay = yaml.safe_load((PLAIN / "kustomization.yaml").read_text())
    assert overlay["resources"] == ["onthedot.yaml"]


def test_on_kubernetes_1_20_there_is_no_kind_that_it_does_not_know(
    releases: dict[str, Release],
) -> None:
    known = {
        "v1": {"Service", "ServiceAccount"},
        "apps/v1": {"Deployment"},
        "batch/v1": {"Job"},
        "networking.k8s.io/v1": {"NetworkPolicy"},
    }
    for each in releases["kubernetes-1.20"].objects:
        assert each["kind"] in known.get(each["apiVersion"], set())


def test_the_migration_runs_before_anything_else_and_needs_nothing_of_the_release(
    releases: dict[str, Release],
) -> None:
    release = releases["external"]
    assert [each["kind"] for each in release.hooks] == ["NetworkPolicy", "Job"]
    for hook in release.hooks:
        annotations = hook["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        # Not at once when it fails: its logs say why.
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    job = release.hooks[1]["spec"]["template"]["spec"]
    made = {each["metadata"]["name"] for each in release.of_kind("ServiceAccount")}
    assert job["serviceAccountName"] not in made


def test_with_a_database_of_the_release_only_the_first_migration_is_no_hook(
    releases: dict[str, Release],
) -> None:
    assert releases["operators"].hooks == []
    assert len(releases["operators"].of_kind("Job")) == 1
    (cluster,) = releases["operators"].of_kind("Cluster")
    initdb = cluster["spec"]["bootstrap"]["initdb"]
    assert initdb["postInitSQL"] == [f"grant pg_monitor to {initdb['owner']}"]
    upgraded = releases["operators, upgraded"]
    assert [each["kind"] for each in upgraded.hooks] == ["NetworkPolicy", "Job"]
    assert [each["kind"] for each in upgraded.others].count("Job") == 0
