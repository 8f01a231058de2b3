"""Webhooks over TLS: to the vetted address, under the name, with a certificate that holds."""

import ssl
from pathlib import Path

import httpx
import pytest
import trustme

from tests.acceptance.test_attempts import attempts, create
from tests.processes import Services
from tests.receiver import Receiver

LOOPBACK = "127.0.0.0/8,::1/128"


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return authority


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def test_a_certificate_of_a_trusted_authority_lets_the_webhook_through(
    api: httpx.AsyncClient, services: Services, authority: trustme.CA, tmp_path: Path
) -> None:
    await services.executor(
        EXTRA_CA_FILE=str(tmp_path / "ca.pem"), ALLOWED_PRIVATE_NETWORKS=LOOPBACK
    )
    async with Receiver(server_context(authority, "localhost")) as receiver:
        ids = [await create(api, receiver.url("/secure")) for _ in range(3)]
        for job_id in ids:
            [done] = await attempts(services, job_id, count=1)
            assert (done["state"], done["http_status"]) == ("done", 204)
        assert {call.headers["host"] for call in receiver.calls} == {f"localhost:{receiver.port}"}


async def test_an_unknown_authority_or_another_name_costs_an_attempt_and_sends_nothing(
    api: httpx.AsyncClient, services: Services, authority: trustme.CA, tmp_path: Path
) -> None:
    await services.executor(
        EXTRA_CA_FILE=str(tmp_path / "ca.pem"), ALLOWED_PRIVATE_NETWORKS=LOOPBACK
    )
    async with (
        Receiver(server_context(trustme.CA(), "localhost")) as stranger,
        Receiver(server_context(authority, "example.com")) as misnamed,
    ):
        for receiver in (stranger, misnamed):
            job_id = await create(api, receiver.url())
            [failed] = await attempts(services, job_id, count=1)
            assert failed["state"] == "retrying"
            assert failed["error"].startswith("connect: ")
            assert "certificate" in failed["error"]
            assert receiver.calls == []
