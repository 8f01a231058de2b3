"""What becomes of an attempt: by the receiver's answer, by ours, and as history tells it."""

import json
from typing import Any

import httpx
import psycopg
import pytest

from shared.runs.lifecycle import Delivery
from tests.conftest import MakeRun
from tests.eventually import eventually
from tests.processes import Service, Services
from tests.receiver import Receiver


async def create(api: httpx.AsyncClient, url: str, **options: Any) -> int:
    answer = await api.post("/timers", json={"seconds": 1, "url": url, **options})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def attempts(services: Services, job_id: int, *, count: int) -> list[dict[str, Any]]:
    """The recorded attempts of a job, as soon as there are so many."""

    async def recorded() -> list[dict[str, Any]]:
        connection = await psycopg.AsyncConnection.connect(
            services.environment["DATABASE_URL"], row_factory=psycopg.rows.dict_row
        )
        async with connection:
            cursor = await connection.execute(
                "select * from executions where job_id = %s order by attempt", (job_id,)
            )
            rows = await cursor.fetchall()
        assert len(rows) >= count
        return rows

    return await eventually(recorded)


async def run_of(services: Services, job_id: int) -> dict[str, Any] | None:
    connection = await psycopg.AsyncConnection.connect(
        services.environment["DATABASE_URL"], row_factory=psycopg.rows.dict_row
    )
    async with connection:
        cursor = await connection.execute(
            "select *, extract(epoch from due_at - now())::float8 as due_in "
            "from schedules where job_id = %s",
            (job_id,),
        )
        return await cursor.fetchone()


