"""Sockets that a service manager passes on."""

import contextlib
import os
import socket

import pytest
from support.datagrams import KEY, packet
from support.networks import HOST
from support.processes import status_of
from support.programs import program, run
from support.waiting import until


class Passed:
    """A socket that the server gets as descriptor 3."""

    def __init__(self, kind=socket.SOCK_DGRAM, family=socket.AF_INET, address="127.0.0.1"):
        self.socket = socket.socket(family, kind)
        self.socket.bind((address, 0))
        self.port = self.socket.getsockname()[1]

    def options(self, count=1):
        number = self.socket.fileno()
        # exec keeps the process number of the shell, so that LISTEN_PID is right.
        prefix = ["bash", "-c", f'LISTEN_FDS={count} LISTEN_PID=$$ exec "$@" 3<&{number}', "bash"]
        return {"prefix": prefix, "pass_fds": [number]}


def start(words, passed, **more):
    options = passed.options(**more)
    return run([*options["prefix"], *program("server"), *words], pass_fds=options["pass_fds"])


def test_a_passed_socket_is_used_and_what_waits_in_it_is_done(server, not_emulated):
    passed = Passed()
    with HOST.socket() as sender:
        sender.sendto(packet("192.0.2.5"), ("127.0.0.1", passed.port))
    ours = server(port=passed.port, **passed.options())
    ours.log.wait_for(rf"listening on 127\.0\.0\.1:{passed.port}, ")
    ours.output.wait_for(r"^open 192\.0\.2\.5 inet$")
    ours.knock("192.0.2.6")
    ours.output.wait_for(r"^open 192\.0\.2\.6 inet$")
    assert ours.stop() == 0
    # The next server uses the same socket, and gets the knock that came meanwhile.
    ours.knock("192.0.2.7")
    ours = server(port=passed.port, **passed.options())
    ours.output.wait_for(r"^open 192\.0\.2\.7 inet$")


def test_a_port_that_is_said_must_be_that_of_the_passed_socket(server, not_emulated):
    passed = Passed()
    words = [KEY, "x", "x"]
    result = start(["-p", "60121", *words], passed)
    assert result.code == 1
    told = f"pyknock server: the service manager passed a socket for 127.0.0.1:{passed.port}, not for "
    more = ": set both (ListenDatagram= in pyknock.socket)"
    assert result.lines[-1] == f"{told}0.0.0.0:60121{more}"
    for address, port in ("127.0.0.2", passed.port), ("::1", passed.port), ("127.0.0.1", 60121):
        shown = f"[{address}]" if ":" in address else address
        result = start(["-b", address, "-p", str(port), *words], passed)
        assert (result.code, result.lines[-1]) == (1, f"{told}{shown}:{port}{more}")
    assert start(["-b", "here", *words], passed).code == 1
    ours = server(
        "-p", str(passed.port), "-b", "127.0.0.1", port=passed.port, **passed.options()
    )
    ours.knock()
    ours.output.wait_for("^open")


@pytest.mark.parametrize("kind, count", [(socket.SOCK_STREAM, 1), (socket.SOCK_DGRAM, 2), (socket.SOCK_DGRAM, 0)])
def test_anything_else_that_is_passed_is_refused(kind, count, not_emulated):
    result = start([KEY, "x", "x"], Passed(kind), count=count)
    assert result.code == 1
    assert result.lines[-1] == (
        "pyknock server: LISTEN_FDS: the service manager must pass exactly one UDP socket"
    )


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_socket_without_a_port_is_refused(family, not_emulated):
    class Unbound(Passed):
        def __init__(self):
            self.socket = socket.socket(family, socket.SOCK_DGRAM)

    result = start([KEY, "x", "x"], Unbound())
    assert result.code == 1
    assert result.lines[-1] == (
        "pyknock server: LISTEN_FDS: the passed socket has no port: set ListenDatagram= in pyknock.socket"
    )


@pytest.mark.parametrize(
    "family, address, shown",
    [(socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, "::1", "[::1]")],
)
def test_a_connected_socket_is_refused(family, address, shown, not_emulated):
    passed = Passed(family=family, address=address)
    passed.socket.connect((address, 9))
    result = start([KEY, "x", "x"], passed)
    assert result.code == 1
    assert result.lines[-1] == (
        f"pyknock server: LISTEN_FDS: the passed socket is connected to {shown}:9 and takes knocks from there"
        " only: pass one that is only bound"
    )


def test_a_unix_datagram_socket_is_refused(tmp_path, not_emulated):
    class Unix(Passed):
        def __init__(self):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    assert start([KEY, "x", "x"], Unix()).lines[-1].endswith("the service manager must pass exactly one UDP socket")


def test_a_socket_that_another_process_shuts_down_does_not_keep_the_processor_busy(server, not_emulated):
    passed = Passed()
    ours = server(port=passed.port, **passed.options())
    ours.wait_until_ready()
    with contextlib.suppress(OSError):  # It has an effect all the same: poll(2) says that something can be read.
        passed.socket.shutdown(socket.SHUT_RD)

    def pauses():
        return int(status_of(ours.receiver)["voluntary_ctxt_switches"])

    before = pauses()
    until(lambda: pauses() >= before + 10, "the receiver pauses again and again")
    assert ours.stop() == 0


def test_what_is_passed_to_another_process_is_left_alone(server, not_emulated):
    ours = server(env={**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"})
    ours.knock()
    ours.output.wait_for("^open")
