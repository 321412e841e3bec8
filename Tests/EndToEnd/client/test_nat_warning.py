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
        ["10.9.9.9", "-S", "192.168.1.1"], ["127.0.0.1", "-S", "10.0.0.1"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_there_is_no_warning_about_nat_without_reason(network, words):
    result = client("open", *words, network=network)
    assert (result.code, result.lines) == (0, [])
