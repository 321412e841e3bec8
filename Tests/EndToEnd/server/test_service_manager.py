"""What the server tells a service manager such as systemd."""

import contextlib
import os
import re
import signal
import socket
import time

import pytest
from support.datagrams import KEY
from support.programs import TIMEOUT, program, run
from support.requests import key_text
from support.users import many_users


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

        def forget(self):
            """Makes room in the queue, which holds few messages."""
            receiver.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    receiver.recv(1000)

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
    # For the shortest interval, one process wakes every 20 ms and the other every 10 ms.
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
    assert run([*program("server"), "--chroot=/nonexistent", KEY, "x", "x"], env=manager.environment).code == 1
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


@pytest.mark.slow
def test_the_watchdog_hears_of_both_processes(server, manager):
    manager.bind()
    ours = server(env={**manager.environment, "WATCHDOG_USEC": "400000"})
    assert [manager.hear() for _ in range(3)][-1] == "WATCHDOG=1"
    os.kill(ours.receiver, signal.SIGSTOP)
    # Messages that were under way still come, then none for longer than WATCHDOG_USEC.
    heard = 0
    with pytest.raises(TimeoutError):
        while heard < 3:
            assert manager.hear(within=1) == "WATCHDOG=1"
            heard += 1
    os.kill(ours.receiver, signal.SIGCONT)
    assert manager.hear() == "WATCHDOG=1"


@pytest.mark.slow
@pytest.mark.usefixtures("not_emulated")
def test_the_watchdog_hears_of_a_long_reload(server, manager, tmp_path):
    manager.bind()
    users = many_users(tmp_path / "keys", 1)
    options = [users.option, f"--state={tmp_path}/state"]
    environment = {**manager.environment, "WATCHDOG_USEC": "200000"}
    ours = server(*options, words=["true $ip", "true $ip"], env=environment)
    for number in range(1, 3000):
        users.set(f"user{number}", key=key_text(f"user{number}"))
    manager.forget()
    ours.signal(signal.SIGHUP)
    messages = (manager.hear() for _ in range(200))
    assert any(message.startswith("RELOADING=1") for message in messages)
    assert next(messages) == "WATCHDOG=1"
    assert "READY=1" in messages


@pytest.mark.parametrize(
    "variables", [{}, {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}]
)
def test_without_a_watchdog_nothing_is_told(server, manager, variables):
    manager.bind()
    ours = server(env={**manager.environment, **variables})
    assert manager.hear() == "READY=1"
    ours.stop()
    assert manager.hear() == "STOPPING=1"
