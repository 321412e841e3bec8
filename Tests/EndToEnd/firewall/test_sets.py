"""Sets of nftables and ipset, changed by the server itself, in two networks joined by a cable.

What is asserted is what the kernel says and does: the sets as nft and ipset list them, and packets
that arrive or do not.
"""

import contextlib
import ipaddress
import re
import signal
import socket
import struct
import subprocess
import threading
from pathlib import Path
from random import Random

import pytest
from support.datagrams import CLOSE, KEY, OPEN, packet
from support.networks import CLIENT, SERVER
from support.programs import TIMEOUT, program, run
from support.servers import client
from support.waiting import until

FAMILIES = [socket.AF_INET, socket.AF_INET6]
# How long a connection is tried that must not come about, in seconds.
PATIENCE = 0.3


only_nft = pytest.mark.parametrize("kind", ["nft"], indirect=True)
only_ipset = pytest.mark.parametrize("kind", ["ipset"], indirect=True)


def expect_in(firewall, expected, **which):
    """Waits until a set holds just these elements."""
    until(lambda: set(firewall.elements(**which)) == set(expected), f"a set with {expected}")


@pytest.fixture
def service(firewall):
    """What is hidden: something that takes connections at port 22."""
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
    """Whether the service can be reached; if not, then for want of any answer."""
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


# From end to end


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
    expect_in(firewall, [], name="knock4" if family == socket.AF_INET else "knock6")
    assert not connects(outside, family)


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
    # What is not there can be closed, too.
    knock(outside, ours, "close", family)
    done = "changed" if firewall.kind == "ipset" else "as it must be"
    ours.log.wait_for(f"^pyknock server: set {done}: close {CLIENT[family]}$")


class Sniffer:
    """Whatever the server sends to the client but what makes the link work: ARP and neighbours."""

    def __init__(self, outside):
        self.socket = outside.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.bind(("cable", 3))  # ETH_P_ALL
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self.socket.settimeout(TIMEOUT)

    def next(self):
        """The protocol and the payload of the next packet."""
        while True:
            data, (_, _, direction, _, _) = self.socket.recvfrom(2048)
            protocol = struct.unpack("!H", data[12:14])[0]
            if direction == socket.PACKET_OUTGOING or protocol == 0x0806:
                continue
            if protocol == 0x86DD:
                if data[20] == socket.IPPROTO_ICMPV6 and 130 <= data[54] <= 143:
                    continue
                if data[20] == 0:  # Hop-by-hop options: multicast listeners.
                    continue
                return data[20], data[54:]
            return data[23], data[34:]


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
    # The first that comes is the answer to a connection that is allowed after all this.
    address = CLIENT[socket.AF_INET]
    if firewall.kind == "nft":
        firewall.nft(f"add element inet pyknock knock4 {{ {address} }}")
    else:
        firewall.output("ipset", "add", "knock4", address)
    until(lambda: connects(outside, socket.AF_INET), "a connection")
    protocol, payload = sniffer.next()
    seen = (protocol, payload[:2])
    assert seen == (socket.IPPROTO_TCP, struct.pack("!H", 22)), payload


def test_a_second_knock_begins_the_time_anew(firewall, start):
    firewall.load_example()
    ours = start("--ttl=8", "-v")
    ours.knock()
    expect_in(firewall, ["192.0.2.1"])
    until(lambda: firewall.elements()["192.0.2.1"] <= 4, "half of the time")
    ours.knock()
    ours.log.wait_for("set changed: open", 2)
    assert firewall.elements()["192.0.2.1"] >= 5


