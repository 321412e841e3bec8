"""Knocks arrive while somebody floods the port, through the rules of --example."""

import json
import re
import socket
import subprocess
from pathlib import Path

import pytest
from support import programs
from support.datagrams import KEY, packet
from support.firewall import only_nft
from support.networks import CLIENT, SERVER
from support.programs import run
from support.waiting import until

# Datagrams in a second, and how many of them there are for each knock.
RATE, EACH, KNOCKS = 20_000, 1000, 60
# On a busy machine a part of a flood may be lost before the server has it. So many floods are tried.
ATTEMPTS = 5
INET, INET6 = socket.AF_INET, socket.AF_INET6

FLOODS = {
    "wrong-length": (INET, packet() + b"x"),
    "wrong-bytes": (INET, bytes(range(49))),
    "wrong-mac": (INET, packet(key="another key")),
    "wrong-length-ipv6": (INET6, packet("2001:db8::7")[:-1]),
    "wrong-bytes-ipv6": (INET6, bytes(range(61))),
    "wrong-mac-ipv6": (INET6, packet("2001:db8::7", key="another key", family=30)),
}


@pytest.fixture(scope="module")
def flood(tmp_path_factory):
    """The program that sends the flood; see flood.c."""
    path = tmp_path_factory.mktemp("flood") / "flood"
    source = Path(programs.__file__).with_name("flood.c")
    subprocess.run(["clang", "-O2", "-Wall", "-Werror", "-o", path, source], check=True)
    return path


def cable(network):
    """The numbers of packets that the kernel counts at an end of the cable."""
    [link] = json.loads(run([*network.prefix, "ip", "-j", "-s", "link", "show", "cable"]).stdout)
    return link["stats64"]


def tracked(network):
    """How many connections the kernel tracks."""
    return int(run([*network.prefix, "cat", "/proc/sys/net/netfilter/nf_conntrack_count"]).stdout)


def lost(firewall, outside):
    """How many datagrams found no room in the cable, or in the socket that they were for."""
    text = run([*firewall.prefix, "cat", "/proc/net/snmp", "/proc/net/snmp6"]).stdout
    names, values = [line.split() for line in text.splitlines() if line.startswith("Udp:")]
    inet, inet6 = values[names.index("RcvbufErrors")], re.search(r"Udp6RcvbufErrors\s+(\d+)", text)[1]
    return int(inet) + int(inet6) + cable(outside)["tx"]["dropped"] + cable(firewall)["rx"]["dropped"]


def knock_in_flood(firewall, outside, flood, start, kind_of_flood, key=KEY):
    """Starts a server by a function of the port, and floods it. KNOCKS knocks are in the flood, and all must open."""
    family, junk = FLOODS[kind_of_flood]
    port = firewall.free_port()
    firewall.load_example(f"--port={port}")
    # Without a link-local address, the kernel asks for no neighbour for a packet from a foreign address.
    outside.add_address("fe80::2/64", "cable")
    # Kernels that check sources then take these.
    firewall.run(f"ip route add 198.18.0.0/15 via {CLIENT[INET]}")
    ours = start(port)
    for attempt in range(ATTEMPTS):
        received, lost_before = cable(firewall)["rx"]["packets"], lost(firewall, outside)
        addresses = {f"10.0.{attempt}.{number}" for number in range(1, KNOCKS + 1)}
        knocks = "".join(f"{packet(address, key=key).hex()}\n" for address in addresses)
        words = [flood, SERVER[family], str(port), str(RATE), str(EACH), junk.hex()]
        rate = int(run([*outside.prefix, *words], stdin=knocks.encode()).stdout)
        if lost(firewall, outside) == lost_before:
            break
    else:
        pytest.fail(f"of {ATTEMPTS} floods, none has arrived whole")
    # The flood was what it should be, and left nothing behind. A busy machine does not reach RATE.
    assert cable(firewall)["rx"]["packets"] - received >= EACH * KNOCKS
    assert rate > RATE / 2
    assert tracked(firewall) < 10
    until(lambda: addresses <= firewall.elements().keys(), lambda: f"{len(firewall.elements())} knocks are open")
    ours.wait_for_counters(accepted=len(firewall.elements()))


@pytest.mark.slow
@pytest.mark.parametrize("kind_of_flood", FLOODS)
def test_every_knock_is_accepted_in_a_flood(firewall, outside, start, flood, kind_of_flood):
    knock_in_flood(firewall, outside, flood, lambda port: start("--ttl=1h", f"-p{port}", port=port), kind_of_flood)


@pytest.mark.slow
@only_nft
def test_every_knock_is_accepted_with_sixteen_keys(firewall, outside, start, flood, tmp_path):
    """Each datagram is tried with each key. The knocks have the last one."""
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for number in range(16):
        (keys / f"user{number}").write_text(f"the key of user {number}, which nobody can guess\n")
        (keys / f"user{number}").chmod(0o600)
    more = [f"--keys={keys}", f"--state={tmp_path / 'state'}"]
    knock_in_flood(
        firewall,
        outside,
        flood,
        lambda port: start("--ttl=1h", f"-p{port}", *more, port=port, words=[]),
        "wrong-mac",
        "the key of user 15, which nobody can guess",
    )
