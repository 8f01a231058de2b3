"""Egress: what the world routes may be reached, nothing else unless it is named."""

from ipaddress import ip_address, ip_network

import pytest

from executor_service.egress import NOT_PUBLIC, Egress


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
