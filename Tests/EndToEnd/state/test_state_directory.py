"""The state directory itself: whose it is, and who may use it."""

import fcntl
import os
import signal
import struct
from pathlib import Path

import pytest
from support.datagrams import KEY, packet
from support.processes import NOBODY
from support.programs import program, run
from support.state import Remembered

LOCKED = "pyknock server: --state: '{}': another server has it, or a process that may read it (chmod 700)"
TRUST = "Permission denied (it must belong to root or the server's user, and only its owner may write to it)"


@pytest.mark.slow
def test_a_second_server_cannot_have_the_directory(state):
    ours = state.start()
    assert state.fails() == LOCKED.format(state.path)
    # --check succeeds while the server runs.
    words = [*program("server"), "-k", "-", "-n", "--state", state.path, "", ""]
    assert run(words, stdin=KEY.encode()).stdout == "configuration OK\n"
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    state.start()


@pytest.mark.slow
def test_a_file_that_was_deleted_is_made_again(state):
    ours = state.start()
    state.replay.unlink()
    ours.send(packet("192.0.2.1"))
    ours.log.wait_for(
        "^pyknock server: warning: --state: 'replay' cannot be written: No such file or directory; "
        "it is kept in memory until it can$"
    )
    ours.log.wait_for("^pyknock server: --state: 'replay' is written again, and lacks nothing$")
    assert state.replay.stat().st_nlink == 1
    assert ours.stop() == 0


@pytest.mark.slow
def test_a_directory_that_another_user_has_locked(state):
    """flock(2) needs no more than an open file."""
    state.path.mkdir(mode=0o755)
    directory = os.open(state.path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_SH)
    assert state.fails() == LOCKED.format(state.path)
    os.close(directory)
    state.start()


def test_a_check_makes_nothing(state):
    words = [*program("server"), "-k", "-", "-n", "--state", state.path, "", ""]
    assert run(words, stdin=KEY.encode()).stdout == "configuration OK\n"
    assert not state.path.exists()


def test_a_file_that_others_may_write_or_that_is_a_link_is_not_used(state, tmp_path):
    state.path.mkdir(mode=0o700)
    state.path.chmod(0o770)
    assert state.fails() == f"pyknock server: --state: '{state.path}': {TRUST}"
    state.path.chmod(0o700)
    state.replay.touch(mode=0o600)
    state.replay.chmod(0o666)
    assert state.fails() == f"pyknock server: --state: '{state.path}': {TRUST}"
    state.replay.unlink()
    state.replay.symlink_to(tmp_path / "elsewhere")
    assert state.fails().endswith(": Too many levels of symbolic links") or state.fails().endswith(
        ": Symbolic link loop"
    )
    assert not (tmp_path / "elsewhere").exists()
    state.replay.unlink()
    os.mkfifo(state.replay, 0o600)
    assert state.fails() == f"pyknock server: --state: '{state.path}': Invalid argument"


NOBODYS = f"--user={NOBODY}:{NOBODY}"


@pytest.mark.other_users
def test_a_directory_of_the_user_that_the_server_becomes(state):
    state.path.mkdir(mode=0o700)
    os.chown(state.path, NOBODY, NOBODY)
    for options in ([], ["--user=1:1"], ["-n"]):
        assert state.fails(*options) == f"pyknock server: --state: '{state.path}': {TRUST}"
    ours = state.start(NOBODYS, "--close-after=60")
    ours.knock("192.0.2.1")
    ours.output.wait_for("open 192.0.2.1")
    owners = {path.name: path.stat().st_uid for path in state.path.iterdir()}
    assert owners == dict.fromkeys(("grants", "replay", "users"), NOBODY)
    ours.stop()
    # Files that root made before are used.
    os.chown(state.replay, 0, 0)
    state.start(NOBODYS, "--close-after=60").log.wait_for("^pyknock server: 1 knocks remembered$")


@pytest.mark.other_users
def test_a_second_name_of_a_file_of_root_is_not_used_in_a_directory_of_another_user(state, tmp_path):
    """Otherwise that user could have the server write to any file."""
    other = tmp_path / "other"
    other.write_text("important")
    state.path.mkdir(mode=0o700)
    os.chown(state.path, NOBODY, NOBODY)
    os.link(other, state.replay)
    assert state.fails(NOBODYS) == f"pyknock server: --state: '{state.path}': {TRUST}"
    state.replay.rename(state.path / "users")
    ours = state.start(NOBODYS)
    ours.log.wait_for("'users' cannot be written: Permission denied; ")
    ours.stop()
    assert other.read_text() == "important"


def test_a_place_that_is_no_directory(state):
    state.path.write_text("")
    assert state.fails() == f"pyknock server: --state: '{state.path}': Not a directory"
    missing = Remembered(state.make, Path("/nonexistent/state"))
    for options in ([], ["-n"]):
        assert missing.fails(*options).endswith("No such file or directory")


@pytest.mark.parametrize(
    "name, kind",
    [("replay", "foreign"), ("replay", "newer"), ("grants", "foreign"), ("grants", "newer")],
)
def test_a_file_that_is_not_ours_is_left_alone(state, name, kind):
    magic = {"replay": b"pyknock", "grants": b"pyknockG"}[name]
    version, reason = {
        "foreign": (None, "is not a file of pyknock"),
        "newer": (99, "has format 99, made by a newer pyknock; use that one"),
    }[kind]
    content = struct.pack("<8sQ", magic, version).ljust(5000, b"\0") if version else b"something else" * 1000
    state.path.mkdir(mode=0o700)
    (state.path / name).write_bytes(content)
    line = f"pyknock server: --state: '{state.path}': '{name}' in it {reason}"
    for options in ([], ["-n"]):
        assert state.fails(*options) == line
    if name == "grants":
        result = run([*program("status"), "--state", state.path])
        assert (result.code, result.lines) == (1, [line.replace("server", "status", 1)])
    assert (state.path / name).read_bytes() == content


def test_an_older_replay_memory_is_replaced_and_what_it_may_hold_refused(state):
    """A package upgrade restarts the server, and perhaps nobody can log in before it runs."""
    state.path.mkdir(mode=0o700)
    state.replay.write_bytes(struct.pack("<8sQ", b"pyknock", 1).ljust(5000, b"\0"))
    ours = state.start("-t4")
    ours.log.wait_for(
        "the replay memory was damaged, or of an older version: "
        "what is stamped before now . 4 s is refused; 0 knocks"
    )
    ours.knock()
    ours.wait_for_counters(older_than_memory=1, accepted=0)
    ours.stop()
    state.start("-t4").log.wait_for("^pyknock server: 0 knocks remembered$")
