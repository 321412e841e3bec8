"""The measurements. Each function runs its contestants in turns and yields rows of the table."""

import ipaddress
import os
import select
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import repeat

from contestants import Running
from support.datagrams import packet
from support.programs import ORIGINAL, TIMEOUT
from support.requests import key_text, request
from support.waiting import until

# How many datagrams can wait at a server. Those that are not listed have the kernel's default buffer.
QUEUE = {"pyknock": 1000, "C": 1000, "C, static": 1000}
SMALL_QUEUE = 200


@dataclass
class Row:
    """Our values and those of a peer. They are measured in turns, so each pair had the same load beside it."""

    measure: str
    unit: str
    ours: list
    peer: str
    peers: list
    goal: float | None = None

    @property
    def ratio(self):
        return statistics.median(a / b for a, b in zip(self.ours, self.peers, strict=True))


def rows(measure, unit, found, goals):
    """A row for each peer. `found` has the values by name, ours first."""
    ours, *peers = found
    return [Row(measure, unit, found[ours], name, found[name], goals.get(name)) for name in peers]


def by_turns(rounds, contestants, measure):
    """The values of each contestant, by name. A first round does not count."""
    found = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, contestant in contestants.items():
            value = measure(name, contestant)
            if number > 0:
                found[name].append(value)
    return found


addresses = ipaddress.ip_network("10.0.0.0/8").hosts()


def fresh(count):
    """Valid datagrams, each for a new address."""
    return [packet(next(addresses).packed) for _ in range(count)]


def run(stack, servers):
    """Starts servers. Each has its words and its port."""
    return {name: stack.enter_context(closing(Running(*server))) for name, server in servers.items()}


def flood(place):
    """Datagrams that are refused. All wait in the queue when the server runs."""
    with ExitStack() as stack:
        servers = run(
            stack,
            {
                "pyknock": place.ours("", ""),
                "C": place.c(),
                "C, static": place.c(static=True),
                "Python": place.python(),
                "fwknopd": place.fwknopd(),
            },
        )
        bad = dict.fromkeys(servers, packet(key="another key"))
        (good,) = place.fwknop_datagrams(1)
        bad["fwknopd"] = good[:-1] + (b"A" if good[-1:] != b"A" else b"B")

        def cost(name, server):
            return server.cost([bad[name]] * QUEUE.get(name, SMALL_QUEUE)) / 1000

        found = by_turns(60, servers, cost)
        yield from rows("CPU time of a bad MAC", "µs", found, {"C": 1.1, "Python": 0.25})

        pair = {
            "pyknock": servers["pyknock"],
            **run(stack, {"C that only receives": place.c(mode="receive")}),
        }
        found = by_turns(60, pair, lambda _, server: server.cost([bytes(48)] * 1000) / 1000)
        yield from rows("CPU time of a wrong size", "µs", found, {"C that only receives": 0.3})


def version2(place):
    """Version 2 with 10,000 users and with one, and version 1. Junk is refused, and knocks run no command."""
    key = key_text("user0")

    def requests(count):
        return [request(key, next(addresses)) for _ in range(count)]

    # So that no user uses up its share of the replay memory.
    words = ["-q", "--replay-capacity=200000", "", ""]
    with ExitStack() as stack:
        servers = run(
            stack,
            {
                "10,000 users": place.ours_with_users(10_000, *words),
                "one user": place.ours_with_users(1, *words),
                "version 1": place.ours(*words),
            },
        )
        bad = packet(key="another key")

        def junk(name, server):
            datagrams = [bad] * 1000 if name == "version 1" else [os.urandom(72) for _ in range(1000)]
            return server.cost(datagrams) / 1000

        def knock(name, server):
            return server.cost((fresh if name == "version 1" else requests)(500)) / 1000

        many, one = servers["10,000 users"], servers["one user"]
        until(many.is_idle, "it has started")
        begin = many.cpu()
        yield Row("CPU time of the start with 10,000 users", "ms", [begin / 1e6], "a second", [1000], 1)
        yield Row("memory with 10,000 users", "KiB", [many.memory()], "one user", [one.memory()])
        many.process.signal(signal.SIGHUP)
        until(many.is_idle, "it has read its users again")
        used = (many.cpu() - begin) / 1e6
        yield Row("CPU time of a reload with 10,000 users", "ms", [used], "a second", [1000], 1)
        found = by_turns(60, servers, junk)
        measure = "of version 2 with 10,000 users"
        yield from rows(f"CPU time of junk {measure}", "µs", found, dict.fromkeys(found, 1.1))
        found = by_turns(20, servers, knock)
        yield from rows(f"CPU time of a knock {measure}", "µs", found, {"one user": 1.1})


