"""Networks in which programs run and sockets are made."""

import ctypes
import re
import socket
import subprocess
import threading
from ipaddress import ip_address
from pathlib import Path

from support.programs import TIMEOUT
from support.waiting import until

# The addresses of the client and of the server when a cable joins their networks.
CLIENT = {socket.AF_INET: "192.0.2.2", socket.AF_INET6: "2001:db8::2"}
SERVER = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}

libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """The network of the tests themselves."""

    prefix = []

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_DGRAM, protocol=0):
        return socket.socket(family, kind, protocol)

    def free_port(self):
        with self.socket(socket.AF_INET6) as both:
            both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            both.bind(("::", 0))
            return both.getsockname()[1]


HOST = Network()


class Namespace(Network):
    """A new network with loopback up, and with private /etc/hosts and /etc/resolv.conf.

    The kernel gives no socket the default port of its own accord there.
    """

    def __init__(self, folder):
        self.hosts = folder / "hosts"
        resolver = folder / "resolv.conf"
        self.hosts.write_text("127.0.0.1 localhost\n")
        resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        script = (
            "mount --bind $0 /etc/hosts; mount --bind $1 /etc/resolv.conf;"
            "echo 60120 > /proc/sys/net/ipv4/ip_local_reserved_ports;"
            "ip link set lo up; echo ready; exec cat"
        )
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-ec", script, self.hosts, resolver],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.holder.stdout.readline() == b"ready\n", "no network namespace"
        self.prefix = ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", "--"]

    def run(self, command):
        subprocess.run([*self.prefix, *command.split()], check=True)

    def add_address(self, address, device):
        """Adds an address, which may have a prefix length, to a device that is up."""
        self.run(f"ip address add {address} dev {device}{' nodad' if ':' in address else ''}")
        self.wait_for_address(address.split("/")[0])

    def wait_for_address(self, address):
        """Waits until datagrams to an address of this network arrive.

        The kernel adds the local route of an IPv6 address after the call that adds the address has returned
        (addrconf_dad_work in net/ipv6/addrconf.c).
        """
        number = ip_address(address)
        if number.version == 6:
            # Address and prefix length, six other fields, and flags: net/ipv6/route.c. RTF_LOCAL is the highest bit.
            route = re.compile(rf"^{number.packed.hex()} 80 (\S+ ){{6}}[89a-f]\w{{7}} ", re.MULTILINE)
            table = Path(f"/proc/{self.holder.pid}/net/ipv6_route")
            until(lambda: route.search(table.read_text()), f"a local route to {address}")

    def inside(self, body):
        """What a function returns that runs in this network."""
        made = []

        def make():
            with open(f"/proc/{self.holder.pid}/ns/net") as namespace:
                if libc.setns(namespace.fileno(), 0) == 0:
                    made.append(body())

        # What is made stays in the namespace, so that only this thread has to enter it.
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_DGRAM, protocol=0):
        return self.inside(lambda: socket.socket(family, kind, protocol))

    def close(self):
        self.holder.communicate()


def connect(device, *ends):
    """Lays a cable between two namespaces. Each end is a namespace and its addresses by family."""
    pids = [network.holder.pid for network, _ in ends]
    ends[0][0].run(f"ip link add {device} netns {pids[0]} type veth peer {device} netns {pids[1]}")
    for network, _ in ends:
        # Without link-local addresses, the link can be used at once.
        network.run(f"ip link set {device} addrgenmode none")
        network.run(f"ip link set {device} up")
    # An address of IPv6 is usable only once both ends are up.
    for network, addresses in ends:
        network.add_address(f"{addresses[socket.AF_INET]}/24", device)
        network.add_address(f"{addresses[socket.AF_INET6]}/64", device)


def listener(network=HOST, family=socket.AF_INET, address="127.0.0.1", port=0):
    """A bound socket that receives knocks, with a time limit."""
    receiver = network.socket(family)
    receiver.bind((address, port))
    receiver.settimeout(TIMEOUT)
    return receiver
