"""What is measured. Each function runs its contestants by turns and returns the rows of the table."""

import ipaddress
import os
import select
import socket
import statistics
import subprocess
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass

import knocking
from contestants import KEY, Fwknop

# How many datagrams a server has waiting; the others have the kernel's default buffer.
QUEUE = {"pyknock": 1000, "C": 1000, "C, static": 1000}
SMALL_QUEUE = 200


@dataclass
class Row:
    """Ours beside a peer's, measured by turns, so that each pair had the same machine."""

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
    """A row for each peer, from what was found by name; ours is the first."""
    ours, *peers = found
    return [Row(measure, unit, found[ours], name, found[name], goals.get(name)) for name in peers]


def by_turns(rounds, contestants, measure):
    """The values of each contestant, after one round that does not count."""
    found = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, contestant in contestants.items():
            value = measure(name, contestant)
            if number > 0:
                found[name].append(value)
    return found


addresses = ipaddress.ip_network("10.0.0.0/8").hosts()


def fresh(count, **fields):
    """Valid datagrams, each for an address that was never asked for before."""
    return [knocking.packet(next(addresses).packed, **fields) for _ in range(count)]


def flood(place):
    """Datagrams that are refused, each waiting in the queue when the server gets to run."""
    with ExitStack() as stack:
        servers = {
            "pyknock": place.run(*place.ours("", "")),
            "C": place.run(*place.floors()),
            "C, static": place.run(*place.floors(static=True)),
            "Python": place.run(*place.original("")),
            "C that only receives": place.run(*place.floors(mode="receive")),
        }
        bad = {name: knocking.packet(key="another key") for name in servers}
        if place.fwknop:
            servers["fwknopd"] = place.run(*place.fwknop.words("/bin/true"))
            (good,) = place.fwknop.datagrams(1)
            bad["fwknopd"] = good[:-1] + (b"A" if good[-1:] != b"A" else b"B")
        for server in servers.values():
            stack.enter_context(closing(server))
        names = [name for name in servers if "receives" not in name]
        yield from rows(
            "CPU time a datagram with a bad MAC",
            "µs",
            by_turns(
                60,
                {name: servers[name] for name in names},
                lambda name, server: server.cost([bad[name]] * QUEUE.get(name, SMALL_QUEUE)) / 1000,
            ),
            {"C": 1.1, "Python": 0.25},
        )
        names = ["pyknock", "C that only receives"]
        yield from rows(
            "CPU time a datagram of a wrong size",
            "µs",
            by_turns(
                60,
                {name: servers[name] for name in names},
                lambda _, server: server.cost([bytes(48)] * 1000) / 1000,
            ),
            {"C that only receives": 0.3},
        )


def command(place):
    """A valid knock whose command is a shell that writes a word."""
    text, count = "echo done", 50
    with ExitStack() as stack:
        servers = {
            "pyknock": place.run(*place.ours("-q", "--jobs=1", text, "")),
            "C": place.run(*place.floors("/bin/sh", "-c", text)),
            "Python": place.run(*place.original(text)),
            "pyknock --no-shell": place.run(*place.ours("-q", "--no-shell", "/bin/echo done", "")),
        }
        if place.fwknop:
            servers["fwknopd"] = place.run(*place.fwknop.words("/bin/sh -c 'echo done'"))
        for server in servers.values():
            stack.enter_context(closing(server))

        def datagrams(name, number):
            return place.fwknop.datagrams(number) if name == "fwknopd" else fresh(number)

        yield from rows(
            "CPU time of the server a knock that runs a command",
            "µs",
            by_turns(
                20, servers, lambda name, server: server.cost(datagrams(name, count)) / 1000
            ),
            {"C": 1.1, "Python": 0.5},
        )

        def latency(name, server):
            (datagram,) = datagrams(name, 1)
            seen = len(server.process.output.matching("done"))
            start = time.perf_counter()
            server.send([datagram])
            server.process.output.wait_for("done", seen + 1)
            return (time.perf_counter() - start) * 1e6

        yield from rows("latency of a knock that runs a command", "µs", by_turns(60, servers, latency), {})