def wait_for_line(descriptor, deadline):
    """Waits until a server or its command writes a line for a knock. False after the deadline."""
    text = b""
    while b"accepted" not in text:
        rest = deadline - time.perf_counter()
        if rest <= 0 or not select.select([descriptor], [], [], rest)[0]:
            return False
        more = os.read(descriptor, 65536)
        assert more, "the server has ended"
        text += more
    return True


def command(place):
    """Valid knocks that run a shell script: first many at once, then one at a time."""
    count = 50
    with ExitStack() as stack:
        servers = run(
            stack,
            {
                "pyknock": place.ours("-q", place.script, ""),
                "pyknock, all at once": place.ours("-q", "--jobs=64", place.script, ""),
                "pyknock, no shell": place.ours("-q", "--no-shell", place.script, ""),
                "C": place.c("/bin/sh", "-c", str(place.script)),
                "Python": place.python(place.script),
                "fwknopd": place.fwknopd(place.script),
            },
        )

        def datagrams(name, count):
            return [*place.fwknop_datagrams(count)] if name == "fwknopd" else fresh(count)

        def cost(name, server):
            result = server.cost(datagrams(name, count)) / 1000
            lines = os.read(place.fifo, 65536).count(b"\n")
            assert lines == count, f"{lines} commands of {name}"
            return result

        def latency(name, server):
            (datagram,) = datagrams(name, 1)
            start = time.perf_counter()
            server.send([datagram])
            assert wait_for_line(place.fifo, start + TIMEOUT), f"no command of {name}"
            return (time.perf_counter() - start) * 1000

        measure = "CPU time of the server for a command"
        found = by_turns(20, servers, cost)
        at_once = found.pop("pyknock, all at once")
        yield Row(f"{measure}, all at once", "µs", at_once, "C", found["C"], 1.1)
        yield from rows(f"{measure}, one at a time", "µs", found, {"Python": 0.5})
        del servers["pyknock, all at once"]
        found = by_turns(60, servers, latency)
        yield from rows("from the knock to what its command writes", "ms", found, {})


def under_flood(place):
    """Knocks while datagrams with a bad MAC come from everywhere: 20,000 in a second, 1000 for each knock."""
    rate, each, count = 20_000, 1000, 60
    with ExitStack() as stack:
        servers = run(
            stack,
            {
                "pyknock": place.ours("-q", place.script, ""),
                "Python": place.python(place.script),
                "fwknopd": place.fwknopd(place.script),
            },
        )
        seen = {name: [] for name in servers}

        def measure(name, server):
            knocks = [*place.fwknop_datagrams(count + 1)] if name == "fwknopd" else fresh(count + 1)
            last = knocks.pop()
            bad = last[:-1] + bytes([last[-1] ^ 1])
            words = [place.flood, "127.0.0.1", str(server.port), str(rate), str(each), bad.hex()]
            lines = "".join(f"{knock.hex()}\n" for knock in knocks)
            before = server.cpu()
            shown = subprocess.run(words, input=lines, text=True, check=True, capture_output=True, timeout=60)
            assert int(shown.stdout) > 0.75 * rate, f"only {shown.stdout} datagrams in a second"
            until(server.is_idle, f"{name} is idle")
            used = (server.cpu() - before) / 1e6 / (each * count / rate)  # As if none came late.
            server.send([last])  # So that there is something to read.
            until(lambda: select.select([place.fifo], [], [], 0)[0] and server.is_idle(), "the last knock")
            accepted = os.read(place.fifo, 65536).count(b"\n") - 1
            seen[name].append(accepted)
            return used

        found = by_turns(3, servers, measure)
        accepted = {name: values[1:] for name, values in seen.items()}
        yield from rows(f"knocks accepted in a flood, of {count}", "knocks", accepted, {})
        yield from rows("CPU time of a second of flood", "ms", found, {})


class Announcements:
    """The kernel's notifications of changes in nftables."""

    SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES, NEWSETELEM = 270, 1, 7, 10 << 8 | 12

    def __init__(self):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        self.socket.bind((0, 0))
        self.socket.setsockopt(self.SOL_NETLINK, self.NETLINK_ADD_MEMBERSHIP, self.NFNLGRP_NFTABLES)
        self.socket.settimeout(TIMEOUT)

    def wait_for_element(self):
        while True:
            data, start = self.socket.recv(1 << 16), 0
            while start < len(data):
                length = int.from_bytes(data[start : start + 4], "little")
                if int.from_bytes(data[start + 4 : start + 6], "little") == self.NEWSETELEM:
                    return
                start += (length + 3) & ~3


