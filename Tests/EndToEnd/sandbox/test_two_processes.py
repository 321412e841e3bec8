"""The executor and the receiver: what becomes of one when the other ends or waits."""

import contextlib
import ctypes
import fcntl
import os
import signal
import struct
import termios
import time
from pathlib import Path

import pytest
from support.datagrams import packet
from support.processes import name_of, stat_of, status_of
from support.programs import program
from support.requests import key_text
from support.users import UserFiles
from support.waiting import until


def test_ps_shows_what_each_process_is(server):
    ours = server("--no-shell", on_open="true")
    assert name_of(ours.pid) == Path(program("server")[0]).name[:15]  # So that killall(1) finds it.
    assert name_of(ours.receiver) == "pyknock: receiv"


@pytest.mark.usefixtures("not_emulated")
def test_ps_shows_a_title_for_the_arguments_of_the_receiver(server):
    ours = server("--no-shell", on_open="true")
    shown = Path(f"/proc/{ours.receiver}/cmdline").read_bytes()
    assert shown.rstrip(b"\0") == b"pyknock: receiver"
    assert b"--no-shell" in Path(f"/proc/{ours.pid}/cmdline").read_bytes()


def test_when_the_receiver_ends_the_server_ends_and_commands_may_finish(server):
    ours = server(on_open="echo begin; sleep 0.3; echo end")
    receiver = ours.receiver
    ours.knock()
    ours.output.wait_for("begin")
    os.kill(receiver, signal.SIGKILL)
    assert ours.exit_code() == 1
    assert ours.output.wait_for_end() == ["begin", "end"]
    assert ours.log.wait_for_end()[-2:] == [
        "pyknock server: the receiver ended: signal 9",
        "pyknock server: stopped",
    ]


def size_of_waiting_lines(ours):
    """The bytes in the queue of the log, whose lines a stopped executor does not write.

    The queue is the only pipe of the server besides the standard streams.
    """
    folder = Path(f"/proc/{ours.pid}/fd")
    given = {os.readlink(folder / name) for name in "012"}
    for entry in folder.iterdir():
        if os.readlink(entry).startswith("pipe:") and os.readlink(entry) not in given:
            with open(entry, "rb", buffering=0) as queue:
                return struct.unpack("i", fcntl.ioctl(queue, termios.FIONREAD, b"1234"))[0]
    return 0


SIZE_OF_200_LINES = 200 * len("pyknock server: accepted open 10.0.0.0 from 127.0.0.1:50000")


@pytest.mark.slow
@pytest.mark.usefixtures("not_emulated")
def test_while_the_executor_is_busy_the_receiver_waits_and_loses_nothing(server):
    """There are more knocks than the connection between the processes holds."""
    ours = server("--no-shell", on_open="true")
    ours.signal(signal.SIGSTOP)
    for start in range(0, 800, 200):
        hosts = range(start, start + 200)
        ours.send(*(packet(f"10.0.{host // 200}.{host % 200}") for host in hosts))
    until(lambda: size_of_waiting_lines(ours) > SIZE_OF_200_LINES, "the first are accepted")
    ours.signal(signal.SIGCONT)
    # While the queue is full, the line of the counters may find no room either.
    until(lambda: size_of_waiting_lines(ours) == 0, "the lines are written")
    ours.wait_for_counters(accepted=800, succeeded=800)


def stands_still(value):
    before = value()
    time.sleep(0.1)
    return value() == before


def accept_more_than_fit(ours):
    """Stops the executor, and sends more knocks than the connection holds."""
    ours.signal(signal.SIGSTOP)
    for start in range(0, 400, 200):
        ours.send(*(packet(f"10.0.{start // 200}.{host}") for host in range(200)))

    until(lambda: size_of_waiting_lines(ours) > SIZE_OF_200_LINES, "the first are accepted")
    until(lambda: stands_still(lambda: size_of_waiting_lines(ours)), "the receiver waits")


@pytest.mark.slow
@pytest.mark.usefixtures("not_emulated")
def test_a_pause_of_the_executor_ends_nothing(server):
    """Version 1.0.0 gave up after 30 seconds."""
    ours = server("-t600", "--no-shell", on_open="true")
    accept_more_than_fit(ours)
    time.sleep(31)
    ours.signal(signal.SIGCONT)
    ours.wait_for_counters(accepted=400, succeeded=400)
    assert ours.stop() == 0


