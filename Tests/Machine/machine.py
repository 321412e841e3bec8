"""A small virtual machine with a kernel of its own, for this or another architecture.

It has its own clock and disks. One for x86_64 can sleep.
"""

import base64
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
PYKNOCK = ROOT / os.environ.get("PYKNOCK", ".build/embedded/release/pyknock")
ARCH = os.environ.get("ARCH", "x86_64")
# What the script `system` has made.
SYSTEM = ROOT / ".build/machine" / ARCH
# Where the programs come from: SYSTEM, or this machine.
PROGRAMS = SYSTEM / "root"
TOOLS = ["bash", "nft", "ipset", "dmsetup", "mkfs.ext4"]
# libcrc32c asks for crc32c_generic by another name.
MODULES = ["crc32c_generic", "nf_tables", "ip_set_hash_ip", "ip_set_hash_net", "dm-mod", "loop", "ext4"]
MODULES += ["virtio_pci", "virtio_blk"]

MALTA = ["-machine", "malta", "-cpu", "24Kc", "-m", "256"]
EMULATOR = {
    "x86_64": ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "384"],
    "mipsel": ["qemu-system-mipsel", *MALTA],
    "mips": ["qemu-system-mips", *MALTA],
}[ARCH]

# Anything that takes longer, in seconds, fails the test. The processor is emulated.
TIMEOUT = 60


def system_program(name):
    return shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")


def libraries_of(program):
    """The shared libraries that a program loads: ldd(1)."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return set(re.findall(r"(/\S+) \(0x", listed))


def copy_programs(root):
    """Copies the programs of this machine, and their libraries."""
    (root / "bin").mkdir(parents=True)
    for program in map(system_program, ["busybox", *TOOLS]):
        shutil.copy(program, root / "bin")
        for library in libraries_of(program):
            target = root / library[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)


def modules_with_dependencies(folder):
    """The files of MODULES and of all that they need, in the order in which they are loaded."""
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        module, _, others = line.partition(":")
        needs[module] = others.split()
    loaded = []
    for name in MODULES:
        found = [module for module in needs if Path(module).name == f"{name}.ko"]
        for module in found:
            loaded += [other for other in [*reversed(needs[module]), module] if other not in loaded]
    return [folder / module for module in loaded]


def build_image(folder):
    """Makes the archive with the file system of the machine, and returns it."""
    root = folder / "root"
    if PROGRAMS.exists():
        shutil.copytree(PROGRAMS, root, symlinks=True)
    else:
        copy_programs(root)
    shutil.copy(FOLDER / "init", root / "init")
    shutil.copy(PYKNOCK, root / "bin/pyknock")
    (root / "modules").mkdir()
    for release in SYSTEM.glob("lib/modules/*"):
        for number, module in enumerate(modules_with_dependencies(release)):
            shutil.copy(module, root / "modules" / f"{number:02}-{module.name}")
    archive = folder / "image.gz"
    pack = f"find . | cpio --quiet --create --format=newc | gzip -1 >{shlex.quote(str(archive))}"
    subprocess.run(["sh", "-c", pack], cwd=root, check=True)
    return archive


class Machine:
    def __init__(self, image, folder, *options):
        self.console = folder / "console"
        ports = {name: folder / name for name in ("monitor", "scripts")}
        words = [*EMULATOR, "-display", "none", "-nodefaults", "-no-reboot"]
        words += ["-kernel", SYSTEM / "kernel", "-initrd", image, *options]
        words += ["-append", "console=ttyS0 quiet panic=-1", "-serial", f"file:{self.console}"]
        words += ["-qmp", f"unix:{ports['monitor']},server", "-serial", f"unix:{ports['scripts']},server"]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._boot(ports.values())
        except BaseException:
            self.process.kill()
            raise

    def _boot(self, ports):
        # The emulator waits for a connection to each port, one after the other.
        self.monitor, self.scripts = (self._connect(path) for path in ports)
        self._ask("qmp_capabilities")
        assert self.scripts.readline() == b"ready\n", self.console.read_text()
        self.run("for module in $(ls /modules); do insmod /modules/$module || exit; done")

    def _connect(self, path):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT)
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                connection.connect(str(path))
                return connection.makefile("rwb")
            except OSError:
                assert time.monotonic() < end and self.process.poll() is None, "no machine"
                time.sleep(0.01)

    def _ask(self, command):
        self.monitor.write(b'{"execute": "%s"}\n' % command.encode())
        self.monitor.flush()
        self._wait_for_line(b'"return"')

    def _wait_for_line(self, part):
        while part not in (line := self.monitor.readline()):
            assert line, "the machine ended"

    def attempt(self, script):
        """Runs a script in the machine. Returns its exit code and what it wrote."""
        self.scripts.write(base64.b64encode(script.encode()) + b"\n")
        self.scripts.flush()
        written = base64.b64decode(self.scripts.readline()).decode()
        return int(self.scripts.readline() or -1), written

    def run(self, script):
        """Runs a script that must succeed, and returns what it wrote."""
        code, written = self.attempt(script)
        assert code == 0, f"exit code {code}:\n{written}\n{self.console.read_text()[-2000:]}"
        return written

    def write(self, path, text, mode="644"):
        """Makes a file in the machine."""
        self.run(f"echo {shlex.quote(text)} >{path} && chmod {mode} {path}")

    def start(self, *words):
        """Starts a program in the background, with its output in /run/out and its log in /run/log."""
        self.run(f"{' '.join(words)} </dev/null >/run/out 2>/run/log & echo $! >/run/pid")

    def until_counted(self, *counters):
        """Waits until the server's counters have these values."""
        found = " && ".join(f"grep -q '{counter}' /run/counters" for counter in counters)
        self.until(
            f"kill -USR1 $(cat /run/pid); sleep 0.1; tail -n 1 /run/log >/run/counters;cat /run/counters; {found}"
        )

    def stop(self, signal):
        """Ends that program with a signal."""
        self.run(f"kill -{signal} $(cat /run/pid); while [ -d /proc/$(cat /run/pid) ]; do sleep 0.1; done")

    def send(self, datagram, port):
        """Sends a datagram from the machine to itself."""
        text = base64.b64encode(datagram).decode()
        self.run(f"bash -c 'echo {text} | base64 -d >/dev/udp/127.0.0.1/{port}'")

    def clock(self):
        """The machine's time, in seconds since the Unix epoch."""
        return int(self.run("date +%s"))

    def set_clock(self, seconds):
        self.run(f"date -s @{seconds}")

    @property
    def log(self):
        """The lines in /run/log."""
        return self.run("cat /run/log").splitlines()

    def until(self, script):
        """Runs a script in the machine again and again until it succeeds. Returns what it wrote then."""
        end = time.monotonic() + TIMEOUT / 2
        while True:
            code, written = self.attempt(script)
            if code == 0:
                return written
            assert time.monotonic() < end, f"{script}: never succeeds:\n{written}"

    def sleep(self, seconds):
        """Suspends the machine to memory for a time."""
        self.scripts.write(base64.b64encode(b"echo mem >/sys/power/state") + b"\n")
        self.scripts.flush()
        self._wait_for_line(b'"SUSPEND"')
        time.sleep(seconds)
        self._ask("system_wakeup")
        self.scripts.readline()
        assert self.scripts.readline() == b"0\n"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.scripts.close()
        self.monitor.close()