def firewall(place):
    """Adding an address to a set: the server itself, and a command of the same server."""
    subprocess.run(
        ["nft", "table inet bench { set knock { type ipv4_addr; flags timeout; }\n }"], check=True
    )
    add = "nft add element inet bench knock { $ip timeout 1h }"
    with ExitStack() as stack:
        servers = run(
            stack,
            {
                "pyknock --nft": place.ours("-q", "--nft=inet/bench/knock", "--ttl=1h"),
                "command nft": place.ours("-q", add, ""),
                "command nft, no shell": place.ours("-q", "--no-shell", add, ""),
            },
        )

        def cost(_, server):
            before = server.commands_cpu()
            own = server.cost(fresh(100))
            return (own + (server.commands_cpu() - before) / 100) / 1000

        def latency(_, server):
            announcements = Announcements()
            start = time.perf_counter()
            server.send(fresh(1))
            announcements.wait_for_element()
            return (time.perf_counter() - start) * 1000

        goals = {"command nft": 0.05}
        found = by_turns(7, servers, cost)
        yield from rows("CPU time of all for an element", "µs", found, goals)
        found = by_turns(60, servers, latency)
        yield from rows("from the knock to the element", "ms", found, goals)


def spawn(words, output=None):
    """Starts a process as fast as possible. It writes to the descriptor `output`, or nowhere."""
    words = [str(word) for word in words]
    actions = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    if output is not None:
        actions = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    return os.posix_spawnp(words[0], words, os.environ, file_actions=actions)


def first_knock(server, datagrams, descriptor=None):
    """Milliseconds from the start of a server to the line for its first knock, in `descriptor` or its log."""
    words, port = server
    reader, writer = os.pipe()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        start = time.perf_counter()
        pid = spawn(words, writer)
        os.close(writer)
        try:
            while True:
                # Datagrams are lost until the port is bound.
                sender.sendto(next(datagrams), ("127.0.0.1", port))
                now = time.perf_counter()
                assert now < start + TIMEOUT, f"no knock of {words}"
                if wait_for_line(reader if descriptor is None else descriptor, now + 0.0001):
                    return (time.perf_counter() - start) * 1000
        finally:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            os.close(reader)
            while descriptor is not None and select.select([descriptor], [], [], 0.05)[0]:
                os.read(descriptor, 65536)  # The lines of further knocks.


def start(place):
    """From the start to the first knock: the server's own line, or that of its command."""
    knocks = (fresh(1)[0] for _ in repeat(None))
    kinds = {"pyknock": lambda: place.ours("", ""), "C, static": lambda: place.c(static=True)}
    found = by_turns(100, kinds, lambda _, make: first_knock(make(), knocks))
    yield from rows("from the start to the first knock", "ms", found, {"C, static": 1.2})
    kinds = {
        "pyknock": lambda: place.ours("-q", place.script, ""),
        "Python": lambda: place.python(place.script),
        "fwknopd": lambda: place.fwknopd(place.script),
    }

    def measure(name, make):
        datagrams = repeat(*place.fwknop_datagrams(1)) if name == "fwknopd" else knocks
        return first_knock(make(), datagrams, place.fifo)

    found = by_turns(15, kinds, measure)
    yield from rows("from the start to the first command", "ms", found, {"Python": 0.1})