def test_a_pause_of_the_receiver_ends_nothing(server, key_file):
    ours = server("--no-shell", words=["-k", str(key_file), "true", "true"])
    os.kill(ours.receiver, signal.SIGSTOP)
    ours.knock()
    ours.signal(signal.SIGHUP)
    # The signal with the lower number comes first. The answer to it waits for the receiver.
    ours.counters()
    assert not ours.log.matching("reloaded")
    os.kill(ours.receiver, signal.SIGCONT)
    ours.log.wait_for("reloaded")
    ours.wait_for_counters(accepted=1, succeeded=1)
    assert ours.stop() == 0


@pytest.mark.slow
def test_a_receiver_that_stands_still_is_ended_and_its_knocks_are_logged(server):
    ours = server("-t600", "--no-shell", on_open="echo run")
    accept_more_than_fit(ours)
    os.kill(ours.receiver, signal.SIGSTOP)
    ours.signal(signal.SIGTERM)
    ours.signal(signal.SIGCONT)
    assert ours.exit_code() == 1
    ours.log.wait_for(
        "^pyknock server: accepted knocks not run, the receiver did not pass them on: 1$"
    )
    not_run = len(ours.log.matching("^pyknock server: command not run, the server stops: open 10"))
    ours.log.wait_for_end()
    accepted = len(ours.log.matching("accepted open"))
    assert len(ours.output.wait_for_end()) + not_run + 1 == accepted
    assert ours.log.wait_for_end()[-2:] == [
        "pyknock server: the receiver ended: signal 9",
        "pyknock server: stopped",
    ]


@pytest.mark.usefixtures("not_emulated")
def test_a_new_key_that_the_receiver_did_not_take_loses_no_knock(server, key_file):
    """The kernel resets the connection of a process that ends before it has read all."""
    ours = server("--no-shell", words=["-k", str(key_file), "true", "true"])
    ours.signal(signal.SIGSTOP)
    ours.knock()
    until(lambda: size_of_waiting_lines(ours) > 0, "the knock is accepted")
    os.kill(ours.receiver, signal.SIGSTOP)
    until(lambda: stat_of(ours.receiver)[0] == "T", "the receiver stands still")
    ours.signal(signal.SIGHUP)
    ours.signal(signal.SIGCONT)
    # The signal with the lower number comes first.
    ours.wait_for_counters(succeeded=1)
    os.kill(ours.receiver, signal.SIGKILL)
    assert ours.exit_code() == 1
    assert ours.log.wait_for_end()[-2:] == [
        "pyknock server: the receiver ended: signal 9",
        "pyknock server: stopped",
    ]


@pytest.mark.usefixtures("not_emulated")
def test_what_the_receiver_had_accepted_when_it_was_killed_is_run_or_logged(server):
    ours = server("--no-shell", on_open="echo run")
    accept_more_than_fit(ours)
    os.kill(ours.receiver, signal.SIGKILL)
    ours.signal(signal.SIGUSR1)
    ours.signal(signal.SIGCONT)
    assert ours.exit_code() == 1
    lines = ours.log.wait_for_end()
    assert lines[-1] == "pyknock server: stopped"
    # It was about to pass on one.
    ours.log.wait_for(
        "^pyknock server: accepted knocks not run, the receiver did not pass them on: 1$"
    )
    not_run = len(ours.log.matching("^pyknock server: command not run, the server stops: open 10"))
    accepted = len(ours.log.matching("accepted open"))
    assert len(ours.output.wait_for_end()) + not_run + 1 == accepted


def test_when_the_executor_is_killed_the_receiver_ends(server):
    ours = server()
    receiver = ours.receiver
    ours.signal(signal.SIGKILL)

    def has_ended():
        try:
            return status_of(receiver)["State"].startswith("Z")
        except FileNotFoundError:
            return True

    until(has_ended, "the receiver has ended")


def test_signals_to_the_whole_group_stop_it_in_order(server):
    """A terminal does this, and so does a supervisor that does not know of the two processes."""
    ours = server()
    os.killpg(ours.pid, signal.SIGINT)
    assert ours.exit_code() == 0
    assert ours.log.wait_for_end()[-2:] == [
        "pyknock server: stopping on SIGINT",
        "pyknock server: stopped",
    ]


