"""Keeps a server busy for a time, and checks that nothing is lost and nothing grows.

It sends valid, replayed, stale and hostile datagrams as fast as the server takes them. Each valid knock runs a
command and is closed again a second later. As root: python3 soak.py SECONDS
"""

import random
import re
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from support.datagrams import packet, signed
from support.networks import Namespace
from support.processes import children_of
from support.servers import Server
from support.waiting import until, until_all_are_taken

BURST = 500
VALID = 3  # Valid knocks in each burst.
DRIFT = 30


def hostile(number):
    """One datagram of each kind that the server refuses."""
    noise = random.randbytes(29)
    return [
        noise,  # The kernel drops it because of its length.
        random.randbytes(61),  # The kernel drops most of these because of their command.
        random.randbytes(32) + b"\1" + noise[:16],
        random.randbytes(32) + b"\2" + noise[:28],
        packet(f"192.0.2.{number % 256}", key="another key"),
        signed(b"\1" + noise[:16]),
        signed(b"\2" + noise[:28]),
        packet(family=1000 + number),
        packet(time_stamp=float("nan")),
        packet("224.0.0.1"),
        packet("2001:db8::1", family=2),
        packet(age=DRIFT + 1 + number % 1000),
        packet(age=-1e6),
    ]


class Soak:
    def __init__(self, server):
        self.server, self.receiver = server, server.receiver
        self.valid = 0
        self.sent = 0
        self.old = []
        self.junk = [datagram for number in range(200) for datagram in hostile(number)]

    def burst(self):
        datagrams = random.choices(self.junk, k=BURST - 2 * VALID)
        datagrams += random.choices(self.old, k=VALID) if self.old else []
        for _ in range(VALID):
            self.valid += 1
            address = f"10.{self.valid >> 16 & 255}.{self.valid >> 8 & 255}.{self.valid & 255}"
            datagrams.append(packet(address))
            self.old.append(datagrams[-1])
        random.shuffle(datagrams)
        self.server.send(*datagrams)
        self.sent += len(datagrams)
        del self.old[:-5000]
        until_all_are_taken(self.server.pid, self.server.port)

    def sizes(self):
        """The private memory (KiB) and the number of descriptors of each process."""
        found = []
        for process in (self.server.pid, self.receiver):
            folder = Path(f"/proc/{process}")
            rollup = (folder / "smaps_rollup").read_text()
            found.append(int(re.search(r"^Anonymous: +(\d+)", rollup, re.MULTILINE)[1]))
            found.append(len(list((folder / "fd").iterdir())))
        return found

    def check(self):
        """Checks that the server has accepted each valid knock and no other."""

        def is_even():
            counters = self.server.counters()
            return counters["queued"] < 100 and counters["accepted"] >= self.valid and counters

        counters = until(is_even, lambda: f"{self.valid} of {self.server.counters()}")
        assert counters["accepted"] == self.valid, counters
        for name in ("queue-full", "replay-memory-full", "older-than-memory", "not-opened"):
            assert counters[name] == 0, counters
        for name in ("failed", "timed-out", "not-started"):
            assert counters[name] == 0, counters
        return counters

    def finish(self):
        until(lambda: self.server.counters()["open"] == 0, "all is closed")
        counters = self.check()
        assert counters["succeeded"] == 2 * self.valid, counters
        known = sum(
            value
            for name, value in counters.items()
            if name not in ("succeeded", "open", "running", "queued")
        )
        assert known == self.sent, f"{self.sent} sent, {known} known: {counters}"
        return counters


def main():
    seconds = float(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        options = ["-q", f"-t{DRIFT}", f"--state={folder}/state", "--replay-capacity=50000"]
        options += ["--close-after=1", "--no-shell", "--jobs=2"]
        with (
            closing(Namespace(Path(folder))) as network,
            closing(Server(*options, on_open="true", network=network, wait=False)) as server,
        ):
            server.wait_until_ready()
            soak = Soak(server)
            start = time.monotonic()
            early = None
            bursts = 0
            while time.monotonic() < start + seconds:
                soak.burst()
                bursts += 1
                if bursts % 50 == 0:
                    soak.check()
                # Sizes must not grow from here on.
                if early is None and time.monotonic() > start + min(60, seconds / 4):
                    early = soak.sizes()
            counters = soak.finish()
            late = soak.sizes()
            children = children_of(server.pid)
            assert children == [soak.receiver], f"left behind: {children}"
            print(f"{soak.sent} datagrams in {time.monotonic() - start:.0f} s, {soak.valid} valid")
            print(" ".join(f"{name}={value}" for name, value in counters.items()))
            print(f"memory (KiB) and descriptors of both processes: {early}, at the end {late}")
            growth = late[0] - early[0] + late[2] - early[2]
            assert growth <= 64 and late[1::2] == early[1::2], "it has grown"
            assert server.stop() == 0


main()
