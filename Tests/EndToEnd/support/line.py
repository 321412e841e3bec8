"""A line with a delay between two namespaces. It stands in for netem, which not every kernel has."""

import fcntl
import heapq
import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from support.networks import CLIENT, SERVER
from support.programs import TIMEOUT
from support.waiting import until

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


@dataclass
class Packet:
    """A TCP segment or a UDP datagram from the client, and when the client sent it.

    For a datagram or a reset, that is when it was read here: later if the machine is loaded.
    """

    time: float
    host: str
    port: int
    own_port: int
    # Of TCP; None for UDP.
    flags: int | None


def time_of(segment, now):
    """When the kernel sent a TCP segment: its timestamp is the monotonic clock in milliseconds. RFC 7323, section 3."""
    # Kinds and lengths in the options: RFC 9293, section 3.1.
    end_of_list, no_operation, timestamps = 0, 1, 8
    options = segment[20 : segment[12] >> 4 << 2]
    while options and options[0] != end_of_list:
        if options[0] == timestamps:
            [value] = struct.unpack_from("!I", options, 2)
            age = (int(now * 1000) - value + (1 << 31)) % (1 << 32) - (1 << 31)
            return now - age / 1000
        options = options[1 if options[0] == no_operation else options[1] :]
    return now


def parse(data, now):
    """The packet in these bytes; None for another protocol."""
    if data[0] >> 4 == 4:
        protocol, host, rest = data[9], data[16:20], data[(data[0] & 15) * 4 :]
    else:
        protocol, host, rest = data[6], data[24:40], data[40:]
    if protocol not in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        return None
    own_port, port = struct.unpack_from("!HH", rest)
    flags = None
    if protocol == socket.IPPROTO_TCP:
        flags, now = rest[13], time_of(rest, now)
    return Packet(now, str(ip_address(host)), port, own_port, flags)


def tun(network, addresses):
    """The descriptor of a new TUN device with these addresses: networking/tuntap.rst in the kernel."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is closed to this user")

    def make():
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"line", IFF_TUN | IFF_NO_PI))
        return device

    device = network.inside(make)
    network.run("ip link set line addrgenmode none up")
    network.add_address(f"{addresses[socket.AF_INET]}/24", "line")
    network.add_address(f"{addresses[socket.AF_INET6]}/64", "line")
    return device


class Line:
    """Packets take half of `round_trip` (seconds) in each direction.

    Those of the client for which `loses` returns true do not arrive. `packets` has all that the client has sent.
    """

    def __init__(self, client, server, round_trip, loses=lambda _: False):
        self.packets = []
        self.delay, self.loses = round_trip / 2, loses
        # Timestamps of all connections are of one clock: networking/ip-sysctl.rst in the kernel.
        client.run("sysctl -qw net.ipv4.tcp_timestamps=2")
        self.ends = [tun(client, CLIENT), tun(server, SERVER)]
        self.stop, self.stopped = os.pipe()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        client, server = self.ends
        under_way = []
        while True:
            limit = max(0, under_way[0][0] - time.monotonic()) if under_way else None
            ready = select.select([client, server, self.stop], [], [], limit)[0]
            if self.stop in ready:
                return
            now = time.monotonic()
            for end in ready:
                data = os.read(end, 1 << 16)
                packet = parse(data, now) if end == client else None
                if packet:
                    self.packets.append(packet)
                    if self.loses(packet):
                        continue
                other = server if end == client else client
                heapq.heappush(under_way, (now + self.delay, id(data), other, data))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, end, data = heapq.heappop(under_way)
                os.write(end, data)

    def sent(self, port, flags):
        """What the client has sent to a port with these flags; None is for UDP."""
        return [packet for packet in list(self.packets) if (packet.port, packet.flags) == (port, flags)]

    def attempts(self, port, host=None):
        """The first SYN of each attempt to connect to a port (of a host)."""
        attempts = {}
        for packet in self.sent(port, SYN):
            if host in (None, packet.host):
                attempts.setdefault((packet.host, packet.own_port), packet)
        return list(attempts.values())

    def connection(self, port, timeout=TIMEOUT):
        """The first packet of the client on a connection to a port. Waits until there is one."""
        return until(lambda: self.sent(port, ACK), f"a connection to port {port}", timeout)[0]

    def close(self):
        os.write(self.stopped, b".")
        self.thread.join()
        for descriptor in (*self.ends, self.stop, self.stopped):
            os.close(descriptor)