def client(place):
    """The whole run of a client for one knock, with the start of the process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]

        def measure(_, words):
            start = time.perf_counter()
            _, status = os.waitpid(spawn(words), 0)
            assert status == 0, words
            return (time.perf_counter() - start) * 1000

        ours, goals = place.our_client(port), {"C, static": 1.2, "Python": 0.02}
        pair = {"pyknock": ours, "C, static": place.c_client(port)}
        yield from rows("a client's whole run", "ms", by_turns(200, pair, measure), goals)
        slow = {"pyknock": ours, "Python": place.python_client(port), "fwknop": place.fwknop(port)}
        yield from rows("a client's whole run", "ms", by_turns(15, slow, measure), goals)


def memory(place):
    """The memory of all processes of a server, before and after a million datagrams."""
    with ExitStack() as stack:
        servers = run(
            stack,
            {
                "pyknock": place.ours("-q", "", ""),
                "C": place.c(),
                "C, static": place.c(static=True),
                "Python": place.python(),
                "fwknopd": place.fwknopd(),
            },
        )
        found = {name: [server.memory()] for name, server in servers.items()}
        yield from rows("memory when idle", "KiB", found, {})
        yield Row("memory when idle", "KiB", found["pyknock"], "300 KiB", [300], 1)
        ours = servers["pyknock"]
        bad = packet(key="another key").hex()

        def flood(count):
            words = [place.floor, "send", str(ours.port), bad, str(count)]
            subprocess.run(words, check=True, timeout=60)
            until(ours.is_idle, "all are taken")
            return [ours.memory()]

        first, last = flood(10_000), flood(1_000_000)
        yield Row("memory after 10^6 bad MACs", "KiB", last, "after 10^4", first, 1)
        ours.cost(fresh(1000))
        yield Row("memory after 1000 knocks", "KiB", [ours.memory()], "when idle", found["pyknock"])


def growth(place):
    """The cost of a knock for a server that remembers 10^5, and for one that has just started."""
    with tempfile.TemporaryDirectory() as folder:

        def remembering():
            return place.ours("-q", "--replay-capacity=200000", "", "")

        def opening():
            state = tempfile.mkdtemp(dir=folder)
            return place.ours(
                *["-q", "--replay-capacity=200000", "--grant-capacity=200000", "--close-after=1d"],
                *[f"--state={state}", "", "true"],
            )

        for name, make in {"remembered MACs": remembering, "open addresses": opening}.items():
            with ExitStack() as stack:
                servers = run(stack, {"pyknock": make(), "one that has just begun": make()})
                for _ in range(200):
                    servers["pyknock"].cost(fresh(500))
                found = by_turns(20, servers, lambda _, server: server.cost(fresh(500)) / 1000)
            goals = {"one that has just begun": 1.2}
            yield from rows(f"CPU time of a knock, with 10^5 {name}", "µs", found, goals)


def transfer(place):
    """A big transfer through the client and through nc: the time for a MiB."""
    size = 1 << 30

    def drain(service):
        while True:
            connection, _ = service.accept()
            with connection:
                while connection.recv(1 << 18):
                    pass

    def measure(_, words):
        source = subprocess.Popen(["head", f"-c{size}", "/dev/zero"], stdout=subprocess.PIPE)
        start = time.perf_counter()
        with source.stdout as pipe:
            subprocess.run(words, stdin=pipe, stdout=subprocess.DEVNULL, check=True, timeout=60)
        took = time.perf_counter() - start
        assert source.wait(TIMEOUT) == 0
        return took * 1e6 / (size >> 20)

    with socket.create_server(("127.0.0.1", 0)) as service:
        threading.Thread(target=drain, args=[service], daemon=True).start()
        port = str(service.getsockname()[1])
        ours = [place.program, "client", "-k", place.key, "-p9", "connect", "127.0.0.1", port]
        pair = {"pyknock": ours, "nc": ["nc", "-N", "127.0.0.1", port]}
        yield from rows("a MiB through connect", "µs", by_turns(5, pair, measure), {"nc": 1.1})


def installed(*packages):
    """KiB of Debian packages with their dependencies, without the essential packages."""

    def output(*words):
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout

    def needed(*names):
        options = ["-o", "Dir::State::status=/dev/null", "--no-install-recommends"]
        lines = output("apt-get", "--simulate", *options, "install", *names).splitlines()
        return {line.split()[1] for line in lines if line.startswith("Inst ")}

    every = output("dpkg-query", "--show", "--showformat", "${Package} ${Essential}\n")
    essential = [line.split()[0] for line in every.splitlines() if line.endswith(" yes")]
    shown = output("apt-cache", "show", "--no-all-versions", *needed(*packages) - needed(*essential))
    return sum(int(line.split()[1]) for line in shown.splitlines() if line.startswith("Installed-Size"))


def size(place):
    """The size on the disk."""
    files = [*ORIGINAL.glob("pyknock-*"), *ORIGINAL.parent.glob("lib/*/site-packages/pyknock/*.py")]
    original = sum(path.stat().st_size for path in files) // 1024
    peers = {
        "C, static": place.static_floor.stat().st_size // 1024,
        "Python and the original": installed("python3") + original,
        "fwknop-server and -client": installed("fwknop-server", "fwknop-client"),
    }
    for name, peer in peers.items():
        ours = place.program.stat().st_size // 1024
        yield Row("what is to be installed", "KiB", [ours], name, [peer])


ALL = [size, flood, version2, under_flood, command, firewall, start, client, memory, growth, transfer]
