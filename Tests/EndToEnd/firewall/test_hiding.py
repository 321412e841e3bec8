"""The rules of --example with --hide, from end to end: some ports are hidden, and all else is as it was."""

import contextlib
import os
import re
import shlex
import socket
import struct

import pytest
from support.datagrams import KEY, packet
from support.firewall import only_nft
from support.networks import CLIENT, SERVER, Namespace, connect
from support.programs import TIMEOUT, program, run
from support.servers import knock_through_cable
from support.waiting import until

pytestmark = [only_nft, pytest.mark.usefixtures("firewall")]

FAMILIES = [socket.AF_INET, socket.AF_INET6]
ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}
# Seconds after which a packet counts as dropped.
PATIENCE = 0.3
HIDE = "--hide=22,5000/udp"


def bound(stack, network, family, kind, port, address=None):
    """A socket of a service."""
    service = stack.enter_context(network.socket(family, kind))
    service.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        service.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    service.bind((address or ANY[family], port))
    service.settimeout(TIMEOUT)
    if kind == socket.SOCK_STREAM:
        service.listen()
    return service


class Services:
    """Listeners of both families, by family and port: TCP 22 and 8080, UDP 5000 and 5001."""

    def __init__(self, stack, network, tcp=(22, 8080), udp=(5000, 5001)):
        self.tcp = {(f, p): bound(stack, network, f, socket.SOCK_STREAM, p) for f in FAMILIES for p in tcp}
        self.udp = {(f, p): bound(stack, network, f, socket.SOCK_DGRAM, p) for f in FAMILIES for p in udp}


@pytest.fixture
def services(firewall):
    with contextlib.ExitStack() as stack:
        yield Services(stack, firewall)


def connects(outside, family, port):
    """Whether the client can connect. If it cannot, nothing must answer."""
    with outside.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect((SERVER[family], port))
        except TimeoutError:
            return False
        return True


def arrives(outside, family, service, port):
    """Whether a datagram reaches the service. It answers."""
    question = os.urandom(8)
    service.settimeout(PATIENCE)
    with outside.socket(family) as sender:
        sender.settimeout(TIMEOUT)
        sender.connect((SERVER[family], port))
        sender.send(question)
        data = b""
        while data != question:
            try:
                data, source = service.recvfrom(100)
            except TimeoutError:
                return False
        service.sendto(b"answer", source)
        assert sender.recv(100) == b"answer"
        return True


def answers_ping(outside, family):
    question, answer = (8, 0) if family == socket.AF_INET else (128, 129)
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    with outside.socket(family, socket.SOCK_RAW, protocol) as sender:
        sender.settimeout(TIMEOUT)
        # The kernel computes the checksum of ICMPv6.
        sender.sendto(struct.pack("!BBHI", question, 0, 0xFFFF - (question << 8), 0), (SERVER[family], 0))
        while True:
            if sender.recv(100)[20 if family == socket.AF_INET else 0] == answer:
                return True


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_hidden_ports_are_dropped_until_a_knock(firewall, outside, start, services, family):
    port = firewall.free_port()
    firewall.load_example(f"-p{port}", HIDE)
    ours = start("--ttl=1h", "-v", f"-p{port}", port=port)

    def visible():
        hidden = services.udp[family, 5000]
        return connects(outside, family, 22), arrives(outside, family, hidden, 5000)

    # All else is as it was: services, and the answers of ports that nothing listens on.
    until(lambda: connects(outside, family, 8080), "a connection")
    assert visible() == (False, False)
    until(lambda: arrives(outside, family, services.udp[family, 5001], 5001), "a datagram")
    with outside.socket(family, socket.SOCK_STREAM) as connection, pytest.raises(ConnectionRefusedError):
        connection.connect((SERVER[family], 81))
    with outside.socket(family) as sender, pytest.raises(ConnectionRefusedError):
        sender.settimeout(TIMEOUT)
        sender.connect((SERVER[family], 5002))
        sender.send(b"question")
        sender.recv(100)
    assert answers_ping(outside, family)
    # The machine reaches itself.
    until(lambda: connects(firewall, family, 22), "a connection")

    knock_through_cable(outside, port, "open", family)
    ours.log.wait_for(f"^pyknock server: set changed: open {CLIENT[family]}$")
    until(lambda: visible() == (True, True), "the hidden ports")
    knock_through_cable(outside, port, "close", family)
    ours.log.wait_for(f"^pyknock server: set changed: close {CLIENT[family]}$")
    assert visible() == (False, False)


