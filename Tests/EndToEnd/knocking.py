"""What the tests share: the program and the original as processes, datagrams, networks."""

import contextlib
import ctypes
import hashlib
import hmac
import ipaddress
import json
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import threading
import time
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYKNOCK = shlex.split(os.environ.get("PYKNOCK", ".build/embedded/release/pyknock"))
PYKNOCK[-1] = str(ROOT / PYKNOCK[-1])
ORIGINAL = ROOT / os.environ.get("PYKNOCK_ORIGINAL", ".build/venv/bin")
EMULATED = len(PYKNOCK) > 1

# How long anything may take before the test fails; nothing waits this long when all is well.
TIMEOUT = 60 if EMULATED else 20

KEY = "a key that is long enough to be good"
OPEN, CLOSE = 1, 2
AF_INET, AF_INET6 = 2, 10

# Of the client and of the server.
CLIENT = {socket.AF_INET: "192.0.2.2", socket.AF_INET6: "2001:db8::2"}
SERVER = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
NFT = "inet/pyknock/knock4,knock6"

libc = ctypes.CDLL(None, use_errno=True)


def program(applet):
    """The words that start an applet."""
    return [*PYKNOCK, applet]


def until(condition, what, timeout=TIMEOUT):
    """Polls for what nothing reports. Returns the first true value of the condition.

    `what` is awaited: a text, or what makes one.
    """
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what() if callable(what) else what}: not within {timeout} s")


