"""Repeats: knocks that are sent again because datagrams get lost. They refresh a grant, and run no command."""

import time

import pytest
from support.datagrams import CLOSE, KEY
from support.firewall import HOUR
from support.processes import Process
from support.programs import program
from support.servers import client


def test_a_repeated_knock_runs_its_command_once(server):
    ours = server("-v")
    for _ in range(3):
        ours.knock("192.0.2.1")
    ours.knock("192.0.2.2")
    ours.wait_for_counters(accepted=4, succeeded=2, repeated=2)
    ours.output.wait_for("", 2)
    assert ours.output.lines == ["open 192.0.2.1 inet", "open 192.0.2.2 inet"]
    ours.log.wait_for("^pyknock server: command not run again: open 192.0.2.1$", 2)


def test_only_the_last_command_counts(server):
    """After open, close and open, the address is open."""
    ours = server()
    for command in (1, 1, 2, 2, 1):
        ours.knock("192.0.2.1", command)
    ours.wait_for_counters(accepted=5, succeeded=3, repeated=2)
    ours.output.wait_for("", 3)
    assert ours.output.lines == [f"{command} 192.0.2.1 inet" for command in ("open", "close", "open")]


def test_a_command_that_failed_runs_again(server, tmp_path):
    ours = server(on_open=f"echo run; test -e {tmp_path}/now")
    ours.knock()
    ours.wait_for_counters(failed=1)
    ours.knock()
    ours.wait_for_counters(failed=2, repeated=0)
    (tmp_path / "now").touch()
    ours.knock()
    ours.wait_for_counters(succeeded=1, repeated=0)
    ours.knock()
    ours.wait_for_counters(succeeded=1, repeated=1)
    ours.output.wait_for("", 3)
    assert ours.output.lines == ["run"] * 3


def test_a_repeat_that_came_before_the_failure_is_not_lost(server, tmp_path):
    """The command that the repeat relied on has failed. It runs once more, not for ever."""
    command = f"echo run; until test -e {tmp_path}/go; do sleep 0.01; done; exit 1"
    ours = server(on_open=command)
    for _ in range(3):
        ours.knock()
    ours.wait_for_counters(accepted=3, repeated=2)
    (tmp_path / "go").touch()
    ours.wait_for_counters(failed=2, running=0, queued=0)
    ours.output.wait_for("run", 2)
    assert ours.output.lines == ["run"] * 2


def test_a_close_that_fails_makes_no_new_open_of_a_repeat(server, tmp_path):
    """A command that runs twice could add a rule twice, and a close would leave one of them."""
    close = f"until test -e {tmp_path}/go; do sleep 0.01; done; exit 1"
    ours = server(on_open="echo open", on_close=close)
    ours.knock(command=CLOSE)
    ours.knock()
    ours.wait_for_counters(accepted=2, running=1)
    (tmp_path / "go").touch()
    ours.wait_for_counters(failed=1, succeeded=1)
    ours.knock()
    ours.wait_for_counters(failed=1, succeeded=1, repeated=1)
    ours.output.wait_for("open")
    assert ours.output.lines == ["open"]


@pytest.mark.slow
@pytest.mark.parametrize("between", [[], [CLOSE]])
def test_a_late_failure_of_an_older_command_changes_nothing_about_a_newer_one(server, tmp_path, between):
    """A repeat would otherwise run the newer command twice, and add a rule twice."""
    runs, go = tmp_path / "runs", tmp_path / "go"
    wait = f"until test -e {go}; do sleep 0.01; done; exit 1"
    ours = server(on_open=f"echo run | tee -a {runs}; test $(wc -l < {runs}) != 1 || {{ {wait}; }}", on_close="true")
    ours.knock()
    ours.output.wait_for("run")
    time.sleep(2.1)  # What comes now is no repeat of the first one.
    for command in between:
        ours.knock(command=command)
    ours.knock()
    ours.wait_for_counters(accepted=2 + len(between), running=1)
    go.touch()
    ours.wait_for_counters(failed=1, succeeded=1 + len(between), repeated=0)
    ours.knock()
    ours.wait_for_counters(accepted=3 + len(between), repeated=1, running=0, queued=0)
    assert ours.output.lines == ["run", "run"]


@pytest.mark.slow
def test_after_the_time_was_over_an_open_is_a_new_one(server, tmp_path):
    ours = server(f"--state={tmp_path}/state", "--close-after=1")
    ours.knock()
    ours.output.wait_for("close")
    ours.knock()
    ours.output.wait_for("open", 2)
    ours.wait_for_counters(repeated=0)


def test_a_close_may_be_repeated(server, tmp_path):
    ours = server(f"--state={tmp_path}/state", "--close-after=1h")
    ours.knock()
    ours.knock(command=CLOSE)
    ours.knock(command=CLOSE)
    ours.wait_for_counters(succeeded=2, repeated=1, open=0)
    ours.output.wait_for("", 2)
    assert ours.output.lines == ["open 192.0.2.1 inet", "close 192.0.2.1 inet"]


def test_the_time_in_the_set_begins_anew(server, firewall):
    """The repeat refreshes the element and does not run the command again."""
    firewall.load_example()
    ours = server(firewall.sets, "--ttl=1h", network=firewall)
    ours.knock()
    firewall.expect(["192.0.2.1"])
    firewall.shorten("192.0.2.1")
    ours.knock()
    ours.wait_for_counters(set_changed=2, succeeded=1, repeated=1)
    assert firewall.elements()["192.0.2.1"] > HOUR / 2


@pytest.mark.slow
def test_the_client_repeats_and_each_datagram_is_a_new_one(server):
    ours = server()
    result = client("open", "127.0.0.1", f"-p{ours.port}", "--repeat=3", "-v")
    assert result.code == 0
    assert result.lines == [f"pyknock client: sent open 127.0.0.1 to 127.0.0.1:{ours.port}"] * 3
    ours.wait_for_counters(accepted=3, succeeded=1, repeated=2)


def test_the_interval_is_the_users(server):
    ours = server()
    process = Process(
        [*program("client"), "open", "127.0.0.1", "-v", f"-p{ours.port}", "--repeat=2"]
        + ["--interval=1h", KEY]
    )
    process.log.wait_for("sent")
    ours.wait_for_counters(accepted=1)
    assert process.popen.poll() is None
    process.close()


@pytest.mark.slow
def test_close_is_repeated_as_well(server):
    ours = server("-v")
    words = ["open", "127.0.0.1", "-k", "-", f"-p{ours.port}", "--repeat=2", "--close"]
    result = client(*words, "--", "true", key=None, stdin=KEY.encode())
    assert result.code == 0
    ours.wait_for_counters(accepted=4, succeeded=2, repeated=2)
    ours.output.wait_for("", 2)
    assert ours.output.lines == ["open 127.0.0.1 inet", "close 127.0.0.1 inet"]


def test_n_prints_it_once():
    result = client("open", "127.0.0.1", "-n", "--repeat=5")
    assert result.stdout == "open 127.0.0.1 to 127.0.0.1:60120\n"


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--repeat=0", "--repeat: '0' is not a number from 1 to 100"),
        ("--repeat=101", "--repeat: '101' is not a number from 1 to 100"),
        ("--repeat=x", "--repeat: 'x' is not a number from 1 to 100"),
        ("--interval=0", "--interval: '0' is not a duration such as 90, 15m, 2h or 1d, at most 366 days"),
    ],
)  # fmt: skip
def test_numbers_that_are_none(option, problem):
    result = client("open", "127.0.0.1", option)
    assert (result.code, result.lines[0]) == (2, f"pyknock client: {problem}")
