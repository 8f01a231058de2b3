"""Egress: what is decided is the address that is connected to, and nothing gets around it.

127.0.0.2 plays the address that may be reached; what listens on 127.0.0.1 is the inner host, which
must not even see a connection.
"""

import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
import trustme

from executor_service import resolver
from executor_service.client import Clients
from executor_service.clock import DatabaseClock
from executor_service.egress import NOT_PUBLIC, Egress
from executor_service.fire import Delivered, Failed, Outcome, PutOff, Refused, Sender
from executor_service.resolver import Answer, Resolver
from shared.runs.moves import Claim
from tests.acceptance.test_attempts import attempts, run_of
from tests.acceptance.test_tls import server_context
from tests.conftest import MakeRun
from tests.processes import Services
from tests.receiver import Receiver

OUTER, INNER = "127.0.0.2", "127.0.0.1"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux answers on every address of 127.0.0.0/8"
)


@pytest.fixture
async def outer() -> AsyncIterator[Receiver]:
    async with Receiver(host=OUTER) as outer:
        yield outer


@pytest.fixture
async def inner(outer: Receiver) -> AsyncIterator[Receiver]:
    """The inner host, on the same port: only the address tells the two apart."""
    async with Receiver(host=INNER, port=outer.port) as inner:
        yield inner
        assert inner.connections == 0


async def refused(services: Services, job_id: int) -> str:
    """The error of a run that ended at once, as a dead letter."""
    [row] = await attempts(services, job_id, count=1)
    assert (row["state"], row["attempt"], row["http_status"]) == ("failed", 1, None), row
    assert await run_of(services, job_id) is None
    return str(row["error"])


