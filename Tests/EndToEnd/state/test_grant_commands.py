"""What becomes of the commands of a grant: set and command are closed one by one, each once."""

import json
import signal
import time

import pytest
from support.datagrams import CLOSE
from support.programs import program, run
from support.state import Journal
from support.waiting import until


def test_with_close_after_a_command_that_succeeded_does_not_run_again(journal):
    ours = journal.start("-v", seconds=600)
    for age in (5, 2, 0):
        ours.knock("192.0.2.1", age=age)
        ours.wait_for_counters(running=0, queued=0)
        time.sleep(2.1 if age else 0)
    ours.log.wait_for("command not run again: open 192.0.2.1", 2)
    ours.knock("192.0.2.1", CLOSE)
    journal.wait_for("open 192.0.2.1", "close 192.0.2.1")
    # What is closed is opened again.
    ours.knock("192.0.2.1", age=0.1)
    journal.wait_for("open 192.0.2.1", "close 192.0.2.1", "open 192.0.2.1")


def test_over_a_restart_too(journal, not_emulated):
    """The network is the same. In another one, what the command did would be gone."""
    ours = journal.start(seconds=600)
    ours.knock("192.0.2.1")
    ours.wait_for_counters(succeeded=1)
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    ours = journal.start("-v", seconds=600)
    ours.knock("192.0.2.1")
    ours.log.wait_for("command not run again: open 192.0.2.1")
    assert journal.lines() == ["open 192.0.2.1"]


def test_in_another_network_it_runs_again(journal, namespace):
    ours = journal.start(seconds=600)
    ours.knock("192.0.2.1")
    ours.wait_for_counters(succeeded=1)
    ours.stop()
    ours = journal.start("-v", seconds=600, network=namespace)
    ours.knock("192.0.2.1")
    journal.wait_for("open 192.0.2.1", "open 192.0.2.1")


@pytest.mark.slow
@pytest.mark.parametrize("state", [False, True])
def test_without_close_after_each_knock_runs_its_command(server, tmp_path, state):
    done = tmp_path / "done"
    options = [f"--state={tmp_path}/state"] if state else []
    ours = server(*options, on_open=f"echo $cmd >> {done}")
    for count in (1, 2):
        ours.knock("192.0.2.1", age=count)
        ours.wait_for_counters(succeeded=count)
        time.sleep(2.1 if count == 1 else 0)
    assert done.read_text() == "open\nopen\n"


def test_an_open_that_failed_runs_again_and_one_failed_close_is_its_end(journal):
    ours = journal.start("-v", seconds=600, on_open="exit 3", on_close="exit 4")
    ours.knock("192.0.2.1", age=0.1)
    ours.wait_for_counters(failed=1, open=1)
    ours.knock("192.0.2.1")
    ours.wait_for_counters(failed=2, open=1)
    ours.knock("192.0.2.1", CLOSE)
    ours.log.wait_for("^pyknock server: not closed: close 192.0.2.1, giving up: opening it had failed, too$")
    ours.wait_for_counters(open=0)
    assert journal.list() == []


def test_a_close_command_that_succeeded_does_not_run_again_when_the_set_fails(start, firewall, tmp_path):
    journal = Journal(None, tmp_path)
    firewall.load_example()
    words = ["-k", "-", "true", journal.command]
    ours = start("--close-after=600", "-v", f"--state={journal.path}", words=words)
    ours.knock("192.0.2.1")
    ours.wait_for_counters(succeeded=1)
    firewall.remove_sets()
    ours.knock("192.0.2.1", CLOSE)
    journal.wait_for("close 192.0.2.1")
    ours.log.wait_for("not closed: close 192.0.2.1, trying again in a minute")
    status = run([*firewall.prefix, *program("status"), "--state", journal.path, "--json"])
    assert [item["command"] for item in json.loads(status.stdout)["open"]] == [False]
    firewall.load_example()
    ours.stop()
    # The next server has only the set to close, and finds nothing in it.
    ours = start("--close-after=600", "-v", f"--state={journal.path}", words=words)
    ours.log.wait_for("no longer in .*: 192.0.2.1$")
    ours.wait_for_counters(open=0)
    assert journal.lines() == ["close 192.0.2.1"]


def test_what_knocks_while_its_command_runs_relies_on_it(journal, tmp_path):
    gate = tmp_path / "gate"
    ours = journal.start("-v", seconds=600, on_open=f"{journal.command}; cat {gate}")
    ours.knock("192.0.2.1")
    ours.log.wait_for("command ended: open 192.0.2.1: exit status 1")
    gate.touch()
    ours.knock("192.0.2.1", age=0.1)
    journal.wait_for("open 192.0.2.1", "open 192.0.2.1")
    until(lambda: ours.counters()["succeeded"] == 1, "it is open")
