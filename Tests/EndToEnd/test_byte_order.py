"""What the program stores and sends is little-endian, whatever the machine. The other tests build on that."""

import socket
import struct
import time

from support.datagrams import AF_INET6, KEY, OPEN, packet
from support.programs import program, run
from support.state import HEADER, checksum


def test_the_client_sends_what_every_machine_sends(tmp_path):
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("::1", 0))
        receiver.settimeout(20)
        begin = time.time()
        port = receiver.getsockname()[1]
        assert run([*program("client"), "-k", key, "-p", str(port), "-S", "2001:db8::7", "open", "::1"]).code == 0
        datagram = receiver.recv(100)
    _, time_stamp, family = struct.unpack_from("<Bdi", datagram, 32)
    assert begin - 1 < time_stamp < time.time() + 1
    assert family == AF_INET6
    assert datagram == packet("2001:db8::7", OPEN, time_stamp=time_stamp)


def test_a_new_state_file_is_what_every_machine_writes(server, tmp_path):
    server("--state", str(tmp_path / "state")).stop()
    header = (tmp_path / "state/replay").read_bytes()[:HEADER]
    assert header[:8] == b"pyknock\0"
    fields = struct.unpack_from("<3Q", header)
    assert fields[1:] == (3, 4096)
    assert struct.unpack_from("<Q", header, 24) == (checksum(*fields),)
