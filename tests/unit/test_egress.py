"""Egress: what the world routes may be reached, nothing else unless it is named."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from executor_service.egress import NOT_PUBLIC, Address, Egress
from shared.settings import ExecutorSettings, explain


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254"),
        *("172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
        *("198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1"),
        *("240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::"),
        *("3fff::1", "5f00::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "4000::1"),
    ],
)
def test_what_is_not_public_is_refused_with_its_reason(text: str) -> None:
    assert Egress().refusal(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *("1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.1", "192.167.255.255", "100.128.0.1"),
        *("2606:4700::1111", "2a00:1450::1", "::ffff:1.1.1.1"),
    ],
)
def test_what_is_public_may_be_reached(text: str) -> None:
    assert Egress().refusal(ip_address(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        *("169.254.169.254", "169.254.170.2", "169.254.169.123"),  # most clouds, containers, time
        *("100.100.100.200", "192.0.0.192", "168.63.129.16"),  # Alibaba, Oracle, Azure
        *("fd00:ec2::254", "fd20:ce::254", "fe80::a9fe:a9fe"),  # AWS, Google, OpenStack
        *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"),  # by way of IPv6
    ],
)
def test_the_metadata_of_every_cloud_is_refused(text: str) -> None:
    assert Egress().refusal(ip_address(text))


ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@given(address=ADDRESSES)
@example(address=ip_address("192.0.0.9"))
@example(address=ip_address("2001:1::1"))
@example(address=ip_address("fec0::1"))
def test_what_python_holds_for_special_is_refused(address: Address) -> None:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    judged = mapped or address  # a mapped address reaches the IPv4 host
    is_special = (
        judged.is_private
        or judged.is_reserved
        or judged.is_multicast
        or judged.is_link_local
        or judged.is_loopback
        or judged.is_unspecified
        or not judged.is_global
        or (isinstance(judged, IPv6Address) and judged.is_site_local)
    )
    if is_special:
        assert Egress().refusal(address)


@pytest.mark.parametrize("network", ["224.0.0.0/4", "2000::/3", "0.0.0.0/1", "::/96", "::/0"])
@given(data=st.data())
def test_what_may_be_reached_is_held_for_public_by_python_too(
    network: str, data: st.DataObject
) -> None:
    address = data.draw(st.ip_addresses(network=network))
    if Egress().refusal(address) is None:
        judged = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        assert (judged or address).is_global
        assert not (judged or address).is_multicast


@pytest.mark.parametrize(
    "text",
    [
        *("64:ff9b::808:808", "2002:808:808::1"),  # NAT64 and 6to4: an IPv4 address inside
        *("::8.8.8.8", "::ffff:0:808:808"),  # IPv4-compatible and -translated
        *("fec0::1", "5f00::1", "3fff::1", "100:0:0:1::1"),
        *("192.88.99.1", "192.31.196.1", "192.52.193.1", "192.175.48.1", "2620:4f:8000::1"),
        *("168.63.129.16", "8000::1", "e000::1"),
    ],
)
def test_what_some_version_of_python_holds_for_public_is_refused(text: str) -> None:
    assert Egress().refusal(ip_address(text))


@given(inner=st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_the_same_inside_a_mapped_one(inner: IPv4Address) -> None:
    mapped = IPv6Address(f"::ffff:{inner}")
    assert Egress().refusal(mapped) == Egress().refusal(inner)


def test_a_named_network_may_be_reached_and_no_other() -> None:
    egress = Egress([ip_network("10.1.0.0/16"), ip_network("::1/128")])
    assert egress.refusal(ip_address("10.1.2.3")) is None
    assert egress.refusal(ip_address("::ffff:10.1.2.3")) is None
    assert egress.refusal(ip_address("::1")) is None
    assert egress.refusal(ip_address("10.2.0.1"))
    assert egress.refusal(ip_address("127.0.0.1"))


def test_every_network_of_the_table_is_refused_from_its_first_to_its_last_address() -> None:
    egress = Egress()
    for text in NOT_PUBLIC:
        network = ip_network(text)
        if text == "::ffff:0:0/96":  # judged by the IPv4 address in it
            continue
        assert egress.refusal(network[0])
        assert egress.refusal(network[-1])


def test_a_denied_network_is_refused_though_it_is_public_or_allowed() -> None:
    egress = Egress(
        [ip_network("10.0.0.0/8")],
        denied_networks=[ip_network("10.9.0.0/16"), ip_network("8.8.8.8"), ip_network("2606::/16")],
    )
    for text in ("10.9.1.1", "8.8.8.8", "::ffff:8.8.8.8", "2606:4700::1111"):
        assert egress.refusal(ip_address(text)) == "named by DENIED_HOSTS"
    for text in ("10.8.1.1", "8.8.4.4", "2a00:1450::1"):
        assert egress.refusal(ip_address(text)) is None


def test_a_denied_port_is_refused_whatever_the_host() -> None:
    egress = Egress(denied_ports={25, 465})
    assert egress.refusal_of("example.com", 25) == "port 25 is named by DENIED_PORTS"
    assert egress.refusal_of("8.8.8.8", 465)
    assert egress.refusal_of("example.com", 443) is None


@pytest.mark.parametrize(
    ("denied", "refused", "allowed"),
    [
        (
            "example.com",
            ["example.com", "example.com."],
            ["www.example.com", "example.com.au", "notexample.com", "com"],
        ),
        (
            ".example.com",
            ["example.com", "www.example.com", "a.b.example.com", "www.example.com."],
            ["notexample.com", "example.com.au", "com", "xample.com"],
        ),
        (".internal", ["internal", "db.internal"], ["internal.example.com", "dbinternal"]),
    ],
)
def test_a_denied_name_is_refused_and_with_a_dot_all_under_it(
    denied: str, refused: list[str], allowed: list[str]
) -> None:
    egress = Egress(denied_names=[denied])
    for name in refused:
        assert egress.refusal_of(name, 443) == f"{name.rstrip('.')} is named by DENIED_HOSTS"
    for name in allowed:
        assert egress.refusal_of(name, 443) is None


def test_the_settings_name_what_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENIED_HOSTS", "Example.COM., .internal 10.9.0.0/16,8.8.8.8 ::1 xn--a-1ga")
    monkeypatch.setenv("DENIED_PORTS", "25, 8080 6379")
    settings = ExecutorSettings()
    assert settings.denied_names == {"example.com", ".internal", "xn--a-1ga"}
    assert {str(network) for network in settings.denied_networks} == {
        *("10.9.0.0/16", "8.8.8.8/32", "::1/128")
    }
    assert settings.denied_port_numbers == {25, 8080, 6379}


def test_a_shell_and_mail_are_denied_unless_a_setting_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ExecutorSettings().denied_port_numbers == {22, 25, 465, 587}
    assert not ExecutorSettings().denied_names
    monkeypatch.setenv("DENIED_PORTS", ",")
    assert not ExecutorSettings().denied_port_numbers


@pytest.mark.parametrize(
    ("variable", "word", "remedy"),
    [
        *(("DENIED_PORTS", word, "from 1 to 65535") for word in ("0", "65536", "-1", "smtp", "²")),
        *(
            ("DENIED_HOSTS", word, ".example.com")
            for word in (
                *("*.example.com", "http://example.com", "example.com:80", "example.com/path"),
                *("2130706433", "127.1", "0x7f.1", "10.0.0.5/8", "a..b", ".", "bücher.example"),
            )
        ),
    ],
)
def test_a_word_that_would_deny_nothing_refuses_to_start_and_is_named_with_the_remedy(
    variable: str, word: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"443 {word}" if variable == "DENIED_PORTS" else f"a.test,{word}")
    with pytest.raises(ValidationError) as refusal:
        ExecutorSettings()
    lines = explain(refusal.value)
    assert lines.startswith(f"{variable}: {word!r} is no ")
    assert remedy in lines