@pytest.mark.parametrize("example", ["nft", "docker"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_connection_from_before_the_rules_continues(firewall, outside, services, family, example):
    # The kernel has not tracked it.
    with outside.socket(family, socket.SOCK_STREAM) as theirs:
        theirs.settimeout(TIMEOUT)
        theirs.connect((SERVER[family], 22))
        ours, _ = services.tcp[family, 22].accept()
        with ours:
            ours.settimeout(TIMEOUT)
            firewall.load_example(HIDE, example=example)
            # The client sends first, so that no answer can make the kernel track it.
            theirs.send(b"a key press")
            assert ours.recv(100) == b"a key press"
            ours.send(b"its echo")
            assert theirs.recv(100) == b"its echo"
            ours.shutdown(socket.SHUT_WR)
            assert theirs.recv(100) == b""
            theirs.send(b"the end")
            assert ours.recv(100) == b"the end"


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_to_a_hidden_udp_port_arrive(firewall, outside, services, family):
    firewall.load_example(HIDE)
    hidden = services.udp[family, 5000]
    with outside.socket(family) as peer:
        peer.bind((CLIENT[family], 5000))
        peer.settimeout(TIMEOUT)
        hidden.sendto(b"question", (CLIENT[family], 5000))
        peer.sendto(b"answer", peer.recvfrom(100)[1])
        assert hidden.recv(100) == b"answer"


class Sniffer:
    """What the server sends to the client, except ARP, neighbour discovery and multicast reports."""

    def __init__(self, outside, firewall):
        firewall.run("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0")
        self.socket = outside.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING: linux/if_packet.h
        self.socket.bind(("cable", 3))  # ETH_P_ALL
        self.socket.settimeout(TIMEOUT)

    def until_closed_port(self, outside, family):
        """What was sent until the answer to a datagram for port 9, which is closed."""
        with outside.socket(family) as sender:
            sender.sendto(b"last", (SERVER[family], 9))
        found = []
        while True:
            data = self.socket.recv(2048)
            protocol = struct.unpack("!H", data[12:14])[0]
            kind, payload = (data[20], data[54:]) if protocol == 0x86DD else (data[23], data[34:])
            if protocol == 0x0806 or (kind == socket.IPPROTO_ICMPV6 and payload[0] >= 130) or kind == 0:
                continue
            if payload.endswith(b"last"):
                return found
            found.append((kind, payload))


# Of the flags FIN, SYN, RST, PSH, ACK and URG, which are the bits of a number below 64.
ACK = 16


def tcp_segment(family, port, flags):
    """A segment from port 40000 with these flags."""
    head = struct.pack("!HHIIBBHHH", 40000, port, 1, 1, 5 << 4, flags, 1024, 0, 0)
    ends = socket.inet_pton(family, CLIENT[family]) + socket.inet_pton(family, SERVER[family])
    total = sum(struct.unpack(f"!{len(ends + head) // 2}H", ends + head)) + socket.IPPROTO_TCP + len(head)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:16] + struct.pack("!H", ~total & 0xFFFF) + head[18:]


def raw(outside, family, protocol):
    sender = outside.socket(family, socket.SOCK_RAW, protocol)
    # The kernel of the client would answer what it gets.
    outside.run("nft add table inet quiet")
    outside.run("nft add chain inet quiet in { type filter hook input priority 0; }")
    outside.run("nft add rule inet quiet in tcp dport 40000 drop")
    return sender


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("services")
def test_no_scan_gets_an_answer_from_a_hidden_port(firewall, outside, family):
    sniffer = Sniffer(outside, firewall)
    with raw(outside, family, socket.IPPROTO_TCP) as sender:

        def answers(scans):
            for flags in scans:
                sender.sendto(tcp_segment(family, 22, flags), (SERVER[family], 0))
            return sniffer.until_closed_port(outside, family)

        assert answers([ACK]) != []
        firewall.load_example(HIDE)
        assert answers(range(64)) == []
        # An address that has knocked learns that its old connection is gone.
        name = "knock4" if family == socket.AF_INET else "knock6"
        firewall.nft(f"add element inet pyknock {name} {{ {CLIENT[family]} }}")
        assert answers([ACK]) != []
        firewall.nft(f"flush set inet pyknock {name}")
        firewall.load_example("--hide=22", example="docker")
        assert answers(range(64)) == []


@pytest.mark.usefixtures("services")
def test_a_fragmented_scan_gets_no_answer(firewall, outside):
    firewall.load_example(HIDE)
    inet, inet6 = FAMILIES
    segment = tcp_segment(inet6, 22, 2)
    sniffer = Sniffer(outside, firewall)
    target = (SERVER[inet6], 0)
    with raw(outside, inet6, socket.IPPROTO_RAW) as sender:
        ends = socket.inet_pton(inet6, CLIENT[inet6]) + socket.inet_pton(inet6, SERVER[inet6])
        for size in (8, 16, 24):
            whole = segment + bytes(12)
            for start in range(0, len(whole), size):
                piece = whole[start : start + size]
                more = int(start + size < len(whole))
                fragment = struct.pack("!BBHI", socket.IPPROTO_TCP, 0, start | more, size) + piece
                head = struct.pack("!IHBB", 6 << 28, len(fragment), socket.IPPROTO_FRAGMENT, 64)
                sender.sendto(head + ends + fragment, target)
    found = sniffer.until_closed_port(outside, inet6)
    # The kernel says to the first fragment, for any port, that its headers are incomplete: RFC 8200, section 4.5.
    assert {(kind, payload[:2]) for kind, payload in found} <= {(socket.IPPROTO_ICMPV6, b"\4\3")}


@pytest.mark.parametrize("is_running", [True, False], ids=["server-up", "server-down"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_knock_port_is_silent(firewall, outside, start, family, is_running):
    port = firewall.free_port()
    firewall.load_example(f"-p{port}", HIDE)
    ours = start("--ttl=1h", f"-p{port}", port=port)
    if not is_running:
        ours.stop()
    sniffer = Sniffer(outside, firewall)
    with outside.socket(family) as sender:
        target = (SERVER[family], port)
        for datagram in (b"", b"test", packet(), packet(key="not the key"), bytes(1400), bytes(4000)):
            sender.sendto(datagram, target)
        # With options, the kernel's answer has the port elsewhere.
        if family == socket.AF_INET:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\1\1\1\0")
        else:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, b"\0\0\1\4\0\0\0\0")
        sender.sendto(packet(), target)
    assert sniffer.until_closed_port(outside, family) == []


def listing(firewall):
    """All rules and sets, without the elements."""
    text = firewall.output("nft", "-s", "list", "ruleset")
    return re.sub(r"\s+elements = \{.*?\}", "", text, flags=re.DOTALL)


ALL = ([], "nft")
FEW = ([HIDE], "nft")
OTHER = (["--hide=8443"], "nft")
DOCKER = ([HIDE], "docker")


@pytest.mark.parametrize("first", [ALL, FEW, OTHER, DOCKER])
@pytest.mark.parametrize("second", [ALL, FEW, DOCKER])
def test_rules_replace_other_rules_and_keep_who_has_knocked(firewall, first, second):
    mine = "table inet mine { chain in { type filter hook input priority filter; policy accept; counter; }; }"
    firewall.nft(mine)
    options, example = second
    firewall.load_example(*options, example=example)
    wanted = listing(firewall)
    firewall.run("nft delete table inet pyknock")
    options, example = first
    firewall.load_example(*options, example=example)
    firewall.nft("add element inet pyknock knock4 { 192.0.2.7 timeout 1h }")
    options, example = second
    firewall.load_example(*options, example=example)
    found = listing(firewall)
    if first == DOCKER != second:
        # An empty chain is left over. It accepts all.
        left = "\n\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n\t}"
        assert found.count(left) == 1
        found = found.replace(left, "")
    assert found.split("\n") == wanted.split("\n")
    assert list(firewall.elements()) == ["192.0.2.7"]


@pytest.mark.parametrize("example", ["nft", "docker"])
def test_the_server_that_the_rules_name_works_with_them(firewall, outside, server, example):
    options = ["--grant-prefix4=24", "--grant-prefix6=56", "--ttl=15m", "-p4711"]
    text = firewall.load_example(*options, HIDE, example=example)
    line = text.splitlines()[1]
    assert line == (
        "# For: pyknock server -k FILE -p 4711 --nft inet/pyknock/knock4,knock6 --ttl 900"
        " --grant-prefix4 24 --grant-prefix6 56"
    )
    words = shlex.split(line.replace("FILE", "-").partition("server ")[2])
    ours = server("-v", *words[2:], words=words[:2], stdin=KEY.encode(), network=firewall, port=4711)
    ours.knock("198.51.100.7")
    ours.knock("2001:db8:0:7::7")
    firewall.expect(["198.51.100.0/24"])
    firewall.expect(["2001:db8::/56"], name="knock6")
    [left] = firewall.elements().values()
    assert 800 < left <= 900


def test_without_options_the_rules_name_the_defaults(firewall):
    text = firewall.load_example(HIDE)
    line = "# For: pyknock server -k FILE -p 60120 --nft inet/pyknock/knock4,knock6 --ttl 1h"
    assert text.splitlines()[1] == line
    assert "interval" not in text


def test_a_comment_lists_what_can_be_reached(firewall, outside):
    def listed(*options):
        words = [*firewall.prefix, *program("server"), "--example=nft", *options]
        [line] = [line for line in run(words).stdout.splitlines() if "listens on" in line]
        return line

    assert listed("--hide=22") == "# This machine listens on (* is hidden below):"
    inet, inet6 = FAMILIES
    with contextlib.ExitStack() as stack:
        for port in (22, 443, 65535):
            bound(stack, firewall, inet, socket.SOCK_STREAM, port)
            bound(stack, firewall, inet6, socket.SOCK_STREAM, port)
        for port in (53, 51820):
            bound(stack, firewall, inet, socket.SOCK_DGRAM, port)
        bound(stack, firewall, inet6, socket.SOCK_STREAM, 25, SERVER[inet6])
        bound(stack, firewall, inet6, socket.SOCK_DGRAM, 123)
        # Only the machine itself reaches these.
        bound(stack, firewall, inet, socket.SOCK_STREAM, 631, "127.0.0.1")
        bound(stack, firewall, inet, socket.SOCK_DGRAM, 54, "127.0.0.53")
        bound(stack, firewall, inet6, socket.SOCK_STREAM, 632, "::1")
        # These do not listen.
        with outside.socket(inet, socket.SOCK_STREAM) as theirs, firewall.socket(inet) as asking:
            theirs.connect((SERVER[inet], 443))
            asking.connect((CLIENT[inet], 53))
            assert listed("--hide=22,8443,51820/udp,53") == (
                "# This machine listens on (* is hidden below): *22 25 443 65535 53/udp 123/udp *51820/udp"
            )


def test_the_timer_in_the_comment_takes_the_rules_back(firewall, tmp_path):
    text = firewall.load_example(HIDE)
    assert "#   systemd-run --collect --unit=undo-knock --on-active=10min nft delete table inet pyknock\n" in text
    assert "#   systemctl stop undo-knock.timer\n" in text
    [timer] = re.findall(r"It prints the command that stops it:\n#   (.*sleep 600.*)\n", text)
    # Stopped, it does nothing. The end of the terminal does not stop it.
    timer = timer.replace("sleep 600", "read line <$FIFO")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ready = "until grep -q 'SigIgn:.*[13579bdf]$' /proc/$!/status; do :; done;"
    stop = tmp_path / "stop"
    for command, is_stopped in ((f"sh {stop}", True), ("kill -HUP $!", False)):
        script = f"FIFO={fifo}; exec 3<>$FIFO; {timer} >{stop}; {ready} {command}; echo >&3; wait"
        firewall.output("bash", "-c", script)
        assert ("table inet pyknock" in firewall.output("nft", "list", "tables")) == is_stopped


CONTAINER = {socket.AF_INET: "172.17.0.2", socket.AF_INET6: "fd00:17::2"}
BRIDGE = {socket.AF_INET: "172.17.0.1", socket.AF_INET6: "fd00:17::1"}


@pytest.fixture
def container(firewall, outside, tmp_path):
    """A container. Its ports 443 and 5000/udp are published as 8443 and 5353/udp, and 80 as 8080, as Docker does."""
    folder = tmp_path / "container"
    folder.mkdir()
    with contextlib.closing(Namespace(folder)) as container, contextlib.ExitStack() as stack:
        connect("docker0", (container, CONTAINER), (firewall, BRIDGE))
        container.run(f"ip route add default via {BRIDGE[socket.AF_INET]}")
        container.run(f"ip -6 route add default via {BRIDGE[socket.AF_INET6]}")
        firewall.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        # Without a link-local address, the kernel asks for no neighbour for a forwarded packet.
        firewall.add_address("fe80::1/64", "docker0")
        for family, command, form in zip(FAMILIES, ["iptables", "ip6tables"], ["%s", "[%s]"], strict=True):
            nat = f"{command} -t nat -A"
            firewall.run(f"{command} -t nat -N DOCKER")
            firewall.run(f"{nat} PREROUTING -m addrtype --dst-type LOCAL -j DOCKER")
            for protocol, port, inner in (("tcp", 8443, 443), ("tcp", 8080, 80), ("udp", 5353, 5000)):
                target = f"{form % CONTAINER[family]}:{inner}"
                rule = f"DOCKER ! -i docker0 -p {protocol} --dport {port} -j DNAT --to-destination {target}"
                firewall.run(f"{nat} {rule}")
            firewall.run(f"{command} -P FORWARD DROP")
            firewall.run(f"{command} -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
            firewall.run(f"{command} -A FORWARD -o docker0 -j ACCEPT")
            firewall.run(f"{command} -A FORWARD -i docker0 -j ACCEPT")
        yield Services(stack, container, tcp=(443, 80), udp=(5000,))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("services")
def test_what_docker_publishes_is_hidden_until_a_knock(firewall, outside, start, container, family):
    port = firewall.free_port()
    ours = None

    def visible():
        hidden = container.udp[family, 5000]
        return (
            connects(outside, family, 8443), arrives(outside, family, hidden, 5353), connects(outside, family, 22)
        )  # fmt: skip

    until(lambda: visible() == (True, True, True), "the hidden ports")
    with outside.socket(family, socket.SOCK_STREAM) as before, outside.socket(family) as flow:
        for one, inner in (before, 8443), (flow, 5353):
            one.settimeout(TIMEOUT)
            one.connect((SERVER[family], inner))
        accepted = accept_last(container.tcp[family, 443])
        flow.send(b"1")
        _, source = container.udp[family, 5000].recvfrom(100)
        container.udp[family, 5000].sendto(b"2", source)
        assert flow.recv(100) == b"2"
        firewall.load_example(f"-p{port}", "--hide=8443,22,5353/udp", example="docker")
        ours = start("--ttl=1h", "-v", f"-p{port}", port=port)
        assert visible() == (False, False, False)
        until(lambda: connects(outside, family, 8080), "a connection")
        # What was there continues.
        before.send(b"3")
        assert accepted.recv(100) == b"3"
        flow.send(b"4")
        assert container.udp[family, 5000].recv(100) == b"4"
        accepted.close()
    knock_through_cable(outside, port, "open", family)
    ours.log.wait_for(f"^pyknock server: set changed: open {CLIENT[family]}$")
    until(lambda: visible() == (True, True, True), "the hidden ports")
    knock_through_cable(outside, port, "close", family)
    ours.log.wait_for(f"^pyknock server: set changed: close {CLIENT[family]}$")
    assert visible() == (False, False, False)


def accept_last(service):
    """The newest connection. Older ones were closed."""
    service.settimeout(0)
    newest = None
    with contextlib.suppress(BlockingIOError):
        while True:
            newest = service.accept()[0]
    newest.settimeout(TIMEOUT)
    return newest


@pytest.mark.parametrize("family", FAMILIES)
def test_no_scan_gets_an_answer_from_what_docker_publishes(firewall, outside, container, family):
    firewall.load_example("--hide=8443,5353/udp", example="docker")
    sniffer = Sniffer(outside, firewall)
    with raw(outside, family, socket.IPPROTO_TCP) as sender, outside.socket(family) as other:
        for flags in range(64):
            sender.sendto(tcp_segment(family, 8443, flags), (SERVER[family], 0))
        other.sendto(b"test", (SERVER[family], 5353))
    assert sniffer.until_closed_port(outside, family) == []


def test_ports_of_other_machines_are_not_hidden(firewall, outside, container):
    firewall.load_example("--hide=443,80", example="docker")
    outside.run(f"ip route add {CONTAINER[socket.AF_INET]} via {SERVER[socket.AF_INET]}")
    with outside.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect((CONTAINER[socket.AF_INET], 443))
