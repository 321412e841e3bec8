"""The server while the disk of its state directory fails. The device mapper makes the errors."""

import pytest

SECTORS = 16 * 2048
OPTIONS = ["--nft=inet/filter/v4", "--state=/disk/state", "-t5"]


@pytest.fixture
def disk(machine):
    """A file system at /disk."""
    machine.run(f"""
        set -e
        export DM_DISABLE_UDEV=1
        truncate -s {SECTORS * 512} /run/disk
        loop=$(losetup -f)
        losetup $loop /run/disk
        dmsetup create disk --table "0 {SECTORS} linear $loop 0"
        dmsetup mknodes disk
        mkfs.ext4 -q /dev/mapper/disk
        mkdir /disk
        mount -t ext4 /dev/mapper/disk /disk
    """)


def fail(machine):
    """From now on every access to the disk is an I/O error, and nothing is read from memory instead."""
    machine.run(f"""
        set -e
        export DM_DISABLE_UDEV=1
        dmsetup suspend disk
        dmsetup reload disk --table "0 {SECTORS} error"
        dmsetup resume disk
        echo 3 >/proc/sys/vm/drop_caches
    """)


def test_io_errors_while_running_end_nothing(machine, disk, start, send):
    start(*OPTIONS)
    first = machine.clock()
    send("192.0.2.1", first)
    machine.until("grep 'accepted open 192.0.2.1' /run/log")
    fail(machine)
    second = machine.clock()
    send("192.0.2.2", second)
    machine.until("grep 'accepted open 192.0.2.2' /run/log")
    send("192.0.2.1", first)
    send("192.0.2.2", second)
    machine.until_counted("accepted=2 ", "replayed=2 ")
    machine.stop("TERM")
    assert machine.log[-1] == "pyknock server: stopped"


def test_io_errors_at_the_start_shut_nobody_out(machine, disk, start, send):
    start(*OPTIONS)
    first = machine.clock()
    send("192.0.2.1", first)
    machine.until("grep 'accepted open 192.0.2.1' /run/log")
    machine.stop("TERM")
    fail(machine)
    start(*OPTIONS)
    # Nothing that was stamped before the start, or up to the drift after it, is accepted.
    send("192.0.2.1", first)
    machine.until_counted("accepted=0 ", "older-than-memory=1 ")
    machine.run("sleep 6")
    send("192.0.2.2", machine.clock())
    machine.until("grep 'accepted open 192.0.2.2' /run/log")
