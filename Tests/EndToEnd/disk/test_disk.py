"""A disk that is full, read-only or broken: the server lives, says so, and accepts no replay.

`support/broken_disk.c` stands in for a disk that gives errors: it makes the writes of the server fail.
"""

import errno
import os
import resource
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support.datagrams import packet
from support.firewall import only_nft
from support.processes import NOBODY
from support.programs import program, run
from support.state import HEADER, KNOCK, Journal, Remembered
from support.waiting import until

FAILURE = "^pyknock server: warning: --state: '{}' cannot be written: {}; it is kept in memory until it can$"
WELL = "^pyknock server: --state: '{}' is written again, and lacks nothing$"
DOUBT = "what is stamped before now . 4 s is refused; "


class Mount:
    """A file system of its own."""

    def __init__(self, path, *words):
        self.path = path
        path.mkdir()
        subprocess.run(["mount", *words, path], check=True)

    def remount(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)

    def fill(self):
        """Leaves no room for another byte."""
        for size in (1 << 16, 4096, 1):
            with (self.path / f"fill.{size}").open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(size)):
                    pass
            subprocess.run(["sync", "-f", self.path], check=True)

    def empty(self):
        for file in self.path.glob("fill.*"):
            file.unlink()
        subprocess.run(["sync", "-f", self.path], check=True)

    def close(self):
        subprocess.run(["umount", "--lazy", self.path], check=False)


@pytest.fixture
def tmpfs(tmp_path):
    mount = Mount(tmp_path / "tmpfs", "-t", "tmpfs", "-o", "size=1m", "none")
    yield mount
    mount.close()


@pytest.fixture
def btrfs(tmp_path):
    """On a loop device. When it is full, not even a byte that is there can be changed."""
    if "btrfs" not in Path("/proc/filesystems").read_text():
        subprocess.run(["modprobe", "btrfs"], check=False)
    if "btrfs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no btrfs")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(110 << 20)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    mount = Mount(tmp_path / "btrfs", "-o", "loop,flushoncommit", image)
    yield mount
    mount.close()


@pytest.fixture
def breakable(broken_disk, server, tmp_path):
    """Servers whose writes fail with the error whose number is in a file."""
    switch = tmp_path / "error"
    switch.write_text("0")

    def make(*words, **more):
        environment = {**os.environ, "LD_PRELOAD": str(broken_disk), "BROKEN_DISK": str(switch)}
        return server(*words, env=environment, **more)

    make.fail = lambda number: switch.write_text(str(number))
    return make


def refuses_all(ours, old):
    """Whether none of these datagrams is accepted, for as long as they are fresh."""
    before = ours.counters()["accepted"]
    end = time.monotonic() + 5
    while time.monotonic() < end:
        ours.send(*old)
        time.sleep(0.2)
    return ours.counters()["accepted"] == before


def is_accepted_again(ours):
    def is_accepted():
        ours.knock("192.0.2.78")
        return ours.counters()["accepted"]

    until(is_accepted, "a knock is accepted")


@pytest.mark.slow
def test_a_full_disk_of_copies_ends_nothing_and_lets_no_replay_in(btrfs, server):
    """btrfs writes each change to a new place, so even a file that is there cannot be changed."""
    state = Remembered(server, btrfs.path / "state")
    ours = state.start("-t4", f"--metrics={btrfs.path.parent}/metrics")
    ours.knock("192.0.2.1")
    ours.output.wait_for("open 192.0.2.1")
    btrfs.fill()
    old = []

    def has_failed():
        old.append(ours.knock(f"192.0.2.{len(old) + 2}"))
        time.sleep(0.1)
        subprocess.run(["sync", "-f", btrfs.path], check=True)
        return ours.counters()["state-behind"]

    until(has_failed, "a write fails")
    ours.log.wait_for(FAILURE.format("replay", os.strerror(errno.ENOSPC)))
    ours.wait_for_counters(accepted=len(old) + 1)
    assert len(ours.log.matching("'replay' cannot be written")) == 1
    # A server that is killed now leaves a file that says that knocks are missing. It has cut it, which made room.
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    btrfs.empty()
    btrfs.fill()
    again = state.start("-t4")
    again.log.wait_for(DOUBT)
    assert refuses_all(again, old)
    is_accepted_again(again)
    btrfs.empty()
    again.log.wait_for(WELL.format("replay"))
    again.wait_for_counters(state_behind=0)
    assert again.stop() == 0
    assert state.mark()["is_clean"]


