"""The program with a kernel of its architecture, which an emulator of system calls does not show.

One machine runs all tests of this file, because an emulated MIPS takes long to start.
"""

from contextlib import closing

import pytest
from machine import ARCH, Machine
from support.datagrams import packet

FIREWALL = """
nft -f - <<END
table inet pyknock {
  set knock4 { type ipv4_addr; flags timeout; timeout 1h; }
  set knock6 { type ipv6_addr; flags timeout; timeout 1h; }
  set net4 { type ipv4_addr; flags interval; }
  set net6 { type ipv6_addr; flags interval; }
}
END
ipset create knock4 hash:ip timeout 3600
ipset create knock6 hash:ip family inet6 timeout 3600
ipset create net4 hash:net timeout 3600
ipset create net6 hash:net family inet6 timeout 3600
"""
# The options; how long the log says that a grant lasts; the command that lists a set, without the 4 or 6 at its end;
# and what it then shows for 127.0.0.1 and ::1.
OWN_TIME, FOR_EVER = "for 3600 s (the set's own time)", "until it is closed"
PREFIXES = ["--grant-prefix4=24", "--grant-prefix6=64"]
ADDRESSES, RANGES = ["127.0.0.1", "::1"], ["127.0.0.0/24", "::/64"]
LIST_NFT, LIST_IPSET = "nft list set inet pyknock", "ipset list -output save"
if ARCH == "mips":  # It has neither nft nor ipset, but sets.c.
    FIREWALL, LIST_NFT, LIST_IPSET = "sets make", "sets nft", "sets ipset"
SETS = {
    "nft": (["--nft=inet/pyknock/knock4,knock6"], OWN_TIME, f"{LIST_NFT} knock", ADDRESSES),
    "nft-ranges": (["--nft=inet/pyknock/net4,net6", *PREFIXES], FOR_EVER, f"{LIST_NFT} net", RANGES),
    "ipset": (["--ipset=knock4,knock6"], OWN_TIME, f"{LIST_IPSET} knock", ADDRESSES),
    "ipset-ranges": (["--ipset=net4,net6", *PREFIXES], OWN_TIME, f"{LIST_IPSET} net", RANGES),
}
STATE = [*SETS["nft"][0], "--state=/run/state", "--close-after=1h"]


@pytest.fixture(scope="module")
def machine(image, tmp_path_factory):
    with closing(Machine(image, tmp_path_factory.mktemp("machine"))) as machine:
        machine.run(f"set -e; pyknock keygen -o /run/key; {FIREWALL}")
        yield machine


@pytest.fixture
def start(machine, start):
    yield start
    machine.stop("TERM")


@pytest.fixture
def send(machine):
    key = machine.run("cat /run/key").strip()
    return lambda address, time_stamp: machine.send(packet(address, time_stamp=time_stamp, key=key), 7000)


def listed(machine, kind):
    """Whether the sets hold what SETS says, for each family."""
    _, _, command, elements = SETS[kind]
    texts = [machine.run(command + family) for family in "46"]
    return [f" {element} " in text for element, text in zip(elements, texts, strict=True)]


def status(machine, process):
    text = machine.run(f"cat /proc/{process}/status")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def test_keygen_makes_a_key_that_only_its_owner_reads(machine):
    assert machine.run("stat -c '%a %s' /run/key") == "600 44\n"
    assert machine.run("pyknock keygen -o /run/other && cmp /run/key /run/other || echo another").endswith("another\n")


def test_the_sandbox_is_in_force(machine, start):
    start(*SETS["nft"][0], "-v")
    assert machine.log[-3:-1] == [
        "pyknock server: the executor has no capability except CAP_NET_ADMIN",
        "pyknock server: the receiver has no capabilities, no files (Landlock), few system calls (seccomp)",
    ]
    CAP_NET_ADMIN = 1 << 12  # linux/capability.h
    executor = int(machine.run("cat /run/pid"))
    receiver = int(machine.run(f"cat /proc/{executor}/task/{executor}/children"))
    for process, capabilities, seccomp in (executor, CAP_NET_ADMIN, "0"), (receiver, 0, "2"):
        shown = status(machine, process)
        assert (shown["NoNewPrivs"], shown["Seccomp"]) == ("1", seccomp)
        assert [int(shown[f"Cap{name}"], 16) for name in ("Prm", "Eff")] == [capabilities] * 2


@pytest.mark.parametrize("kind", SETS)
def test_knocks_open_and_close_in_both_families(machine, start, kind):
    options, lasts, _, _ = SETS[kind]
    start(*options, "-v")
    assert all(line.endswith(f" {lasts}") for line in machine.log[:2])
    for host in ADDRESSES:
        machine.run(f"pyknock client open {host} -p7000 -k/run/key")
        machine.until(f"grep 'set changed: open {host}$' /run/log")
    assert listed(machine, kind) == [True, True]
    for host in ADDRESSES:
        machine.run(f"pyknock client close {host} -p7000 -k/run/key")
        machine.until(f"grep 'set changed: close {host}$' /run/log")
    assert listed(machine, kind) == [False, False]


def test_a_command_runs(machine, start):
    start("'echo $cmd $ip $af'", "'echo $cmd $ip'")
    machine.run("pyknock client open ::1 -p7000 -k/run/key -- pyknock client close ::1 -p7000 -k/run/key")
    machine.until("grep -x 'close ::1' /run/out")
    assert machine.run("cat /run/out") == "open ::1 inet6\nclose ::1\n"


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_after_a_restart_a_replay_is_refused_and_the_grant_is_there(machine, start, send, signal):
    machine.run("rm -rf /run/state")
    start(*STATE)
    time_stamp = machine.clock()
    send("192.0.2.7", time_stamp)
    machine.until("grep 'accepted open 192.0.2.7' /run/log")
    send("192.0.2.7", time_stamp)
    machine.until_counted("accepted=1 ", "replayed=1 ")
    machine.stop(signal)
    start(*STATE)
    send("192.0.2.7", time_stamp)
    machine.until_counted("accepted=0 ", "replayed=1 ")
    grants = machine.run("pyknock status --state=/run/state").splitlines()[2:]
    assert [line.split()[0] for line in grants] == ["ADDRESS", "192.0.2.7"]
    send("192.0.2.8", machine.clock())
    machine.until("grep 'accepted open 192.0.2.8' /run/log")
    # Status lists what a set holds, so the next server must not find these.
    for address in "192.0.2.7", "192.0.2.8":
        machine.run(f"pyknock client close 127.0.0.1 -p7000 -k/run/key -S{address}")
        machine.until(f"! pyknock status --state=/run/state | grep {address}")
