"""What outlives the server in its state directory, and what is made of what is found there."""

import os
import random
import signal
import struct
import time
from pathlib import Path

import pytest
from support.datagrams import KEY, packet
from support.programs import program, run
from support.state import HEADER, Remembered
from support.waiting import until

# Bytes of a record.
RECORD = 56
REPLAY = "refused open 192.0.2.1 .*: replay of an accepted datagram"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_what_was_accepted_is_not_accepted_after_a_restart(state, number):
    ours = state.start()
    old = [ours.knock(f"192.0.2.{host}") for host in range(1, 11)]
    ours.wait_for_counters(accepted=10)
    ours.signal(number)
    ours.exit_code()
    ours = state.start()
    ours.log.wait_for("^pyknock server: 10 knocks remembered$")
    ours.send(*old)
    ours.wait_for_counters(replayed=10, accepted=0)
    ours.log.wait_for(REPLAY)
    ours.knock("192.0.2.11")
    ours.output.wait_for("open 192.0.2.11")


def test_what_was_remembered_longer_ago_than_the_drift_makes_room(state):
    ours = state.start("--replay-capacity=16", "-t4")
    for host in range(16):
        ours.knock(f"192.0.2.{host}")
    ours.wait_for_counters(accepted=16)
    ours.knock("192.0.2.99")
    ours.wait_for_counters(replay_memory_full=1)
    ours.stop()
    ours = state.start("--replay-capacity=16", "-t4")
    ours.log.wait_for("knocks remembered")

    def is_accepted():
        ours.knock("192.0.2.100")
        return ours.counters()["accepted"]

    until(is_accepted, "there is room")


def test_a_second_server_cannot_have_the_directory(state):
    ours = state.start()
    assert state.fails() == f"pyknock server: --state: '{state.path}': another server has it"
    # A check is good beside the running server.
    words = [*program("server"), "-k", "-", "-n", "--state", state.path, "", ""]
    assert run(words, stdin=KEY.encode()).stdout == "configuration OK\n"
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    state.start()


def test_a_check_makes_nothing(state):
    words = [*program("server"), "-k", "-", "-n", "--state", state.path, "", ""]
    assert run(words, stdin=KEY.encode()).stdout == "configuration OK\n"
    assert not state.path.exists()


def test_the_capacity_can_be_changed_but_nothing_is_forgotten(state):
    ours = state.start("--replay-capacity=100")
    old = [ours.knock(f"192.0.2.{host}") for host in range(20)]
    ours.wait_for_counters(accepted=20)
    ours.stop()
    assert state.fails("--replay-capacity=16") == (
        f"pyknock server: --state: '{state.path}':"
        " 'replay' in it holds 20, more than --replay-capacity"
    )
    for capacity in (20, 5000):
        ours = state.start(f"--replay-capacity={capacity}")
        ours.send(*old)
        ours.wait_for_counters(replayed=20, accepted=0)
        ours.stop()
        assert state.replay.stat().st_size == HEADER + capacity * RECORD
    assert sorted(file.name for file in state.path.iterdir()) == ["replay"]


# What is damaged


def with_ten(state, *options):
    """A file that remembers ten datagrams."""
    ours = state.start(*options)
    old = [ours.knock(f"192.0.2.{host}") for host in range(1, 11)]
    ours.wait_for_counters(accepted=10)
    ours.stop()
    return old


