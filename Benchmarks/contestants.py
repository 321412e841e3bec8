"""What is compared: servers that run side by side in a network of their own, and their clients."""

import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Tests/EndToEnd"))

import knocking  # noqa: E402

KEY = knocking.KEY
ORIGINAL = ROOT / ".build/venv/bin"


class Running:
    """A server that takes what is sent to its port, with all its processes."""

    def __init__(self, network, words, port):
        self.port = port
        self.sender = network.socket()
        self.process = knocking.KnockServer(
            words, port, network=network, stderr=subprocess.STDOUT
        )
        self.process.wait_until_ready()
        self.pids = [self.process.pid, *self.children()]

    def children(self):
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def close(self):
        os.kill(self.process.pid, signal.SIGTERM)
        try:
            self.process.exit_code()
        finally:
            self.process.close()
            self.sender.close()

    def cpu(self):
        """Nanoseconds, user and system, of its own processes and not of commands."""
        times = [Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in self.pids]
        return sum(map(int, times))

    def commands_cpu(self):
        """Nanoseconds of all commands that have ended. The kernel tells no less than 10 ms."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")

    def memory(self):
        """KiB that its processes hold: each page counted once (PSS), and as many times as it is held."""
        pss = rss = 0
        for pid in self.pids:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, *rest = line.split()
                pss += int(rest[0]) if name == "Pss:" else 0
                rss += int(rest[0]) if name == "Rss:" else 0
        return pss, rss

    def state(self):
        """How many bytes wait at its port, and how many datagrams were dropped there."""
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
        """Whether nothing waits, no command runs, and all its processes sleep."""
        before = self.cpu()
        states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids]
        if self.state()[0] or any(fields[0] != "S" for fields in states):
            return False
        if [child for child in self.children() if child not in self.pids]:
            return False
        time.sleep(0.002)
        return self.cpu() == before

    def cost(self, datagrams):
        """Nanoseconds a datagram, of those that were waiting when it went on; of all where none was let in."""
        used, taken = self.used_for(datagrams)
        # What it costs to be stopped and to go on.
        return max(0, used - self.used_for([])[0]) / (taken or len(datagrams))

    def used_for(self, datagrams):
        """Nanoseconds, and how many datagrams the kernel had room for."""
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)
        _, dropped = self.state()
        before = self.cpu()
        self.send(datagrams)
        lost = self.state()[1] - dropped
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)
        knocking.until(self.is_idle, f"{self.process.popen.args} is idle")
        return self.cpu() - before, len(datagrams) - lost


class Place:
    """Where all servers run, with the programs that are compared."""

    def __init__(self, folder, program, floor, static_floor):
        self.folder, self.program = folder, program
        self.floor, self.static_floor = floor, static_floor
        self.network = knocking.Namespace(folder)
        self.key = folder / "key"
        self.key.write_text(KEY + "\n")
        self.key.chmod(0o600)
        self.next_port = 60120

    def close(self):
        self.network.close()

    def port(self):
        self.next_port += 1
        return self.next_port

    def ours(self, *words):
        port = self.port()
        return [self.program, "server", f"-p{port}", "-k", self.key, *words], port

    def floors(self, *words, static=False, mode="serve"):
        port = self.port()
        key = [KEY] if mode == "serve" else []
        return [self.static_floor if static else self.floor, mode, str(port), *key, *words], port

    def original(self, command):
        port = self.port()
        return [ORIGINAL / "pyknock-server", "-p", str(port), KEY, command, ""], port

    def run(self, words, port):
        return Running(self.network, words, port)


class Fwknop:
    """fwknopd of Debian as a UDP server: no packet capture, no firewall, a command for each knock."""

    keys = [base64.b64encode(bytes(range(size))).decode() for size in (16, 32)]

    def __init__(self, place):
        self.place = place
        self.folder = place.folder / "fwknop"
        self.folder.mkdir(mode=0o700)

    def words(self, command):
        port = self.place.port()
        files = {
            "fwknopd.conf": f"ENABLE_UDP_SERVER Y;\nUDPSERV_PORT {port};\nLOCALE C;\n"
            f"FWKNOP_RUN_DIR {self.folder};\nFWKNOP_PID_FILE {self.folder}/pid-{port};\n"
            f"DIGEST_FILE {self.folder}/digest-{port};\n",
            "access.conf": f"SOURCE ANY\nKEY_BASE64 {self.keys[0]}\nHMAC_KEY_BASE64 {self.keys[1]}\n"
            f"CMD_CYCLE_OPEN {command}\nCMD_CYCLE_CLOSE NONE\n",
        }
        for name, text in files.items():
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o600)
        options = ["-c", self.folder / "fwknopd.conf", "-a", self.folder / "access.conf"]
        return ["fwknopd", "-f", "-U", *options], port

    def client_words(self, port, *more):
        return [
            *["fwknop", "-A", "tcp/22", "-a", "192.0.2.1", "-D", "127.0.0.1", "-p", str(port)],
            *["--key-base64-rijndael", self.keys[0], "--key-base64-hmac", self.keys[1], "--use-hmac"],
            *["--no-home-dir", "--no-rc-file", "-E", self.folder / "args", *more],
        ]

    def datagrams(self, count):
        """As its own client makes them."""
        saved = []
        for number in range(count):
            path = self.folder / f"packet-{number}"
            words = self.client_words(1, "--test", "--save-packet", path)
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            saved.append(path.read_bytes().strip())
        return saved