def test_after_a_kill_it_starts_again_at_once_on_the_same_port_and_state(server, tmp_path):
    ours = server(f"--state={tmp_path}/state")
    port = f"-p{ours.port}"
    old = ours.knock()
    ours.output.wait_for("open")
    for _ in range(10):
        ours.signal(signal.SIGKILL)
        ours.exit_code()
        ours = server(port, f"--state={tmp_path}/state", port=ours.port)
    ours.send(old)
    ours.wait_for_counters(replayed=1, accepted=0)


@pytest.fixture
def users(tmp_path):
    users = UserFiles(tmp_path / "keys")
    users.set("alice")
    return users


@pytest.fixture
def with_users(server, users, tmp_path):
    """Starts a server with users."""
    return lambda *options: server(users.option, f"--state={tmp_path}/state", *options, words=["true $ip", "true $ip"])


def add(users, count):
    """More of them than the connection holds at once. They have no key of version 1, whose number is limited."""
    for number in range(count):
        users.set(f"user{number}", key=key_text(f"user{number}"))


@contextlib.contextmanager
def stuck(process):
    """Keeps a process from running, without a signal that its parent could see: ptrace(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    seize, interrupt, detach = 0x4206, 0x4207, 17
    for request in (seize, interrupt):
        if libc.ptrace(request, process, 0, 0) < 0:
            pytest.skip(f"needs ptrace: {os.strerror(ctypes.get_errno())}")
    os.waitpid(process, 0)
    try:
        yield
    finally:
        libc.ptrace(detach, process, 0, 0)


def reload_with_many_users(ours, users):
    """The receiver must stand still. Returns when the executor waits for it."""
    add(users, 300)
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("user added")
    until(lambda: stands_still(lambda: len(ours.log.lines)), "the executor waits")


@pytest.mark.slow
@pytest.mark.usefixtures("not_emulated")
def test_a_pause_of_the_receiver_while_it_takes_many_users_ends_nothing(with_users, users):
    ours = with_users()
    os.kill(ours.receiver, signal.SIGSTOP)
    reload_with_many_users(ours, users)
    time.sleep(5.2)
    os.kill(ours.receiver, signal.SIGCONT)
    ours.log.wait_for("^pyknock server: reloaded users and commands, users: 301$")
    assert ours.stop() == 0


@pytest.mark.slow
@pytest.mark.usefixtures("not_emulated")
def test_a_pause_of_the_executor_while_it_tells_many_users_ends_nothing(with_users, users):
    """The receiver has not run since, like one in a container that was frozen."""
    ours = with_users()
    with stuck(ours.receiver):
        reload_with_many_users(ours, users)
        ours.signal(signal.SIGSTOP)
        time.sleep(5.2)
        ours.signal(signal.SIGCONT)
        until(lambda: stat_of(ours.pid)[0] == "S" and stands_still(lambda: stat_of(ours.pid)[0]), "it waits again")
    ours.log.wait_for("^pyknock server: reloaded users and commands, users: 301$")
    assert ours.stop() == 0


@pytest.mark.slow
@pytest.mark.usefixtures("not_emulated")
def test_a_receiver_that_takes_no_users_is_ended(with_users, users):
    ours = with_users()
    with stuck(ours.receiver):
        reload_with_many_users(ours, users)
        ours.log.wait_for("^pyknock server: fatal: the receiver does not take the users: ")
        os.waitpid(ours.receiver, 0)
    assert ours.exit_code() == 1
    assert ours.log.wait_for_end()[-2:] == [
        "pyknock server: the receiver ended: signal 9",
        "pyknock server: stopped",
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("not_emulated")
def test_while_both_wait_for_room_the_receiver_takes_all_users_at_once(with_users, users):
    """In each pause it took only one. So a flood of one user delayed a hangup by 5 ms for each change."""
    ours = with_users("-t600")
    os.kill(ours.receiver, signal.SIGSTOP)
    add(users, 1000)
    for start in range(0, 600, 200):
        ours.send(*(packet(f"10.0.{start // 200}.{host}", key=UserFiles.key("alice")) for host in range(200)))
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("user added")

    def pauses():
        return int(status_of(ours.receiver)["voluntary_ctxt_switches"])

    before = pauses()
    os.kill(ours.receiver, signal.SIGCONT)
    ours.log.wait_for("^pyknock server: reloaded users and commands, users: 1001$")
    # A busy machine needs more than the 60 of an idle one.
    assert pauses() - before < 700
