"""The rules of --example, from end to end: packets arrive or they do not."""

import contextlib
import json
import re
import socket
import struct

import pytest
from support.datagrams import knocks_of_all_forms, nearly_knocks, packet
from support.networks import CLIENT, SERVER, listener
from support.programs import TIMEOUT, program, run
from support.servers import knock_through_cable
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


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("service")
def test_the_service_can_be_reached_from_a_knock_to_its_time(firewall, outside, start, family):
    port = firewall.free_port()
    firewall.load_example(f"--port={port}")
    ours = start("--ttl=3", f"-p{port}", port=port)
    assert not connects(outside, family)
    knock_through_cable(outside, ours.port, "open", family)
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
    knock_through_cable(outside, ours.port, "open", family)
    ours.log.wait_for(f"^pyknock server: set changed: open {CLIENT[family]}$")
    until(lambda: connects(outside, family), "a connection")
    knock_through_cable(outside, ours.port, "close", family)
    ours.log.wait_for(f"^pyknock server: set changed: close {CLIENT[family]}$")
    assert not connects(outside, family)
    # To close a closed address is no error.
    knock_through_cable(outside, ours.port, "close", family)
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
            for length in (0, 1, 44, 45, 48, 49, 50, 60, 61, 62, 71, 72, 73, 512, 1400):
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


ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
# Ends what a test sends. The rules let it in wherever they let anything in.
LAST = packet("203.0.113.1")


def arriving(receiver):
    """What a socket receives until LAST, which is left out."""
    found = []
    while (data := receiver.recv(4096)) != LAST:
        found.append(data)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_what_has_the_form_of_a_knock_arrives(firewall, outside, family):
    firewall.load_example("--port=4711")
    with listener(firewall, family, SERVER[family], 4711) as receiver, outside.socket(family) as sender:
        # Those of version 2 look like noise.
        knocks = [*knocks_of_all_forms(), bytes(72), bytes([255]) * 72]
        for datagram in [*nearly_knocks(), bytes(71), bytes(73), *knocks, LAST]:
            sender.sendto(datagram, (SERVER[family], 4711))
        assert arriving(receiver) == knocks


@pytest.fixture
def cable(firewall, outside):
    """The link-local addresses of the server and of the client, and the client's number of the cable."""
    firewall.load_example("--port=4711")
    firewall.add_address("fe80::1/64", "cable")
    outside.add_address("fe80::2/64", "cable")
    [link] = json.loads(run([*outside.prefix, "ip", "-j", "link", "show", "cable"]).stdout)
    return "fe80::1", "fe80::2", link["ifindex"]


def test_the_answers_of_dhcp_servers_arrive(firewall, outside, cable):
    ours, theirs, number = cable
    inet, inet6 = FAMILIES
    for family, source, target in (
        (inet, (CLIENT[inet], 67), (SERVER[inet], 68)),
        (inet6, (theirs, 547, 0, number), (ours, 546, 0, number)),
        (inet6, (CLIENT[inet6], 547), (ours, 546, 0, number)),
        (inet6, (CLIENT[inet6], 40000), (ours, 546, 0, number)),
    ):
        with listener(firewall, family, ANY[family], target[1]) as receiver, outside.socket(family) as sender:
            sender.bind(source)
            sender.sendto(b"reply", target)
            assert receiver.recv(100) == b"reply", source


ICMP = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
# The types that arrive. Errors are about a packet that the kernel knows nothing of.
ERRORS = {socket.AF_INET: {3, 11, 12}, socket.AF_INET6: {1, 2, 3, 4}}
NEIGHBOURS = {133, 134, 135, 136}
LISTENERS = {130, 131, 132, 143}