async def test_every_2xx_is_a_delivery_with_or_without_a_body(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    statuses = (200, 201, 202, 204, 299)
    ids = {status: await create(api, receiver.url(f"/status/{status}")) for status in statuses}
    for status, job_id in ids.items():
        [done] = await attempts(services, job_id, count=1)
        assert (done["state"], done["http_status"], done["attempt"]) == ("done", status, 1)
        assert done["response"] == (None if status == 204 else b"the receiver says so")
        assert 0 <= done["lateness_ms"] < 1000
        assert done["started_at"] <= done["finished_at"]
        assert await run_of(services, job_id) is None


async def test_an_answer_that_may_change_is_tried_again_after_the_backoff(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    statuses = (408, 425, 429, 500, 503, 302)
    ids = {status: await create(api, receiver.url(f"/status/{status}")) for status in statuses}
    for status, job_id in ids.items():
        [failed] = await attempts(services, job_id, count=1)
        assert (failed["state"], failed["http_status"]) == ("retrying", status)
        assert failed["error"] == f"status: the receiver answered {status}"
        run = await run_of(services, job_id)
        assert run is not None
        assert (run["state"], run["attempt"]) == ("pending", 1)
        assert 2 < run["due_in"] <= 6  # 5 s, give or take a fifth


async def test_a_refusal_is_final_and_leaves_a_dead_letter(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    statuses = (400, 401, 404, 410, 422)
    ids = {status: await create(api, receiver.url(f"/status/{status}")) for status in statuses}
    for status, job_id in ids.items():
        [failed] = await attempts(services, job_id, count=1)
        assert (failed["state"], failed["http_status"]) == ("failed", status)
        assert await run_of(services, job_id) is None
        assert len(receiver.calls_of(job_id)) == 1


async def test_retry_after_is_honoured_and_the_webhook_id_stays(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    job_id = await create(api, receiver.url("/retry-after/1"))
    first, second = await attempts(services, job_id, count=2)
    assert (first["state"], second["state"]) == ("retrying", "done")
    one, two = receiver.calls_of(job_id)
    assert one.webhook_id == two.webhook_id
    assert two.headers["onthedot-attempt"] == "2"
    assert two.arrived_at - one.arrived_at >= 1.0
    assert one.headers["webhook-timestamp"] < two.headers["webhook-timestamp"]


async def test_the_last_attempt_that_fails_ends_the_run(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    job_id = await create(api, receiver.url("/status/500"))
    url = services.environment["DATABASE_URL"]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("update schedules set attempt = 4, fence = 4")
    await services.executor()
    [failed] = await attempts(services, job_id, count=1)
    assert (failed["state"], failed["attempt"]) == ("failed", 5)
    assert await run_of(services, job_id) is None


async def test_a_redirect_is_not_followed(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    job_id = await create(api, receiver.url("/redirect"))
    await attempts(services, job_id, count=1)
    assert [call.path for call in receiver.calls] == ["/redirect"]


async def test_a_receiver_that_does_not_answer_costs_an_attempt(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    errors = {"/hang": "timeout: no answer within 1 s", "/drop": "connection: "}
    ids = {path: await create(api, receiver.url(path), timeout=1) for path in errors}
    for path, job_id in ids.items():
        [failed] = await attempts(services, job_id, count=1)
        assert failed["state"] == "retrying"
        assert failed["error"].startswith(errors[path])
        assert failed["http_status"] is None
        assert len(receiver.calls_of(job_id)) == 1, "a request is written once per attempt"


async def test_a_body_that_does_not_end_does_not_unsay_the_2xx_before_it(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor()
    ids = [await create(api, receiver.url(path), timeout=2) for path in ("/drip", "/huge")]
    for job_id in ids:
        [done] = await attempts(services, job_id, count=1)
        assert (done["state"], done["http_status"]) == ("done", 200)
        assert 1 <= len(done["response"]) <= 1024


async def test_a_private_address_is_refused_unless_a_setting_names_its_network(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor(ALLOWED_PRIVATE_NETWORKS="10.0.0.0/8")
    hosts = ("127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]", "[::1]")
    ids = [await create(api, f"http://{host}:{receiver.port}/") for host in hosts]
    for job_id in ids:
        [failed] = await attempts(services, job_id, count=1)
        assert failed["state"] == "failed"
        assert failed["error"].startswith("egress: ")
    assert receiver.calls == []


async def test_a_name_is_sent_as_the_host_though_the_address_is_pinned(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    await services.executor(ALLOWED_PRIVATE_NETWORKS="127.0.0.0/8,::1/128")
    await create(api, f"http://localhost:{receiver.port}/named")
    await eventually(lambda: has_call(receiver))
    assert receiver.calls[0].headers["host"] == f"localhost:{receiver.port}"


def has_call(receiver: Receiver) -> None:
    assert receiver.calls


async def test_a_refused_connection_and_an_unknown_name_cost_an_attempt(
    api: httpx.AsyncClient, services: Services
) -> None:
    await services.executor()
    refused = await create(api, "http://127.0.0.1:9/")
    unknown = await create(api, "http://no-such-name.invalid/")
    [row] = await attempts(services, refused, count=1)
    assert (row["state"], row["error"].split(":")[0]) == ("retrying", "connect")
    [row] = await attempts(services, unknown, count=1)
    assert (row["state"], row["error"].split(":")[0]) == ("retrying", "dns")


async def test_a_row_that_cannot_be_sent_ends_and_stops_nobody_else(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    url = services.environment["DATABASE_URL"]
    bad = [await create(api, receiver.url("/bad")) for _ in range(3)]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        spoil = "update jobs set {} where id = %s"
        for job_id, broken in zip(
            bad,
            ("url = 'no url at all'", "headers = '[1, 2]'", "headers = '{\"a b\": 5}'"),
            strict=True,
        ):
            await connection.execute(spoil.format(broken).encode(), (job_id,))
    await services.executor()
    good = await create(api, receiver.url("/good"))
    for job_id in bad:
        [failed] = await attempts(services, job_id, count=1)
        assert failed["state"] == "failed"
        assert failed["error"].startswith(("invalid: ", "client: "))
    [done] = await attempts(services, good, count=1)
    assert done["state"] == "done"
    assert [call.path for call in receiver.calls] == ["/good"]


# None can come through the API; some other version, or a hand in the database, may write them.
UNREADABLE_POLICIES = (
    '"none"',
    "[1, 2]",
    "5",
    "false",
    '{"base": null}',
    '{"delays": []}',
    '{"max_attempts": 5, "delays": [1, 2, 3]}',
    '{"max_attempts": "3"}',
    '{"factor": 1e300}',
    '{"jitter": 2}',
    '{"max_age": -1}',
)


@pytest.mark.parametrize("delivery", list(Delivery))
async def test_a_run_whose_policy_cannot_be_read_ends_unsent_and_leaves_its_room(
    services: Services, make_run: MakeRun, receiver: Receiver, delivery: Delivery
) -> None:
    """Also when it is the room of an executor that has no more."""
    unreadable = [
        await make_run(url=receiver.url("/unreadable"), retry=text, delivery=delivery)
        for text in UNREADABLE_POLICIES
    ]
    room = len(unreadable)
    executor = await services.executor(ROOM=str(room), CLAIM_BATCH=str(room))
    for job_id in unreadable:
        [failed] = await attempts(services, job_id, count=1)
        assert (failed["state"], failed["attempt"]) == ("failed", 1)
        assert failed["error"] == "invalid: the stored retry policy cannot be read"
        assert (failed["started_at"], failed["http_status"]) == (None, None)
        assert await run_of(services, job_id) is None
    fine = await make_run(url=receiver.url("/status/503"), retry='{"max_attempts": 1, "new": 1}')
    [failed] = await attempts(services, fine, count=1)
    assert (failed["state"], failed["http_status"]) == ("failed", 503)
    assert [call.path for call in receiver.calls] == ["/status/503"]
    await eventually(lambda: has_room(executor, room))


async def has_room(executor: Service, runs: int) -> None:
    async with httpx.AsyncClient() as http:
        lines = (await http.get(f"{executor.url}/metrics")).text.splitlines()
    assert f"onthedot_executor_room {runs:.1f}" in lines


@pytest.mark.parametrize("attempt", [0, 1])
async def test_a_run_that_breaks_the_executor_ends_loudly_and_leaves_its_room(
    services: Services, make_run: MakeRun, receiver: Receiver, attempt: int
) -> None:
    """An age beyond floating point breaks the recorder after a 503, the gate before a retry."""
    age = json.dumps({"max_age": 10**400})
    broken = [
        await make_run(url=receiver.url("/status/503"), retry=age, attempt=attempt)
        for _ in range(5)
    ]
    executor = await services.executor(ROOM="5", CLAIM_BATCH="5")
    services.started.remove(executor)  # its log has tracebacks, as it should
    for job_id in broken:
        [failed] = await attempts(services, job_id, count=1)
        assert (failed["state"], failed["attempt"]) == ("failed", attempt + 1)
        assert failed["error"].startswith("internal: ")
        assert await run_of(services, job_id) is None
    fine = await make_run(url=receiver.url("/fine"))
    [done] = await attempts(services, fine, count=1)
    assert done["state"] == "done"
    await eventually(lambda: has_room(executor, 5))
    assert await executor.stop() == 0
    assert executor.log.read_text().count("run.broke_the_executor") == len(broken)


async def test_secrets_do_not_reach_the_logs_or_the_errors(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    executor = await services.executor()
    port = receiver.port
    urls = (
        f"http://127.0.0.1:{port}/drop?token=s3cr3t",
        "http://127.0.0.1:9/?token=s3cr3t",
        f"http://127.0.0.1:{port}/status/500?token=s3cr3t",
    )
    secrets: dict[str, Any] = {"headers": {"authorization": "s3cr3t"}, "payload": "s3cr3t"}
    ids = [await create(api, url, **secrets) for url in urls]
    for job_id in ids:
        [failed] = await attempts(services, job_id, count=1)
        assert "s3cr3t" not in failed["error"]
    for service in [executor, services.started[0]]:
        assert "s3cr3t" not in service.log.read_text()