def test_there_is_no_moment_without_an_element(firewall, outside, start):
    firewall.load_example()
    if firewall.kind == "nft":
        firewall.nft(
            "table inet watch {"
            " set seen { type ipv4_addr; flags timeout; }\n"
            " chain input { type filter hook input priority -10;"
            " udp dport 9 ip saddr != @seen counter drop; }\n"
            "}"
        )
        sets = "--nft=inet/watch/seen"
    else:
        match = "-m set ! --match-set knock4 src -j DROP"
        firewall.run(f"iptables -I INPUT -p udp --dport 9 {match}")
        sets = "--ipset=knock4"

    def dropped():
        if firewall.kind == "nft":
            return int(
                re.search(r"packets (\d+)", firewall.output("nft", "list", "table", "inet", "watch"))[1]
            )
        listed = firewall.output("iptables", "-nvxL", "INPUT")
        return int(re.search(r"^ *(\d+) .*dpt:9", listed, re.MULTILINE)[1])

    ours = start("--ttl=1h", "-v", sets=sets)
    ours.knock(CLIENT[socket.AF_INET])
    ours.log.wait_for("set changed: open")
    with outside.socket() as sender:
        sender.sendto(b"", (SERVER[socket.AF_INET], 9))
        before = dropped()
        ended = threading.Event()

        def send():
            while not ended.is_set():
                sender.sendto(b"", (SERVER[socket.AF_INET], 9))

        thread = threading.Thread(target=send)
        thread.start()
        for _ in range(300):
            ours.knock(CLIENT[socket.AF_INET])
        ours.log.wait_for("set .*: open", 301)
        ended.set()
        thread.join()
    assert dropped() == before


def test_a_grant_ends_in_time_although_the_server_was_killed(firewall, start):
    firewall.load_example()
    ours = start("--ttl=4", "-v")
    ours.knock()
    ours.log.wait_for("set changed: open")
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    assert 0 < firewall.elements()["192.0.2.1"] <= 4
    expect_in(firewall, [])


def test_without_a_ttl_a_grant_stays_until_it_is_closed(firewall, start):
    # The default time of the sets does not count, and sets without times are as good.
    if firewall.kind == "nft":
        firewall.nft(
            "table inet pyknock {"
            " set knock4 { type ipv4_addr; flags timeout; timeout 10s; }\n"
            " set knock6 { type ipv6_addr; }\n }"
        )
    else:
        firewall.output("ipset", "create", "knock4", "hash:ip", "timeout", "10")
        firewall.output("ipset", "create", "knock6", "hash:ip", "family", "inet6")
    ours = start("-v")
    ours.log.wait_for("grants a .* until it is closed$", 2)
    for address, name in (("192.0.2.1", "knock4"), ("2001:db8::1", "knock6")):
        ours.knock(address)
        ours.log.wait_for(f"set changed: open {address}")
        assert firewall.elements(name) in ({address: None}, {address: 0})
        ours.knock(address)
        ours.log.wait_for(f"set .*: open {address}", 2)
        ours.knock(address, CLOSE)
        expect_in(firewall, [], name=name)


# Prefixes, and sets of intervals


def test_neighbours_are_granted_as_well(firewall, start):
    flags = "flags timeout, interval"
    if firewall.kind == "nft":
        firewall.nft(
            f"table inet pyknock {{ set knock4 {{ type ipv4_addr; {flags}; }}\n"
            f"set knock6 {{ type ipv6_addr; {flags}; }}\n }}"
        )
    else:
        firewall.output("ipset", "create", "knock4", "hash:net", "timeout", "0")
        firewall.output("ipset", "create", "knock6", "hash:net", "family", "inet6", "timeout", "0")
    ours = start("--ttl=1h", "--grant-prefix4=20", "--grant-prefix6=56", "-v")
    ours.log.wait_for("grants a /20 in .*knock4.* for 3600 s$")
    ours.log.wait_for("grants a /56 in .*knock6.* for 3600 s$")
    for command in (OPEN, OPEN, CLOSE, CLOSE):
        ours.knock("198.51.111.77", command)
        ours.knock("2001:db8:1:2ff:3::4", command)
        expected = command == OPEN
        expect_in(firewall, ["198.51.96.0/20"] if expected else [])
        expect_in(firewall, ["2001:db8:1:200::/56"] if expected else [], name="knock6")


def interval_set(firewall, elements=""):
    firewall.nft("table inet pyknock { set knock4 { type ipv4_addr; flags timeout, interval; }\n }")
    if elements:
        firewall.nft(f"add element inet pyknock knock4 {{ {elements} }}")


HOUR, DAY = 3600, 86400