def arriving_types(firewall, outside, family, source, target, hops):
    """The types of ICMP messages that arrive of all that there are."""
    with (
        firewall.socket(family, socket.SOCK_RAW, ICMP[family]) as receiver,
        outside.socket(family, socket.SOCK_RAW, ICMP[family]) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        receiver.settimeout(TIMEOUT)
        sender.bind(source)
        if family == socket.AF_INET6:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
        last = max(ERRORS[family])
        found = set()
        # The kernel sends some, too. The last one arrives in any case.
        for kind, body in [*((kind, b"test" * 16) for kind in range(256)), (last, b"last" * 16)]:
            head = struct.pack("!BBHI", kind, 0, 0, 0)
            if family == socket.AF_INET:
                words = struct.unpack("!36H", head + body)
                total = sum(words)
                total = (total & 0xFFFF) + (total >> 16)
                head = struct.pack("!BBHI", kind, 0, ~total & 0xFFFF, 0)
            sender.sendto(head + body, target)
        while True:
            data = receiver.recv(4096)
            message = data[20:] if family == socket.AF_INET else data
            if message.endswith(b"last"):
                return found
            if message.endswith(b"test"):
                found.add(message[0])


def test_the_icmp_messages_that_a_host_needs_arrive(firewall, outside, cable):
    ours, theirs, number = cable
    (inet, inet6) = FAMILIES
    found = arriving_types(firewall, outside, inet, (CLIENT[inet], 0), (SERVER[inet], 0), 64)
    assert found == ERRORS[inet]
    for hops, more in (64, set()), (255, NEIGHBOURS):
        near = ((theirs, 0, 0, number), (ours, 0, 0, number))
        far = ((CLIENT[inet6], 0), (SERVER[inet6], 0))
        assert arriving_types(firewall, outside, inet6, *near, hops) == ERRORS[inet6] | more | LISTENERS
        assert arriving_types(firewall, outside, inet6, *far, hops) == ERRORS[inet6] | more


def test_the_questions_for_multicast_groups_arrive(firewall, outside, cable):
    question = bytes([0x11, 100, 0xEE, 0x9B, 0, 0, 0, 0])  # A general query of IGMP, RFC 2236.
    with (
        firewall.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP) as receiver,
        outside.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP) as sender,
    ):
        receiver.settimeout(TIMEOUT)
        sender.sendto(question, (SERVER[socket.AF_INET], 0))
        assert receiver.recv(100)[20:] == question


def test_fragments_of_what_is_accepted_arrive(firewall, outside):
    firewall.load_example()
    with listener(firewall, socket.AF_INET6, "::", 68) as receiver:
        with outside.socket() as sender:
            sender.sendto(bytes(4000), (SERVER[socket.AF_INET], 68))
        assert receiver.recv(5000) == bytes(4000)


def redirect(firewall, rule):
    """Has NAT send the datagrams of a rule to port 4711."""
    if firewall.kind == "nft":
        firewall.run("nft add table inet nat")
        chain = "{ type nat hook prerouting priority dstnat; }"
        firewall.output("nft", f"add chain inet nat prerouting {chain}")
        firewall.output("nft", f"add rule inet nat prerouting udp dport {rule} redirect to :4711")
    else:
        for command in ("iptables", "ip6tables"):
            firewall.run(f"{command} -t nat -A PREROUTING -p udp --dport {rule} -j REDIRECT --to-ports 4711")


@pytest.mark.parametrize("family", FAMILIES)
def test_another_port_can_be_redirected_to_the_knock_port(firewall, outside, family):
    firewall.load_example("--port=4711")
    redirect(firewall, 53)
    with listener(firewall, family, SERVER[family], 4711) as receiver, outside.socket(family) as sender:
        sender.sendto(LAST, (SERVER[family], 53))
        assert receiver.recv(100) == LAST


@pytest.mark.parametrize("family", FAMILIES)
def test_the_knock_port_can_be_redirected_as_the_rules_say(firewall, outside, family):
    text = " ".join(firewall.load_example("--port=60120").replace("#", "").split())
    assert "to send this port elsewhere (redirect, DNAT), remove this rule" in text
    redirect(firewall, 60120)
    if firewall.kind == "nft":
        firewall.nft("flush chain inet pyknock prerouting")
        firewall.nft("add rule inet pyknock input udp dport 4711 accept")
    else:
        for command in ("iptables", "ip6tables"):
            firewall.run(f"{command} -t raw -F PREROUTING")
            firewall.run(f"{command} -A INPUT -p udp --dport 4711 -j ACCEPT")
    with listener(firewall, family, SERVER[family], 4711) as receiver, outside.socket(family) as sender:
        sender.sendto(LAST, (SERVER[family], 60120))
        assert receiver.recv(100) == LAST