@pytest.mark.slow
def test_a_start_on_a_full_disk_goes_on_with_memory(tmpfs, server):
    """Also without a directory, and with one that was made when there was room."""
    tmpfs.fill()
    state = Remembered(server, tmpfs.path / "state")
    ours = state.start("-t4")
    ours.log.wait_for(FAILURE.format("replay", os.strerror(errno.ENOSPC)))
    ours.log.wait_for(f"^pyknock server: the replay memory cannot be written: {DOUBT}")
    old = ours.knock("192.0.2.1")
    ours.wait_for_counters(older_than_memory=1, accepted=0)
    assert refuses_all(ours, [old])
    is_accepted_again(ours)
    tmpfs.empty()
    ours.log.wait_for(WELL.format("replay"))
    assert state.replay.stat().st_size == HEADER + 4096 * KNOCK
    assert ours.stop() == 0
    tmpfs.fill()
    # All has its room now.
    ours = state.start("-t4")
    ours.log.wait_for("knocks remembered$")
    ours.knock("192.0.2.2")
    ours.output.wait_for("open 192.0.2.2")
    assert not ours.log.matching("cannot be written|refused")


def test_the_journal_of_grants_is_used_where_it_is_on_a_full_disk(tmpfs, server, tmp_path):
    folder = tmpfs.path / "journal"
    folder.mkdir()
    journal = Journal(server, folder)
    journal.command = "echo $cmd $ip"
    ours = journal.start(seconds=60)
    ours.knock("192.0.2.1")
    ours.output.wait_for("open 192.0.2.1")
    ours.stop()
    tmpfs.fill()
    ours = journal.start(seconds=60)
    ours.knock("192.0.2.2")
    ours.output.wait_for("open 192.0.2.2")
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    assert journal.open() == ["192.0.2.1", "192.0.2.2"]
    assert not ours.log.matching("cannot be written")


READ_ONLY = os.strerror(errno.EROFS)


@pytest.mark.slow
@pytest.mark.parametrize("has_files", [False, True])
def test_a_start_on_a_read_only_disk(tmpfs, server, has_files):
    state = Remembered(server, tmpfs.path / "state")
    old = []
    if has_files:
        ours = state.start("-t4", "--close-after=60")
        old.append(ours.knock("192.0.2.1"))
        ours.output.wait_for("open 192.0.2.1")
        assert ours.stop() == 0
    tmpfs.remount("ro")
    ours = state.start("-t4", "--close-after=60")
    for name in ("replay", "grants", "users"):
        ours.log.wait_for(FAILURE.format(name, READ_ONLY))
    ours.log.wait_for(f"the replay memory cannot be written: {DOUBT}")
    ours.wait_for_counters(state_behind=3)
    if has_files:
        assert state.fails().startswith(f"pyknock server: --state: '{state.path}': another server has it, ")
        assert run([*program("status"), "--state", state.path]).stdout.startswith("server: runs since ")
    old.append(ours.knock("192.0.2.2"))
    assert refuses_all(ours, old)
    is_accepted_again(ours)
    tmpfs.remount("rw")
    for name in ("replay", "grants", "users"):
        ours.log.wait_for(WELL.format(name))
    last = ours.knock("192.0.2.3")
    ours.output.wait_for("open 192.0.2.3")
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    ours = state.start("-t4", "--close-after=60")
    assert not ours.log.matching("refused")
    ours.send(last)
    ours.wait_for_counters(replayed=1, accepted=0)


@pytest.mark.slow
@pytest.mark.other_users
@only_nft
@pytest.mark.parametrize("owner", [0, NOBODY])
def test_what_was_full_before_the_server_became_another_user_is_written_after_it(
    tmpfs, start, firewall, owner
):
    """Without commands, both processes become that user, who may not open files of root again."""
    firewall.load_example()
    state = Remembered(start, tmpfs.path / "state")
    state.path.mkdir(mode=0o700)
    os.chown(state.path, owner, owner)
    options = ["-t1", "--close-after=1h", f"--user={NOBODY}:{NOBODY}"]
    tmpfs.fill()
    ours = start("--state", str(state.path), *options)
    for name in ("replay", "grants"):
        ours.log.wait_for(FAILURE.format(name, os.strerror(errno.ENOSPC)))
    tmpfs.empty()
    is_accepted_again(ours)
    for name in ("replay", "grants"):
        ours.log.wait_for(WELL.format(name))
    ours.stop()
    ours = start("--state", str(state.path), *options)
    ours.log.wait_for("^pyknock server: 1 grant is open, 0 of them overdue$")
    assert not ours.log.matching("cannot be written|damaged")


ERRORS = [errno.EIO, errno.EDQUOT, errno.EROFS, errno.ENOSPC]


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS, ids=[errno.errorcode[number] for number in ERRORS])
def test_a_disk_that_fails_while_the_server_runs(breakable, tmp_path, error):
    state = Remembered(breakable, tmp_path / "state")
    ours = state.start("-t4", "--close-after=60")
    ours.knock("192.0.2.1")
    ours.output.wait_for("open 192.0.2.1")
    breakable.fail(error)
    old = [ours.knock(f"192.0.2.{host}") for host in (2, 3)]
    for host in (2, 3):
        ours.output.wait_for(f"open 192.0.2.{host}")
    for name in ("replay", "grants", "users"):
        ours.log.wait_for(FAILURE.format(name, os.strerror(error)))
    ours.wait_for_counters(state_behind=3, succeeded=3)
    assert len(ours.log.matching("cannot be written")) == 3
    # Nothing else could be written either, so only its age says what the file is worth.
    breakable.fail(0)
    for name in ("replay", "grants", "users"):
        ours.log.wait_for(WELL.format(name))
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    ours = state.start("-t4", "--close-after=60")
    ours.send(*old)
    ours.wait_for_counters(accepted=0, open=3)


