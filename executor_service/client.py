"""The delivery client: one request to one vetted address, written once.

pyreqwest is hyper and reqwest of Rust: 66 to 73 µs of CPU a request, where aiohttp takes 139 and
httpx 3,424. It follows no redirect, uses no proxy, unpacks nothing (a gzip bomb stays a file of
nought), and in our tests never wrote a request twice.

The address is pinned, so that the host that was vetted is the host that is reached. For http the
address stands in the URL and the name in the Host header, and one client serves all. For https the
name must stay for SNI and the certificate, so a client of its own pins it; those cost 3 ms to
build and are kept.

Connections are kept and used again. One that the receiver closes just then costs an attempt: nobody
knows whether the request was read. So that this cannot happen to every attempt of a run, an attempt
that follows a failed one gets a connection of its own.
"""

from collections import OrderedDict
from datetime import timedelta
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import RequestError
from pyreqwest.http import Url
from pyreqwest.request import RequestBuilder

from executor_service.egress import Address

PINNED_CLIENTS_MAX = 1_000
# Shorter than the 5 s after which common servers close an idle connection: reuse is faster, but a
# request written into a connection that is just closing fails without anyone knowing whether it
# was read.
IDLE_SECONDS = 4.0


class Target(NamedTuple):
    """A URL as the delivery client reads it."""

    url: Url
    destination: str  # scheme://host:port
    scheme: str
    authority: str  # host and port as the Host header says them
    host: str
    port: int
    address: Address | None  # the host, where it is no name


@lru_cache(maxsize=4_096)
def read_target(text: str) -> Target:
    """Read a URL. Raises ValueError for one that could not be called."""
    url = Url(text)
    host, port = url.host_str, url.port_or_known_default
    if url.scheme not in {"http", "https"} or not host or not port:
        raise ValueError("not an http or https URL with a host")
    try:
        address: Address | None = ip_address(host.strip("[]"))
    except ValueError:
        address = None
    authority = host if url.port is None else f"{host}:{url.port}"
    return Target(url, f"{url.scheme}://{host}:{port}", url.scheme, authority, host, port, address)


class Clients:
    """The clients of one executor."""

    def __init__(
        self, *, connect_seconds: float, idle_per_host_max: int, extra_ca_file: str = ""
    ) -> None:
        self._connect_timeout = timedelta(seconds=connect_seconds)
        self._idle_per_host_max = idle_per_host_max
        self._extra_ca = Path(extra_ca_file).read_bytes() if extra_ca_file else None
        self._plain = {reuse: self._builder(reuse=reuse).build() for reuse in (True, False)}
        self._pinned: OrderedDict[tuple[str, int, Address, bool], Client] = OrderedDict()

    def request(
        self, method: str, target: Target, address: Address, *, reuse: bool = True
    ) -> RequestBuilder:
        """Begin a request that can reach this address only, on a connection of its own if asked."""
        if target.scheme == "http":
            if target.address is not None:
                return self._plain[reuse].request(method, target.url)
            url = target.url.with_ip_host(str(address))
            return self._plain[reuse].request(method, url).header("host", target.authority)
        return self._client_for(target, address, reuse=reuse).request(method, target.url)

    async def close(self) -> None:
        """Close every connection."""
        for client in [*self._plain.values(), *self._pinned.values()]:
            await client.close()

    def _client_for(self, target: Target, address: Address, *, reuse: bool) -> Client:
        key = (target.host, target.port, address, reuse)
        client = self._pinned.get(key)
        if client is None:
            builder = self._builder(reuse=reuse)
            if target.address is None:
                builder = builder.resolve(target.host, str(address), target.port)
            client = self._pinned[key] = builder.build()
            if len(self._pinned) > PINNED_CLIENTS_MAX:
                self._pinned.popitem(last=False)  # requests under way keep it alive until they end
        self._pinned.move_to_end(key)
        return client

    def _builder(self, *, reuse: bool) -> ClientBuilder:
        builder = (
            ClientBuilder()
            .no_proxy()
            .follow_redirects(False)
            .referer(False)
            .http1_only()
            .http1_lower_case_headers()
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .connect_timeout(self._connect_timeout)
            .pool_idle_timeout(timedelta(seconds=IDLE_SECONDS))
            .pool_max_idle_per_host(self._idle_per_host_max if reuse else 0)
        )
        return builder.add_root_certificate_pem(self._extra_ca) if self._extra_ca else builder


def was_never_sent(error: RequestError) -> bool:
    """Whether no byte of the request can have left: the connection was never made.

    Read from the cause chain. The class does not tell: a connection that closes after the request
    was written raises ConnectError too.
    """
    return "client error (Connect)" in _causes(error)


def reason(error: RequestError) -> str:
    """Say what went wrong in a line, without the URL: it may hold a secret."""
    told = [cause for cause in _causes(error) if "://" not in cause]
    return told[-1][:200] if told else type(error).__name__


def _causes(error: RequestError) -> list[str]:
    return [cause["message"] for cause in error.details.get("causes") or []]
