"""Name servers that give bad answers, late answers, or none."""

import signal
import socket
import struct
import threading
from contextlib import ExitStack

import pytest
from support.datagrams import CLOSE, OPEN
from support.networks import listener
from support.processes import Process
from support.programs import TIMEOUT, program
from support.servers import client

# RFC 1035, section 3.2.2, and RFC 3596.
A, AAAA = 1, 28
ADDRESSES = {A: socket.inet_aton("127.0.0.1"), AAAA: socket.inet_pton(socket.AF_INET6, "::1")}
# RFC 1035, section 4.1.1.
CODES = {"format error": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5}


class NameServer:
    """Answers for the names in `*.test`. `answer` takes a name and a type, and returns an address or a code.

    None is silence. If it returns a function, that may wait, and returns the answer.
    """

    def __init__(self, network, answer):
        self.questions = []
        self.answer = answer
        self.socket = listener(network, port=53)
        self.socket.settimeout(None)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            question, source = self.socket.recvfrom(2000)
            if not question:
                return
            labels, place = [], 12
            while size := question[place]:
                labels.append(question[place + 1 : place + 1 + size].decode())
                place += 1 + size
            kind = struct.unpack_from(">H", question, place + 1)[0]
            self.questions.append((".".join(labels), kind))
            found = self.answer(".".join(labels), kind)
            words = [question, question[12 : place + 5], source]
            threading.Thread(target=self._send, args=[found, *words], daemon=True).start()

    def _send(self, found, question, asked, source):
        found = found() if callable(found) else found
        if found is None:
            return
        code, address = (found, None) if isinstance(found, int) else (0, found)
        answer = question[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, int(bool(address)), 0, 0) + asked
        if address:
            kind = A if len(address) == 4 else AAAA
            answer += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(address)) + address
        self.socket.sendto(answer, source)

    def close(self):
        self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()


@pytest.fixture
def name_server(network):
    with ExitStack() as stack:

        def make(answer):
            server = NameServer(network, answer)
            stack.callback(server.close)
            return server

        yield make


@pytest.fixture
def receivers(network):
    """Sockets that receive knocks: on 127.0.0.1 and ::1."""
    with (
        listener(network, address="127.0.0.1", port=60119) as inet,
        listener(network, socket.AF_INET6, "::1", port=60119) as inet6,
    ):
        yield {A: inet, AAAA: inet6}


def opening(network, hosts, *words):
    words = [*network.prefix, *program("client"), "open", hosts, "-p60119", "-k", "-", *words]
    return Process(words, stdin=b"a key that is long enough for the tests")


@pytest.mark.parametrize("good", [A, AAAA])
@pytest.mark.parametrize("how", [*CODES, "silence", "no address"])
def test_a_bad_answer_for_one_family_does_not_matter_to_the_other(network, name_server, receivers, good, how):
    bad = {"silence": None, "no address": b""}.get(how, CODES.get(how))
    name_server(lambda name, kind: ADDRESSES[kind] if kind == good else bad)
    result = client("open", "name.test", "-p60119", network=network)
    assert (result.code, result.stderr) == (0, "")
    assert len(receivers[good].recv(100)) == (49 if good == A else 61)


@pytest.mark.parametrize("how", [*CODES, "silence", "no address"])
def test_without_an_answer_the_name_is_not_resolved(network, name_server, how):
    bad = {"silence": None, "no address": b""}.get(how, CODES.get(how))
    name_server(lambda name, kind: bad)
    result = client("open", "name.test", network=network)
    assert result.code == 3
    [line] = result.lines
    assert line.startswith("pyknock client: cannot resolve 'name.test': ")


def test_a_host_is_knocked_on_while_others_are_looked_up(network, name_server, receivers):
    knocked = threading.Event()

    def slow():
        knocked.wait(TIMEOUT)
        return ADDRESSES[A]

    name_server(lambda name, kind: 3 if kind == AAAA else ADDRESSES[A] if name == "fast.test" else slow)
    # The knock for the fast name, and for the number, comes before there is an answer for the slow one.
    process = opening(network, "slow.test,fast.test,::1")
    receivers[A].recv(100)
    receivers[AAAA].recv(100)
    knocked.set()
    assert process.exit_code() == 0
    receivers[A].recv(100)
    process.close()


def test_an_address_is_knocked_on_while_the_other_family_is_looked_up(network, name_server, receivers):
    knocked = threading.Event()

    def slow():
        knocked.wait(TIMEOUT)
        return ADDRESSES[AAAA]

    name_server(lambda name, kind: slow if kind == AAAA else ADDRESSES[A])
    process = opening(network, "name.test")
    receivers[A].recv(100)
    knocked.set()
    receivers[AAAA].recv(100)
    assert process.exit_code() == 0
    process.close()


def test_all_names_are_looked_up_at_the_same_time(network, name_server, receivers):
    names = [f"name{number}.test" for number in range(16)]
    asked = set()
    all_are_asked = threading.Event()

    def answer(name, kind):
        asked.add(name)
        if len(asked) == len(names):
            all_are_asked.set()

        def late():
            all_are_asked.wait(TIMEOUT)
            return ADDRESSES[A] if kind == A else 3

        return late

    name_server(answer)
    process = opening(network, ",".join(names))
    assert process.exit_code() == 0
    for _ in names:
        receivers[A].recv(100)
    process.close()


def test_a_signal_while_another_host_is_looked_up_closes_the_first(network, name_server, receivers):
    name_server(lambda name, kind: None)
    process = opening(network, "127.0.0.1,silent.test", "--close", "--", "true")
    assert receivers[A].recv(100)[32] == OPEN
    process.signal(signal.SIGTERM)
    assert process.exit_code() == -signal.SIGTERM
    assert receivers[A].recv(100)[32] == CLOSE
    process.close()


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--close"]], ids=" ".join)
def test_the_command_has_no_look_ups_as_children(network, name_server, receivers, options, not_emulated):
    """A family without an answer gets 3 seconds once the other was knocked on. Then the command runs without it."""
    network.hosts.with_name("resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:15 attempts:1\n")
    name_server(lambda name, kind: ADDRESSES[A] if kind == A else None)
    command = ["sh", "-c", "cat /proc/$$/task/$$/children; echo end"]
    process = opening(network, "name.test", *options, "--", *command)
    lines = process.output.wait_for_end()
    assert process.exit_code() == 0
    # The only child is cat(1).
    assert len(lines) == 1 and len(lines[0].split()) == 2 and lines[0].endswith("end")
    network.hosts.with_name("resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    process.close()
