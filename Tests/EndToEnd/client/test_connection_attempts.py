"""connect and --wait-port over a line with a delay: which SYNs the server sees, and how long it takes beside nc."""

import contextlib
import itertools
import signal
import socket
import subprocess
import threading
from collections import Counter, defaultdict

import pytest
from support.firewall import only_nft
from support.line import ACK, RST, SYN, Line
from support.networks import SERVER, Namespace, listener
from support.programs import TIMEOUT, program, run
from support.waiting import until

V4, V6 = SERVER[socket.AF_INET], SERVER[socket.AF_INET6]
BOTH = f"{V4} dual.test\n{V6} dual.test\n"
# A knock opens DOOR. OPEN is always open, for nc.
KNOCK, DOOR, OPEN = 60120, 22, 23
RULES = """
table inet pyknock {
    set knock4 { type ipv4_addr; flags timeout; }
    set knock6 { type ipv6_addr; flags timeout; }
    chain in {
        type filter hook input priority 0;
        tcp dport 22 ip saddr != @knock4 VERDICT4
        tcp dport 22 ip6 saddr != @knock6 VERDICT6
    }
}
"""
REFUSE = "reject with tcp reset"
# How much later than nc a loaded machine may be (seconds).
SLACK = 0.4

pytestmark = [only_nft, pytest.mark.slow]


