"""The manifests for Kubernetes 1.20 on a node of it: they come up, scale, roll; nothing is lost."""

import pytest
from standardwebhooks import Webhook as Verifier

from tests.deploy.render import PLAIN
from tests.deployed.inbox import eventually
from tests.deployed.trial import AFTER_A_RESCUE, WHILE_STARTING, UnderLoad, await_rescue

from .cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]


def test_the_file_for_it_is_taken_as_it_is(cluster: Cluster):
    file = PLAIN / "onthedot-1.20.yaml"
    said = cluster.node.kubectl(
        "apply", "--dry-run=server", f"--filename={file}", "--namespace=kube-public"
    )
    assert "deployment.apps/onthedot-executor created (server dry run)" in said


def test_all_is_ready_and_the_migration_has_ended(cluster: Cluster, record_property):
    record_property("ready_after_seconds", cluster.ready_after_seconds)
    cluster.node.kubectl("wait", "--for=condition=Complete", "job/onthedot-migrations")
    pods = {
        component: [
            (status["ready"], status["restartCount"])
            for pod in cluster.pods(component)
            for status in pod["status"]["containerStatuses"]
        ]
        for component in ("handler", "executor")
    }
    assert pods == {"handler": [(True, 0)] * 2, "executor": [(True, 0)] * 2}


def test_a_timer_arrives_once_signed_and_on_the_dot(cluster: Cluster):
    with cluster.api() as api:
        created = api.post("/timers", json={"seconds": 2, "url": f"{cluster.receiver}/once"})
        secret = api.get("/applications/1/signing-secret").json()["secret"]
    assert created.status_code == 201, created.text

    def look() -> None:
        webhooks = [each for each in cluster.inbox().all() if each.path == "/once"]
        assert len(webhooks) == 1
        webhook = webhooks[0]
        assert 0 <= webhook.lateness_seconds < 1
        event = Verifier(secret).verify(webhook.body, webhook.headers)
        assert event["data"]["id"] == created.json()["id"]

    eventually(look, within_seconds=10)


def test_executors_are_added_and_taken_away(cluster: Cluster, load: UnderLoad):
    with load(WHILE_STARTING) as trial:
        cluster.scale_executors(5)
        trial.gets_calls(200)
        cluster.scale_executors(2)


def test_every_pod_is_replaced_and_no_request_refused(cluster: Cluster, load: UnderLoad):
    before = names(cluster)
    with load(WHILE_STARTING) as trial:
        for deployment in ("executor", "handler"):  # as an upgrade does
            cluster.node.kubectl("rollout", "restart", f"deployment/onthedot-{deployment}")
            cluster.is_rolled_out()
    assert trial.load.refusals == []
    eventually(lambda: is_(before & names(cluster), set()), within_seconds=60)


def names(cluster: Cluster) -> set[str]:
    pods = cluster.pods("handler") + cluster.pods("executor")
    return {pod["metadata"]["name"] for pod in pods}


def is_(found: object, expected: object) -> None:
    assert found == expected


def test_an_executor_is_killed_and_comes_back(cluster: Cluster, load: UnderLoad):
    with load(AFTER_A_RESCUE) as trial:
        holder = trial.holder()
        with trial.falls(holder):
            cluster.kill(holder.container)
        await_rescue(cluster, holder)
    cluster.is_rolled_out()
    [pod] = [pod for pod in cluster.pods("executor") if pod["metadata"]["name"] == holder.container]
    assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [1]