@only_nft
@pytest.mark.parametrize(
    ("before", "opened", "closed"),
    [
        # The prefix is 192.0.2.0/24, for an hour.
        ("", {"192.0.2.0/24": HOUR}, {}),
        ("192.0.2.0/24 timeout 9s", {"192.0.2.0/24": HOUR}, {}),
        ("192.0.2.0/24 timeout 1d", {"192.0.2.0/24": DAY}, {}),
        ("192.0.2.0/24", {"192.0.2.0/24": None}, {"192.0.2.0/24": None}),
        ("0.0.0.0/0", {"0.0.0.0/0": None}, {"0.0.0.0/0": None}),
        ("192.0.2.7 timeout 9s, 192.0.2.9 timeout 9s", {"192.0.2.0/24": HOUR}, {}),
        (
            "192.0.2.128/25 timeout 1d",
            {"192.0.2.0/25": HOUR, "192.0.2.128/25": DAY},
            {},
        ),
        (
            "192.0.2.0/25 timeout 9s, 192.0.2.128/25 timeout 9s",
            {"192.0.2.0/24": HOUR},
            {},
        ),
        (
            "192.0.2.5",
            {"192.0.2.0-192.0.2.4": HOUR, "192.0.2.5": None, "192.0.2.6-192.0.2.255": HOUR},
            {"192.0.2.5": None},
        ),
        (
            "192.0.0.0/16 timeout 1d",
            {"192.0.0.0/16": DAY},
            {"192.0.0.0/23": DAY, "192.0.3.0-192.0.255.255": DAY},
        ),
        (
            "192.0.0.0/16 timeout 90s",
            {"192.0.0.0/23": 90, "192.0.2.0/24": HOUR, "192.0.3.0-192.0.255.255": 90},
            {"192.0.0.0/23": 90, "192.0.3.0-192.0.255.255": 90},
        ),
        (
            "192.0.1.250-192.0.2.9 timeout 90s, 192.0.2.200-192.0.3.5 timeout 1d, 255.0.0.0/8",
            {
                "192.0.1.250-192.0.1.255": 90,
                "192.0.2.0-192.0.2.199": HOUR,
                "192.0.2.200-192.0.3.5": DAY,
                "255.0.0.0/8": None,
            },
            {"192.0.1.250-192.0.1.255": 90, "192.0.3.0-192.0.3.5": DAY, "255.0.0.0/8": None},
        ),
    ],
)  # fmt: skip
def test_elements_that_overlap_keep_what_they_are(firewall, start, before, opened, closed):
    interval_set(firewall, before)
    ours = start("--ttl=1h", "--grant-prefix4=24", "-v", sets="--nft=inet/pyknock/knock4")

    def assert_set(expected):
        found = firewall.elements()
        assert set(found) == set(expected)
        for element, rest in expected.items():
            assert (found[element] is None) == (rest is None), element
            assert rest is None or rest - 5 <= found[element] <= rest, element

    ours.knock("192.0.2.77")
    ours.log.wait_for("set (changed|as it must be): open")
    assert_set(opened)
    ours.knock("192.0.2.78")
    ours.log.wait_for("set (changed|as it must be): open", 2)
    assert_set(opened)
    ours.knock("192.0.2.79", CLOSE)
    ours.log.wait_for("(set changed|for ever).*|close")
    ours.wait_for_counters(accepted=3)
    assert_set(closed)


