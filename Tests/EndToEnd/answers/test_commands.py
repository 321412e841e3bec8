"""Answers of servers that run commands: when the command has ended, and what it came to."""

import ipaddress
import os
import signal

import pytest
from support.asker import ALICE, BOB, CHECK, CLOSE, DONE, FAILED, NO_ROOM, NOT_ALLOWED, nearly


@pytest.fixture
def gate(tmp_path):
    """A FIFO. Each command that reads from it waits for a line with its exit code."""

    class Gate:
        command = f"echo $cmd $ip; read code < {tmp_path}/gate; exit $code"

        def end(self, code=0):
            os.write(self.descriptor, f"{code}\n".encode())

    os.mkfifo(tmp_path / "gate")
    Gate.descriptor = os.open(tmp_path / "gate", os.O_RDWR)
    yield Gate()
    os.close(Gate.descriptor)


@pytest.mark.parametrize("host, address", [("127.0.0.1", "192.0.2.1"), ("::1", "2001:db8::7")])
def test_the_answer_comes_when_the_command_has_ended(answering, asker, gate, host, address):
    ours = answering("-v", on_open=gate.command)
    client = asker(ours.port, host)
    for count, command in enumerate([1, CLOSE], 1):
        client.ask(command, address)
        ours.output.wait_for(rf"\w+ {address}", count)
        ours.wait_for_counters(running=1)
        assert client.heard() == []
        gate.end()
        assert client.receive() == (DONE, 0, address)
        assert client.source[:2] == (host, ours.port)
    assert ours.stop() == 0
    assert client.heard() == []


@pytest.mark.parametrize("command", [1, CLOSE])
def test_a_command_that_fails(answering, asker, command):
    ours = answering(on_open="exit 3")
    assert asker(ours.port).outcome(command) == (FAILED, 0, "192.0.2.1")


