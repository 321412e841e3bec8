"""The programs that are compared: servers, and their clients."""

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Tests/EndToEnd"))

from support.datagrams import KEY  # noqa: E402
from support.processes import children_of, stat_of  # noqa: E402
from support.programs import ORIGINAL, TIMEOUT  # noqa: E402
from support.servers import KnockServer  # noqa: E402
from support.users import many_users  # noqa: E402
from support.waiting import until  # noqa: E402

# The keys of its cipher and of its MAC.
FWKNOP_KEYS = [base64.b64encode(bytes(range(size))).decode() for size in (16, 32)]


class Running:
    """A server with all its processes, and a socket that sends to its port."""

    def __init__(self, words, port):
        self.port = port
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.process = KnockServer(words, port, stderr=subprocess.STDOUT)
        try:
            self.process.wait_until_ready()
            self.pids = [self.process.pid, *children_of(self.process.pid)]
        except BaseException:
            self.process.close()
            raise

    def close(self):
        os.kill(self.process.pid, signal.SIGTERM)
        try:
            self.process.exit_code()
        finally:
            self.process.close()
            self.sender.close()

    def cpu(self):
        """CPU time in nanoseconds, user and system, of its processes without commands."""
        times = [Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in self.pids]
        return sum(map(int, times))

    def commands_cpu(self):
        """CPU time in nanoseconds of all commands that have ended, in steps of 10 ms."""
        fields = stat_of(self.process.pid)
        return (int(fields[13]) + int(fields[14])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Memory of its processes in KiB (PSS: each gets its part of a shared page)."""
        pages = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids]
        return sum(int(re.search(r"^Pss: +(\d+)", text, re.MULTILINE)[1]) for text in pages)

    def state(self):
        """The bytes that wait at its port, and the number of datagrams dropped there."""
        for table in ("udp", "udp6"):
            for line in Path(f"/proc/{self.process.pid}/net/{table}").read_text().splitlines():
                fields = line.split()
                if fields[1].endswith(f":{self.port:04X}"):
                    return int(fields[4].partition(":")[2], 16), int(fields[12])
        raise AssertionError(f"nobody listens at {self.port}")

    def send(self, datagrams):
        for datagram in datagrams:
            self.sender.sendto(datagram, ("127.0.0.1", self.port))

    def is_idle(self):
        """Whether no datagram waits, no command runs, and all its processes sleep."""
        before = self.cpu()
        states = [stat_of(pid)[0] for pid in self.pids]
        if self.state()[0] or any(state != "S" for state in states):
            return False
        if not set(children_of(self.process.pid)) <= set(self.pids):
            return False
        time.sleep(0.002)
        return self.cpu() == before

    def cost(self, datagrams):
        """CPU time in nanoseconds for each datagram that the kernel queued, or for each sent one if it queued none."""
        used, taken = self.used_for(datagrams)
        # Without the cost of stopping and continuing.
        return max(0, used - self.used_for([])[0]) / (taken or len(datagrams))

    def used_for(self, datagrams):
        """CPU time in nanoseconds for the datagrams, and how many of them the kernel queued."""
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)
        _, dropped = self.state()
        before = self.cpu()
        self.send(datagrams)
        lost = self.state()[1] - dropped
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)
        until(self.is_idle, f"{self.process.popen.args} is idle")
        return self.cpu() - before, len(datagrams) - lost


class Place:
    """The command lines of the programs, and files for them. Each server gets its own port."""

    def __init__(self, folder, program, floor, static_floor, flood):
        self.folder, self.program = folder, program
        self.floor, self.static_floor, self.flood = floor, static_floor, flood
        self.key = folder / "key"
        self.key.write_text(KEY + "\n")
        self.key.chmod(0o600)
        # The command that servers run: it writes a line to a fifo.
        self.script, fifo = folder / "script", folder / "fifo"
        os.mkfifo(fifo)
        self.fifo = os.open(fifo, os.O_RDWR)
        self.script.write_text(f"#!/bin/sh\necho accepted >{fifo}\n")
        self.script.chmod(0o755)
        self.next_port = 60120
        (folder / "fwknop").mkdir(mode=0o700)

    def port(self):
        self.next_port += 1
        return self.next_port

    # Each of these returns the words that start a server, and its port.

    def ours(self, *words):
        return self.with_keys("-k", self.key, *words)

    def ours_with_users(self, count, *words):
        """Our server with so many users of version 2."""
        folder = self.folder / f"users{count}"
        if not folder.exists():
            many_users(folder, count)
        return self.with_keys("--keys", folder, f"--state={tempfile.mkdtemp(dir=self.folder)}", *words)

    def with_keys(self, *words):
        port = self.port()
        return [self.program, "server", f"-p{port}", *words], port

    def c(self, *words, static=False, mode="serve"):
        """floor.c."""
        port = self.port()
        key = [KEY] if mode == "serve" else []
        return [self.static_floor if static else self.floor, mode, str(port), *key, *words], port

    def python(self, command=""):
        port = self.port()
        return [ORIGINAL / "pyknock-server", "-p", str(port), KEY, str(command), ""], port

    def fwknopd(self, command="/bin/true"):
        """fwknopd as a UDP server: it captures no packets and runs a command for each knock."""
        port = self.port()
        folder = self.folder / "fwknop"
        files = {
            f"{port}.conf": f"ENABLE_UDP_SERVER Y;\nUDPSERV_PORT {port};\nLOCALE C;\n"
            f"FWKNOP_RUN_DIR {folder};\nFWKNOP_PID_FILE {folder}/{port}.pid;\n"
            f"DIGEST_FILE {folder}/{port}.digest;\n",
            f"{port}.access": f"SOURCE ANY\nKEY_BASE64 {FWKNOP_KEYS[0]}\n"
            f"HMAC_KEY_BASE64 {FWKNOP_KEYS[1]}\n"
            f"CMD_CYCLE_OPEN {command}\nCMD_CYCLE_CLOSE NONE\n",
        }
        for name, text in files.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o600)
        options = ["-c", folder / f"{port}.conf", "-a", folder / f"{port}.access"]
        return ["fwknopd", "-f", "-U", *options], port

    # Each of these returns the words that knock on a port.

    def our_client(self, port):
        return [self.program, "client", f"-p{port}", "-k", self.key, "open", "127.0.0.1"]

    def c_client(self, port):
        return [self.static_floor, "knock", "127.0.0.1", str(port), self.key]

    def python_client(self, port):
        return [ORIGINAL / "pyknock-client", "-p", str(port), "open", "127.0.0.1", KEY]

    def fwknop(self, port, *more):
        folder = self.folder / "fwknop"
        return [
            *["fwknop", "-A", "tcp/22", "-a", "192.0.2.1", "-D", "127.0.0.1", "-p", str(port)],
            *["--key-base64-rijndael", FWKNOP_KEYS[0], "--key-base64-hmac", FWKNOP_KEYS[1]],
            *["--use-hmac", "--no-home-dir", "--no-rc-file", "-E", folder / "args", *more],
        ]

    def fwknop_datagrams(self, count):
        """Datagrams that its own client makes."""
        path = self.folder / "fwknop/packet"
        for _ in range(count):
            path.unlink(missing_ok=True)
            words = self.fwknop(1, "--test", "--save-packet", path)
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, timeout=TIMEOUT)
            yield path.read_bytes().strip()