DAMAGES = {
    "a record": lambda state: state.patch(HEADER + 3 * RECORD + 5, b"\xff\xff"),
    "zeros in the middle": lambda state: state.patch(HEADER + 3 * RECORD, bytes(4 * RECORD)),
    "zeros at the end": lambda state: state.patch(HEADER + 9 * RECORD, bytes(RECORD)),
    "zeros in the header": lambda state: state.patch(0, bytes(HEADER)),
    "a sequence number": lambda state: state.patch(HEADER + 9 * RECORD + 40, b"\xff" * 8),
    "both marks": lambda state: state.patch(64, bytes(128)),
    "the header": lambda state: state.patch(16, b"\1"),
    "a part": lambda state: os.truncate(state.replay, HEADER + 5 * RECORD + 7),
    "all but the header": lambda state: os.truncate(state.replay, HEADER),
    "nearly all": lambda state: os.truncate(state.replay, 1),
    "too much": lambda state: os.truncate(state.replay, state.replay.stat().st_size + 1),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_after_a_damage_nothing_is_accepted_that_may_have_been_before(state, damage):
    old = with_ten(state, "-t4")
    damage(state)
    ours = state.start("-t4")
    line = ours.log.wait_for(r"the replay memory was damaged: .*")[0]
    assert line.startswith(
        "the replay memory was damaged: what is stamped before now + 4 s is refused; "
    )

    def refuses_all():
        ours.send(*old)
        refused = ("replayed", "older-than-memory", "stale")
        until(lambda: sum(ours.counters()[name] for name in refused) >= 10, "all are refused")
        assert ours.counters()["accepted"] == 0

    refuses_all()
    # It was made anew, and what it refuses is in it.
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    ours = state.start("-t4")
    ours.log.wait_for("knocks remembered")
    assert not ours.log.matching("damaged")
    refuses_all()

    def is_accepted():
        ours.knock("192.0.2.78")
        return ours.counters()["accepted"]

    until(is_accepted, "a knock is accepted")


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


def test_the_capacity_can_be_lowered_once_what_was_remembered_is_stale(state):
    with_ten(state, "-t1", "--replay-capacity=100")

    def is_forgotten():
        ours = state.start("-t1", "--replay-capacity=100")
        found = ours.log.wait_for(r"(\d+) knocks remembered")[1] == "0"
        ours.stop()
        return found

    until(is_forgotten, "all is stale")
    state.start("-t1", "--replay-capacity=16").log.wait_for("0 knocks remembered")


def test_a_record_that_was_not_written_to_its_end_is_no_damage(state):
    old = with_ten(state)
    state.patch(HEADER + 10 * RECORD, os.urandom(20))
    ours = state.start()
    ours.log.wait_for("^pyknock server: 10 knocks remembered$")
    ours.send(*old)
    ours.wait_for_counters(replayed=10, accepted=0)


@pytest.mark.parametrize("seed", range(4))
def test_no_damage_ends_the_server_or_lets_a_replay_in(state, seed):
    generator = random.Random(seed)
    old = with_ten(state, "--replay-capacity=32")
    good = state.replay.read_bytes()
    # Where there is something: the header, the marks and the records.
    places = [*range(40), *range(64, 168), *range(HEADER, HEADER + 10 * RECORD)]
    for _ in range(12):
        changed = bytearray(good)
        for _ in range(generator.choice([1, 1, 2, 8])):
            changed[generator.choice(places)] = generator.randrange(256)
        state.replay.write_bytes(changed[: generator.choice([len(changed)] * 4 + [HEADER + 300])])
        ours = state.start("--replay-capacity=32", wait=False)
        if ours.log.wait_for("listening on|--state")[0] == "--state":
            assert ours.exit_code() == 1
            continue
        ours.send(*old)
        refused = ("replayed", "older-than-memory")
        end = time.monotonic() + 20
        while sum(ours.counters()[name] for name in refused) < 10:
            assert time.monotonic() < end
        assert ours.counters()["accepted"] == 0
        ours.stop()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"something else" * 1000, "'replay' in it is not a file of pyknock"),
        (
            struct.pack("<8sQ", b"pyknock", 2).ljust(5000, b"\0"),
            "'replay' in it has format 2, made by a newer pyknock",
        ),
    ],
    ids=["foreign", "newer"],
)
def test_a_file_that_is_not_ours_is_left_alone(state, content, reason):
    state.path.mkdir(mode=0o700)
    state.replay.write_bytes(content)
    for options in ([], ["-n"]):
        line = f"pyknock server: --state: '{state.path}': {reason}"
        assert state.fails(*options) == line
    assert state.replay.read_bytes() == content


def test_a_file_that_others_may_write_or_that_is_a_link_is_not_used(state, tmp_path):
    trust = "Permission denied (it must belong to us or root, and only its owner may write to it)"
    state.path.mkdir(mode=0o700)
    state.path.chmod(0o770)
    assert state.fails() == f"pyknock server: --state: '{state.path}': {trust}"
    state.path.chmod(0o700)
    state.replay.touch(mode=0o600)
    state.replay.chmod(0o666)
    assert state.fails() == f"pyknock server: --state: '{state.path}': {trust}"
    state.replay.unlink()
    state.replay.symlink_to(tmp_path / "elsewhere")
    assert state.fails().endswith(": Too many levels of symbolic links") or state.fails().endswith(
        ": Symbolic link loop"
    )
    assert not (tmp_path / "elsewhere").exists()
    state.replay.unlink()
    os.mkfifo(state.replay, 0o600)
    assert state.fails() == f"pyknock server: --state: '{state.path}': Invalid argument"


def test_a_place_that_is_no_directory(state):
    state.path.write_text("")
    assert state.fails() == f"pyknock server: --state: '{state.path}': Not a directory"
    missing = Remembered(state.make, Path("/nonexistent/state"))
    for options in ([], ["-n"]):
        assert missing.fails(*options).endswith("No such file or directory")


# The clock


def test_after_the_clock_went_back_only_what_is_newer_is_accepted(state):
    """As if it had been 100 seconds later when the server last ran."""
    state.start().stop()
    state.set_mark(time.time() + 100)
    ours = state.start()
    line = ours.log.wait_for(r"warning: the clock went back: it is (\d+)(\.\d+)? s behind")
    assert 60 <= int(line[1]) <= 100
    ours.knock("192.0.2.1")
    ours.log.wait_for("refused open 192.0.2.1 .*: older than the replay memory reaches")
    # What is stamped as the clock should be by now.
    ours.knock("192.0.2.2", age=-58)
    ours.output.wait_for("open 192.0.2.2")
    # The time that has been is not forgotten by another restart.
    ours.stop()
    ours = state.start()
    ours.log.wait_for("warning: the clock went back")
    ours.knock("192.0.2.3")
    ours.log.wait_for("refused open 192.0.2.3 .*: older than the replay memory reaches")


def test_the_time_is_noted_when_a_knock_is_accepted(state):
    ours = state.start()
    before = time.time()
    ours.send(packet("192.0.2.1"))
    ours.output.wait_for("open")
    marks = [struct.unpack("<Qd", state.replay.read_bytes()[at : at + 16]) for at in (64, 128)]
    assert before - 1 <= max(marks)[1] <= time.time()


@pytest.mark.parametrize("text", ["15", "1000001", "x"])
def test_a_capacity_out_of_range_is_misuse(state, text):
    words = [*program("server"), "-k", "/dev/null", f"--replay-capacity={text}", "", ""]
    result = run(words)
    assert result.code == 2
    assert result.lines[0] == (
        f"pyknock server: --replay-capacity: '{text}' is not a number from 16 to 1000000"
    )
