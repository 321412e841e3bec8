"""Fixtures: the client, and the services that it waits for."""

import contextlib
import socket
import threading

import pytest
from support.networks import Namespace, connect
from support.programs import TIMEOUT, program, run


@pytest.fixture
def words(key_file):
    """The words that start the client with its key. Its knocks go to a port without a server."""
    return lambda *arguments: [*program("client"), "-k", key_file, "-p9", *arguments]


@pytest.fixture
def service():
    """A TCP port. `serve` passes the next connections to a function."""

    class Service:
        def __init__(self):
            self.socket = socket.create_server(("127.0.0.1", 0))
            self.socket.settimeout(TIMEOUT)
            self.port = self.socket.getsockname()[1]

        def serve(self, body, times=1):
            def take():
                # If nobody is accepted in time, the end of the listener ends the client, too.
                with self.socket:
                    connections = (self.socket.accept()[0] for _ in range(times))
                    for connection in connections:
                        with connection:
                            body(connection)

            threading.Thread(target=take, daemon=True).start()

    service = Service()
    with service.socket:
        yield service


@pytest.fixture
def closed():
    """A socket that is bound but does not listen."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield closed


@pytest.fixture
def closed_port(closed):
    return closed.getsockname()[1]


@pytest.fixture
def home(firewall, outside, tmp_path):
    """A network behind the router `outside`. The server sees none of its addresses."""
    folder = tmp_path / "home"
    folder.mkdir()
    with contextlib.closing(Namespace(folder)) as home:
        ours = {socket.AF_INET: "10.0.0.2", socket.AF_INET6: "fd00::2"}
        routers = {socket.AF_INET: "10.0.0.1", socket.AF_INET6: "fd00::1"}
        connect("lan", (home, ours), (outside, routers))
        home.run("ip route add default via 10.0.0.1")
        home.run("ip -6 route add default via fd00::1")
        outside.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        rules = "table inet nat { chain out { type nat hook postrouting priority 100; oifname cable masquerade; }; }"
        run([*outside.prefix, "nft", rules])
        yield home


# Routes with private and with public source addresses, and the names of hosts.
ROUTES = """
    ip address add 10.0.0.1/8 dev lo
    ip address add 100.64.0.1/10 dev lo
    ip address add fd00::1/64 dev lo nodad
    ip address add fe80::77/64 dev lo nodad
    ip route add 203.0.113.0/24 dev lo src 10.0.0.1
    ip -6 route add 2001:db8:1::/48 dev lo src fd00::1
    ip route add 198.51.100.0/24 dev lo src 100.64.0.1
    ip address add 2001:db8:1::9 dev lo nodad
    ip -6 route add 64:ff9b::/32 dev lo src 2001:db8:1::9
    ip route add 169.254.0.0/16 dev lo src 10.0.0.1
"""
HOSTS = """
127.0.0.1 both.test four.test
fd00::1 both.test six.test half.test
192.0.2.1 half.test dead.test
2001:db8:2::1 dead.test
203.0.113.1 public.test
2001:db8:1::1 public.test
fe80::2 local.test
"""


@pytest.fixture(scope="module")
def network(namespace):
    """The namespace with these routes and names. It has no route to 192.0.2.0/24 and 2001:db8:2::/48."""
    for command in ROUTES.strip().splitlines():
        namespace.run(command)
    namespace.wait_for_address("2001:db8:1::9")
    namespace.hosts.write_text(HOSTS)
    return namespace