def test_a_command_that_cannot_start_or_takes_too_long(answering, asker, tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho $1; exec sleep 60\n")
    program.chmod(0o755)
    ours = answering("--no-shell", "--command-timeout=1", on_open=f"{program} $ip")
    client = asker(ours.port)
    assert client.outcome() == (FAILED, 0, "192.0.2.1")
    ours.log.wait_for("command timed out")
    program.unlink()
    assert client.outcome(address="192.0.2.2") == (FAILED, 0, "192.0.2.2")
    ours.log.wait_for("command not started")


def test_a_server_that_closes_says_when(answering, asker):
    ours = answering("--close-after=1h")
    client = asker(ours.port)
    assert client.outcome() == (DONE, nearly(3600), "192.0.2.1")
    assert client.outcome(CLOSE) == (DONE, 0, "192.0.2.1")
    # The client may ask for less, and gets no more than the server gives.
    assert client.outcome(seconds=60) == (DONE, nearly(60), "192.0.2.1")
    assert client.outcome(seconds=10) == (DONE, nearly(60), "192.0.2.1")
    assert client.outcome(seconds=7200) == (DONE, nearly(3600), "192.0.2.1")
    assert client.outcome(CHECK) == (DONE, 3600, "192.0.2.1")


@pytest.mark.slow
def test_what_ended_while_the_command_ran_is_no_success(answering, asker, gate):
    ours = answering("--close-after=1h", on_open=gate.command)
    client = asker(ours.port)
    client.ask(seconds=1)
    ours.log.wait_for("expired: close 192.0.2.1")
    gate.end()
    assert client.receive() == (FAILED, 0, "192.0.2.1")


def test_where_no_time_is_kept_none_can_be_asked_for(answering, asker):
    ours = answering()
    client = asker(ours.port)
    assert client.outcome(seconds=60) == (NOT_ALLOWED, 0, "192.0.2.1")
    assert client.outcome(CHECK, address=None) == (DONE, 0, "127.0.0.1")
    assert client.outcome(address=None) == (NOT_ALLOWED, 0, "127.0.0.1")
    assert ours.stop() == 0
    assert ours.output.lines == []


def test_a_repeat_gets_the_answer_of_what_it_repeats(answering, asker, gate):
    ours = answering("-v", on_open=gate.command)
    client = asker(ours.port)
    # At once: a repeat comes within two seconds, however slow the machine is.
    client.ask()
    client.ask()
    ours.output.wait_for("open")
    ours.log.wait_for("command not run again: open 192.0.2.1")
    assert client.heard() == []
    gate.end()
    assert [client.receive(), client.receive()] == [(DONE, 0, "192.0.2.1")] * 2
    assert ours.output.lines == ["open 192.0.2.1"]


def test_a_repeat_of_what_has_ended_is_answered_at_once(answering, asker):
    ours = answering("-v")
    client = asker(ours.port)
    assert [client.outcome(), client.outcome()] == [(DONE, 0, "192.0.2.1")] * 2
    ours.log.wait_for("command not run again: open 192.0.2.1")
    ours.output.wait_for("open")
    assert ours.output.lines == ["open 192.0.2.1 inet"]


def test_a_repeat_makes_a_command_that_fails_run_again(answering, asker, gate):
    ours = answering("-v", on_open=gate.command)
    client = asker(ours.port)
    client.ask()
    client.ask()
    ours.output.wait_for("open")
    ours.log.wait_for("command not run again: open 192.0.2.1")
    gate.end(1)
    ours.output.wait_for("open", 2)
    assert client.heard() == []
    gate.end(0)
    assert [client.receive(), client.receive()] == [(DONE, 0, "192.0.2.1")] * 2


def test_a_user_waits_for_the_command_that_another_runs(answering, asker, gate, users):
    ours = answering("-v", users.option, "--close-after=1h", words=[gate.command, gate.command])
    alice, bob = asker(ours.port, key=ALICE), asker(ours.port, key=BOB)
    alice.ask()
    ours.output.wait_for("open")
    bob.ask(seconds=60)
    ours.log.wait_for("open already: open 192.0.2.1 by bob")
    assert bob.heard() == []
    # It fails, so it runs again for bob.
    gate.end(1)
    ours.output.wait_for("open", 2)
    assert alice.heard() == bob.heard() == []
    gate.end()
    # Each hears of their own grant alone.
    assert alice.receive() == (DONE, nearly(3600), "192.0.2.1")
    assert bob.receive() == (DONE, nearly(60), "192.0.2.1")
    assert alice.outcome(CHECK) == (DONE, 3600, "192.0.2.1")


def test_a_close_of_nothing_does_not_wait_for_what_others_close(answering, asker, gate, users):
    ours = answering("-v", users.option, "--close-after=1h", words=["true", gate.command])
    alice, bob = asker(ours.port, key=ALICE), asker(ours.port, key=BOB)
    assert alice.outcome() == (DONE, nearly(3600), "192.0.2.1")
    alice.ask(CLOSE)
    ours.output.wait_for("close 192.0.2.1")
    assert bob.outcome(CLOSE) == (DONE, 0, "192.0.2.1")
    ours.log.wait_for("nothing to close: close 192.0.2.1 by bob")
    assert alice.heard() == []
    # Nor does it fail if theirs fails.
    gate.end(1)
    assert alice.receive() == (FAILED, 0, "192.0.2.1")
    assert bob.heard() == []


def test_a_user_who_is_removed_meanwhile_gets_none(answering, asker, gate, users):
    ours = answering("-v", users.option, words=[gate.command, gate.command])
    alice, bob = asker(ours.port, key=ALICE), asker(ours.port, key=BOB)
    bob.ask(address="192.0.2.2")
    ours.output.wait_for("open 192.0.2.2")
    alice.ask()
    bob.ask(address="192.0.2.3")
    ours.wait_for_counters(accepted=3, queued=2)
    users.remove("bob")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("command not run, the user is gone: open 192.0.2.3 by bob")
    ours.log.wait_for("reloaded")
    gate.end()
    ours.output.wait_for("open 192.0.2.1")
    gate.end()
    assert alice.receive() == (DONE, 0, "192.0.2.1")
    assert bob.heard() == []
    # Whoever comes back is somebody else, with the same key.
    users.set("bob", key=BOB)
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("reloaded", 2)
    bob.ask(address="192.0.2.4")
    gate.end()
    assert bob.receive() == (DONE, 0, "192.0.2.4")


@pytest.mark.parametrize("command", [1, CLOSE])
def test_a_repeat_does_not_get_the_answer_of_another_user(answering, asker, gate, users, command):
    ours = answering("-v", users.option, words=[gate.command, gate.command])
    alice, bob = asker(ours.port, key=ALICE), asker(ours.port, key=BOB)
    for client in alice, bob, alice:
        client.ask(command)
    ours.output.wait_for(r"\w+ 192.0.2.1")
    ours.wait_for_counters(accepted=3, queued=1)
    ours.log.wait_for(r"command not run again: \w+ 192.0.2.1 by alice")
    users.remove("bob")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for(r"command not run, the user is gone: \w+ 192.0.2.1 by bob")
    ours.log.wait_for("reloaded")
    gate.end()
    assert [alice.receive(), alice.receive()] == [(DONE, 0, "192.0.2.1")] * 2


def test_a_server_that_stops_answers_those_who_wait(answering, asker, gate):
    ours = answering("-v", on_open=gate.command)
    client = asker(ours.port)
    for host in (1, 2, 3):
        client.ask(address=f"192.0.2.{host}")
    ours.output.wait_for("open")
    ours.wait_for_counters(queued=2)
    ours.signal(signal.SIGTERM)
    assert [client.receive(), client.receive()] == [(FAILED, 0, "192.0.2.2"), (FAILED, 0, "192.0.2.3")]
    gate.end()
    assert client.receive() == (DONE, 0, "192.0.2.1")
    assert ours.exit_code() == 0


@pytest.mark.slow
def test_without_room_in_the_queue_the_client_is_told_so(answering, asker, gate):
    ours = answering(on_open=gate.command)
    client = asker(ours.port)
    # One of them runs.
    address = ipaddress.ip_address("198.18.0.1")
    for number in range(1025):
        client.ask(address=address + number, wants_answer=False)
        if number % 64 == 63:
            ours.wait_for_counters(accepted=number + 1)
    assert client.outcome() == (NO_ROOM, 0, "192.0.2.1")
    ours.wait_for_counters(queue_full=1)
    # More than wait for the executor at the same time.
    for _ in range(100):
        assert client.outcome() == (NO_ROOM, 0, "192.0.2.1")
    ours.signal(signal.SIGKILL)


@pytest.mark.slow
def test_without_room_in_the_share_of_the_queue_the_client_is_told_so(answering, asker, gate, users):
    ours = answering(users.option, words=[gate.command, gate.command])
    alice, bob = asker(ours.port, key=ALICE), asker(ours.port, key=BOB)
    # One of them runs.
    address = ipaddress.ip_address("198.18.0.1")
    for number in range(257):
        alice.ask(address=address + number, wants_answer=False)
        if number % 64 == 0:
            ours.wait_for_counters(accepted=number + 1)
    assert alice.outcome() == (NO_ROOM, 0, "192.0.2.1")
    assert alice.outcome(CHECK) == (NO_ROOM, 0, "192.0.2.1")
    assert bob.outcome(CHECK) == (DONE, 0, "192.0.2.1")
    ours.signal(signal.SIGKILL)
