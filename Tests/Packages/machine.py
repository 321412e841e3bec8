"""A Debian 12 with a real systemd as its process 1, in namespaces of this machine.

    with Machine() as machine:               # boots a fresh system; nothing of it is left at the end
        machine.run("systemctl", "status")   # returns the output, and fails if the command fails
        machine.path("/etc/motd").touch()    # a file of the machine, seen from here
        machine.outside("ip", "neighbour")   # runs a program of this system in the network of OUTSIDE
        mark = machine.mark()                # the present end of the journal
        machine.wait_for("x.service", "^ready", mark)  # the next such line of a unit, as a dict
        machine.journal("x.service", mark)   # all lines of a unit since the mark
    Machine(folder)                          # boots with the files of a folder on top of the system

The system is made once with debootstrap, into .build/packages/. It has what minbase has, and
PACKAGES. Its network is a cable to OUTSIDE, and no more.
"""

import fcntl
import json
import re
import socket
import struct
import subprocess
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from support import waiting

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["systemd", "nftables", "iptables", "iproute2"]
MACHINE, OUTSIDE = "192.0.2.1", "192.0.2.2"

# Anything that takes longer, in seconds, fails the test.
TIMEOUT = 30
until = partial(waiting.until, timeout=TIMEOUT)

# The machine gets a cgroup in the hierarchy of version 2, whatever is mounted here.
# When this shell gets SIGTERM, process 1 of the machine is killed, and with it all its processes.
START = r"""
mount -t cgroup2 cgroup2 /mnt
mkdir /mnt/pyknock-test-$$
trap : TERM
(
  sh -c 'echo $PPID' >"/mnt/pyknock-test-$$/cgroup.procs"
  exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child sh -ec "$0" "$@"
) &
wait $! || { kill -KILL $(cat /proc/$!/task/$!/children) && wait $!; } 2>/dev/null || :
find /mnt/pyknock-test-$$ -depth -type d -exec rmdir {} +
"""

# Changes to files stay in memory. Only this namespace sees them.
BOOT = r"""
host=$1 system=${3:+$3:}$2
umask 022
mount -t tmpfs tmpfs /mnt
mkdir /mnt/new /mnt/written /mnt/work
mount -t overlay -o "lowerdir=$system,upperdir=/mnt/written,workdir=/mnt/work" overlay /mnt/new
cd /mnt/new
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm run/host
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mount --bind "$host" run/host
pivot_root . mnt
umount -l /mnt
# systemd must see what its children mount for credentials, as on a real machine.
mount --make-rshared /
exec env -i container=test NOTIFY_SOCKET=/run/host/notify /lib/systemd/systemd
"""


def run(*words, check=True, timeout=120, **options):
    """Runs a command. If it fails, its output is in the report of the test."""
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    result = subprocess.run(
        list(map(str, words)), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=timeout, **options,
    )  # fmt: skip
    assert not check or result.returncode == 0, f"{words}: {result.returncode}\n{result.stdout}"
    return result.stdout if check else result


def system(packages=None):
    """The directory of a system with minbase and these packages. Nothing may write to it."""
    packages = PACKAGES if packages is None else packages
    folder = ROOT / ".build/packages"
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "-".join(["debian", *packages])
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            # debootstrap uses the same mirror as apt here.
            mirrors = run(
                *("apt-get", "indextargets", "--no-release-info", "Created-By: Packages"),
                *("Component: main", "--format", "$(REPO_URI) $(RELEASE)"),
            ).splitlines()
            mirror = next(line.split()[0] for line in mirrors if line.endswith(" bookworm"))
            new = folder / "new"
            run("rm", "-rf", new)
            include = [f"--include={','.join(packages)}"] if packages else []
            run("debootstrap", "--variant=minbase", *include, "bookworm", new, mirror, timeout=600)
            # debootstrap copies the name of this machine.
            (new / "etc/hostname").write_text("machine\n")
            # Each machine makes its own id when it boots.
            (new / "etc/machine-id").write_text("")
            new.rename(made)
    return made


class Machine:
    def __init__(self, files=None):
        with ExitStack() as stack:
            stack.callback(self._end)
            self._process = self._neighbour = None
            self._boot([system(), files] if files else [system()])
            self._connect()
            stack.pop_all()

    def _boot(self, layers):
        with (
            tempfile.TemporaryDirectory() as host,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
        ):
            notify.bind(f"{host}/notify")
            notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            # If the test is killed, the machine ends.
            words = ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "sh", "-ec", START]
            words += [BOOT, "sh", host, *layers]
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
            message = ""
            end = time.monotonic() + TIMEOUT
            while "READY=1" not in message.splitlines():
                notify.settimeout(end - time.monotonic())
                message, ancillary, *_ = notify.recvmsg(4096, socket.CMSG_SPACE(12))
                message = message.decode()
            # The kernel translates the process number into ours.
            self.pid = struct.unpack("iii", ancillary[0][2])[0]
        namespaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup"]
        self._inside = ["nsenter", f"--target={self.pid}", *namespaces]

    def _connect(self):
        words = ["unshare", "--net", "sh", "-c", "ip link set lo up; echo ready; exec cat"]
        self._neighbour = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._neighbour.stdout.readline() == b"ready\n"
        ends = ((self._neighbour.pid, "outside", OUTSIDE), (self.pid, "machine", MACHINE))
        names = [["name", name, "netns", pid] for pid, name, _ in ends]
        run("ip", "link", "add", *names[0], "type", "veth", "peer", *names[1])
        for pid, name, address in ends:
            inside = ["nsenter", f"--target={pid}", "--net"]
            run(*inside, "ip", "address", "add", f"{address}/24", "dev", name)
            run(*inside, "ip", "link", "set", name, "up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.run("systemctl", "poweroff")
            self._process.wait(TIMEOUT)
        finally:
            self._end()

    def _end(self):
        for process in (self._process, self._neighbour):
            if process:
                process.terminate()
                process.communicate(timeout=TIMEOUT)

    def path(self, name):
        return Path(f"/proc/{self.pid}/root", name.lstrip("/"))

    def run(self, *words, env=(), **options):
        inside = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **dict(env)}
        return run(*self._inside, *words, env=inside, **options)

    def outside(self, *words, **options):
        return run("nsenter", f"--target={self._neighbour.pid}", "--net", *words, **options)

    def mark(self):
        return json.loads(self.run("journalctl", "--output=json", "--lines=1"))["__CURSOR"]

    def _journalctl(self, unit, mark, *options):
        after = [f"--after-cursor={mark}"] if mark else []
        return ["journalctl", "--output=json", f"--unit={unit}", *after, *options]

    def journal(self, unit, mark=None):
        self.run("journalctl", "--sync")
        lines = self.run(*self._journalctl(unit, mark, "--quiet")).splitlines()
        return [json.loads(line) for line in lines]

    def wait_for(self, unit, pattern, mark=None):
        words = self._journalctl(unit, mark, "--follow", "--lines=all")
        words = [*self._inside, "timeout", str(TIMEOUT), *words]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as following:
            for line in following.stdout:
                entry = json.loads(line)
                if re.search(pattern, entry["MESSAGE"]):
                    following.stdout.close()
                    return entry
        log = "\n".join(entry["MESSAGE"] for entry in self.journal(unit, mark))
        raise AssertionError(f"no {pattern!r} within {TIMEOUT} s in the journal of {unit}:\n{log}")
