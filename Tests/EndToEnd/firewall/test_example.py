"""The rules of --example, from end to end: packets arrive or they do not."""

import contextlib
import re
import socket
import struct

import pytest
from support.datagrams import packet
from support.networks import CLIENT, SERVER
from support.programs import TIMEOUT, program, run
from support.servers import client
from support.waiting import until

FAMILIES = [socket.AF_INET, socket.AF_INET6]
# Seconds after which a connection attempt counts as dropped.
PATIENCE = 0.3


@pytest.fixture
def service(firewall):
    """The service to hide: a listener at port 22."""
    with contextlib.ExitStack() as stack:
        for family in FAMILIES:
            listening = stack.enter_context(firewall.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 22))
            listening.listen()
        yield


def connects(outside, family):
    """Whether the service can be reached. If it cannot, nothing must answer."""
    with outside.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect((SERVER[family], 22))
        except TimeoutError:
            return False
        return True


def knock(outside, ours, command, family):
    result = client(command, SERVER[family], f"-p{ours.port}", network=outside)
    assert result.code == 0, result


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("service")
def test_the_service_can_be_reached_from_a_knock_to_its_time(firewall, outside, start, family):
    port = firewall.free_port()
    firewall.load_example(f"--port={port}")
    ours = start("--ttl=3", f"-p{port}", port=port)
    assert not connects(outside, family)
    knock(outside, ours, "open", family)
    until(lambda: connects(outside, family), "a connection")
    other = FAMILIES[1 - FAMILIES.index(family)]
    assert not connects(outside, other)
    firewall.expect([], name="knock4" if family == socket.AF_INET else "knock6")
    assert not connects(outside, family)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("service")
def test_the_service_can_be_reached_from_a_knock_to_a_close(firewall, outside, start, family):
    port = firewall.free_port()
    firewall.load_example(f"--port={port}")
    ours = start("--ttl=1h", "-v", f"-p{port}", port=port)
    knock(outside, ours, "open", family)
    ours.log.wait_for(f"^pyknock server: set changed: open {CLIENT[family]}$")
    until(lambda: connects(outside, family), "a connection")
    knock(outside, ours, "close", family)
    ours.log.wait_for(f"^pyknock server: set changed: close {CLIENT[family]}$")
    assert not connects(outside, family)
    # To close a closed address is no error.
    knock(outside, ours, "close", family)
    done = "changed" if firewall.kind == "ipset" else "already up to date"
    ours.log.wait_for(f"^pyknock server: set {done}: close {CLIENT[family]}$")


class Sniffer:
    """All that the server sends to the client, except ARP, neighbour discovery and multicast reports."""

    def __init__(self, outside):
        self.socket = outside.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING: linux/if_packet.h
        self.socket.bind(("cable", 3))  # ETH_P_ALL
        self.socket.settimeout(TIMEOUT)

    def next(self):
        """The protocol and the payload of the next packet."""
        while True:
            data = self.socket.recv(2048)
            protocol = struct.unpack("!H", data[12:14])[0]
            if protocol == 0x0806:
                continue
            if protocol == 0x86DD:
                if data[20] == socket.IPPROTO_ICMPV6 and 130 <= data[54] <= 143:
                    continue
                if data[20] == 0:  # Multicast reports have hop-by-hop options.
                    continue
                return data[20], data[54:]
            return data[23], data[34:]


@pytest.mark.slow
@pytest.mark.parametrize("is_running", [True, False], ids=["server-up", "server-down"])
@pytest.mark.usefixtures("service")
def test_a_scan_sees_nothing(firewall, outside, start, is_running):
    port = firewall.free_port()
    firewall.load_example(f"--port={port}")
    ours = start("--ttl=1h", f"-p{port}", port=port)
    if not is_running:
        ours.stop()
    sniffer = Sniffer(outside)
    for family in FAMILIES:
        with outside.socket(family) as scanner:
            for number in range(1, 65536):
                scanner.sendto(b"", (SERVER[family], number))
            for length in (0, 1, 44, 45, 48, 49, 50, 60, 61, 62, 512, 1400):
                for content in (bytes(length), bytes(range(256)) * 6):
                    scanner.sendto(content[:length], (SERVER[family], port))
            scanner.sendto(packet(key="not the key"), (SERVER[family], port))
        with outside.socket(family, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connection.connect((SERVER[family], 80))
    # The first packet must be the answer to a connection that is allowed after the scan.
    address = CLIENT[socket.AF_INET]
    if firewall.kind == "nft":
        firewall.nft(f"add element inet pyknock knock4 {{ {address} }}")
    else:
        firewall.output("ipset", "add", "knock4", address)
    until(lambda: connects(outside, socket.AF_INET), "a connection")
    protocol, payload = sniffer.next()
    seen = (protocol, payload[:2])
    assert seen == (socket.IPPROTO_TCP, struct.pack("!H", 22)), payload


def test_the_example_is_accepted_and_names_the_port(firewall):
    for port, options in (("60120", []), ("4711", ["--port=4711"])):
        shown = run([*program("server"), "--example", firewall.kind, *options])
        assert (shown.code, shown.stderr) == (0, "")
        assert f"dport {port} " in shown.stdout
        if firewall.kind == "nft":
            firewall.output("nft", "-c", "-f", "-", stdin=shown.stdout.encode())
        else:
            firewall.output("sh", "-n", stdin=shown.stdout.encode())


def test_loaded_again_the_example_keeps_who_has_knocked(firewall, start):
    firewall.load_example()
    ours = start("--ttl=1h", "-v")
    ours.knock()
    ours.log.wait_for("set changed")

    def rules():
        if firewall.kind == "nft":
            listed = firewall.output("nft", "-s", "list", "ruleset")
            return re.sub(r"elements = \{.*?\}", "", listed, flags=re.DOTALL)
        saved = firewall.output("iptables-save") + firewall.output("ip6tables-save")
        return re.sub(r"^#.*$|\[\d+:\d+\]", "", saved, flags=re.MULTILINE)

    before = rules()
    firewall.load_example()
    assert rules() == before
    assert list(firewall.elements()) == ["192.0.2.1"]