def stat_of(process):
    """The fields of /proc/PID/stat from the third, the state, on: proc_pid_stat(5)."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def children_of(process):
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def until_all_are_taken(process, port):
    """Waits until no datagram waits at a UDP port in the network of a process."""
    tables = [Path(f"/proc/{process}/net/{table}") for table in ("udp", "udp6")]
    waiting = re.compile(rf":{port:04X} \S+ \S+ \w+:(?!00000000)")
    until(
        lambda: not any(waiting.search(table.read_text()) for table in tables),
        "all datagrams are taken",
    )


# Datagrams


def signed(body, key=KEY):
    """Any bytes behind their right MAC."""
    key = key.encode("latin-1")
    return hmac.new(key, body, hashlib.sha256).digest() + body


def packet(address="192.0.2.1", command=OPEN, age=0.0, *, key=KEY, family=None, time_stamp=None):
    """A datagram; `age` is how many seconds ago it was stamped, `address` text or bytes."""
    if isinstance(address, str):
        address = ipaddress.ip_address(address).packed
    if family is None:
        family = AF_INET if len(address) == 4 else AF_INET6
    if time_stamp is None:
        time_stamp = time.time() - age
    return signed(struct.pack("<Bdi", command, time_stamp, family) + address, key)


# Files of the state directory


def checksum(*numbers):
    """What a record or a mark ends with: FNV-1a, 64 bits at a time."""
    value = 0xCBF29CE484222325
    for number in numbers:
        value = (value ^ number) * 0x100000001B3 & (1 << 64) - 1
        value ^= value >> 32
    return value


# Networks


class Network:
    """Where programs run and sockets are. This one is that of the tests themselves."""

    prefix = []

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_DGRAM, protocol=0):
        return socket.socket(family, kind, protocol)

    def free_port(self):
        with self.socket(socket.AF_INET6) as both:
            both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            both.bind(("::", 0))
            return both.getsockname()[1]


class Namespace(Network):
    """A network of its own, with loopback up and private /etc/hosts and /etc/resolv.conf."""

    def __init__(self, folder):
        self.hosts = folder / "hosts"
        resolver = folder / "resolv.conf"
        self.hosts.write_text("127.0.0.1 localhost\n")
        resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        script = (
            "mount --bind $0 /etc/hosts; mount --bind $1 /etc/resolv.conf;"
            "ip link set lo up; echo ready; exec cat"
        )
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-ec", script, self.hosts, resolver],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.holder.stdout.readline() == b"ready\n", "no namespaces: run the tests as root"
        self.prefix = ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", "--"]

    def run(self, command):
        subprocess.run([*self.prefix, *command.split()], check=True)

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_DGRAM, protocol=0):
        made = []

        def make():
            with open(f"/proc/{self.holder.pid}/ns/net") as namespace:
                if libc.setns(namespace.fileno(), 0) == 0:
                    made.append(super(Namespace, self).socket(family, kind, protocol))

        # Only this thread enters the namespace; a socket stays in the one where it was made.
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    def close(self):
        self.holder.communicate()


class Firewall(Namespace):
    """The network of the server, with sets in it."""

    def __init__(self, folder, kind):
        super().__init__(folder)
        self.kind = kind
        self.sets = f"--{kind}={NFT if kind == 'nft' else 'knock4,knock6'}"

    def output(self, *words, check=True, **options):
        result = run([*self.prefix, *words], **options)
        assert result.code == 0 or not check, result
        return result.stdout

    def nft(self, commands):
        self.output("nft", "-f", "-", stdin=commands.encode())

    def load_example(self, *options):
        text = run([*program("server"), "--example", self.kind, *options]).stdout
        self.output(*(["nft", "-f", "-"] if self.kind == "nft" else ["sh"]), stdin=text.encode())

    def elements(self, name="knock4", table="inet pyknock"):
        """What is in a set: for each element the seconds that it stays, None for ever."""
        if self.kind == "ipset":
            lines = self.output("ipset", "list", name, "-output", "save").splitlines()
            words = [line.split() for line in lines if line.startswith("add ")]
            return {word[2]: float(word[4]) if word[4:] else None for word in words}
        listed = json.loads(self.output("nft", "-j", "list", "set", *table.split(), name))
        (held,) = [item["set"] for item in listed["nftables"] if "set" in item]
        elements = {}
        for element in held.get("elem", []):
            element = element.get("elem", element) if isinstance(element, dict) else element
            value, rest = element, None
            if isinstance(element, dict) and "val" in element:
                value, rest = element["val"], element.get("expires")
            if isinstance(value, dict) and "prefix" in value:
                value = f"{value['prefix']['addr']}/{value['prefix']['len']}"
            elif isinstance(value, dict):
                value = "-".join(value["range"])
            elements[value] = rest
        return elements


def connect(device, *ends):
    """Lays a cable between two namespaces, each with its addresses by family."""
    pids = [network.holder.pid for network, _ in ends]
    ends[0][0].run(f"ip link add {device} netns {pids[0]} type veth peer {device} netns {pids[1]}")
    for network, addresses in ends:
        # Without link-local addresses there is nothing to wait for.
        network.run(f"ip link set {device} addrgenmode none")
        network.run(f"ip address add {addresses[socket.AF_INET]}/24 dev {device}")
        network.run(f"ip address add {addresses[socket.AF_INET6]}/64 dev {device} nodad")
        network.run(f"ip link set {device} up")


HOST = Network()


# Processes


class Lines:
    """The lines of a stream, collected as they come."""

    def __init__(self, stream):
        self.changed = threading.Condition()
        self.lines = []
        self.ended = False
        threading.Thread(target=self._collect, args=[stream], daemon=True).start()

    def _collect(self, stream):
        for line in stream:
            with self.changed:
                self.lines.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def matching(self, pattern):
        return [match for line in list(self.lines) if (match := re.search(pattern, line))]

    def wait_for(self, pattern, count=1):
        """Waits for as many lines with the pattern in them; returns the match in the last."""
        with self.changed:
            self.changed.wait_for(
                lambda: len(self.matching(pattern)) >= count or self.ended, TIMEOUT
            )
            found = self.matching(pattern)
            text = "\n".join(self.lines[-40:])
            assert len(found) >= count, (
                f"{len(found)} of {count} lines with {pattern!r} in:\n{text}"
            )
            return found[count - 1]

    def wait_for_end(self):
        with self.changed:
            assert self.changed.wait_for(lambda: self.ended, TIMEOUT), "the stream does not end"
            return list(self.lines)


class Process:
    """A program that runs beside the test, with what it writes."""

    def __init__(self, words, *, stdin=b"", **options):
        options = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "start_new_session": True,
            **options,
        }
        self.popen = subprocess.Popen(words, stdin=subprocess.PIPE, **options)
        self.pid = self.popen.pid
        self.output = Lines(self.popen.stdout) if self.popen.stdout else None
        self.log = Lines(self.popen.stderr) if self.popen.stderr else None
        with contextlib.suppress(BrokenPipeError), self.popen.stdin as pipe:
            pipe.write(stdin)

    def signal(self, number):
        os.kill(self.pid, number)

    def exit_code(self):
        return self.popen.wait(TIMEOUT)

    def close(self):
        """Ends the program and all that it started: whatever is in its session."""
        self.popen.kill()
        self.popen.wait()
        # Any of them may end at any time.
        for process in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if int(stat_of(process)[3]) == self.popen.pid:
                    os.kill(int(process), signal.SIGKILL)


class KnockServer(Process):
    """A server, this or the original, that knocks can be sent to."""

    def __init__(self, words, port, *, key=KEY, network=HOST, prefix=(), **options):
        self.port, self.key, self.network = port, key, network
        super().__init__([*network.prefix, *prefix, *words], **options)

    def wait_until_ready(self):
        """Waits until the port is bound and the server sleeps: it waits for a datagram."""

        def is_ready():
            assert self.popen.poll() is None, f"ended with {self.popen.returncode}"
            tables = [Path(f"/proc/{self.pid}/net/{table}").read_text() for table in ("udp", "udp6")]
            return f":{self.port:04X} " in "".join(tables) and stat_of(self.pid)[0] == "S"

        until(is_ready, "the server is ready")

    def send(self, *datagrams, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with self.network.socket(family) as sender:
            for datagram in datagrams:
                sender.sendto(datagram, (host, self.port))

    def knock(self, address="192.0.2.1", command=OPEN, age=0.0, **fields):
        """Sends a datagram and returns it."""
        datagram = packet(address, command, age, **{"key": self.key, **fields})
        self.send(datagram)
        return datagram


class Server(KnockServer):
    """Our server. The key comes from its standard input, unless `words` has the operands.

    With `port` nothing is added to the options: it says where knocks go.
    """

    def __init__(
        self,
        *options,
        on_open="echo $cmd $ip $af",
        on_close=None,
        words=None,
        key=KEY,
        port=None,
        network=HOST,
        wait=True,
        applet=None,
        **more,
    ):
        if port is None:
            port = network.free_port()
            options = [f"-p{port}", *options]
        if words is None:
            words = ["-k", "-", on_open, on_open if on_close is None else on_close]
            more.setdefault("stdin", key.encode() + b"\n")
        words = [*(applet or program("server")), *options, *words]
        super().__init__(words, port, key=key, network=network, **more)
        if wait:
            self.log.wait_for("listening on ")

    @cached_property
    def receiver(self):
        """The process that reads datagrams: the child that runs the same program.

        To be asked for first when no command is being started, which is the same program for a moment.
        """
        words = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        children = children_of(self.pid)
        [receiver] = [c for c in children if Path(f"/proc/{c}/cmdline").read_bytes() == words]
        return receiver

    def counters(self):
        """Has the server log its counters, and returns them."""
        count = len(self.log.matching("counters:"))
        self.signal(signal.SIGUSR1)
        line = self.log.wait_for("counters:.*", count + 1)[0]
        return {name: int(value) for name, value in re.findall(r"(\S+)=(\d+)", line)}

    def wait_for_counters(self, **expected):
        """Waits until these counters have these values; `-` in names is `_` here."""
        expected = {name.replace("_", "-"): value for name, value in expected.items()}
        if EMULATED:  # It does not ask the kernel how many datagrams it has dropped.
            expected.pop("kernel-dropped", None)
        seen = {}

        def are_there():
            seen.update(self.counters())
            return all(seen[name] == value for name, value in expected.items())

        try:
            until(are_there, "the counters")
        except AssertionError:
            assert {name: seen[name] for name in expected} == expected
            raise
        return seen

    def stop(self):
        """Ends the server as a user does. Returns its exit code."""
        self.signal(signal.SIGTERM)
        return self.exit_code()


class OriginalServer(KnockServer):
    """The server of the Python original."""

    def __init__(self, *options, key=KEY, command="echo $cmd $ip $af"):
        port = HOST.free_port()
        words = [ORIGINAL / "pyknock-server", f"-p{port}", *options, key, command, command]
        super().__init__(words, port, key=key, env={**os.environ, "LC_ALL": "C.UTF-8"})
        self.wait_until_ready()


class Result:
    """How a program ended, and what it wrote."""

    def __init__(self, completed):
        self.code = completed.returncode
        self.stdout = completed.stdout.decode("utf-8", "backslashreplace")
        self.stderr = completed.stderr.decode("utf-8", "backslashreplace")
        self.lines = self.stderr.splitlines()

    def __repr__(self):
        return f"exit {self.code}\nstdout: {self.stdout}\nstderr: {self.stderr}"


def run(words, *, stdin=b"", **options):
    """Runs a program to its end."""
    completed = subprocess.run(
        words,
        input=stdin,
        timeout=TIMEOUT,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )
    for stream in ("stdout", "stderr"):
        if getattr(completed, stream) is None:
            setattr(completed, stream, b"")
    return Result(completed)


def client(*arguments, network=HOST, key=KEY, **options):
    """Runs the client with its key from the standard input, unless `key` is None."""
    words = [*network.prefix, *program("client"), *arguments]
    if key is not None:
        words += ["-k", "-"]
        options["stdin"] = key.encode() + b"\n"
    return run(words, **options)


def listener(network=HOST, family=socket.AF_INET, address="127.0.0.1", port=0):
    """A bound socket that receives knocks, with a time limit."""
    receiver = network.socket(family)
    receiver.bind((address, port))
    receiver.settimeout(TIMEOUT)
    return receiver
