"""Knocks arrive while somebody floods the port, through the rules of --example."""

import json
import socket
import subprocess
from pathlib import Path

import pytest
from support import programs
from support.datagrams import packet
from support.networks import CLIENT, SERVER
from support.programs import run
from support.waiting import until

# Datagrams in a second, and how many of them there are for each knock.
RATE, EACH, KNOCKS = 20_000, 1000, 60
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


def received(network):
    """How many packets came through the cable."""
    [link] = json.loads(run([*network.prefix, "ip", "-j", "-s", "link", "show", "cable"]).stdout)
    return link["stats64"]["rx"]["packets"]


def tracked(network):
    """How many connections the kernel tracks."""
    return int(run([*network.prefix, "cat", "/proc/sys/net/netfilter/nf_conntrack_count"]).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("kind_of_flood", FLOODS)
def test_every_knock_is_accepted_in_a_flood(firewall, outside, start, flood, kind_of_flood):
    family, junk = FLOODS[kind_of_flood]
    port = firewall.free_port()
    firewall.load_example(f"--port={port}")
    # Without a link-local address, the kernel asks for no neighbour for a packet from a foreign address.
    outside.run("ip address add fe80::2/64 dev cable nodad")
    # Kernels that check sources then take these.
    firewall.run(f"ip route add 198.18.0.0/15 via {CLIENT[INET]}")
    ours = start("--ttl=1h", f"-p{port}", port=port)
    before = received(firewall)
    knocks = "".join(f"{packet(f'10.0.0.{number}').hex()}\n" for number in range(1, KNOCKS + 1))
    words = [flood, SERVER[family], str(port), str(RATE), str(EACH), junk.hex()]
    rate = int(run([*outside.prefix, *words], stdin=knocks.encode()).stdout)
    until(lambda: len(firewall.elements()) == KNOCKS, lambda: f"{len(firewall.elements())} knocks are open")
    ours.wait_for_counters(accepted=KNOCKS)
    # The flood was what it should be, and left nothing behind. A busy machine does not reach RATE.
    assert received(firewall) - before >= EACH * KNOCKS
    assert rate > RATE / 2
    assert tracked(firewall) < 10
