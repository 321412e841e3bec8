"""What a service manager such as systemd is told, and what it passes on."""

import os
import re
import signal
import socket
import time

import pytest
from support.datagrams import KEY, packet
from support.networks import HOST
from support.programs import TIMEOUT, program, run


@pytest.fixture
def manager(tmp_path):
    """The socket of a service manager, and the environment that names it."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    class Manager:
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}

        def bind(self, name=None):
            receiver.bind(name or self.environment["NOTIFY_SOCKET"])
            return self

        def hear(self, within=TIMEOUT):
            receiver.settimeout(within)
            return receiver.recv(1000).decode()

        def is_silent(self):
            receiver.setblocking(False)
            with pytest.raises(BlockingIOError):
                receiver.recv(1000)
            return True

    with receiver:
        yield Manager()


def test_it_is_told_when_the_server_is_ready_and_stops(server, manager):
    manager.bind()
    ours = server(env=manager.environment)
    assert manager.hear() == "READY=1"
    ours.knock()
    ours.output.wait_for("^open")
    assert manager.is_silent()
    assert ours.stop() == 0
    assert manager.hear() == "STOPPING=1"
    assert manager.is_silent()


def test_an_abstract_socket(server, manager):
    name = f"pyknock-test-{os.getpid()}"
    manager.bind("\0" + name)
    server(env={**manager.environment, "NOTIFY_SOCKET": "@" + name})
    assert manager.hear() == "READY=1"


def test_a_manager_that_is_busy_is_told_later(server, manager, key_file):
    manager.bind()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)

        def fill():
            other.connect(manager.environment["NOTIFY_SOCKET"])
            count = 0
            with pytest.raises(BlockingIOError):
                while True:
                    other.send(b"X=1")
                    count += 1
            return count

        count = fill()
        ours = server("-k", str(key_file), words=["echo", "echo"], env=manager.environment)
        for told in ("READY=1", "RELOADING"):
            assert [manager.hear() for _ in range(count)] == count * ["X=1"]
            if told == "READY=1":
                assert manager.hear() == told
                count = fill()
                ours.signal(signal.SIGHUP)
                ours.log.wait_for("reloaded key")
        assert manager.hear() == "READY=1"


@pytest.mark.parametrize("microseconds", ["0", "-5", "-999999999999999999", "1", "1000", "9223372036854775807"])
def test_no_watchdog_makes_it_spin(server, manager, microseconds, not_emulated):
    manager.bind()
    ours = server(env={**manager.environment, "WATCHDOG_USEC": microseconds})
    assert manager.hear() == "READY=1"
    switches = [f"/proc/{process}/status" for process in (ours.pid, ours.receiver)]

    def count():
        return sum(
            int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", open(path).read(), re.M)[1])
            for path in switches
        )

    before, start = count(), time.monotonic()
    ours.knock()
    ours.output.wait_for("^open")
    ours.counters()
    if microseconds in ("1", "1000"):
        assert [manager.hear() for _ in range(5)] == 5 * ["WATCHDOG=1"]
    # The least patient one: every 20 ms here, every 10 ms there.
    assert count() - before < 30 + 150 * (time.monotonic() - start)


def test_it_is_told_of_a_reload_good_or_bad(server, manager, key_file):
    manager.bind()
    ours = server("-k", str(key_file), words=["echo", "echo"], env=manager.environment)
    assert manager.hear() == "READY=1"
    for key in (KEY, ""):
        key_file.write_text(key)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        ours.signal(signal.SIGHUP)
        reloading = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", manager.hear())
        assert before <= int(reloading[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert manager.hear() == "READY=1"


def test_a_server_that_cannot_start_is_never_ready(manager):
    manager.bind()
    assert run([*program("server"), "-b", "192.0.2.200", KEY, "x", "x"], env=manager.environment).code == 1
    assert manager.is_silent()


def test_a_manager_that_is_gone_does_no_harm(server, manager):
    ours = server(env=manager.environment)
    assert ours.log.lines[-2] == (
        f"pyknock server: NOTIFY_SOCKET '{manager.environment['NOTIFY_SOCKET']}': No such file or directory"
    )
    ours.knock()
    ours.output.wait_for("^open")
    too_long = 200 * "x"
    ours = server(env={**manager.environment, "NOTIFY_SOCKET": too_long})
    ours.log.wait_for(r"NOTIFY_SOCKET 'x{128}\.\.\.': File ?name too long$")


def test_the_watchdog_hears_of_both_processes(server, manager):
    manager.bind()
    ours = server(env={**manager.environment, "WATCHDOG_USEC": "400000"})
    assert [manager.hear() for _ in range(3)][-1] == "WATCHDOG=1"
    os.kill(ours.receiver, signal.SIGSTOP)
    # What was under way, and then nothing for longer than it is patient.
    heard = 0
    with pytest.raises(TimeoutError):
        while heard < 3:
            assert manager.hear(within=1) == "WATCHDOG=1"
            heard += 1
    os.kill(ours.receiver, signal.SIGCONT)
    assert manager.hear() == "WATCHDOG=1"


@pytest.mark.parametrize(
    "variables", [{}, {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}]
)
def test_without_a_watchdog_nothing_is_told(server, manager, variables):
    manager.bind()
    ours = server(env={**manager.environment, **variables})
    assert manager.hear() == "READY=1"
    ours.stop()
    assert manager.hear() == "STOPPING=1"


# Sockets that are passed on


class Passed:
    """A socket for the server, as descriptor 3."""

    def __init__(self, kind=socket.SOCK_DGRAM, family=socket.AF_INET, address="127.0.0.1"):
        self.socket = socket.socket(family, kind)
        self.socket.bind((address, 0))
        self.port = self.socket.getsockname()[1]

    def options(self, count=1):
        number = self.socket.fileno()
        # The shell's own number is that of the server.
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
    # The next one takes the same, and what has come in between.
    ours.knock("192.0.2.7")
    ours = server(port=passed.port, **passed.options())
    ours.output.wait_for(r"^open 192\.0\.2\.7 inet$")


def test_a_port_that_is_said_must_be_that_of_the_passed_socket(server, not_emulated):
    passed = Passed()
    words = [KEY, "x", "x"]
    result = start(["-p", "60121", *words], passed)
    assert result.code == 1
    told = f"pyknock server: the socket that was passed on to us is that of 127.0.0.1:{passed.port}, not of "
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
        "pyknock server: LISTEN_FDS: not one UDP socket, which alone is accepted"
    )


def test_a_socket_without_a_port_is_refused(not_emulated):
    class Unbound(Passed):
        def __init__(self):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    assert start([KEY, "x", "x"], Unbound()).lines[-1] == (
        "pyknock server: the socket that was passed on to us is that of 0.0.0.0:0, not of 0.0.0.0:0:"
        " set both (ListenDatagram= in pyknock.socket)"
    )


def test_a_unix_datagram_socket_is_refused(tmp_path, not_emulated):
    class Unix(Passed):
        def __init__(self):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    assert start([KEY, "x", "x"], Unix()).lines[-1].endswith("not one UDP socket, which alone is accepted")


def test_what_is_passed_to_another_process_is_left_alone(server, not_emulated):
    ours = server(env={**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"})
    ours.knock()
    ours.output.wait_for("^open")
