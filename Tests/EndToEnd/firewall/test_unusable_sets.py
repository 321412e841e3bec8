"""Sets that the server cannot use: it does not start, and says what to do."""

import re
import subprocess

import pytest
from support.datagrams import KEY
from support.firewall import only_ipset, only_nft
from support.waiting import until

MAKE4 = "nft 'add set inet pyknock knock4 { type ipv4_addr; flags timeout; }'"


REMAKE4 = (
    "nft 'delete set inet pyknock knock4;"
    " add set inet pyknock knock4 { type ipv4_addr; flags timeout; }'"
)


GOOD6 = "set knock6 { type ipv6_addr; flags timeout; }\n"


@only_nft
@pytest.mark.parametrize(
    ("sets", "options", "reason"),
    [
        (
            None,
            ["--ttl=1h"],
            "there is no table inet pyknock; to make it: nft 'add table inet pyknock;"
            " add set inet pyknock knock4 { type ipv4_addr; flags timeout; }'",
        ),
        ("", ["--ttl=1h"], f"there is no set knock4 of table inet pyknock; to make it: {MAKE4}"),
        (
            "set knock4 { type ipv6_addr; flags timeout; }",
            ["--ttl=1h"],
            "set knock4 of table inet pyknock does not hold ipv4_addr;"
            f" to make it: {REMAKE4}",
        ),
        (
            "set knock4 { type ipv4_addr . inet_service; flags timeout; }",
            ["--ttl=1h"],
            "set knock4 of table inet pyknock does not hold ipv4_addr;"
            f" to make it: {REMAKE4}",
        ),
        (
            "map knock4 { type ipv4_addr : verdict; flags timeout; }",
            ["--ttl=1h"],
            f"set knock4 of table inet pyknock is a map; to make it: {REMAKE4}",
        ),
        (
            "set knock4 { type ipv4_addr; flags constant; elements = { 192.0.2.1 } }",
            [],
            "set knock4 of table inet pyknock is constant; to make it: nft 'delete set inet"
            " pyknock knock4; add set inet pyknock knock4 { type ipv4_addr; }'",
        ),
        (
            "set knock4 { type ipv4_addr; }",
            ["--ttl=1h"],
            "set knock4 of table inet pyknock has no timeouts, which --ttl needs;"
            f" to make it: {REMAKE4}",
        ),
        (
            "set knock4 { type ipv4_addr; flags timeout, interval; timeout 1h; }",
            ["--ttl=1h"],
            "set knock4 of table inet pyknock has intervals and a timeout of its own, which is not"
            f" safe before Linux 6.2; to make it: {REMAKE4}",
        ),
        (
            "set knock4 { type ipv4_addr; flags timeout; }",
            ["--ttl=1h", "--grant-prefix4=24"],
            "set knock4 of table inet pyknock does not hold prefixes, which --grant-prefix4 needs;"
            " to make it: nft 'delete set inet pyknock knock4;"
            " add set inet pyknock knock4 { type ipv4_addr; flags timeout, interval; }'",
        ),
        (
            "set knock4 { type ipv4_addr; }",
            ["--grant-prefix4=24"],
            "set knock4 of table inet pyknock does not hold prefixes, which --grant-prefix4 needs;"
            " to make it: nft 'delete set inet pyknock knock4;"
            " add set inet pyknock knock4 { type ipv4_addr; flags interval; }'",
        ),
    ],
)  # fmt: skip
def test_a_set_of_nftables_that_is_not_as_it_must_be(firewall, start, sets, options, reason):
    if sets is not None:
        firewall.nft(f"table inet pyknock {{\n {sets}\n {GOOD6} }}")
    ours = start(*options, wait=False)
    assert ours.exit_code() == 1
    lines = [f"pyknock server: --nft: {reason}"]
    if sets is None:
        lines.append(reason.replace("knock4", "knock6").replace("ipv4", "ipv6"))
        lines[1] = f"pyknock server: --nft: {lines[1]}"
    assert ours.log.wait_for_end() == lines
    # The advised command makes a set that the server takes.
    command = re.search(r"nft '(.*)'$", reason)[1]
    firewall.output("nft", command)
    if sets is None:
        firewall.output("nft", command.replace("knock4", "knock6").replace("ipv4", "ipv6"))
    assert start(*options).stop() == 0


