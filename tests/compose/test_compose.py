"""docker-compose.yml as an operator runs it: a built image, real containers, real signals.

The tests share one stack; each uses paths of its own at the receiver and leaves everything running.
"""

import json
from collections import Counter

import pytest
from standardwebhooks import Webhook as Verifier

from tests.deployed.inbox import Inbox, Webhook, eventually

from .stack import SERVICES, Stack

pytestmark = pytest.mark.compose

OURS = ("handler", "executor")
RECEIVER = Stack.receiver

# Containers that share two cores with a build or a database's start are not the place to measure
# lateness; the benchmarks do that. This bound tells a poll's hit from a miss.
LATENESS_SECONDS_MAX = 1.0

# A killed executor's claims are free after its lease (5 s) and a rescue (each second).
RESCUED_WITHIN_SECONDS = 20


def create(stack: Stack, *paths: str, seconds: int, receiver: str = RECEIVER) -> list[int]:
    """Make a timer for each path at a receiver; answer their ids."""
    timers = [{"seconds": seconds, "url": f"{receiver}{path}"} for path in paths]
    with stack.api() as api:
        created = api.post("/timers/batch", json={"timers": timers})
    assert created.status_code == 201, created.text
    return [timer["id"] for timer in created.json()["data"]]


def numbered(path: str, count: int) -> list[str]:
    return [f"{path}/{number}" for number in range(count)]


def await_webhooks(inbox: Inbox, paths: list[str], *, within_seconds: float) -> list[Webhook]:
    """Wait until each path was called; answer every call of them, none of which was early."""

    def look() -> list[Webhook]:
        webhooks = [webhook for webhook in inbox.all() if webhook.path in paths]
        missing = set(paths) - {webhook.path for webhook in webhooks}
        assert not missing, f"{len(missing)} of {len(paths)} have not arrived"
        return webhooks

    webhooks = eventually(look, within_seconds=within_seconds)
    assert [webhook for webhook in webhooks if webhook.lateness_seconds < 0] == []
    return webhooks


def await_end(stack: Stack, jobs: list[int], *, within_seconds: float = 15) -> Counter[str]:
    """Wait until no run of these jobs is outstanding; count their executions by state."""
    ids = ", ".join(map(str, jobs))

    def look() -> None:
        [[outstanding]] = stack.select(f"select count(*) from schedules where job_id in ({ids})")
        assert outstanding == "0"

    eventually(look, within_seconds=within_seconds)
    rows = stack.select(
        f"select state, count(*) from executions where job_id in ({ids}) group by 1"
    )
    return Counter({state: int(count) for state, count in rows})


def test_a_first_start_logs_json_and_no_warning(stack):
    logs = stack.logs("--no-log-prefix", "migrate", "handler", "executor")

    events = [json.loads(line) for line in logs.splitlines()]
    assert {event["event"] for event in events} >= {"database.migrated", "executor.started"}
    assert [event for event in events if event["level"] not in {"debug", "info"}] == []


def test_a_timer_arrives_once_signed_and_on_the_dot(stack):
    with stack.api() as api:
        created = api.post("/timers", json={"seconds": 2, "url": f"{RECEIVER}/once"})
        assert created.status_code == 201, created.text
        timer = created.json()
        assert timer == {"id": timer["id"], "time_left": 2}
        assert api.get(f"/timers/{timer['id']}").json() in (
            {**timer, "time_left": n} for n in (1, 2)
        )

    await_webhooks(stack.inbox(), ["/once"], within_seconds=10)
    assert await_end(stack, [timer["id"]]) == {"done": 1}

    [webhook] = [webhook for webhook in stack.inbox().all() if webhook.path == "/once"]
    assert webhook.lateness_seconds < LATENESS_SECONDS_MAX
    [[secret]] = stack.select("select encode(signing_secret, 'base64') from applications")
    event = Verifier(f"whsec_{secret}").verify(webhook.body, webhook.headers)
    assert event["type"] == "timer.fired"
    assert event["data"]["id"] == timer["id"]
    with stack.api() as api:
        assert api.get(f"/timers/{timer['id']}").json() == {**timer, "time_left": 0}


def test_a_private_network_that_is_not_named_is_never_called(stack):
    jobs = create(stack, "/refused", seconds=1, receiver="http://neighbour:9000")

    assert await_end(stack, jobs) == {"failed": 1}
    assert stack.inbox("neighbour").all() == []


