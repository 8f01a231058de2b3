"""What every object of the chart has to keep, whatever the values."""

import re
from collections.abc import Iterator
from ipaddress import ip_network
from math import ceil

import pytest

from executor_service.egress import NOT_PUBLIC
from shared.settings import ExecutorSettings, HandlerSettings
from tests.deploy.render import Object, Release

SETTINGS = {name.upper() for name in HandlerSettings.model_fields | ExecutorSettings.model_fields}
# Not ours to read: the parts of a URL, and what OpenTelemetry reads by itself.
OTHER_NAMES = {"VALKEY_PASSWORD", "OTEL_RESOURCE_ATTRIBUTES", "PGSSLROOTCERT"}
PASSWORD_IN_URL = re.compile(r"://[^/\s]*:(?!\$\([A-Z_]+\)@)[^/\s@]+@")


def pods(release: Release) -> Iterator[tuple[str, Object]]:
    """Each pod template with the name of what makes it."""
    for each in release.of_kind("Deployment", "StatefulSet", "Job"):
        yield f"{each['kind']}/{each['metadata']['name']}", each["spec"]["template"]


def containers(release: Release) -> Iterator[tuple[str, Object]]:
    for name, pod in pods(release):
        for each in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            yield f"{name}/{each['name']}", each


def selects(selector: Object, labels: dict[str, str]) -> bool:
    return bool(selector["matchLabels"].items() <= labels.items())


def test_no_pod_runs_as_root_or_has_a_token(release: Release) -> None:
    for name, pod in pods(release):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] >= 100, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert not [volume for volume in spec["volumes"] if "hostPath" in volume], name
    for account in release.of_kind("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_no_container_may_write_or_become_more(release: Release) -> None:
    for name, container in containers(release):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name


def test_every_container_has_its_resources(release: Release) -> None:
    for name, container in containers(release):
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]), name
        assert "memory" in resources["limits"], name


