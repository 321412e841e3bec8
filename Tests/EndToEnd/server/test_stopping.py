"""Signals, and what becomes of running and waiting commands when the server stops."""

import os
import re
import signal
import time

import pytest
from support.datagrams import CLOSE, packet
from support.waiting import until


def test_a_hangup_that_is_ignored_does_not_stop_the_server(server):
    ours = server(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    ours.signal(signal.SIGHUP)
    ours.knock()
    ours.output.wait_for("open")
    assert ours.stop() == 0


STOPS = [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")]


@pytest.mark.parametrize("number, name", STOPS)
def test_a_signal_stops_an_idle_server_with_exit_0(server, number, name):
    ours = server()
    ours.signal(number)
    assert ours.exit_code() == 0
    assert ours.log.wait_for_end()[1:] == [
        f"pyknock server: stopping on {name}",
        "pyknock server: stopped",
    ]


@pytest.mark.parametrize("number, name", STOPS)
def test_a_running_command_may_finish_and_what_waits_is_logged(server, gate, number, name):
    ours = server("-v", on_open=f"echo start; read line < {gate.path}; echo end", on_close="exit 1")
    ours.knock()
    ours.output.wait_for("start")
    ours.knock("192.0.2.2")
    ours.knock("2001:db8::3", command=CLOSE)
    ours.wait_for_counters(accepted=3, queued=2)
    ours.signal(number)
    ours.log.wait_for(f"^pyknock server: stopping on {name}$")
    ours.log.wait_for("command not run", 2)
    ours.knock("192.0.2.4")
    ours.signal(number)
    assert ours.counters()["accepted"] == 3
    gate.open()
    assert ours.exit_code() == 0
    assert ours.output.wait_for_end() == ["start", "end"]
    lines = ours.log.wait_for_end()
    lines = [line for line in lines if "counters" not in line and "accepted" not in line]
    assert lines[-5:] == [
        f"pyknock server: stopping on {name}",
        "pyknock server: command not run, the server stops: open 192.0.2.2",
        "pyknock server: command not run, the server stops: close 2001:db8::3",
        "pyknock server: command ended: open 192.0.2.1: exit status 0",
        "pyknock server: stopped",
    ]


@pytest.mark.slow
def test_a_running_command_is_ended_after_five_seconds(server):
    ours = server(on_open="echo start; sleep 600")
    ours.knock()
    ours.output.wait_for("start")
    start = time.monotonic()
    assert ours.stop() == 0
    assert time.monotonic() - start >= 4.9
    ours.log.wait_for("command timed out, sent TERM: open 192.0.2.1")
    ours.log.wait_for("command ended: open 192.0.2.1: signal 15")


def test_ignored_and_blocked_signals_of_the_parent_make_no_difference(server):
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD]

    def ignore_and_block():
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    ours = server(on_open="exit 7", preexec_fn=ignore_and_block)
    ours.knock()
    ours.log.wait_for("command ended: open 192.0.2.1: exit status 7")
    assert ours.stop() == 0


@pytest.fixture
def slow(start, firewall, intruder, tmp_path):
    """A server that has accepted many knocks and stops. Its requests to the firewall take longer."""
    firewall.load_example()
    milliseconds = tmp_path / "slow"
    milliseconds.write_text("0")
    environment = {**os.environ, "LD_PRELOAD": str(intruder), "INTRUDER_SLOW": str(milliseconds)}
    ours = start("--ttl=1h", "-t600", f"--metrics={tmp_path}/metrics", env=environment)
    # So that there are grants to compare with the set.
    ours.send(*(packet(f"10.0.0.{host}") for host in range(64)))
    ours.wait_for_counters(set_changed=64)
    milliseconds.write_text("40")
    ours.send(*(packet(f"10.1.0.{host}") for host in range(250)))
    until(lambda: ours.counters()["accepted"] == 314, "the receiver has accepted all")
    ours.signal(signal.SIGTERM)
    ours.log.wait_for("stopping on SIGTERM")
    return ours


def not_run_of_all(ours, done, metrics):
    """Checks that each accepted knock was carried out or logged as not run. Returns how many were logged.

    `done` returns the addresses that were opened. A line that is missing must have been counted as dropped.
    """
    assert ours.exit_code() == 0
    assert ours.log.wait_for_end()[-1] == "pyknock server: stopped"
    prefix = "^pyknock server: (?:command )?not run, the server stops: open "
    not_run = {match[1] for match in ours.log.matching(prefix + r"(\S+)$")}
    done = done()
    assert not done & not_run
    shown = {match[1] for match in ours.log.matching(r"accepted open (\S+)")}
    dropped = sum(int(match[1]) for match in ours.log.matching(r"log lines dropped: (\d+)$"))
    accepted = int(re.search(r"^pyknock_accepted_total (\d+)$", metrics.read_text(), re.M)[1])
    assert (accepted - len(shown)) + (accepted - len(done) - len(not_run)) == dropped
    assert dropped > 0 or shown == done | not_run
    return len(not_run)


@pytest.mark.slow
def test_with_a_slow_firewall_each_accepted_knock_is_carried_out_or_logged(slow, firewall, tmp_path):
    start = time.monotonic()
    not_run = not_run_of_all(slow, lambda: set(firewall.elements()), tmp_path / "metrics")
    assert 100 < not_run < 245
    assert time.monotonic() - start < 6


def test_a_second_signal_ends_the_wait_for_a_slow_firewall(slow, firewall, tmp_path):
    slow.signal(signal.SIGTERM)
    not_run = not_run_of_all(slow, lambda: set(firewall.elements()), tmp_path / "metrics")
    assert not_run > 200


@pytest.mark.slow
def test_a_pause_while_it_stops_loses_nothing(slow, firewall, tmp_path):
    processes = [slow.receiver, slow.pid]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    slow.signal(signal.SIGHUP)
    time.sleep(7)
    for process in reversed(processes):
        os.kill(process, signal.SIGCONT)
    not_run_of_all(slow, lambda: set(firewall.elements()), tmp_path / "metrics")


@pytest.mark.parametrize("signals", [1, 2])
def test_with_slow_commands_each_of_a_thousand_knocks_is_run_or_logged(server, tmp_path, signals):
    metrics = tmp_path / "metrics"
    ours = server("-t600", f"--metrics={metrics}", on_open="echo $ip; sleep 0.5")
    for network in range(5):
        ours.send(*(packet(f"10.0.{network}.{host}") for host in range(204)))
        ours.wait_for_counters(accepted=204 * (network + 1))
    for _ in range(signals):
        ours.signal(signal.SIGTERM)
        ours.log.wait_for("stopping on SIGTERM")
    not_run = not_run_of_all(ours, lambda: set(ours.output.wait_for_end()), metrics)
    assert not_run > 900