@only_nft
@pytest.mark.parametrize("bits", [32, 31, 28])
@pytest.mark.parametrize("seed", range(3))
def test_a_set_of_intervals_does_what_its_addresses_would(firewall, start, bits, seed):
    """Against a model that knows each address by itself; times only as long, short and for ever."""
    random = Random(seed)
    size, base = 64, int(ipaddress.ip_address("192.0.2.0"))
    times = {"timeout 9h": 9 * HOUR, "timeout 300s": 300, "": None}
    model, elements, address = [0] * size, [], 0
    while address < size:
        last = min(size - 1, address + random.choice([0, 0, 0, 1, 5, 15]))
        text, rest = random.choice(list(times.items()))
        first_text, last_text = (ipaddress.ip_address(base + end) for end in (address, last))
        elements.append(f"{first_text}-{last_text} {text}" if last > address else f"{first_text} {text}")
        model[address : last + 1] = [rest] * (last + 1 - address)
        address = last + 1 + random.choice([0, 0, 1, 3])
    # Other elements give the kernel's tree another form.
    elements += [f"10.0.0.{2 * number}" for number in range(random.randrange(20))]
    interval_set(firewall, ", ".join(elements))
    ours = start("--ttl=1h", f"--grant-prefix4={bits}", "-v", sets="--nft=inet/pyknock/knock4")

    def assert_as_model():
        found = [0] * size
        for element, rest in firewall.elements().items():
            first, _, last = element.partition("-")
            if "/" in element:
                network = ipaddress.ip_network(element)
                first, last = network[0], network[-1]
            start = int(ipaddress.ip_address(first)) - base
            for held in range(start, int(ipaddress.ip_address(last or first)) - base + 1):
                if 0 <= held < size:
                    found[held] = rest
        for held in range(size):
            near = found[held] == model[held]
            if model[held] and found[held]:
                near = model[held] - 30 <= found[held] <= model[held]
            assert near, (held, model[held], found[held])

    for count in range(1, 41):
        held = random.randrange(size)
        command = random.choice([OPEN, CLOSE])
        ours.knock(str(ipaddress.ip_address(base + held)), command)
        ours.log.wait_for(r"pyknock server: set .*: (open|close)", count)
        width = 1 << (32 - bits)
        for neighbour in range(held // width * width, held // width * width + width):
            rest = model[neighbour]
            if command == OPEN:
                model[neighbour] = None if rest is None else max(rest, HOUR)
            else:
                model[neighbour] = None if rest is None else 0
        assert_as_model()


@only_nft
@pytest.mark.parametrize("address", ["0.0.0.1", "255.255.255.254"])
def test_the_first_and_the_last_prefix_of_all(firewall, start, address):
    interval_set(firewall)
    ours = start("--ttl=1h", "--grant-prefix4=31", "-v", sets="--nft=inet/pyknock/knock4")
    expected = {str(ipaddress.ip_network(f"{address}/31", strict=False)): HOUR}
    for count in (1, 2):
        ours.knock(address)
        # In the same tick of the kernel's clock the second finds the time full.
        ours.log.wait_for("set (changed|as it must be): open", count)
        assert set(firewall.elements()) == set(expected)
    ours.knock(address, CLOSE)
    expect_in(firewall, [])


@only_nft
def test_where_too_many_elements_overlap_the_address_alone_is_granted(firewall, start):
    # Neighbours, so that they touch.
    many = [f"10.0.{number}.{host}" for number in range(2) for host in range(200)]
    interval_set(firewall, ", ".join(f"{address} timeout 60s" for address in many))
    ours = start("--ttl=1h", "--grant-prefix4=16", "-v", sets="--nft=inet/pyknock/knock4")
    for address in ["10.0.3.1", *many[:50]]:
        ours.knock(address)
        ours.log.wait_for(f"set changed: open {address}$")
    elements = firewall.elements()
    assert set(elements) == {*many, "10.0.3.1"}
    assert all(elements[address] > 60 for address in ["10.0.3.1", *many[:50]])
    assert all(elements[address] <= 60 for address in many[50:])
    for address in many[:50]:
        ours.knock(address, CLOSE)
        ours.log.wait_for(f"set changed: close {address}$")
    expect_in(firewall, [*many[50:], "10.0.3.1"])


@only_nft
def test_an_element_without_time_is_somebody_elses(firewall, start):
    firewall.load_example()
    firewall.nft("add element inet pyknock knock4 { 192.0.2.1, 192.0.2.2 timeout 1d }")
    ours = start("--ttl=1h", "-v")
    for address in ("192.0.2.1", "192.0.2.2"):
        ours.knock(address)
        ours.log.wait_for(f"set as it must be: open {address}")
    elements = firewall.elements()
    assert elements["192.0.2.1"] is None
    assert DAY - 60 < elements["192.0.2.2"] <= DAY
    ours.knock("192.0.2.1", CLOSE)
    ours.knock("192.0.2.2", CLOSE)
    ours.log.wait_for("set changed: close 192.0.2.2")
    ours.log.wait_for(
        "^pyknock server: set not changed: close 192.0.2.1: set knock4 of table inet pyknock holds it"
        " for ever, which is not from a knock with --ttl$"
    )
    assert firewall.elements() == {"192.0.2.1": None}


# What is wrong with a set

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
    # The command makes it, unless there is no table.
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
            "ipset knock4 has a mask, so that it would hold other addresses than those that knock;"
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


@pytest.mark.parametrize("ends", [True, False], ids=["check", "server"])
def test_without_the_capability_the_server_says_so(firewall, start, ends):
    firewall.load_example()
    nobody = ["setpriv", "--reuid=65534", "--clear-groups"]
    ours = start("--ttl=1h", *(["--check"] if ends else []), prefix=[*nobody], wait=False)
    assert ours.exit_code() == 1
    what = "set knock{} of table inet pyknock" if firewall.kind == "nft" else "ipset knock{}"
    problem = "Operation not permitted (the capability CAP_NET_ADMIN is needed)"
    last = ours.log.wait_for_end()[-2:]
    assert last == [
        f"pyknock server: --{firewall.kind}: {what.format(number)}: {problem}" for number in (4, 6)
    ]


def test_the_capability_alone_is_enough(firewall, start):
    firewall.load_example()
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    nobody += ["--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin"]
    ours = start("--ttl=1h", "-v", prefix=[*nobody, "--bounding-set=-all,+net_admin"])
    ours.knock()
    ours.log.wait_for("set changed: open")
    assert list(firewall.elements()) == ["192.0.2.1"]


def test_a_check_tells_that_the_sets_are_good(firewall, start):
    firewall.load_example()
    ours = start("--ttl=1h", "--check", wait=False)
    assert ours.exit_code() == 0
    assert ours.output.wait_for_end() == ["configuration OK"]


# While the server runs


def remove_sets(firewall):
    if firewall.kind == "nft":
        firewall.nft("delete table inet pyknock")
    else:
        for command in ("iptables -P INPUT ACCEPT", "iptables -F", "ip6tables -F", "ipset destroy"):
            firewall.run(command)


def test_the_server_survives_that_a_set_is_removed_and_made_anew(firewall, start):
    firewall.load_example()
    ours = start("--ttl=1h", "-v")
    ours.knock()
    ours.log.wait_for("set changed: open")
    remove_sets(firewall)
    for count, command in enumerate((OPEN, CLOSE), 1):
        ours.knock(command=command)
        missing = "table inet pyknock" if firewall.kind == "nft" else "ipset knock4"
        ours.log.wait_for(
            f"^pyknock server: set not changed: (open|close) 192.0.2.1: there is no {missing};", count
        )
    firewall.load_example()
    ours.knock()
    ours.log.wait_for("set changed: open", 2)
    assert list(firewall.elements()) == ["192.0.2.1"]
    counters = ours.counters()
    assert (counters["set-changed"], counters["set-not-changed"]) == (2, 2)
    assert (counters["accepted"], counters["running"], counters["queued"]) == (4, 0, 0)
    assert ours.stop() == 0


@only_nft
def test_a_set_made_anew_in_another_way_is_seen_at_once(firewall, start):
    firewall.load_example()
    ours = start("--ttl=1h", "-v")
    made = "table inet pyknock {{ set knock4 {{ type ipv4_addr; flags {}; }}\n }}"
    remove_sets(firewall)
    firewall.nft(made.format("timeout, interval"))
    ours.knock("192.0.2.1")
    ours.log.wait_for("set changed: open 192.0.2.1")
    ours.knock("192.0.2.2")
    ours.log.wait_for("set changed: open 192.0.2.2")
    # No interval goes on without an end.
    assert set(firewall.elements()) == {"192.0.2.1", "192.0.2.2"}
    remove_sets(firewall)
    firewall.nft(made.format("dynamic, timeout"))
    ours.knock("192.0.2.3")
    ours.log.wait_for("set changed: open 192.0.2.3")
    assert set(firewall.elements()) == {"192.0.2.3"}
    remove_sets(firewall)
    firewall.nft("table inet pyknock { set knock4 { type ipv4_addr; }\n }")
    ours.knock("192.0.2.4")
    ours.log.wait_for("set not changed: open 192.0.2.4: set knock4 .* has no timeouts")


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


def test_a_full_set(firewall, start):
    if firewall.kind == "nft":
        firewall.nft(
            "table inet pyknock { set knock4 { type ipv4_addr; flags timeout; size 1; }\n }"
        )
        sets, what = "--nft=inet/pyknock/knock4", "set knock4 of table inet pyknock"
    else:
        firewall.run("ipset create knock4 hash:ip timeout 0 maxelem 1")
        sets, what = "--ipset=knock4", "ipset knock4"
    ours = start("--ttl=1h", "-v", sets=sets)
    ours.knock("192.0.2.1")
    ours.log.wait_for("set changed: open 192.0.2.1")
    ours.knock("192.0.2.2")
    line = ours.log.wait_for("set not changed.*")[0]
    assert line == f"set not changed: open 192.0.2.2: {what} is full"
    # There is always room for who is in it.
    ours.knock("192.0.2.1")
    ours.log.wait_for("set (changed|as it must be): open 192.0.2.1", 2)
    assert list(firewall.elements()) == ["192.0.2.1"]


@only_nft
@pytest.mark.parametrize("options", [[], ["--grant-prefix4=31"]], ids=["addresses", "intervals"])
def test_others_may_change_rules_at_the_same_time(firewall, start, options):
    if options:
        interval_set(firewall)
    else:
        firewall.load_example()
    ours = start("--ttl=1h", "-v", *options, sets="--nft=inet/pyknock/knock4")
    busy = subprocess.Popen(
        [*firewall.prefix, "sh", "-c", "yes 'add table inet x; delete table inet x' | nft -i"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for number in range(200):
            ours.knock(f"192.0.{number}.0")
        ours.log.wait_for("set changed", 200)
    finally:
        subprocess.run(["pkill", "--session", str(busy.pid)])
        busy.wait()
    assert len(firewall.elements()) == 200


@pytest.mark.parametrize("holds", ["addresses", "intervals"])
def test_a_hundred_thousand_addresses(firewall, start, holds):
    addresses = [str(ipaddress.ip_address("10.0.0.0") + 2 * number) for number in range(100_000)]
    if firewall.kind == "nft":
        flags = "timeout" if holds == "addresses" else "timeout, interval"
        firewall.nft(
            f"table inet pyknock {{ set knock4 {{ type ipv4_addr; flags {flags}; }}\n }}\n"
            f"add element inet pyknock knock4 {{ {','.join(addresses)} }}"
        )
    else:
        kind = "hash:ip" if holds == "addresses" else "hash:net"
        lines = [f"create knock4 {kind} timeout 0 maxelem 200000"]
        lines += [f"add knock4 {address}" for address in addresses]
        firewall.output("ipset", "restore", stdin="\n".join(lines).encode())
    sets = "--nft=inet/pyknock/knock4" if firewall.kind == "nft" else "--ipset=knock4"
    ours = start("--ttl=1h", "-v", sets=sets)
    for number in range(1, 21, 2):
        ours.knock(f"10.0.0.{number}")
    ours.log.wait_for("set changed: open", 10)
    ours.knock("10.0.0.1", CLOSE)
    ours.log.wait_for("set changed: close")
    expected = {*addresses, *(f"10.0.0.{number}" for number in range(3, 21, 2))}
    # A list that the kernel makes while it moves a large set into another table lacks some.
    until(lambda: set(firewall.elements()) == expected, "the set is as it must be")


def test_the_executor_keeps_one_capability_and_may_be_another_user(firewall, start):
    firewall.load_example()
    ours = start("--user=65534", "--chroot=/usr", "--ttl=1h", "-v")
    ours.log.wait_for("^pyknock server: the executor has no capability but CAP_NET_ADMIN$")
    status = Path(f"/proc/{ours.pid}/status").read_text()
    shown = dict(re.findall(r"^(\w+):\t(.*)$", status, re.MULTILINE))
    one, none = "0000000000001000", "0000000000000000"
    assert [shown[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [
        none, one, one, one, none
    ]  # fmt: skip
    assert (shown["Uid"].split(), shown["NoNewPrivs"]) == (["65534"] * 4, "1")
    ours.knock("192.0.2.9")
    ours.log.wait_for("set changed: open 192.0.2.9")
    assert list(firewall.elements()) == ["192.0.2.9"]
    ours.knock("192.0.2.9", CLOSE)
    ours.log.wait_for("set changed: close 192.0.2.9")
    assert list(firewall.elements()) == []


@pytest.mark.parametrize("kills", [False, True], ids=["running", "killed"])
def test_a_set_without_timeouts_is_closed_by_the_server(firewall, start, tmp_path, kills):
    if firewall.kind == "nft":
        firewall.nft("table inet pyknock { set knock4 { type ipv4_addr; }\n }")
    else:
        firewall.run("ipset create knock4 hash:ip")
    sets = "--nft=inet/pyknock/knock4" if firewall.kind == "nft" else "--ipset=knock4"
    options = [f"--state={tmp_path}/state", "--close-after=1"]
    ours = start(*options, sets=sets)
    ours.knock("192.0.2.7")
    until(lambda: list(firewall.elements()) == ["192.0.2.7"], "it is open")
    if kills:
        ours.signal(signal.SIGKILL)
        ours.exit_code()
        ours = start(*options, sets=sets)
        ours.log.wait_for("1 grant is open")
    until(lambda: list(firewall.elements()) == [], "it is closed")
    ours.wait_for_counters(open=0)


# With commands, and without a set for a family


def test_the_set_changes_before_the_command_runs(firewall, server, key_file):
    firewall.load_example()
    if firewall.kind == "nft":
        shown = "nft list set inet pyknock knock4"
    else:
        shown = "ipset list knock4"
    test = f"{shown} | grep -q $ip && echo $cmd: there || echo $cmd: not there"
    words = ["-k", str(key_file), test, test]
    ours = server(firewall.sets, "--ttl=1h", words=words, network=firewall)
    ours.knock()
    ours.output.wait_for("^open: there$")
    ours.knock(command=CLOSE)
    ours.output.wait_for("^close: not there$")


def test_the_command_runs_also_when_the_set_was_not_changed(firewall, server, key_file):
    firewall.load_example()
    words = ["-k", str(key_file), "echo $ip", ""]
    ours = server(firewall.sets, "--ttl=1h", words=words, network=firewall)
    remove_sets(firewall)
    ours.knock()
    ours.output.wait_for(r"^192\.0\.2\.1$")
    ours.log.wait_for("set not changed: open 192.0.2.1")


@pytest.mark.parametrize(
    ("names", "good", "bad", "family"),
    [
        ("knock4", "192.0.2.1", "2001:db8::1", "inet6"),
        (",knock6", "2001:db8::1", "192.0.2.1", "inet"),
    ],
)
def test_a_family_without_a_set_is_refused(firewall, server, key_file, names, good, bad, family):
    firewall.load_example()
    sets = f"--nft=inet/pyknock/{names}" if firewall.kind == "nft" else f"--ipset={names}"
    words = ["-k", str(key_file), "echo $ip", "echo $ip"]
    ours = server(sets, "-v", words=words, network=firewall)
    ours.log.wait_for(f"^pyknock server: no set for {family}, its knocks are refused$")
    ours.knock(bad)
    ours.log.wait_for(
        f"^pyknock server: refused open {bad} from .*: no set for its address family, clock skew"
    )
    ours.knock(good)
    ours.output.wait_for(good)
    assert ours.output.matching(bad) == []
    counters = ours.counters()
    assert (counters["no-set-for-family"], counters["set-changed"]) == (1, 1)


# Command lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ttl=1h", "", ""], "--ttl needs --nft or --ipset"),
        (["--grant-prefix4=24", "", ""], "--grant-prefix4 needs --nft or --ipset"),
        (["--grant-prefix6=64", "", ""], "--grant-prefix6 needs --nft or --ipset"),
        (["--nft=inet/a/b", "--grant-prefix6=64"], "--grant-prefix6 needs a set for IPv6"),
        (["--nft=inet/a/,b", "--grant-prefix4=24"], "--grant-prefix4 needs a set for IPv4"),
        (
            ["--nft=inet/a/b", "--ipset=c"],
            "--ipset: only one of --nft and --ipset can be given",
        ),
        (["--ipset=c", "--nft=inet/a/b"], "--nft: only one of --nft and --ipset can be given"),
        (
            ["--ipset=c", "--ttl=25d"],
            "--ttl: sets of ipset take at most 2147483 seconds (24 days)",
        ),
        (
            ["--nft=inet/a/b", "--ttl=0"],
            "--ttl: '0' is not a duration such as 90, 15m, 2h or 1d, at most 366 days",
        ),
        (
            ["--nft=inet/a/b", "--grant-prefix4=15"],
            "--grant-prefix4: '15' is not a number of bits from 16 to 32",
        ),
        (
            ["--nft=inet/a/b", "--grant-prefix4=33"],
            "--grant-prefix4: '33' is not a number of bits from 16 to 32",
        ),
        (
            ["--nft=inet/a/b", "--grant-prefix6=47"],
            "--grant-prefix6: '47' is not a number of bits from 48 to 128",
        ),
        (
            ["--nft=inet/a/b", "--grant-prefix6=129"],
            "--grant-prefix6: '129' is not a number of bits from 48 to 128",
        ),
        (
            ["--nft=inet/a/b", "echo"],
            "operands: OPEN_CMD CLOSE_CMD (2) needed, 1 given",
        ),
        *(
            (
                [f"--nft={text}"],
                f"--nft: {shown} is not FAMILY/TABLE/SET4[,SET6]"
                " with family inet, ip, ip6, bridge or netdev",
            )
            for text, shown in (
                ("", "''"),
                ("inet", "'inet'"),
                ("inet/a", "'inet/a'"),
                ("inet/a/", "'inet/a/'"),
                ("inet/a/,", "'inet/a/,'"),
                ("inet//b", "'inet//b'"),
                ("arp/a/b", "'arp/a/b'"),
                ("INET/a/b", "'INET/a/b'"),
                ("inet/a/b c", "'inet/a/b c'"),
                ("inet/a/b,c,d", "'inet/a/b,c,d'"),
                ("inet/a/b;c", "'inet/a/b;c'"),
                ("inet/a/" + 256 * "b", "'inet/a/" + 121 * "b" + "...'"),
            )
        ),
        *(
            (
                [f"--ipset={text}"],
                f"--ipset: {shown} is not SET4[,SET6], names of at most 31 characters",
            )
            for text, shown in (
                ("", "''"),
                (",", "','"),
                ("a,b,c", "'a,b,c'"),
                (32 * "a", "'" + 32 * "a" + "'"),
                ("a\nb", "'a\\x0ab'"),
            )
        ),
        (["--example=pf"], "--example: 'pf' is not nft or ipset"),
    ],
)
def test_a_command_line_with_a_mistake(key_file, options, message):
    result = run([*program("server"), "-k", key_file, *options])
    assert result.code == 2
    assert result.lines[0] == f"pyknock server: {message}"
    assert result.lines[1].startswith("usage: pyknock server ")
    assert len(result.lines) == 2


@pytest.mark.parametrize("table_family", ["ip", "ip6", "inet", "bridge", "netdev"])
@only_nft
def test_sets_of_every_family_of_tables(firewall, start, table_family):
    firewall.nft(
        f"table {table_family} t {{ set a {{ type ipv4_addr; flags timeout; }}\n"
        "set b { type ipv6_addr; flags timeout; }\n }"
    )
    ours = start("--ttl=1h", "-v", sets=f"--nft={table_family}/t/a,b")
    ours.knock("192.0.2.1")
    ours.knock("2001:db8::1")
    ours.log.wait_for("set changed", 2)
    assert list(firewall.elements("a", f"{table_family} t")) == ["192.0.2.1"]
    assert list(firewall.elements("b", f"{table_family} t")) == ["2001:db8::1"]


@only_nft
def test_the_longest_names(firewall, start):
    table, name = "t" * 255, "s" * 255
    firewall.nft(f"table inet {table} {{ set {name} {{ type ipv4_addr; flags timeout; }}\n }}")
    ours = start("--ttl=1h", "-v", sets=f"--nft=inet/{table}/{name}")
    ours.knock()
    ours.log.wait_for("set changed")


@only_ipset
def test_the_longest_name_of_an_ipset(firewall, start):
    name = "s" * 31
    firewall.run(f"ipset create {name} hash:ip timeout 0")
    ours = start("--ttl=2147483", "-v", sets=f"--ipset={name}")
    ours.knock()
    ours.log.wait_for("set changed")


# The examples


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
