"""The replay memory outlives the server."""

import signal
import time

import pytest
from support.datagrams import KEY, packet
from support.requests import key_text, request
from support.state import Remembered
from support.users import UserFiles
from support.waiting import until


@pytest.fixture(params=[KEY, key_text("alone")], ids=["version 1", "version 2"])
def state(request, server, tmp_path):
    return Remembered(server, tmp_path / "state", request.param)


REPLAY = "refused open 192.0.2.1 .*: replay of an accepted datagram"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_what_was_accepted_is_not_accepted_after_a_restart(state, number):
    ours = state.start()
    old = [ours.knock(f"192.0.2.{host}") for host in range(1, 11)]
    # The executor has recorded what it acts on.
    ours.output.wait_for("open 192.0.2.10 ")
    ours.signal(number)
    ours.exit_code()
    ours = state.start()
    ours.log.wait_for("^pyknock server: 10 knocks remembered$")
    ours.send(*old)
    ours.wait_for_counters(replayed=10, accepted=0)
    ours.log.wait_for(REPLAY)
    ours.knock("192.0.2.11")
    ours.output.wait_for("open 192.0.2.11")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_both_versions_are_remembered_over_a_restart(server, tmp_path, number):
    state = Remembered(server, tmp_path / "state")
    users = UserFiles(tmp_path / "keys")
    users.set("alice", key=key_text("alice"))
    users.set("bob")
    ours = state.start(users.option)
    old = []
    for host in range(1, 11, 2):
        old += [request(key_text("alice"), f"192.0.2.{host}"), packet(f"192.0.2.{host + 1}", key=UserFiles.key("bob"))]
    ours.send(*old)
    ours.output.wait_for("open", 10)
    ours.signal(number)
    ours.exit_code()
    # The key moves to another user.
    (users.path / "alice").rename(users.path / "carol")
    ours = state.start(users.option)
    ours.log.wait_for("^pyknock server: 10 knocks remembered$")
    ours.send(*old)
    ours.wait_for_counters(replayed=10, accepted=0)
    ours.send(request(key_text("alice"), "192.0.2.11"))
    ours.output.wait_for("open 192.0.2.11")


@pytest.mark.slow
def test_a_larger_drift_brings_nothing_back_that_was_forgotten(state):
    ours = state.start("-t2", "--replay-capacity=16")
    old = [ours.knock(f"192.0.2.{host}") for host in range(16)]
    ours.wait_for_counters(accepted=16)

    def is_accepted():
        ours.knock("192.0.2.99")
        return ours.counters()["accepted"] > 16

    until(is_accepted, "there is room")
    for host in range(12):
        ours.knock(f"192.0.3.{host}")
    ours.stop()
    ours = state.start("-t60", "--replay-capacity=64")
    ours.send(*old)
    refused = ("replayed", "older-than-memory")
    until(lambda: sum(ours.counters()[name] for name in refused) == 16, "all are refused")
    assert ours.counters()["accepted"] == 0


def test_a_smaller_drift_shuts_nobody_out(state):
    # Another clock is ahead by nearly as much as the larger drift allows.
    ours = state.start("-t600", "--close-after=1h")
    ours.knock("192.0.2.1", age=-590)
    ours.output.wait_for("open 192.0.2.1")
    assert ours.stop() == 0
    # Also if a server accepts nothing before the next one starts.
    for _ in range(2):
        ours = state.start("-t60", "--close-after=1h")
        ours.log.wait_for("^pyknock server: 1 knocks remembered$")
        ours.log.wait_for("^pyknock server: 1 grant is open, 0 of them overdue$")
        assert not ours.log.matching("clock")
        assert ours.stop() == 0
    # Also after a power cut, which forces it to wait for the time of the larger drift.
    state.change_mark(boot=1, is_clean=0)
    ours = state.start("-t60", "--close-after=1h")
    ours.log.wait_for("the last server did not end in order: what is stamped before now . 600 s is refused; 1 knocks")
    ours.knock("192.0.2.2", age=-59)
    ours.log.wait_for("refused open 192.0.2.2 .*: older than the replay memory reaches")
    assert ours.stop() == 0
    # It has done no damage.
    ours = state.start("-t60", "--close-after=1h")
    ours.log.wait_for("^pyknock server: 1 knocks remembered$")


def test_a_knock_after_a_smaller_drift_is_accepted(state):
    ours = state.start("-t600")
    ours.knock("192.0.2.1", age=-590)
    ours.output.wait_for("open 192.0.2.1")
    assert ours.stop() == 0
    assert state.mark()["drift"] == 600_000_000
    ours = state.start("-t60")
    assert state.mark()["drift"] == 600_000_000
    ours.knock("192.0.2.2")
    ours.output.wait_for("open 192.0.2.2")
    assert state.mark()["drift"] == 60_000_000


def test_after_the_clock_went_back_only_what_is_newer_is_accepted(state):
    """The file says that it was 100 seconds later when the server last ran."""
    state.remember_ten()
    state.change_mark(time=round((time.time() + 100) * 1e6))
    ours = state.start()
    line = ours.log.wait_for(r"warning: the clock went back: it is (\d+)(\.\d+)? s behind")
    assert 60 <= int(line[1]) <= 100
    ours.knock("192.0.2.21")
    ours.log.wait_for("refused open 192.0.2.21 .*: older than the replay memory reaches")
    # Another restart does not forget that time.
    ours.stop()
    ours = state.start()
    ours.log.wait_for("warning: the clock went back")
    ours.knock("192.0.2.22")
    ours.log.wait_for("refused open 192.0.2.22 .*: older than the replay memory reaches")
    # This knock has the time that a right clock would show.
    ours.knock("192.0.2.23", age=-58)
    ours.output.wait_for("open 192.0.2.23")


def test_only_an_accepted_knock_raises_the_time_and_not_beyond_its_stamp(state):
    ours = state.start()
    nothing = -(2**63)
    assert state.mark()["time"] == nothing
    for age in (61, -61, -1e9):
        ours.knock(age=age)
    ours.wait_for_counters(stale=3)
    ours.stop()
    assert state.mark()["time"] == nothing
    ours = state.start()
    stamps = [time.time() + later for later in (-30, 20, 10)]
    for stamp in stamps:
        ours.knock(age=time.time() - stamp)
    ours.wait_for_counters(accepted=3, succeeded=1)
    mark = state.mark()["time"] / 1e6
    assert stamps[1] <= mark <= stamps[1] + 2
    # The time goes on by itself, but not with our clock.
    start = time.monotonic()
    ours.stop()
    assert 0 <= state.mark()["time"] / 1e6 - mark <= time.monotonic() - start + 2