REMAKE_IPSET = (
    "to make it: ipset destroy knock4; ipset create knock4 hash:ip family inet timeout 0"
)


@only_ipset
@pytest.mark.parametrize(
    ("made", "options", "reason"),
    [
        (
            None,
            ["--ttl=1h"],
            "there is no ipset knock4; to make it:"
            " ipset create knock4 hash:ip family inet timeout 0",
        ),
        (None, [], "there is no ipset knock4; to make it: ipset create knock4 hash:ip family inet"),
        (
            "hash:ip family inet6 timeout 0",
            ["--ttl=1h"],
            "ipset knock4 does not hold addresses of family inet as hash:ip or hash:net do;"
            f" {REMAKE_IPSET}",
        ),
        (
            "hash:ip,port timeout 0",
            ["--ttl=1h"],
            "ipset knock4 does not hold addresses of family inet as hash:ip or hash:net do;"
            f" {REMAKE_IPSET}",
        ),
        (
            "hash:ip netmask 24 timeout 0",
            ["--ttl=1h"],
            "ipset knock4 has a mask, so it would hold more addresses than those that knock;"
            f" {REMAKE_IPSET}",
        ),
        (
            "hash:net",
            ["--ttl=1h"],
            f"ipset knock4 has no timeouts, which --ttl needs; {REMAKE_IPSET}",
        ),
        (
            "hash:ip timeout 0",
            ["--ttl=1h", "--grant-prefix4=24"],
            "ipset knock4 does not hold prefixes, which --grant-prefix4 needs; to make it:"
            " ipset destroy knock4; ipset create knock4 hash:net family inet timeout 0",
        ),
    ],
)  # fmt: skip
def test_a_set_of_ipset_that_is_not_as_it_must_be(firewall, start, made, options, reason):
    if made is not None:
        firewall.run(f"ipset create knock4 {made}")
    ours = start(*options, sets="--ipset=knock4", wait=False)
    assert ours.exit_code() == 1
    assert ours.log.wait_for_end() == [f"pyknock server: --ipset: {reason}"]
    for command in re.findall(r"ipset (?:create|destroy) [^;]*", reason):
        firewall.run(command)
    assert start(*options, sets="--ipset=knock4").stop() == 0


def test_the_name_of_an_ipset_may_be_the_key(firewall, server):
    ours = server("--ipset", KEY[:5], words=[KEY], network=firewall, wait=False)
    assert ours.exit_code() == (2 if " " in KEY[:5] else 1)
    assert KEY[:5] not in "\n".join(ours.log.wait_for_end())


def test_a_check_tells_that_the_sets_are_good(firewall, start):
    firewall.load_example()
    ours = start("--ttl=1h", "--check", wait=False)
    assert ours.exit_code() == 0
    assert ours.output.wait_for_end() == ["configuration OK"]


@only_nft
def test_a_table_that_belongs_to_another_program(firewall, start):
    owner = subprocess.Popen(
        [*firewall.prefix, "nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        owner.stdin.write(
            b"table inet pyknock { flags owner; set knock4 { type ipv4_addr; flags timeout; }; }\n"
        )
        owner.stdin.flush()
        until(lambda: "knock4" in firewall.output("nft", "list", "ruleset"), "the table")
        ours = start("--ttl=1h", sets="--nft=inet/pyknock/knock4", wait=False)
        assert ours.exit_code() == 1
        assert ours.log.wait_for_end() == [
            "pyknock server: --nft: table inet pyknock belongs to another program (flags owner),"
            " which alone can change it"
        ]
    finally:
        owner.communicate()
