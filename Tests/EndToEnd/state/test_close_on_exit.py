"""Grants when the server stops: closed first, or left for the next start."""

import os
import signal

import pytest
from support.datagrams import CLOSE


def test_a_close_that_did_not_run_before_the_stop_runs_at_the_next_start(journal, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    ours = journal.start(seconds=600, on_open=f"read line < {gate}; {journal.command}")
    ours.knock("192.0.2.1")
    ours.wait_for_counters(running=1)
    ours.knock("192.0.2.1", CLOSE)
    ours.wait_for_counters(queued=1)
    ours.signal(signal.SIGTERM)
    ours.log.wait_for("command not run, the server stops: close 192.0.2.1")
    gate.write_text("go on\n")
    ours.exit_code()
    journal.wait_for("open 192.0.2.1")
    journal.start(seconds=600).log.wait_for("1 grant is open, 1 of them overdue")
    journal.wait_for("open 192.0.2.1", "close 192.0.2.1")


@pytest.mark.slow
def test_close_on_exit_closes_all_first(journal):
    ours = journal.start("--close-on-exit", seconds=600)
    for number in range(100):
        ours.knock(f"192.0.2.{number}")
    ours.wait_for_counters(succeeded=100, open=100)
    assert ours.stop() == 0
    expected = [f"192.0.2.{number}" for number in range(100)]
    assert sorted(journal.lines()[100:]) == sorted(f"close {address}" for address in expected)
    assert journal.open() == []


def test_what_waits_to_be_opened_when_it_stops_is_not_opened(journal, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    ours = journal.start(
        "--close-on-exit", seconds=600, on_open=f"read line < {gate}; {journal.command}",
        on_close=journal.command,
    )  # fmt: skip
    ours.knock("192.0.2.1")
    ours.knock("192.0.2.2")
    ours.wait_for_counters(running=1, queued=1)
    ours.signal(signal.SIGTERM)
    ours.log.wait_for("command not run, the server stops: open 192.0.2.2")
    gate.write_text("go on\n")
    assert ours.exit_code() == 0
    assert sorted(journal.lines()) == ["close 192.0.2.1", "close 192.0.2.2", "open 192.0.2.1"]


def test_a_second_signal_does_not_wait_and_nothing_is_forgotten(journal, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    ours = journal.start(
        "--close-on-exit", seconds=600, on_open="true", on_close=f"read line < {gate}"
    )
    for number in range(3):
        ours.knock(f"192.0.2.{number + 1}")
    ours.wait_for_counters(succeeded=3)
    ours.signal(signal.SIGTERM)
    ours.log.wait_for("expired: ", 3)
    ours.signal(signal.SIGTERM)
    ours.log.wait_for("^pyknock server: 3 grants are left open, for the next start to close$")
    ours.log.wait_for("command not run, the server stops: close", 2)
    gate.write_text("go on\n")
    assert ours.exit_code() == 0
    # The command that was running has closed one of the three.
    assert len(journal.open()) == 2
    journal.start().log.wait_for("2 grants are open, 2 of them overdue")


def test_a_close_that_fails_when_it_stops_is_left_for_the_next_start(journal):
    ours = journal.start("--close-on-exit", seconds=600, on_open="true", on_close="exit 3")
    ours.knock("192.0.2.1")
    ours.wait_for_counters(succeeded=1)
    assert ours.stop() == 0
    ours.log.wait_for("command ended: close 192.0.2.1: exit status 3")
    ours.log.wait_for("^pyknock server: not closed: close 192.0.2.1, trying again in a minute$")
    assert journal.open() == ["192.0.2.1"]
    journal.start(seconds=600)
    journal.wait_for("close 192.0.2.1")