class Scene:
    """A client and a server at the two ends of a line."""

    def __init__(self, stack, client, server, key_file):
        self.stack, self.client, self.server, self.key_file = stack, client, server, key_file
        self.accepted = defaultdict(list)

    def begin(self, round_trip=0.02, verdicts=("drop", "drop"), **options):
        """Joins both, and serves both ports."""
        rules = RULES.replace("VERDICT4", verdicts[0]).replace("VERDICT6", verdicts[1])
        self.server.nft(rules)
        line = Line(self.client, self.server, round_trip, **options)
        self.stack.enter_context(contextlib.closing(line))
        for port in (DOOR, OPEN):
            self._serve(port)
        return line

    def _serve(self, port):
        listening = self.stack.enter_context(self.server.socket(socket.AF_INET6, socket.SOCK_STREAM))
        listening.bind(("::", port))
        listening.listen()

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    self.accepted[port].append(self.stack.enter_context(listening.accept()[0]))

        threading.Thread(target=accept, daemon=True).start()

    def start(self, *words):
        """Starts a program beside the client. Its standard input stays open."""
        popen = subprocess.Popen(
            [*self.client.prefix, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.stack.callback(popen.communicate)
        self.stack.callback(popen.kill)
        return popen

    def client_words(self, *words):
        return [*program("client"), f"-k{self.key_file}", *words]

    def connect(self, host=V4, *options):
        return self.start(*self.client_words("connect", host, str(DOOR), *options))


@pytest.fixture
def scene(tmp_path, firewall, key_file):
    folder = tmp_path / "client"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(Namespace(folder)))
        yield Scene(stack, client, firewall, key_file)


@pytest.fixture
def opener(scene, start):
    """Starts the server once there are sets."""
    return lambda *options: start("--ttl=1h", f"-p{KNOCK}", *options, port=KNOCK)


def losing_knocks(number):
    """Loses the first knocks."""
    lost = itertools.count(1)
    return lambda packet: packet.port == KNOCK and next(lost) <= number


@pytest.mark.parametrize(
    ("round_trip", "attempts"), [(0.001, 1), (0.22, 1), (0.52, 2), (4.4, 2)], ids=str
)
def test_a_long_way(scene, opener, round_trip, attempts):
    """A second attempt begins 250 ms after the first, which stays open. The third would come after 5 seconds."""
    line = scene.begin(round_trip)
    opener()
    scene.connect()
    scene.start("nc", V4, str(OPEN))
    connection = line.connection(DOOR)
    taken = connection.time - line.sent(KNOCK, None)[0].time
    by_nc = line.connection(OPEN).time - line.sent(OPEN, SYN)[0].time
    assert round_trip <= taken < by_nc + SLACK
    ours = line.sent(DOOR, SYN)
    begun = sorted({packet.own_port: packet.time for packet in reversed(ours)}.values())
    # A loaded machine may have made the way longer than 250 ms.
    assert len(begun) == attempts or (len(begun) == 2 and connection.time - begun[0] > 0.24)
    assert all(0.24 < second - first < 0.25 + SLACK for first, second in itertools.pairwise(begun))
    # Each attempt has as many SYNs as that of nc: the kernel repeats them after a second.
    assert len(ours) == len(begun) * len(line.sent(OPEN, SYN))
    # The answer to the second comes when its socket is closed. There is none to a first that came before the knock.
    if len(begun) > 1 and connection.own_port == ours[0].own_port:
        until(lambda: [packet for packet in line.packets if (packet.flags or 0) & RST], "a reset")
    until(lambda: scene.accepted[DOOR], "a connection")
    assert len(scene.accepted[DOOR]) == 1


def test_the_first_knock_is_lost(scene, opener):
    """The second comes just before the kernel repeats the first SYN. nc, at the same time, profits from it."""
    line = scene.begin(loses=losing_knocks(1))
    opener()
    scene.connect()
    until(lambda: line.sent(KNOCK, None), "a knock")
    scene.start("nc", "-p5000", V4, str(DOOR))
    start = line.sent(KNOCK, None)[0].time
    until(lambda: len(scene.accepted[DOOR]) == 2, "both are connected")
    by_port = {packet.own_port: packet.time - start for packet in reversed(line.sent(DOOR, ACK))}
    by_nc = by_port.pop(5000)
    assert 0.9 < min(by_port.values()) < by_nc + SLACK
    ours = [packet for packet in line.sent(DOOR, SYN) if packet.own_port != 5000]
    assert sorted(Counter(packet.own_port for packet in ours).values()) == [1, 2]
    assert len(line.sent(KNOCK, None)) == 2


def test_the_first_knock_is_lost_and_the_door_refuses(scene, opener):
    """The kernel then repeats nothing, so that the third attempt comes earlier. nc gives up at once."""
    line = scene.begin(verdicts=(REFUSE, REFUSE), loses=losing_knocks(1))
    opener()
    assert scene.start("nc", V4, str(DOOR)).wait(TIMEOUT) == 1
    scene.connect()
    taken = line.connection(DOOR).time - line.sent(KNOCK, None)[0].time
    assert 2 < taken < 2.1 + SLACK
    assert len(line.sent(DOOR, SYN)) == 1 + 3


@pytest.mark.parametrize("dead", [V4, V6])
def test_one_of_two_families_is_dead(scene, opener, dead):
    """IPv6 is tried first, as the system says, and IPv4 250 ms later. nc waits for its own time limit."""
    scene.client.hosts.write_text(BOTH)
    line = scene.begin(loses=lambda packet: packet.host == dead)
    opener()
    scene.connect("dual.test")
    scene.start("nc", "-w1", "dual.test", str(OPEN))
    taken = line.connection(DOOR).time - line.sent(KNOCK, None)[0].time
    by_nc = line.connection(OPEN).time - line.sent(OPEN, SYN)[0].time
    counts = Counter(packet.host for packet in line.sent(DOOR, SYN))
    way = line.connection(DOOR).time - line.sent(DOOR, SYN)[0].time
    # A loaded machine may have made the way longer. Then there are more attempts.
    if dead == V4:
        assert taken < by_nc + SLACK
        assert counts == {V6: 1} or way > 0.24
    else:
        assert way > 0.24 and taken < by_nc
        # The second attempt for one, and the first for the other, begin at the same time.
        assert counts == {V6: 2, V4: 1} or way > 0.48
        [first, *_], [second, *_] = line.attempts(DOOR, V6), line.attempts(DOOR, V4)
        assert 0.24 < second.time - first.time < 0.25 + SLACK


def test_one_of_40_addresses_is_alive(scene, opener):
    """Each is tried before three quarters of the time are over. nc stays at the first for two minutes."""
    addresses = [f"203.0.113.{number}" for number in range(1, 41)]
    scene.client.hosts.write_text("".join(f"{address} many.test\n" for address in addresses))
    line = scene.begin()
    scene.client.run("ip route add 203.0.113.0/24 dev line")
    scene.server.add_address(f"{addresses[-1]}/32", "lo")
    opener()
    nc = scene.start("nc", "many.test", str(OPEN))
    scene.connect("many.test")
    taken = line.connection(DOOR).time - line.sent(KNOCK, None)[0].time
    assert 39 * 0.1875 < taken < 10  # Each of the 39 may be a bit late.
    assert nc.poll() is None and not line.sent(OPEN, ACK)
    attempts = Counter(packet.host for packet in line.attempts(DOOR))
    assert sorted(attempts) == sorted(addresses)
    assert max(attempts.values()) == 3
    assert Counter(packet.host for packet in line.sent(DOOR, SYN))[addresses[-1]] == 1


def test_at_most_3_attempts_in_10_seconds(scene):
    """Nobody listens to the knocks. IPv4 is dropped, and IPv6 refused."""
    scene.client.hosts.write_text(BOTH)
    line = scene.begin(verdicts=("drop", REFUSE))
    popen = scene.connect("dual.test", "--wait=9")
    assert popen.wait(TIMEOUT) == 1
    assert Counter(packet.host for packet in line.attempts(DOOR)) == {V4: 3, V6: 3}
    assert Counter(packet.host for packet in line.sent(DOOR, SYN))[V6] == 3


def test_of_two_connections_that_were_made_one_is_reset(scene, opener):
    """The client sleeps while the server accepts all."""
    scene.client.hosts.write_text(BOTH)
    line = scene.begin(0.6)
    opener()
    popen = scene.connect("dual.test")
    until(lambda: line.attempts(DOOR, V4) and line.attempts(DOOR, V6), "two attempts")
    popen.send_signal(signal.SIGSTOP)
    until(lambda: len(scene.accepted[DOOR]) == len(line.attempts(DOOR)), "all are connected")
    popen.send_signal(signal.SIGCONT)
    popen.stdin.write(b"hello")
    popen.stdin.flush()
    received = []
    for connection in scene.accepted[DOOR]:
        connection.settimeout(TIMEOUT)
        try:
            received.append(connection.recv(100))
        except ConnectionResetError:
            received.append("reset")
    assert sorted(received, key=str) == [b"hello"] + ["reset"] * (len(received) - 1)


def test_repeats_are_sent_while_it_connects(scene):
    """Nobody listens. Besides the repeats after 1 and 2 seconds, the client knocks again after 0.9 and 1.9."""
    line = scene.begin()
    assert scene.connect(V4, "--repeat=3", "--wait=2s").wait(TIMEOUT) == 1
    first = line.sent(KNOCK, None)[0].time
    assert line.sent(DOOR, SYN)[0].time - first < 0.05 + SLACK
    assert len(line.sent(KNOCK, None)) in (4, 5)


ROUTED = {V4: ("knock4", "192.0.2.3"), V6: ("knock6", "2001:db8::3")}


def route_by_port(scene, selector="ipproto tcp"):
    """Makes the knock and the connection leave from different addresses."""
    scene.client.add_address("192.0.2.3/24", "line")
    scene.client.run("ip address add 2001:db8::3/64 dev line nodad preferred_lft 0")
    scene.client.wait_for_address("2001:db8::3")
    scene.client.run("ip route add 192.0.2.0/24 dev line src 192.0.2.3 table 100")
    scene.client.run("ip -6 route add 2001:db8::/64 dev line src 2001:db8::3 table 100")
    for family in ("-4", "-6"):
        scene.client.run(f"ip {family} rule add {selector} dport {DOOR} lookup 100")


@pytest.mark.parametrize("host", [V4, V6])
@pytest.mark.parametrize("words", [[], ["--wait-port", str(DOOR)], ["-S", "observed"]], ids=str)
def test_the_route_depends_on_the_port(scene, opener, host, words):
    """The server opens for the address that the connection comes from."""
    line = scene.begin()
    route_by_port(scene)
    server = opener("--allow-observed-source")
    if "--wait-port" in words:
        assert scene.start(*scene.client_words("open", host, *words)).wait(TIMEOUT) == 0
    else:
        scene.connect(host, *words)
    line.connection(DOOR)
    name, address = ROUTED[host]
    assert set(scene.server.elements(name)) == {address}
    server.wait_for_counters(accepted=1)


@pytest.mark.parametrize("host", [V4, V6])
@pytest.mark.parametrize("fast_open", [True, False])
def test_the_source_of_the_connection_is_known_without_one(scene, host, fast_open):
    """Where the kernel lacks TCP fast open, it has to do without the protocol in the rule."""
    line = scene.begin()
    if not fast_open:
        scene.client.run("sysctl -qw net.ipv4.tcp_fastopen=0")
    route_by_port(scene, "ipproto tcp" if fast_open else "")
    result = run([*scene.client.prefix, *scene.client_words("connect", host, str(DOOR), "-n")])
    assert result.stdout.startswith(f"open {ROUTED[host][1]} to ")
    assert line.packets == []


@pytest.mark.parametrize("host", [V4, V6])
def test_a_stun_server_sees_the_source_of_the_connection(scene, host):
    scene.begin()
    route_by_port(scene)
    family = socket.AF_INET6 if host == V6 else socket.AF_INET
    with listener(scene.server, family, host, 3478) as stun:
        scene.connect(host, "-S", "auto", "--stun", f"[{host}]" if host == V6 else host)
        assert stun.recvfrom(100)[1][0] == ROUTED[host][1]