@pytest.mark.slow
def test_a_disk_that_fails_at_the_start(breakable, tmp_path):
    state = Remembered(breakable, tmp_path / "state")
    ours = state.start("-t4")
    old = ours.knock("192.0.2.1")
    ours.output.wait_for("open 192.0.2.1")
    ours.stop()
    breakable.fail(errno.EIO)
    ours = state.start("-t4")
    ours.log.wait_for(FAILURE.format("replay", os.strerror(errno.EIO)))
    assert refuses_all(ours, [old])
    is_accepted_again(ours)
    assert ours.stop() == 0
    # The next server cannot know what this one accepted.
    ours = state.start("-t4")
    ours.log.wait_for(f"the replay memory cannot be written: {DOUBT}")
    breakable.fail(0)
    ours.log.wait_for(WELL.format("replay"))


@pytest.mark.slow
def test_a_limit_of_file_sizes_is_a_full_disk(state):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (HEADER + 4 * KNOCK,) * 2)

    ours = state.start("-t4", preexec_fn=limit)
    ours.log.wait_for(FAILURE.format("replay", os.strerror(errno.EFBIG)))
    is_accepted_again(ours)


def test_a_file_that_others_cut_short_is_written_again(state):
    ours = state.start()
    ours.knock("192.0.2.1")
    ours.output.wait_for("open 192.0.2.1")
    os.truncate(state.replay, 0)
    old = ours.knock("192.0.2.2")
    ours.output.wait_for("open 192.0.2.2")
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    ours = state.start()
    ours.log.wait_for("^pyknock server: 2 knocks remembered$")
    ours.send(old)
    ours.wait_for_counters(accepted=0, replayed=1)


@pytest.mark.slow
def test_after_a_power_cut_there_is_a_drift_without_knocks(state):
    """The number of the boot is another one, and the file has lost the last knocks."""
    ours = state.start("-t4")
    ours.knock("192.0.2.1")
    ours.output.wait_for("open 192.0.2.1")
    before = state.replay.read_bytes()
    old = [ours.knock("192.0.2.2")]
    ours.output.wait_for("open 192.0.2.2")
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    state.replay.write_bytes(before)
    state.change_mark(boot=1)
    ours = state.start("-t4")
    ours.log.wait_for(f"^pyknock server: the last server did not end in order: {DOUBT}1 knocks")
    assert refuses_all(ours, old)
    is_accepted_again(ours)
    ours.stop()
    # A server that ended in order leaves no doubt, whenever the next one starts.
    state.change_mark(boot=1, written=0)
    ours = state.start("-t4")
    ours.knock("192.0.2.3")
    ours.output.wait_for("open 192.0.2.3")


@pytest.mark.slow
@pytest.mark.parametrize("had_server", [False, True])
def test_a_power_cut_soon_after_the_start_lets_no_replay_in(server, tmp_path, had_server):
    """The file system has not written back by itself what the server has told it since the start."""
    image, copy = tmp_path / "image", tmp_path / "copy"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    mount = Mount(tmp_path / "ext4", "-o", "loop,commit=300", image)
    try:
        state = Remembered(server, mount.path / "state")
        if had_server:
            state.start().stop()
            subprocess.run(["sync", "-f", mount.path], check=True)
        ours = state.start()
        old = ours.knock("192.0.2.1")
        ours.output.wait_for("open 192.0.2.1")
        shutil.copy(image, copy)
        ours.signal(signal.SIGKILL)
        ours.exit_code()
    finally:
        mount.close()
    mount = Mount(tmp_path / "later", "-o", "loop", copy)
    try:
        state = Remembered(server, mount.path / "state")
        state.change_mark(boot=1)
        ours = state.start()
        ours.log.wait_for("^pyknock server: the last server did not end in order: ")
        ours.send(old)
        ours.wait_for_counters(older_than_memory=1, accepted=0)
        ours.stop()
    finally:
        mount.close()


def test_a_mark_that_is_too_old_after_a_kill_is_a_doubt(state):
    """The server could not write, or was not there."""
    ours = state.start()
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    two_intervals = 600_000_000
    now = round(time.clock_gettime(time.CLOCK_BOOTTIME) * 1e6)
    state.change_mark(written=now - two_intervals + 60_000_000)
    ours = state.start()
    ours.knock("192.0.2.1")
    ours.output.wait_for("open 192.0.2.1")
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    state.change_mark(written=now - two_intervals)
    ours = state.start()
    ours.log.wait_for("the last server did not end in order")
    ours.send(packet("192.0.2.2"))
    ours.wait_for_counters(older_than_memory=1)
