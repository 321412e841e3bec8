"""The units under a real systemd, which is process 1 of a Debian: see machine.py.

PYKNOCK names the static program.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from machine import MACHINE, OUTSIDE, ROOT, Machine, run, until
from support.datagrams import packet
from support.requests import request

PYKNOCK = Path(os.environ["PYKNOCK"]).resolve()
UNITS = ROOT / "packaging/systemd"
SERVICE, SOCKET = "pyknock.service", "pyknock.socket"
DROP_INS = "/etc/systemd/system/pyknock.service.d"
SEND = (
    "import socket, sys\n"
    "to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "to.sendto(bytes.fromhex(sys.argv[1]), (sys.argv[2], 60120))"
)


@pytest.fixture
def files(tmp_path):
    """The files of the package, a user, and the rules of the example, which nftables loads at boot."""
    folder = tmp_path / "files"
    for source, target in {
        PYKNOCK: "usr/bin/pyknock",
        UNITS / SERVICE: "usr/lib/systemd/system/pyknock.service",
        UNITS / SOCKET: "usr/lib/systemd/system/pyknock.socket",
        UNITS / "pyknock.sysusers": "usr/lib/sysusers.d/pyknock.conf",
        UNITS / "pyknock.sysctl": "usr/lib/sysctl.d/10-pyknock.conf",
        UNITS / "server.conf": "etc/pyknock/server.conf",
    }.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / target)
    (folder / "etc/pyknock/keys").mkdir()
    run(PYKNOCK, "keygen", "--keys", folder / "etc/pyknock/keys", "alice")
    # What a script of the package does once there is the user.
    owners = folder / "usr/lib/tmpfiles.d/owners.conf"
    owners.parent.mkdir()
    owners.write_text("z /etc/pyknock/keys 750 root pyknock\nz /etc/pyknock/keys/* 640 root pyknock\n")
    (folder / "etc/nftables.conf").write_text(run(PYKNOCK, "server", "--example", "nft"))
    wanted = folder / "etc/systemd/system/sysinit.target.wants"
    wanted.mkdir(parents=True)
    (wanted / "nftables.service").symlink_to("/lib/systemd/system/nftables.service")
    return folder


@pytest.fixture
def machine(files):
    with Machine(files) as machine:
        yield machine


@pytest.fixture
def started(machine):
    machine.run("systemctl", "enable", "--now", "pyknock")
    return machine


def state(machine, name, unit=SERVICE):
    return machine.run("systemctl", "show", f"--property={name}", "--value", unit).strip()


def change(machine, text, name="test.conf"):
    """Writes a drop-in of the unit."""
    path = machine.path(f"{DROP_INS}/{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    machine.run("systemctl", "daemon-reload")


def configure(machine, text):
    common = "keys /etc/pyknock/keys\nstate /var/lib/pyknock\n"
    machine.path("/etc/pyknock/server.conf").write_text(common + text)


def key_of(machine, user="alice"):
    return machine.path(f"/etc/pyknock/keys/{user}").read_text().splitlines()[0]


def knock(machine, user="alice", **options):
    """Sends a new knock from outside, and returns it."""
    key = key_of(machine, user)
    is_version2 = key.startswith("pk2.")
    datagram = request(key, OUTSIDE, **options) if is_version2 else packet(OUTSIDE, key=key, **options)
    send(machine, datagram)
    return datagram


def send(machine, datagram):
    machine.outside(sys.executable, "-c", SEND, datagram.hex(), MACHINE)


def is_open(machine):
    return OUTSIDE in machine.run("nft", "list", "set", "inet", "pyknock", "knock4")


def until_open(machine):
    until(lambda: is_open(machine), "the address is in the set")


def processes(machine):
    """The numbers of the processes in the machine: first the executor, then the receiver."""
    group = state(machine, "ControlGroup")
    return sorted(map(int, machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").split()))


def signal(machine, name, process):
    machine.run("sh", "-c", f"kill -s {name} {process}")


def test_the_units_are_without_a_mistake(machine):
    # man is not installed, and cannot say whether the pages exist.
    assert machine.run("systemd-analyze", "verify", "--man=no", SERVICE, SOCKET) == ""


RESERVED = "/proc/sys/net/ipv4/ip_local_reserved_ports"


def test_the_port_is_reserved_at_boot(machine):
    assert machine.run("cat", RESERVED) == "60120\n"


def test_the_port_is_reserved_beside_those_of_others(machine):
    machine.path("/etc/sysctl.d/90-others.conf").write_text(f"{RESERVED[10:]} = 8080,9000-9010\n")
    machine.run("systemctl", "restart", "systemd-sysctl")
    assert machine.run("cat", RESERVED) == "8080,9000-9010\n"
    for _ in range(2):
        machine.run("systemctl", "restart", SOCKET)
        assert machine.run("cat", RESERVED) == "8080,9000-9010,60120\n"


def test_another_port_as_the_readme_has_it(started):
    path = started.path("/etc/systemd/system/pyknock.socket.d/override.conf")
    path.parent.mkdir()
    path.write_text("[Socket]\nListenDatagram=\nListenDatagram=61000\n")
    started.run("systemctl", "daemon-reload")
    started.run("systemctl", "restart", "pyknock.socket", "pyknock")
    started.wait_for(SERVICE, r"listening on \S+:61000,")
    key = key_of(started)
    sender = SEND.replace("60120", "61000")
    started.outside(sys.executable, "-c", sender, request(key, OUTSIDE).hex(), MACHINE)
    # The rules of the example let knocks in on the default port only.
    started.run("nft", "insert", "rule", "inet", "pyknock", "input", "udp", "dport", "61000", "accept")
    started.outside(sys.executable, "-c", sender, request(key, OUTSIDE).hex(), MACHINE)
    until_open(started)


def test_the_exposure_is_at_most_1_5(machine):
    machine.run("systemd-analyze", "security", "--offline=true", "--threshold=15", SERVICE)


def test_enabled_it_is_there_after_boot(files):
    """The service starts after nftables has made the sets, however long that takes. No start fails."""
    slow = files / "etc/systemd/system/nftables.service.d/slow.conf"
    slow.parent.mkdir()
    slow.write_text("[Service]\nExecStartPre=/bin/sleep 1\n")
    for target, unit in ("multi-user", SERVICE), ("sockets", SOCKET):
        wanted = files / f"etc/systemd/system/{target}.target.wants"
        wanted.mkdir()
        (wanted / unit).symlink_to(f"/lib/systemd/system/{unit}")
    with Machine(files) as machine:
        assert machine.run("systemctl", "is-enabled", SERVICE, SOCKET).split() == ["enabled"] * 2
        assert state(machine, "ActiveState") == "active"
        assert state(machine, "NRestarts") == "0"
        assert [entry for entry in machine.journal(SERVICE) if int(entry["PRIORITY"]) < 6] == []
        knock(machine)
        until_open(machine)


def test_enabling_the_service_enables_the_socket(started):
    assert started.run("systemctl", "is-enabled", SERVICE, SOCKET).split() == ["enabled"] * 2
    assert state(started, "ActiveState", SOCKET) == "active"
    started.run("systemctl", "disable", "pyknock")
    assert started.run("systemctl", "is-enabled", SOCKET, check=False).stdout == "disabled\n"


def test_it_is_active_when_it_says_so(machine):
    start = re.search("^ExecStart=(.*)$", (UNITS / SERVICE).read_text(), re.MULTILINE)[1]
    start = f"/bin/sh -c 'unset NOTIFY_SOCKET; exec {start}'"
    change(machine, f"[Service]\nExecStart=\nExecStart={start}\n")
    machine.run("systemctl", "start", "--no-block", "pyknock")
    machine.wait_for(SERVICE, "listening on")
    assert state(machine, "SubState") == "start"
    machine.run("systemctl", "stop", "pyknock")
    change(machine, "")
    mark = machine.mark()
    machine.run("systemctl", "start", "pyknock")
    assert state(machine, "SubState") == "running"
    lines = [entry["MESSAGE"] for entry in machine.journal(SERVICE, mark)]
    # The two lines take different ways to the journal, so that their order varies.
    assert [line for line in lines if "listening on" in line or line.startswith("Started ")][1:]


def test_it_does_not_start_without_its_sets(machine):
    machine.run("nft", "flush", "ruleset")
    assert machine.run("systemctl", "start", "pyknock", check=False).returncode == 1
    assert state(machine, "SubState") == "auto-restart"


def test_it_never_gives_up(machine):
    """The sets may come much later than the start limit of systemd would allow."""
    machine.run("nft", "flush", "ruleset")
    change(machine, "[Service]\nRestartSec=100ms")
    machine.run("systemctl", "enable", "--now", "pyknock", check=False)
    until(lambda: int(state(machine, "NRestarts")) > 10, "it is started again and again")
    # A knock causes no further starts. It waits in the socket.
    knock(machine)
    count = int(state(machine, "NRestarts"))
    until(lambda: int(state(machine, "NRestarts")) > count + 5, "it is started again and again")
    assert state(machine, "ActiveState", SOCKET) == "active"
    machine.run("nft", "-f", "/etc/nftables.conf")
    until_open(machine)
    assert state(machine, "ActiveState") == "active"


def test_a_knock_starts_it(machine):
    machine.run("systemctl", "start", SOCKET)
    assert state(machine, "ActiveState") == "inactive"
    knock(machine)
    until_open(machine)
    assert state(machine, "ActiveState") == "active"


def test_another_port_than_that_of_the_socket_is_an_error(machine):
    configure(machine, "nft inet/pyknock/knock4,knock6\nport 60121\n")
    assert machine.run("systemctl", "start", "pyknock", check=False).returncode == 1
    message = r"the service manager passed a socket for \[::\]:60120, not for \[::\]:60121: set both"
    machine.wait_for(SERVICE, message)


def test_what_the_processes_may(started):
    executor, receiver = processes(started)
    user = started.run("id", "-u", "pyknock").strip()
    for process, capabilities in (executor, 1 << 12), (receiver, 0):
        text = started.path(f"/proc/{process}/status").read_text()
        fields = dict(re.findall(r"^(\w+):\t(.*)$", text, re.MULTILINE))
        assert fields["Uid"].split() == [user] * 4
        for kind in "CapInh", "CapPrm", "CapEff", "CapAmb":
            assert int(fields[kind], 16) & ~capabilities == 0, kind
        assert int(fields["CapEff"], 16) == capabilities
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def test_where_it_can_write(started):
    mounts = started.path(f"/proc/{processes(started)[0]}/mountinfo").read_text().splitlines()
    writable = {words[4] for words in map(str.split, mounts) if "rw" in words[5].split(",")}
    # PrivateTmp makes the last two private.
    allowed = {"/run/pyknock", "/var/lib/pyknock", "/tmp", "/var/tmp"}
    assert {path for path in writable if not path.startswith(("/proc", "/dev/"))} == allowed


def test_metrics(machine):
    configure(machine, "nft inet/pyknock/knock4\nmetrics /run/pyknock/pyknock.prom\n")
    machine.run("systemctl", "start", "pyknock")
    path = machine.path("/run/pyknock/pyknock.prom")
    until(path.exists, "the file of metrics")
    # It names people. doc/SYSTEMD.md gives it to the group of a collector.
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o777 == 0o755


def test_only_root_and_the_server_can_read_the_key(started):
    key, path = key_of(started), "/etc/pyknock/keys/alice"
    assert started.run("stat", "--format=%A %U:%G", path) == "-rw-r----- root:pyknock\n"
    as_user = ["setpriv", "--reuid=nobody", "--clear-groups", "cat", path]
    assert started.run(*as_user, check=False).stdout == f"cat: {path}: Permission denied\n"
    titles = [[b"/usr/bin/pyknock", b"server"], [b"pyknock: receiver", b""]]
    for process, title in zip(processes(started), titles, strict=True):
        words = started.path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        assert words[:2] == title
        shown = b"\0".join(words) + started.path(f"/proc/{process}/environ").read_bytes()
        assert key.encode() not in shown
    assert key not in str(started.journal(SERVICE))


def test_killed_it_comes_back_and_remembers(started):
    datagram = knock(started)
    until_open(started)
    mark = started.mark()
    signal(started, "KILL", processes(started)[0])
    started.wait_for(SERVICE, "^Started ", mark)
    assert state(started, "NRestarts") == "1"
    started.run("nft", "flush", "set", "inet", "pyknock", "knock4")
    send(started, datagram)
    started.wait_for(SERVICE, f"refused open {OUTSIDE} .*replay", mark)
    assert not is_open(started)
    knock(started)
    until_open(started)


def test_stopped_it_comes_back_with_the_next_knock(started):
    mark = started.mark()
    started.run("systemctl", "stop", SERVICE)
    started.wait_for(SERVICE, "^pyknock server: stopped$", mark)
    assert state(started, "Result") == "success"
    knock(started)
    until_open(started)


def reload(machine):
    """Whether `systemctl reload` says that it has worked."""
    return machine.run("systemctl", "reload", "pyknock", check=False).returncode == 0


def test_reload(started):
    configure(started, "open-command echo the old command\nclose-command :\n")
    started.run("systemctl", "restart", "pyknock")
    process = state(started, "MainPID")
    mark = started.mark()
    knock(started)
    started.wait_for(SERVICE, "^the old command$", mark)

    configure(started, "open-command echo the new command\nclose-command :\n")
    assert reload(started)
    started.wait_for(SERVICE, "^configuration OK, users: 1$", mark)
    started.wait_for(SERVICE, "reloaded users and commands, users: 1$", mark)
    knock(started, command=2)
    knock(started)
    started.wait_for(SERVICE, "^the new command$", mark)

    configure(started, "open-command echo the broken command\nclose-comand :\n")
    assert not reload(started)
    reason = started.wait_for(SERVICE, "'/etc/pyknock/server.conf':4: ", mark)
    assert reason["PRIORITY"] in "34"
    mark = started.wait_for(SERVICE, "not all reloaded, see the errors before this line, users: 1$", mark)["__CURSOR"]
    knock(started, command=2)
    knock(started)
    started.wait_for(SERVICE, "^the new command$", mark)
    assert (state(started, "ActiveState"), state(started, "MainPID")) == ("active", process)


def keygen(machine, user):
    machine.run("pyknock", "keygen", "--keys", "/etc/pyknock/keys", user)


def test_the_first_user_gets_in_after_a_reload(machine):
    """As after the installation of the package."""
    machine.path("/etc/pyknock/keys/alice").unlink()
    machine.run("systemctl", "enable", "--now", "pyknock")
    warning = machine.wait_for(SERVICE, "warning: '/etc/pyknock/keys' has no users, so nobody can knock$")
    assert warning["PRIORITY"] == "4"
    keygen(machine, "bob")
    assert reload(machine)
    knock(machine, "bob")
    until_open(machine)
    machine.wait_for(SERVICE, f"accepted open {OUTSIDE} by bob ")


def test_it_is_watched(started):
    assert state(started, "WatchdogUSec") == "30s"
    change(started, "[Service]\nWatchdogSec=300ms")
    started.run("systemctl", "restart", "pyknock")
    seen = set()

    def reports():
        seen.add(state(started, "WatchdogTimestampMonotonic"))
        return len(seen) > 5

    until(reports, "it tells that it lives")
    assert state(started, "NRestarts") == "0"


@pytest.mark.parametrize("half", [0, 1], ids=["executor", "receiver"])
def test_hanging_it_is_started_anew(machine, half):
    change(machine, "[Service]\nWatchdogSec=1s\nRestartSec=0")
    machine.run("systemctl", "start", "pyknock")
    mark = machine.mark()
    signal(machine, "STOP", processes(machine)[half])
    machine.wait_for(SERVICE, "Watchdog timeout", mark)
    machine.wait_for(SERVICE, "^Started ", mark)
    knock(machine)
    until_open(machine)


def test_priorities(machine):
    machine.path("/etc/pyknock/keys/alice").write_text("short\n")
    with machine.path("/etc/pyknock/server.conf").open("a") as file:
        file.write("verbose yes\n")
    machine.run("systemctl", "start", "pyknock")
    machine.run("nft", "delete", "table", "inet", "pyknock")
    mark = machine.mark()
    knock(machine)
    machine.wait_for(SERVICE, "set not changed: open", mark)
    found = {entry["MESSAGE"]: int(entry["PRIORITY"]) for entry in machine.journal(SERVICE)}
    assert not [message for message in found if message.startswith("<")]

    def priority(pattern):
        (matching,) = [number for message, number in found.items() if re.search(pattern, message)]
        return matching

    assert priority("warning: .* the key is shorter than") == 4
    assert priority("listening on") == 6
    assert priority("the receiver has no capabilities") == 7
    assert priority("accepted open") == 6
    assert priority("set not changed") == 3


def test_iptables_needs_nothing_of_commands_conf(started):
    command = "iptables -I INPUT -s $ip -p tcp --dport 2222 -j ACCEPT && iptables -S INPUT"
    configure(started, f'open-command "{command}"\nclose-command :\n')
    change(started, (UNITS / "commands.conf").read_text(), "commands.conf")
    assert started.run("systemd-analyze", "verify", "--man=no", SERVICE) == ""
    started.run("systemctl", "restart", "pyknock")
    knock(started)
    started.wait_for(SERVICE, f"^-A INPUT -s {OUTSIDE}/32 -p tcp -m tcp --dport 2222 -j ACCEPT$")


NETWORK = ["RestrictAddressFamilies", "IPAddressDeny"]
# Each command, and the lines of commands.conf that it needs.
NEEDS = {
    "exec 3>/dev/udp/127.0.0.1/9 && echo >&3": NETWORK,
    "cat /etc/shadow >/dev/null": ["User"],
    "iptables-legacy -I INPUT -s $ip -j ACCEPT": [
        *("RestrictAddressFamilies", "User", "CapabilityBoundingSet"),
        *("ReadOnlyPaths", "ReadWritePaths"),
    ],
}


@pytest.mark.parametrize("command", NEEDS)
def test_what_commands_conf_can_allow(started, command):
    """The command fails until its lines are part of the unit, and works after that."""
    text = (UNITS / "commands.conf").read_text()
    configure(started, f"open-command bash -c '{command}'\nclose-command :\nverbose yes\n")
    names = "|".join(NEEDS[command])
    needed, found = re.subn(rf"^#(?=({names})=)", "", text, flags=re.MULTILINE)
    assert found == len(NEEDS[command])
    for content, status in (text, "[1-9]"), (needed, "0"):
        change(started, content, "commands.conf")
        assert started.run("systemd-analyze", "verify", "--man=no", SERVICE) == ""
        started.run("systemctl", "restart", "pyknock")
        mark = started.mark()
        knock(started)
        started.wait_for(SERVICE, f"command ended: open {OUTSIDE} by alice: exit status {status}", mark)
