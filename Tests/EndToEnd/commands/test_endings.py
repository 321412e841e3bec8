"""How commands end, by themselves or by the server."""

import os
import signal
import time
from pathlib import Path

import pytest
from support.datagrams import CLOSE
from support.processes import children_of
from support.waiting import until


@pytest.mark.parametrize(
    "command, end", [("exit 3", "exit status 3"), ("kill -9 $$$$", "signal 9")]
)
def test_a_command_that_fails_is_logged_with_its_knock(server, command, end):
    ours = server("-q", on_open=command, wait=False)
    ours.wait_until_ready()
    ours.knock("2001:db8::7")
    ours.log.wait_for(f"^pyknock server: command ended: open 2001:db8::7: {end}$")
    assert ours.wait_for_counters(failed=1)["succeeded"] == 0


def is_alive(process):
    return Path(f"/proc/{process}").exists()


@pytest.mark.slow
def test_a_command_that_takes_too_long_gets_term(server):
    ours = server("--command-timeout", "1", on_open="sleep 600", on_close="echo next")
    start = time.monotonic()
    ours.knock()
    ours.knock(command=CLOSE)
    ours.log.wait_for(r"^pyknock server: command timed out, sent TERM: open 192\.0\.2\.1$")
    assert time.monotonic() - start >= 1
    ours.log.wait_for(r"^pyknock server: command ended: open 192\.0\.2\.1: signal 15$")
    ours.output.wait_for("next")
    ours.wait_for_counters(timed_out=1, succeeded=1, failed=0)


@pytest.mark.slow
def test_a_command_that_ended_while_the_server_was_paused_has_not_timed_out(server):
    ours = server("--command-timeout", "1", on_open="echo $$$$; sleep 0.2")
    ours.knock()
    ours.output.wait_for("")
    ours.signal(signal.SIGSTOP)
    time.sleep(1.2)
    ours.signal(signal.SIGUSR1)  # It is read before CHLD.
    ours.signal(signal.SIGCONT)
    ours.log.wait_for("counters")
    ours.wait_for_counters(succeeded=1, timed_out=0)
    assert not ours.log.matching("timed out")


@pytest.mark.slow
def test_a_pause_of_all_processes_counts_for_no_limit(server):
    """A container may be frozen. For the command no time has passed."""
    ours = server("--command-timeout", "2", on_open="echo $$$$; sleep 1")
    ours.knock()
    command = int(ours.output.wait_for(r"\d+")[0])
    processes = [ours.pid, ours.receiver, command, *children_of(command)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    time.sleep(3)
    for process in processes:
        os.kill(process, signal.SIGCONT)
    ours.wait_for_counters(succeeded=1, timed_out=0)
    assert not ours.log.matching("timed out")


@pytest.mark.slow
def test_a_command_that_ignores_term_gets_kill(server):
    # The child gets TERM too, and obeys it.
    child = "(trap 'echo child got TERM; exit' TERM; echo ready; sleep 600 & wait)"
    ours = server(
        "--command-timeout", "1", on_open=f"{child} & trap '' TERM; wait; sleep 600; sleep 600"
    )
    ours.knock()
    ours.output.wait_for("child got TERM")
    ours.log.wait_for(r"^pyknock server: command still running after TERM, sent KILL: open 192\.0\.2\.1$")
    ours.log.wait_for(r"^pyknock server: command ended: open 192\.0\.2\.1: signal 9$")
    assert ours.counters()["timed-out"] == 1


@pytest.mark.slow
def test_what_a_command_started_ends_with_it(server):
    # The shell and the first child end on TERM. The second child ignores it.
    command = "sleep 600 & echo $!; (trap '' TERM; sleep 600; sleep 600) & echo $!; wait"
    ours = server("--command-timeout", "1", on_open=command)
    ours.knock()
    ours.output.wait_for(r"^\d+$", 2)
    children = list(ours.output.lines)
    assert all(map(is_alive, children))
    ours.log.wait_for("command ended: open .*: signal 15")
    until(lambda: not any(map(is_alive, children)), "the children end")


def test_a_background_process_outlives_a_command_that_ends_in_time(server):
    ours = server("-v", on_open="sleep 600 > /dev/null 2>&1 & echo $!")
    ours.knock()
    ours.log.wait_for("command ended: open .*: exit status 0")
    assert is_alive(ours.output.wait_for(r"\d+")[0])
