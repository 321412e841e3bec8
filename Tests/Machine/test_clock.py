"""The server while the machine's clock is wrong, jumps, and is set right."""

import re

import pytest

DAY = 24 * 3600
OPTIONS = ["--nft=inet/filter/v4", "--state=/run/state", "-v"]


def accepted(machine):
    return [found[1] for line in machine.log if (found := re.search(r"accepted open (\S+)", line))]


@pytest.fixture
def restart(machine, start):
    def restart(signal):
        machine.stop(signal)
        start(*OPTIONS)

    return restart


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
@pytest.mark.parametrize("error", [DAY, -DAY], ids=["ahead", "behind"])
def test_a_clock_that_was_wrong_at_the_start_shuts_nobody_out(machine, start, restart, send, error, signal):
    right = machine.clock()
    machine.set_clock(right + error)
    start(*OPTIONS)
    # The server refuses what is stamped by a clock that is right.
    send("192.0.2.1", right)
    machine.until_counted("stale=1")
    machine.set_clock(right)
    send("192.0.2.1", machine.clock())
    machine.until("grep 'accepted open 192.0.2.1' /run/log")
    restart(signal)
    send("192.0.2.2", machine.clock())
    machine.until("grep 'accepted open 192.0.2.2' /run/log")


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_a_clock_that_is_set_right_between_two_servers_shuts_nobody_out(machine, start, restart, send, signal):
    right = machine.clock()
    machine.set_clock(right + DAY)
    start(*OPTIONS)
    send("192.0.2.1", right)
    machine.until_counted("stale=1")
    machine.stop(signal)
    machine.set_clock(right)
    start(*OPTIONS)
    send("192.0.2.2", machine.clock())
    machine.until("grep 'accepted open 192.0.2.2' /run/log")


def test_a_clock_that_jumps_neither_shuts_out_nor_accepts_a_replay(machine, start, restart, send):
    start(*OPTIONS)
    right = machine.clock()
    send("192.0.2.1", right)
    machine.until("grep 'accepted open 192.0.2.1' /run/log")
    for time, expected in (
        (right + DAY, "stale=1 "), (right - DAY, "stale=2 "), (right, "replayed=1 "),
    ):  # fmt: skip
        machine.set_clock(time)
        send("192.0.2.1", right)
        machine.until_counted("accepted=1 ", expected)
    send("192.0.2.2", machine.clock())
    machine.until("grep 'accepted open 192.0.2.2' /run/log")
    restart("TERM")
    send("192.0.2.1", right)
    send("192.0.2.3", machine.clock())
    machine.until("grep 'accepted open 192.0.2.3' /run/log")
    assert accepted(machine) == ["192.0.2.3"]


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["ahead", "behind"])
def test_a_clock_that_jumps_changes_no_time_of_a_grant(machine, start, send, jump):
    start(*OPTIONS, "--close-after=5")
    send("192.0.2.7", machine.clock())
    machine.until("grep 'accepted open 192.0.2.7' /run/log")
    machine.set_clock(machine.clock() + jump)
    assert "192.0.2.7" in machine.run("sleep 1; nft list set inet filter v4")
    machine.until("grep 'expired: close 192.0.2.7' /run/log")
    assert "192.0.2.7" not in machine.run("nft list set inet filter v4")