async def test_an_address_that_is_not_public_is_refused_however_it_is_written(
    services: Services, make_run: MakeRun, outer: Receiver, inner: Receiver
) -> None:
    hosts = [
        *("127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "0x7f.1", "0x7f000001", "0177.0.0.1"),
        *("2130706433", "017700000001", "127.0.0.0x1", "0", "0.0.0.0", "0x0"),
        *("%31%32%37.0.0.1", "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:0001]"),
        *("[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]"),
        *("localhost", "LOCALHOST", "%6cocalhost"),
        *("user@127.0.0.1", "public.example@127.0.0.1", "1.1.1.1%2f@127.0.0.1", "a:b@127.0.0.1"),
    ]
    urls = [f"http://{host}:{outer.port}/" for host in hosts]
    urls += [
        f"http://127.0.0.1:{outer.port}\\@1.1.1.1/",
        f"http:\\\\127.0.0.1:{outer.port}/",
        f"http:127.0.0.1:{outer.port}/",
        f"http://127.0.0.1:{outer.port}#@1.1.1.1/",
        f"http://12\t7.0.0.1:{outer.port}/",
        f"https://127.0.0.1:{outer.port}/",
    ]
    for network in map(ip_network, NOT_PUBLIC):
        for address in (network[0], network[-1]):
            host = f"[{address}]" if address.version == 6 else str(address)
            urls.append(f"http://{host}:{outer.port}/")
    jobs = {url: await make_run(url=url, timeout_seconds=1.0) for url in urls}
    await services.executor(ALLOWED_PRIVATE_NETWORKS=f"{OUTER}/32")
    for url, job_id in jobs.items():
        assert (await refused(services, job_id)).startswith("egress: "), url
    assert inner.connections == 0


async def test_the_api_takes_no_url_that_reads_as_two_hosts(
    api: httpx.AsyncClient, inner: Receiver
) -> None:
    for url in (
        f"http://public@127.0.0.1:{inner.port}/",
        f"http://public.example:80@127.0.0.1:{inner.port}/",
        f"http://127.0.0.1:{inner.port}\\@public.example/",
        "http://public.example\\@127.0.0.1/",
        "http://@127.0.0.1/",
        "http:127.0.0.1/",
        "http:///127.0.0.1/",
        "http://12\t7.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
    ):
        answer = await api.post("/timers", json={"seconds": 1, "url": url})
        assert answer.status_code == 422, url
        assert [error["pointer"] for error in answer.json()["errors"]] == ["#/url"]


class Names:
    """A name server that answers each name in turn, and its last answer from then on."""

    def __init__(self, **answers: Iterable[Iterable[str]]) -> None:
        self.asked: list[str] = []
        self._answers = {
            name.replace("_", "."): [[ip_address(text) for text in answer] for answer in turns]
            for name, turns in answers.items()
        }

    def __call__(self, name: str) -> Answer:
        self.asked.append(name)
        answers = self._answers[name]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@asynccontextmanager
async def a_sender(
    names: Callable[[str], Answer],
    *,
    extra_ca_file: str = "",
    may_send: Callable[[Claim], bool] = lambda _: True,
    **denied: Any,
) -> AsyncIterator[Callable[..., Any]]:
    """What an executor sends by, with a name server of ours; only `OUTER` may be reached."""
    clock = DatabaseClock()
    clock.observe(datetime.now(UTC), asked_at=monotonic(), heard_at=monotonic())
    sender = Sender(
        clients=Clients(connect_seconds=1.0, idle_per_host_max=8, extra_ca_file=extra_ca_file),
        resolver=Resolver(names),
        egress=Egress([ip_network(f"{OUTER}/32")], **denied),
        clock=clock,
        resolve_seconds=1.0,
        may_send=may_send,
    )
    yield partial(_fire, sender)
    sender.resolver.close()
    await sender.clients.close()


async def _fire(sender: Sender, url: str, **changes: Any) -> Outcome | PutOff:
    nothing: dict[str, Any] = dict.fromkeys(Claim._fields)  # what sending does not read
    claim = Claim(**nothing)._replace(
        job_id=1,
        scheduled_for=1,
        attempt=1,
        url=url,
        method="POST",
        timeout_seconds=2.0,
        signing_secret=b"0" * 32,
    )
    return await sender.fire(claim._replace(**changes))


async def test_a_name_is_called_at_the_address_that_was_vetted(
    outer: Receiver, inner: Receiver
) -> None:
    """`localhost` is the inner host to everyone but our name server."""
    async with a_sender(Names(localhost=[[OUTER]])) as fire:
        for attempt in (1, 2):
            outcome = await fire(f"http://localhost:{outer.port}/", attempt=attempt)
            assert outcome == Delivered(204, b"")
    assert [call.headers["host"] for call in outer.calls] == [f"localhost:{outer.port}"] * 2
    assert inner.connections == 0


@pytest.mark.parametrize("name", ["localhost", "localhost.", "LOCALHOST"])
async def test_a_name_is_called_over_tls_at_the_address_that_was_vetted(
    name: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = server_context(authority, "localhost")
    names = Names(**{name.lower().replace(".", "_"): [[OUTER]]})
    async with (
        Receiver(context, host=OUTER) as outer,
        Receiver(context, host=INNER, port=outer.port) as inner,
        a_sender(names, extra_ca_file=str(tmp_path / "ca.pem")) as fire,
    ):
        for attempt in (1, 2):
            outcome = await fire(f"https://{name}:{outer.port}/", attempt=attempt)
            assert outcome == Delivered(204, b"")
        assert len(outer.calls) == 2
        assert inner.connections == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_name_that_turns_inwards_is_followed_no_further(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public to who vets, private to who connects, or to the next call."""
    monkeypatch.setattr(resolver, "KEPT_SECONDS", 0.0)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = server_context(authority, "rebound.test") if scheme == "https" else None
    names = Names(rebound_test=[[OUTER], [INNER]])
    async with (
        Receiver(context, host=OUTER) as outer,
        Receiver(context, host=INNER, port=outer.port) as inner,
        a_sender(names, extra_ca_file=str(tmp_path / "ca.pem")) as fire,
    ):
        url = f"{scheme}://rebound.test:{outer.port}/"
        assert await fire(url) == Delivered(204, b"")
        assert names.asked == ["rebound.test"], "an attempt asks once"
        for attempt in (1, 2):
            outcome = await fire(url, attempt=attempt)
            assert isinstance(outcome, Refused)
            assert outcome.error == f"egress: {INNER} may not be reached: loopback (RFC 1122)"
        assert [call.headers["host"] for call in outer.calls] == [f"rebound.test:{outer.port}"]
        assert inner.connections == 0


async def test_of_several_addresses_only_the_vetted_are_tried(
    outer: Receiver, inner: Receiver
) -> None:
    both = {"mixed_test": [[INNER, "::1", OUTER]], "inner_test": [[INNER, "10.0.0.1"]]}
    async with a_sender(Names(**both)) as fire, AsyncExitStack() as stack:
        assert await fire(f"http://mixed.test:{outer.port}/") == Delivered(204, b"")
        assert isinstance(await fire(f"http://inner.test:{outer.port}/"), Refused)
        # Nor when the vetted one does not take the connection.
        deaf = await stack.enter_async_context(Receiver(host=INNER))
        outcome = await fire(f"http://mixed.test:{deaf.port}/")
        assert isinstance(outcome, Failed)
        assert outcome.error.startswith("connect: ")
        assert deaf.connections == 0
    assert inner.connections == 0


@pytest.mark.parametrize("is_at_most_once", [False, True])
async def test_a_name_that_is_looked_up_beyond_the_end_of_the_lease_is_not_called(
    is_at_most_once: bool, outer: Receiver
) -> None:
    """It is the sender that asks the lease, and it asks last."""
    held = [True]

    def look_up(_: str) -> Answer:
        held.clear()
        return [ip_address(OUTER)]

    async with a_sender(look_up, may_send=lambda _: bool(held)) as fire:
        outcome = await fire(f"http://slow.test:{outer.port}/", is_at_most_once=is_at_most_once)
    assert outcome == PutOff(0.0)
    assert outer.connections == 0


async def test_a_redirect_is_not_followed_inwards(
    services: Services, make_run: MakeRun, outer: Receiver, inner: Receiver
) -> None:
    targets = ("http://169.254.169.254/latest/meta-data/", inner.url("/secret"), outer.url())
    jobs = [
        await make_run(url=outer.url(f"/redirect-to/{status}/{target}"), timeout_seconds=2.0)
        for status in (301, 302, 303, 307, 308)
        for target in targets
    ]
    await services.executor(ALLOWED_PRIVATE_NETWORKS=f"{OUTER}/32")
    for job_id in jobs:
        failed, *_ = await attempts(services, job_id, count=1)
        assert failed["state"] == "retrying"
        assert failed["error"] == f"status: the receiver answered {failed['http_status']}"
        first = [c for c in outer.calls_of(job_id) if c.headers["onthedot-attempt"] == "1"]
        assert len(first) == 1
    assert {call.path.split("/")[1] for call in outer.calls} == {"redirect-to"}
    assert inner.connections == 0


async def test_the_proxies_of_the_environment_see_nothing(
    services: Services, make_run: MakeRun, receiver: Receiver, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    async with (
        Receiver() as proxy,
        Receiver(server_context(authority, "localhost")) as secure,
    ):
        variables = dict.fromkeys([*names, *map(str.lower, names)], proxy.url(""))
        await services.executor(
            EXTRA_CA_FILE=str(tmp_path / "ca.pem"),
            ALLOWED_PRIVATE_NETWORKS="127.0.0.0/8,::1/128",
            NO_PROXY="",
            no_proxy="",
            **variables,
        )
        port = receiver.port
        urls = (receiver.url(), f"http://localhost:{port}/", secure.url())
        # A second attempt goes by a client of its own.
        jobs = [await make_run(url=url, attempt=attempt) for url in urls for attempt in (0, 1)]
        for job_id in jobs:
            [done] = await attempts(services, job_id, count=1)
            assert done["state"] == "done", done
        assert proxy.connections == 0


async def test_what_the_settings_deny_is_not_called_nor_asked_for(
    services: Services, make_run: MakeRun, receiver: Receiver, outer: Receiver
) -> None:
    async with Receiver() as other:
        urls = {
            f"http://denied.invalid:{other.port}/": "denied.invalid is named by DENIED_HOSTS",
            f"http://a.Inner.Invalid:{other.port}/": "a.inner.invalid is named by DENIED_HOSTS",
            receiver.url(): f"port {receiver.port} is named by DENIED_PORTS",
            outer.url(): f"{OUTER} may not be reached: named by DENIED_HOSTS",
            "http://mail.invalid:25/": "port 25 is named by DENIED_PORTS",
        }
        jobs = {url: await make_run(url=url) for url in urls}
        allowed = await make_run(url=other.url())
        await services.executor(
            DENIED_PORTS=f"25,{receiver.port}",
            DENIED_HOSTS=f"denied.invalid .inner.invalid {OUTER}",
        )
        for url, job_id in jobs.items():
            assert await refused(services, job_id) == f"egress: {urls[url]}"
        [done] = await attempts(services, allowed, count=1)
        assert done["state"] == "done"
        assert (receiver.connections, outer.connections) == (0, 0)


async def test_a_denied_name_is_not_even_asked_for() -> None:
    names = Names()
    async with a_sender(names, denied_names=[".denied.test"], denied_ports=[25]) as fire:
        for url in ("https://a.denied.test/", "http://other.test:25/"):
            assert isinstance(await fire(url), Refused)
    assert names.asked == []
