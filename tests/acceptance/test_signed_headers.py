"""What a job's own headers say never stands in for what we say, however it got into the row."""

import re
from collections import Counter

import pytest
from psycopg.types.json import Jsonb
from standardwebhooks import Webhook

from shared import VERSION
from tests.acceptance.test_attempts import attempts
from tests.conftest import MakeRun
from tests.eventually import eventually
from tests.processes import Services
from tests.receiver import Receiver

OURS = (
    *("webhook-id", "webhook-timestamp", "webhook-signature"),
    *("onthedot-scheduled-for", "onthedot-attempt", "user-agent"),
)
OF_THE_CONNECTION = ("host", "content-length", "transfer-encoding", "connection")
SPELLINGS = (str.lower, str.upper, str.title)
PAYLOAD = b'{"order": 17}'


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost"]
)  # an address, and a name that is pinned
async def test_a_row_that_says_who_calls_is_not_believed(
    host: str, services: Services, make_run: MakeRun, receiver: Receiver, signing_secret: str
) -> None:
    url = f"http://{host}:{receiver.port}/signed"
    forged = [{spell(name): "1" for name in (*OURS, *OF_THE_CONNECTION)} for spell in SPELLINGS]
    # All spellings at once: which of them is the one that would be removed?
    forged.append({name: value for headers in forged for name, value in headers.items()})
    forged.append({"Transfer-Encoding": "chunked", "Connection": "close, webhook-signature"})
    for headers in forged:
        own = {**headers, "x-order": "17", "Content-Type": "application/problem+json"}
        await make_run(url=url, headers=Jsonb(own), payload=PAYLOAD)
    await services.executor(ALLOWED_PRIVATE_NETWORKS="127.0.0.0/8,::1/128")
    await eventually(lambda: called(receiver, len(forged)))
    for call in receiver.calls:
        names = Counter(line.partition(":")[0].lower() for line in call.lines)
        assert set(names.values()) == {1}, call.lines
        assert names.keys() == {
            *OURS,
            *("host", "content-length", "content-type", "accept", "x-order"),
        }
        assert Webhook(signing_secret).verify(call.body, call.headers) == {"order": 17}
        assert re.fullmatch(r"run_\d+_\d+", call.webhook_id)
        assert call.headers["user-agent"] == f"onthedot/{VERSION}"
        assert call.headers["onthedot-attempt"] == "1"
        assert re.fullmatch(r"\d{4}-.*Z", call.headers["onthedot-scheduled-for"])
        assert call.headers["host"] == f"{host}:{receiver.port}"
        assert call.headers["content-length"] == str(len(PAYLOAD))
        assert call.headers["content-type"] == "application/problem+json"
        assert call.body == PAYLOAD
    assert receiver.connections <= len(forged)


def called(receiver: Receiver, times: int) -> None:
    assert len(receiver.calls) == times


async def test_a_row_whose_headers_are_none_ends_unsent(
    services: Services, make_run: MakeRun, receiver: Receiver
) -> None:
    broken = (
        {"webhook-id ": "1"},
        {" webhook-id": "1"},
        {"webhook-id:": "1"},
        {"x\r\nwebhook-id": "1"},
        {"x": "1\r\nwebhook-id: 1"},
        {"x": "1\nwebhook-id: 1"},
        {"": "1"},
    )
    jobs = [await make_run(url=receiver.url(), headers=Jsonb(headers)) for headers in broken]
    await services.executor()
    for job_id in jobs:
        rows = await attempts(services, job_id, count=1)
        assert rows[0]["state"] in {"failed", "retrying"}
        assert rows[0]["error"].startswith(("invalid: ", "client: "))
    assert receiver.calls == []
