"""This server and the original as processes that knocks can be sent to, and the client that knocks."""

import os
import re
import signal
import socket
from functools import cached_property
from pathlib import Path

from support.datagrams import KEY, OPEN, packet
from support.networks import HOST, SERVER
from support.processes import Process, children_of, name_of, stat_of
from support.programs import EMULATED, ORIGINAL, program, run
from support.requests import request
from support.waiting import until


class KnockServer(Process):
    """A server that knocks can be sent to: this program or the original."""

    def __init__(self, words, port, *, key=KEY, network=HOST, prefix=(), **options):
        self.port, self.key, self.network = port, key, network
        super().__init__([*network.prefix, *prefix, *words], **options)

    def wait_until_ready(self):
        """Waits until the port is bound and the server sleeps, waiting for a datagram."""

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
        if self.key.startswith("pk2."):
            datagram = request(self.key, address, command, age, **fields)
        else:
            datagram = packet(address, command, age, **{"key": self.key, **fields})
        self.send(datagram)
        return datagram


class Server(KnockServer):
    """A server of this program. It reads the key from its standard input, unless `words` has the operands.

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
        if EMULATED:  # An emulator has neither seccomp nor Landlock.
            options = ["--no-sandbox", *options]
        words = [*(applet or program("server")), *options, *words]
        super().__init__(words, port, key=key, network=network, **more)
        if wait:
            self.log.wait_for("listening on ")

    @cached_property
    def receiver(self):
        """The process that reads datagrams.

        A list of children may lack one while another ends: proc_tid_children(5).
        """

        def receivers():
            return [child for child in children_of(self.pid) if name_of(child) == "pyknock: receiv"]

        [receiver] = until(receivers, "the receiver")
        return receiver

    def reload(self):
        """Has the server read its users again. Returns the lines of the log that came by the end of that."""
        before = len(self.log.matching(""))
        line = "^pyknock server: (reloaded|not (all )?reloaded)"
        seen = len(self.log.matching(line))
        self.signal(signal.SIGHUP)
        self.log.wait_for(line, seen + 1)
        return [match.string.removeprefix("pyknock server: ") for match in self.log.matching("")][before:]

    def counters(self):
        """Makes the server log its counters, and returns them."""
        count = len(self.log.matching("counters:"))
        self.signal(signal.SIGUSR1)
        line = self.log.wait_for("counters:.*", count + 1)[0]
        return {name: int(value) for name, value in re.findall(r"(\S+)=(\d+)", line)}

    def wait_for_counters(self, **expected):
        """Waits until these counters have these values. A `_` stands for a `-` in the name."""
        expected = {name.replace("_", "-"): value for name, value in expected.items()}
        if EMULATED:  # An emulator does not pass on how many datagrams the kernel dropped.
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
        """Stops the server with SIGTERM. Returns its exit code."""
        self.signal(signal.SIGTERM)
        return self.exit_code()


class OriginalServer(KnockServer):
    """The server of the Python original."""

    def __init__(self, *options, key=KEY, command="echo $cmd $ip $af"):
        port = HOST.free_port()
        words = [ORIGINAL / "pyknock-server", f"-p{port}", *options, key, command, command]
        super().__init__(words, port, key=key, env={**os.environ, "LC_ALL": "C.UTF-8"})
        self.wait_until_ready()

# What the client advises when a port stays closed.
CHECK = (
    "; check the clocks, the key, the server's port (-p), and behind NAT the public address (-S)"
)


def client(*arguments, network=HOST, key=KEY, **options):
    """Runs the client, which reads the key from its standard input unless `key` is None."""
    words = [*network.prefix, *program("client"), *arguments]
    if key is not None:
        words += ["-k", "-"]
        options["stdin"] = key.encode() + b"\n"
    return run(words, **options)


def knock_through_cable(outside, port, command, family):
    """Knocks from another network on the server's address there."""
    result = client(command, SERVER[family], f"-p{port}", network=outside)
    assert result.code == 0, result
