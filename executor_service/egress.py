"""Egress: which addresses a webhook may reach.

Decided on the address that is connected to, never on a name: a name may resolve to anything, and
to something else the next time. Only what the world routes is allowed, unless a setting names the
network. Settings may deny more, and a denial counts for more than a permission: ports, addresses,
and names, though another name for the same host gets around a denied one.
"""

from collections.abc import Collection, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# IANA IPv4 and IPv6 Special-Purpose Address Registries, plus multicast and what was withdrawn but
# may still be routed inside a site. Our own table: Python 3.11's `is_global` is true for NAT64,
# 6to4, ::/96, fec0::/10, 5f00::/16 and 3fff::/20.
NOT_PUBLIC: dict[str, str] = {
    "0.0.0.0/8": "this network (RFC 791)",
    "10.0.0.0/8": "private (RFC 1918)",
    "100.64.0.0/10": "shared by carriers (RFC 6598)",
    "127.0.0.0/8": "loopback (RFC 1122)",
    "168.63.129.16/32": "a cloud's platform and metadata, behind a public address (Azure)",
    "169.254.0.0/16": "link-local, cloud metadata (RFC 3927)",
    "172.16.0.0/12": "private (RFC 1918)",
    "192.0.0.0/24": "protocol assignments (RFC 6890)",
    "192.0.2.0/24": "documentation (RFC 5737)",
    "192.31.196.0/24": "AS112 (RFC 7535)",
    "192.52.193.0/24": "AMT (RFC 7450)",
    "192.88.99.0/24": "6to4 relay (RFC 7526)",
    "192.168.0.0/16": "private (RFC 1918)",
    "192.175.48.0/24": "AS112 (RFC 7534)",
    "198.18.0.0/15": "benchmarking (RFC 2544)",
    "198.51.100.0/24": "documentation (RFC 5737)",
    "203.0.113.0/24": "documentation (RFC 5737)",
    "224.0.0.0/4": "multicast (RFC 5771)",
    "240.0.0.0/4": "reserved, broadcast (RFC 1112)",
    "::/96": "unspecified, loopback, IPv4-compatible (RFC 4291)",
    "::ffff:0:0/96": "IPv4-mapped (RFC 4291)",
    "::ffff:0:0:0/96": "IPv4-translated (RFC 2765)",
    "64:ff9b::/96": "NAT64 (RFC 6052)",
    "64:ff9b:1::/48": "NAT64, local (RFC 8215)",
    "100::/64": "discard (RFC 6666)",
    "100:0:0:1::/64": "dummy (RFC 9780)",
    "2001::/23": "protocol assignments, Teredo (RFC 2928)",
    "2001:db8::/32": "documentation (RFC 3849)",
    "2002::/16": "6to4 (RFC 3056)",
    "2620:4f:8000::/48": "AS112 (RFC 7534)",
    "3fff::/20": "documentation (RFC 9637)",
    "5f00::/16": "segment routing (RFC 9602)",
    "fc00::/7": "unique local (RFC 4193)",
    "fe80::/10": "link-local (RFC 4291)",
    "fec0::/10": "site-local (RFC 3879)",
    "ff00::/8": "multicast (RFC 4291)",
}
ANSWERS_KEPT = 10_000
_NETWORKS = [(ip_network(text), reason) for text, reason in NOT_PUBLIC.items()]
_GLOBAL_UNICAST = IPv6Network("2000::/3")


class Egress:
    """The rule, with what the settings allow besides public networks, and what they deny.

    Denied names are in the form of `Target.host`: small letters, no dot at the end. One that begins
    with a dot denies the name after it and every name under that.
    """

    def __init__(
        self,
        allowed: Iterable[Network] = (),
        *,
        denied_ports: Collection[int] = (),
        denied_names: Collection[str] = (),
        denied_networks: Iterable[Network] = (),
    ) -> None:
        self._allowed = tuple(allowed)
        self._denied_ports = frozenset(denied_ports)
        self._denied_names = frozenset(denied_names)
        self._denied_networks = tuple(denied_networks)
        # Thirty networks a call are 15 µs; what is called is few addresses and few names.
        self.refusal = lru_cache(maxsize=ANSWERS_KEPT)(self._refusal)
        self.refusal_of = lru_cache(maxsize=ANSWERS_KEPT)(self._refusal_of)

    def _refusal_of(self, host: str, port: int) -> str | None:
        """Say why this host and port may not be called, whatever its address; None when they may.

        To be asked before the name is looked up: a denied name is not even asked for.
        """
        if port in self._denied_ports:
            return f"port {port} is named by DENIED_PORTS"
        name = host.removesuffix(".")
        labels = name.split(".")
        parents = {"." + ".".join(labels[place:]) for place in range(len(labels))}
        if name in self._denied_names or not parents.isdisjoint(self._denied_names):
            return f"{name} is named by DENIED_HOSTS"
        return None

    def _refusal(self, address: Address) -> str | None:
        """Say why this address may not be reached; None when it may."""
        # A mapped address reaches the IPv4 host, so the IPv4 rules are the ones that count.
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        address = mapped or address
        if any(address in network for network in self._denied_networks):
            return "named by DENIED_HOSTS"
        if any(address in network for network in self._allowed):
            return None
        for network, reason in _NETWORKS:
            if address in network:
                return reason
        if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
            return "outside global unicast (RFC 4291)"
        return None
