"""What the test process needs before the first test: programs and privileges."""

import os
import pwd
import subprocess
from pathlib import Path

from support.networks import libc

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # sched.h
IDS = Path("/proc/self/uid_map")


def find_system_programs():
    """The PATH of an ordinary user lacks nft, ipset and others."""
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"


def is_root_of_the_system():
    return IDS.read_text().split() == ["0", "0", "4294967295"]


def has_other_users():
    """Whether processes can become other users, and files can be given to them."""
    return sum(int(line.split()[2]) for line in IDS.read_text().splitlines()) > 1


def subordinate_ids(table, user):
    """The first id and the number of ids that a user may map: subuid(5)."""
    path = Path("/etc") / table
    for line in path.read_text().splitlines() if path.exists() else []:
        owner, first, count = line.split(":")
        if owner in (user, str(os.getuid())):
            return first, count
    return None


def become_root():
    """Makes an ordinary user root of a new user namespace, which may make networks and mounts.

    With newuidmap and a range in /etc/subuid, the namespace has other users too. Returns what went wrong, or None.
    """
    if os.geteuid() == 0:
        return None
    uid, gid = os.getuid(), os.getgid()
    user = pwd.getpwuid(uid).pw_name
    commands = ["read start"]
    for table, own in (("subuid", uid), ("subgid", gid)):
        if found := subordinate_ids(table, user):
            commands.append(f"new{table[3:]}map {os.getpid()} 0 {own} 1 1 {found[0]} {found[1]}")
    # A process that is outside the namespace has to write these maps.
    script = " && ".join(commands)
    helper = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if libc.unshare(CLONE_NEWUSER) != 0:
        helper.communicate()
        return "the kernel allows no user namespace: run the tests as root"
    helper.communicate(b"\n")
    if len(commands) < 3 or helper.returncode != 0:
        Path("/proc/self/setgroups").write_text("deny")
        IDS.write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    return None


def leave_the_network():
    """Gives the tests a network of their own, with loopback up. Nobody else takes a port there."""
    if libc.unshare(CLONE_NEWNET) != 0:
        return "the kernel allows no network namespace: run the tests as root"
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return None