def test_what_runs_for_long_is_probed(release: Release) -> None:
    ports = {"handler": ("http", 8080), "executor": ("health", 8081)}
    for each in release.of_kind("Deployment", "StatefulSet"):
        for container in each["spec"]["template"]["spec"]["containers"]:
            probes = [container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")]
            if container["name"] not in ports:
                assert all("tcpSocket" in probe for probe in probes)
                continue
            port, number = ports[container["name"]]
            assert container["ports"] == [{"name": port, "containerPort": number}]
            assert [probe["httpGet"]["path"] for probe in probes] == [
                "/healthz",
                "/healthz",
                "/readyz",
            ]
            assert {probe["httpGet"]["port"] for probe in probes} == {port}


def test_whatever_opens_the_database_may_read_its_authorities(
    releases: dict[str, Release],
) -> None:
    release = releases["everything"]
    mounts = {
        name: [mount["name"] for mount in container.get("volumeMounts", [])]
        for name, container in containers(release)
        if "DATABASE_URL" in {each["name"] for each in container["env"]}
    }
    assert len(mounts) == 4
    for name, mounted in mounts.items():
        assert "authorities" in mounted, name
    for name, pod in pods(release):
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert "authorities" in volumes, name
    for policy in release.of_kind("NetworkPolicy"):
        assert {"port": 4318, "protocol": "TCP"} in policy["spec"]["egress"][-1]["ports"]


def test_the_init_container_opens_the_database_as_the_handler_does(
    releases: dict[str, Release],
) -> None:
    found = dict(containers(releases["everything"]))
    first = found["Deployment/onthedot-timers-handler/executors-first"]
    handler = found["Deployment/onthedot-timers-handler/handler"]
    (wanted,) = [each for each in handler["env"] if each["name"] == "OTEL_RESOURCE_ATTRIBUTES"]
    assert wanted in first["env"]


def test_every_image_says_which_it_is(release: Release) -> None:
    for name, container in containers(release):
        image = container["image"].rpartition("/")[2]
        assert re.search(r"(:[\w.-]+|@sha256:[a-f0-9]{64})$", image), name
        assert not image.endswith(":latest"), name


def test_no_secret_stands_in_an_environment(release: Release) -> None:
    for name, container in containers(release):
        for each in container["env"]:
            if re.search("PASSWORD|SECRET|TOKEN|DATABASE_URL", each["name"]):
                assert set(each["valueFrom"]) == {"secretKeyRef"}, (name, each)
            assert not PASSWORD_IN_URL.search(each.get("value", "")), (name, each)
    assert release.of_kind("Secret") == []


@pytest.mark.parametrize(
    ("url", "is_secret"),
    [
        ("redis://:$(VALKEY_PASSWORD)@valkey:6379/0", False),
        ("redis://:letters@valkey:6379/0", True),
        ("postgresql://user:letters@host:5432/name", True),
        ("http://prometheus:9090", False),
    ],
)
def test_a_password_in_a_url_is_seen(url: str, is_secret: bool) -> None:
    assert bool(PASSWORD_IN_URL.search(url)) is is_secret


def test_every_name_in_an_environment_is_a_setting_and_stands_there_once(release: Release) -> None:
    for name, container in containers(release):
        names = [each["name"] for each in container["env"]]
        assert len(names) == len(set(names)), name
        assert set(names) <= SETTINGS | OTHER_NAMES, name


def test_every_setting_holds(release: Release) -> None:
    for _, container in containers(release):
        environment = {
            each["name"].lower(): each["value"]
            for each in container["env"]
            if "value" in each and "$(" not in each["value"]
        }
        if container["name"] == "executor":
            ExecutorSettings(**environment)
        elif container["name"] == "handler":
            HandlerSettings(**environment)


def test_an_executor_is_not_killed_before_it_would_stop(release: Release) -> None:
    for each in release.of_kind("Deployment"):
        spec = each["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        environment = {entry["name"]: entry.get("value", "") for entry in container["env"]}
        if container["name"] == "executor":
            stops = float(environment["STOP_GRACE_SECONDS"]) + float(environment["LEASE_SECONDS"])
        else:
            stops = float(environment["DRAIN_SECONDS"]) + 15
        assert spec["terminationGracePeriodSeconds"] == ceil(stops + 10)


def test_no_pod_leaves_before_another_is_ready(release: Release) -> None:
    for each in release.of_kind("Deployment"):
        assert each["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
        for spread in each["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            labels = each["spec"]["template"]["metadata"]["labels"]
            assert selects(spread["labelSelector"], labels)


def test_selectors_select_their_own_pods_and_no_others(release: Release) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(release)}
    for each in release.of_kind("Deployment", "StatefulSet"):
        name = f"{each['kind']}/{each['metadata']['name']}"
        assert [k for k, v in labels.items() if selects(each["spec"]["selector"], v)] == [name]
    for service in release.of_kind("Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        (found,) = [pod for _, pod in pods(release) if selects(selector, pod["metadata"]["labels"])]
        ports = {port["name"] for port in found["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for monitor in release.of_kind("ServiceMonitor", "PodMonitor"):
        kind = "Service" if monitor["kind"] == "ServiceMonitor" else "Deployment"
        watched = [
            each
            for each in release.of_kind(kind)
            if selects(monitor["spec"]["selector"], each["metadata"]["labels"])
        ]
        assert len(watched) == 1


def test_every_pod_has_a_network_policy_for_both_directions(release: Release) -> None:
    policies = release.of_kind("NetworkPolicy")
    for name, pod in pods(release):
        (policy,) = [
            each
            for each in policies
            if selects(each["spec"]["podSelector"], pod["metadata"]["labels"])
        ]
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}, name
        named = {
            port["name"]
            for container in pod["spec"]["containers"]
            for port in container.get("ports", [])
        }
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], name
            assert {port["port"] for port in rule["ports"]} <= named, name


def test_executors_reach_what_is_public_and_what_was_allowed(release: Release) -> None:
    (policy,) = [
        each
        for each in release.of_kind("NetworkPolicy")
        if each["metadata"]["labels"]["app.kubernetes.io/component"] == "executor"
    ]
    blocks = [
        peer["ipBlock"]
        for rule in policy["spec"]["egress"]
        if rule.get("ports") == [{"protocol": "TCP"}]
        for peer in rule["to"]
    ]
    public, allowed = blocks[:2], blocks[2:]
    assert [block["cidr"] for block in public] == ["0.0.0.0/0", "2000::/3"]
    for block in public:
        whole = ip_network(block["cidr"])
        private = {
            text
            for text in NOT_PUBLIC
            if ip_network(text).version == whole.version and ip_network(text).subnet_of(whole)  # type: ignore[arg-type]
        }
        assert set(block["except"]) == private
    (executor,) = [each for name, each in containers(release) if each["name"] == "executor"]
    environment = {each["name"]: each.get("value") for each in executor["env"]}
    networks = ",".join(block["cidr"] for block in allowed)
    assert environment.get("ALLOWED_PRIVATE_NETWORKS", "") == networks


def test_what_has_several_pods_may_lose_one_at_a_time(release: Release) -> None:
    budgets = release.of_kind("PodDisruptionBudget")
    if release.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        for each in release.of_kind("Deployment"):
            labels = each["spec"]["template"]["metadata"]["labels"]
            assert len([b for b in budgets if selects(b["spec"]["selector"], labels)]) == 1
    else:
        assert budgets == []  # Kubernetes 1.20


def test_each_deployment_has_one_that_decides_how_many(release: Release) -> None:
    scalers = release.of_kind("HorizontalPodAutoscaler", "ScaledObject")
    targets = [each["spec"]["scaleTargetRef"]["name"] for each in scalers]
    assert len(targets) == len(set(targets))
    names = {each["metadata"]["name"] for each in release.of_kind("Deployment")}
    assert set(targets) <= names
    for each in release.of_kind("Deployment"):
        is_scaled = each["metadata"]["name"] in targets
        assert ("replicas" in each["spec"]) is not is_scaled
    for each in scalers:
        spec = each["spec"]
        assert (spec.get("minReplicas") or spec.get("minReplicaCount")) >= 1  # else nobody fires


def test_references_are_to_objects_of_the_release_or_of_yours(release: Release) -> None:
    made = {(each["kind"], each["metadata"]["name"]) for each in release.objects}
    for each in release.of_kind("Ingress"):
        for rule in each["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                assert ("Service", path["backend"]["service"]["name"]) in made
    for each in release.of_kind("HTTPRoute"):
        for rule in each["spec"]["rules"]:
            assert ("Service", rule["backendRefs"][0]["name"]) in made
    for each in release.of_kind("ScaledObject"):
        for trigger in each["spec"]["triggers"]:
            if "authenticationRef" in trigger:
                name = trigger["authenticationRef"]["name"]
                assert ("TriggerAuthentication", name) in made