def test_on_sigterm_an_executor_waits_for_the_answer_and_exits_cleanly(stack):
    jobs = create(stack, "/slow/3/stopped", seconds=1)
    await_webhooks(stack.inbox(), ["/slow/3/stopped"], within_seconds=10)

    stack.compose("stop", "executor")

    assert await_end(stack, jobs, within_seconds=0) == {"done": 1}
    assert [container["State"]["ExitCode"] for container in stack.containers("executor")] == [0, 0]
    stack.up()


def test_timers_outlive_a_restart_of_every_service(stack):
    paths = numbered("/restarted", 50)
    jobs = create(stack, *paths, seconds=3)

    stack.compose("restart", *SERVICES)
    stack.up()

    await_webhooks(stack.inbox(), paths, within_seconds=RESCUED_WITHIN_SECONDS)
    assert await_end(stack, jobs)["done"] == 50


def test_without_redis_timers_are_accepted_and_arrive(stack):
    stack.compose("stop", "redis")
    paths = numbered("/without-redis", 20)

    jobs = create(stack, *paths, seconds=2)

    await_webhooks(stack.inbox(), paths, within_seconds=15)
    assert await_end(stack, jobs) == {"done": 20}
    stack.up()


def test_without_postgres_a_timer_is_refused_and_the_services_wait_for_it(stack):
    before = {container["Id"]: container["RestartCount"] for container in stack.containers(*OURS)}
    stack.compose("stop", "postgres")
    with stack.api() as api:
        refusal = api.post("/timers", json={"seconds": 1, "url": f"{RECEIVER}/refused"})
        readiness = api.get("/readyz")

    assert refusal.status_code == 503, refusal.text
    assert refusal.headers["content-type"] == "application/problem+json"
    assert int(refusal.headers["retry-after"]) > 0
    assert readiness.status_code == 503
    stack.up()
    after = {container["Id"]: container["RestartCount"] for container in stack.containers(*OURS)}
    assert after == before
    jobs = create(stack, "/accepted-again", seconds=1)
    await_webhooks(stack.inbox(), ["/accepted-again"], within_seconds=10)
    assert await_end(stack, jobs) == {"done": 1}


def test_a_timer_that_became_due_while_the_stack_was_down_arrives_once(stack):
    stack.compose("stop", "executor")
    [job] = create(stack, "/overdue", seconds=1)

    def look() -> None:
        with stack.api() as api:
            assert api.get(f"/timers/{job}").json()["time_left"] == 0

    eventually(look, within_seconds=10)
    stack.compose("down")
    stack.up()

    await_webhooks(stack.inbox(), ["/overdue"], within_seconds=10)
    assert await_end(stack, [job]) == {"done": 1}
    assert [webhook.path for webhook in stack.inbox().all()] == ["/overdue"]


@pytest.mark.parametrize("service", OURS)
def test_a_service_has_no_privileges_and_cannot_change_its_files(stack, service):
    look = """
import importlib.util, json, os, pathlib, shutil
lines = pathlib.Path("/proc/1/status").read_text().splitlines()
status = dict(line.split(":\\t") for line in lines)
tools = ("cc", "gcc", "g++", "clang", "as", "ld", "make", "cargo", "go", "pip", "pip3", "uv")
modules = ("pip", "ensurepip", "local_stack", "tests")
print(json.dumps({
    "uids": status["Uid"].split(),
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "no_new_privileges": status["NoNewPrivs"],
    "read_only": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
    "tools": [name for name in tools if shutil.which(name)],
    "modules": [name for name in modules if importlib.util.find_spec(name)],
    "command": pathlib.Path("/proc/1/cmdline").read_text().split("\\0")[:3],
}))
"""
    seen = json.loads(stack.compose("exec", "--no-TTY", service, "python", "-c", look))

    assert seen == {
        "uids": ["10001"] * 4,
        "capabilities": 0,
        "no_new_privileges": "1",
        "read_only": True,
        "tools": [],
        "modules": [],
        "command": ["python", "-m", f"{service}_service"],
    }


def test_the_image_alone_is_not_root_and_knows_its_health(stack):
    [image] = json.loads(stack.docker("image", "inspect", stack.image))

    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["Healthcheck"]["Test"][0] == "CMD"
    python = ("/usr/local/bin/python3", "-m", "pip")
    with pytest.raises(AssertionError, match="No module named pip"):
        stack.docker("run", "--rm", "--network", "none", stack.image, *python)


def test_only_the_api_is_published_and_only_on_loopback(stack):
    published = {
        (container["Config"]["Labels"]["com.docker.compose.service"], port, binding["HostIp"])
        for container in stack.containers(*SERVICES, "migrate")
        for port, bindings in container["NetworkSettings"]["Ports"].items()
        for binding in bindings or []
    }

    assert published == {("handler", "8080/tcp", "127.0.0.1")}
