"""The warning about private addresses."""

import pytest
from support.servers import client

WARNING = (
    "pyknock client: warning: {} is a private address, {} a public one:"
    " behind NAT, name the public address with -S"
)


@pytest.mark.parametrize(
    "words, private, public",
    [
        (["203.0.113.1"], "10.0.0.1", "203.0.113.1"),
        (["198.51.100.1"], "100.64.0.1", "198.51.100.1"),
        (["2001:db8:1::1"], "fd00::1", "2001:db8:1::1"),
        (["203.0.113.1", "-S", "192.168.7.7"], "192.168.7.7", "203.0.113.1"),
        (["203.0.113.1", "-S", "172.31.255.255"], "172.31.255.255", "203.0.113.1"),
        (["203.0.113.1", "-S", "fdff::1"], "fdff::1", "203.0.113.1"),
        # Special purposes: behind NAT64 and DS-Lite, benchmarks, link-local, translated.
        (["203.0.113.1", "-S", "192.0.0.2"], "192.0.0.2", "203.0.113.1"),
        (["203.0.113.1", "-S", "198.19.0.1"], "198.19.0.1", "203.0.113.1"),
        (["203.0.113.1", "-S", "169.254.7.7"], "169.254.7.7", "203.0.113.1"),
        (["203.0.113.1", "-S", "127.0.0.1"], "127.0.0.1", "203.0.113.1"),
        (["203.0.113.1", "-S", "240.0.0.1"], "240.0.0.1", "203.0.113.1"),
        (["2001:db8:1::1", "-S", "fe80::1"], "fe80::1", "2001:db8:1::1"),
        (["2001:db8:1::1", "-S", "64:ff9b::c000:207"], "64:ff9b::c000:207", "2001:db8:1::1"),
        (["2001:db8:1::1", "-S", "64:ff9b:1::7"], "64:ff9b:1::7", "2001:db8:1::1"),
    ],
)
def test_a_private_address_towards_a_public_host_warns(network, words, private, public):
    result = client("open", *words, network=network)
    assert result.code == 0
    assert result.lines == [WARNING.format(private, public)]


def test_the_warning_about_nat_appears_once(network):
    result = client("open", "public.test", "-v", network=network)
    assert result.code == 0
    assert len([line for line in result.lines if ": sent open " in line]) == 2
    assert len([line for line in result.lines if "warning" in line]) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["10.9.9.9"], ["127.0.0.1"], ["::1"], ["fd00::1"], ["203.0.113.1", "-S", "203.0.113.9"],
        ["203.0.113.1", "-S", "172.32.0.1"], ["203.0.113.1", "-S", "100.128.0.1"],
        ["64:ff9b::c633:6401", "-S", "203.0.113.9"], ["169.254.1.1", "-S", "10.0.0.1"],
        ["10.9.9.9", "-S", "192.168.1.1"], ["127.0.0.1", "-S", "10.0.0.1"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_there_is_no_warning_about_nat_without_reason(network, words):
    result = client("open", *words, network=network)
    assert (result.code, result.lines) == (0, [])


@pytest.mark.parametrize("server", ["64:ff9b::c633:6401", "64:ff9b:1::c633:6401"])
@pytest.mark.parametrize("words, signed", [([], "2001:db8:1::9"), (["-S", "10.0.0.1"], "10.0.0.1")])
def test_behind_nat64_the_ipv6_address_is_not_what_the_server_sees(network, server, words, signed):
    result = client("open", server, *words, network=network)
    assert (result.code, result.lines) == (0, [
        f"pyknock client: warning: {server} is reached through NAT64, and {signed} is not what the server sees:"
        " name the public IPv4 address with -S"
    ])
