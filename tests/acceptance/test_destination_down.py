"""A destination that is down costs its runs a few attempts, and others nothing."""

from collections import Counter
from typing import Any

import httpx

from tests.acceptance.test_faults import all_recorded, arrived, began, history
from tests.conftest import MakeRun
from tests.eventually import eventually
from tests.processes import Services, free_port
from tests.receiver import Receiver

# Three failures in a row open a breaker, for a second.
TOUCHY = {"BREAKER_FAILURES": "3", "BREAKER_OPEN_SECONDS": "1", "BREAKER_OPEN_SECONDS_MAX": "2"}
RETRY = {"max_attempts": 50, "base": 0.2, "factor": 1, "jitter": 0}


async def create(http: httpx.AsyncClient, url: str, *, count: int, **options: Any) -> list[int]:
    timer = {"seconds": 1, "url": url, "retry": RETRY, **options}
    answer = await http.post("/timers/batch", json={"timers": [timer] * count})
    assert answer.status_code == 201, answer.text
    return [timer["id"] for timer in answer.json()["data"]]


async def metric(url: str, name: str) -> float:
    async with httpx.AsyncClient() as http:
        lines = (await http.get(f"{url}/metrics")).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


async def test_runs_are_put_off_at_no_cost_until_it_is_up_again(
    api: httpx.AsyncClient, services: Services
) -> None:
    executors = await services.executors(2, **TOUCHY)
    port = free_port()
    early = await create(api, f"http://127.0.0.1:{port}/", count=20)

    async def opened() -> None:
        for executor in executors:  # what one finds out, both know
            assert await metric(executor.url, "onthedot_breakers_open") == 1
            assert await metric(executor.url, "onthedot_breaker_put_off_total") > 0

    late = await create(api, f"http://127.0.0.1:{port}/", count=40, seconds=4)
    await eventually(opened)
    async with Receiver(port=port) as receiver:
        await eventually(lambda: arrived(receiver, early + late))
        url = services.environment["DATABASE_URL"]
        await eventually(lambda: all_recorded(url))
        assert set(Counter(call.job_id for call in receiver.calls).values()) == {1}
    rows = await history(url)
    assert {row["state"] for row in rows} == {"retrying", "done"}
    failed = Counter(row["job_id"] for row in rows if row["state"] == "retrying")
    assert failed.total() >= 3
    assert len(set(failed) & set(late)) < len(late) // 2, "most never spent an attempt on it"
    for executor in executors:
        assert await metric(executor.url, "onthedot_breakers_open") == 0


async def test_a_run_is_put_off_until_its_greatest_age_and_no_longer(
    api: httpx.AsyncClient, services: Services
) -> None:
    await services.executor(**TOUCHY, BREAKER_PUT_OFF_SECONDS_MAX="4")
    url = f"http://127.0.0.1:{free_port()}/"
    await create(api, url, count=3, retry="none")
    aged = await create(api, url, count=5, seconds=3, retry={**RETRY, "max_age": 3})
    patient = await create(api, url, count=5, seconds=3, retry="none")

    async def over() -> dict[int, dict[str, Any]]:
        rows = {
            row["job_id"]: row
            for row in await history(services.environment["DATABASE_URL"])
            if row["state"] == "failed"
        }
        assert rows.keys() >= {*aged, *patient}
        return rows

    rows = await eventually(over)
    expired = [job_id for job_id in aged if rows[job_id]["error"].startswith("max_age: ")]
    assert len(expired) >= len(aged) - 1  # one may have been the probe
    assert all(rows[job_id]["started_at"] is None for job_id in expired)
    # Without an age of its own, a run takes its attempts in the end all the same.
    assert {rows[job_id]["error"].partition(":")[0] for job_id in patient} == {"connect"}


async def test_a_destination_that_hangs_does_not_delay_another(
    api: httpx.AsyncClient, services: Services, receiver: Receiver
) -> None:
    executor = await services.executor(ROOM="500", CLAIM_BATCH="100")
    async with Receiver() as hanging:
        await create(api, hanging.url("/hang"), count=600, timeout=60)
        ids = await create(api, receiver.url(), count=200, seconds=2)
        await eventually(lambda: arrived(receiver, ids))
        assert len(receiver.calls) == len(ids)
        await executor.kill()  # it would wait for the hanging ones


async def test_backlog_that_hangs_leaves_places_to_what_is_on_time_at_the_same_destination(
    api: httpx.AsyncClient, services: Services, receiver: Receiver, make_run: MakeRun
) -> None:
    for _ in range(40):
        await make_run(due_in=-3_600, url=receiver.url("/hang"), timeout_seconds=60.0)
    executor = await services.executor(IN_FLIGHT_PER_DESTINATION_MAX="8")
    await eventually(lambda: began(receiver, 4))
    ids = await create(api, receiver.url(), count=40)
    await eventually(lambda: arrived(receiver, ids))
    assert receiver.in_flight == 4
    await executor.kill()  # it would wait for the hanging ones
