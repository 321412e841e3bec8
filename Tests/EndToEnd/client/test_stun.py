"""-S auto: the client asks STUN servers for its public address."""

import contextlib
import ipaddress
import os
import socket
import struct
import threading
import time

import pytest
from support.datagrams import KEY
from support.networks import HOST, listener
from support.processes import Process
from support.programs import PYKNOCK, TIMEOUT, program, run
from support.servers import client

COOKIE = 0x2112A442
ADDRESS = "198.51.100.7"
ADDRESS6 = "2001:db8:7::1"


def attribute(kind, value):
    return struct.pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4)


def mapped(request, address, family=None):
    """The attribute XOR-MAPPED-ADDRESS: RFC 8489, section 14.2."""
    plain = ipaddress.ip_address(address).packed
    hidden = bytes(a ^ b for a, b in zip(plain, request[4 : 4 + len(plain)], strict=True))
    return attribute(0x20, struct.pack(">xBH", family or (1 if len(plain) == 4 else 2), 7) + hidden)


def answer(request, *attributes, kind=0x0101):
    body = b"".join(attributes)
    return struct.pack(">HH", kind, len(body)) + request[4:20] + body


def good(request, address=ADDRESS):
    return answer(request, attribute(0x8022, b"a server"), mapped(request, address))


def flipped(data, index):
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


# Bad answers of a STUN server, and how the client describes them.
LIES = {
    "nothing": (lambda r: b"", "an answer that is not whole"),
    "transaction": (lambda r: flipped(good(r), 19), "an answer to another question"),
    "cookie": (lambda r: flipped(good(r), 4), "an answer to another question"),
    "length": (lambda r: flipped(good(r), 3), "an answer that is not whole"),
    "attribute's length": (lambda r: flipped(good(r), 34), "an answer that is not whole"),
    "cut": (lambda r: good(r)[:-1], "an answer that is not whole"),
    "too long": (lambda r: answer(r, attribute(0x8022, bytes(2000))), "an answer that is not whole"),
    "request": (lambda r: r, "an answer that is not whole"),
    "family": (lambda r: good(r, ADDRESS6), "an address of another family"),
    "family number": (
        lambda r: answer(r, mapped(r, ADDRESS, family=2)), "an address of another family"
    ),
    "error": (lambda r: answer(r, kind=0x0111), "an error"),
    "no address": (
        lambda r: answer(r, attribute(1, bytes([0, 1, 0, 7, 198, 51, 100, 7]))),
        "an answer without an address",
    ),
    "attribute": (
        lambda r: answer(r, mapped(r, ADDRESS), attribute(0x7FFF, b"")),
        "an answer with an attribute that must be understood and is not",
    ),
    "no host": (lambda r: good(r, "0.0.0.0"), "an address that no host can have"),
}  # fmt: skip


@pytest.fixture
def stun():
    """Makes STUN servers. `answers` takes a request and its number, and returns the datagrams to send."""

    class Stun:
        def __init__(self, answers, address, **options):
            self.requests = []
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            self.socket = listener(family=family, address=address, **options)
            host, self.port = self.socket.getsockname()[:2]
            self.name = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
            self.option = f"--stun={self.name}"
            threading.Thread(target=self.serve, args=[answers], daemon=True).start()

        def serve(self, answers):
            with contextlib.suppress(OSError):
                while True:
                    request, source = self.socket.recvfrom(2000)
                    self.requests.append(request)
                    for datagram in answers(request, len(self.requests)):
                        self.socket.sendto(datagram, source)

    with contextlib.ExitStack() as stack:

        def make(answers, address="127.0.0.1", **options):
            server = Stun(answers, address, **options)
            stack.enter_context(contextlib.closing(server.socket))
            return server

        yield make


def auto(*options, **more):
    """Runs the client with -S auto. It prints what it would send."""
    return client("open", "127.0.0.1", "-n", "-S", "auto", *options, **more)


OPENED = f"open {ADDRESS} to 127.0.0.1:60120\n"


def test_the_address_that_the_server_tells_is_signed(stun):
    server = stun(lambda request, count: [good(request)])
    result = auto(server.option)
    assert (result.code, result.stdout, result.stderr) == (0, OPENED, "")
    [request] = server.requests
    assert len(request) == 20 and request[:8] == struct.pack(">HHI", 1, 0, COOKIE)
    auto(server.option)
    assert request[8:] != server.requests[1][8:]


def test_each_family_has_its_own(stun):
    """The client asks a server of each family."""
    inet = stun(lambda request, count: [good(request)])
    inet6 = stun(lambda request, count: [good(request, ADDRESS6)], "::1")
    words = [inet.option, inet6.option, "-S", "auto", "-n"]
    result = client("open", "::1,127.0.0.1", *words)
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout == f"open {ADDRESS6} to [::1]:60120\n{OPENED}"


def test_an_ipv4_mapped_host_needs_the_ipv4_address(stun):
    server = stun(lambda request, count: [good(request)])
    result = client("open", "::ffff:127.0.0.1", server.option, "-S", "auto", "-n")
    assert (result.code, result.stdout, result.stderr) == (0, OPENED, "")


def test_through_nat64_the_server_tells_the_ipv4_address(stun):
    server = stun(lambda request, count: [good(request)], "::1")
    result = client("open", "::1", server.option, "-S", "auto", "-n")
    assert (result.code, result.stdout, result.stderr) == (0, f"open {ADDRESS} to [::1]:60120\n", "")


def test_a_host_behind_nat64_never_sees_the_ipv6_address(stun, network):
    """A STUN server with IPv6 of its own sees another address than the host."""
    inet6 = stun(lambda request, count: [good(request, ADDRESS6)], "::1", network=network)
    translated = stun(lambda request, count: [good(request)] if count == 2 else [], "fd00::1", network=network)
    words = [inet6.option, translated.option, "-S", "auto", "-n"]
    result = client("open", "64:ff9b::c633:6401", *words, network=network)
    assert (result.code, result.stdout) == (0, f"open {ADDRESS} to [64:ff9b::c633:6401]:60120\n")
    assert result.stderr == ""


def test_there_is_one_search_for_all_hosts(stun):
    server = stun(lambda request, count: [good(request)])
    result = client("open", "127.0.0.1,127.0.0.2,127.0.0.3", server.option, "-S", "auto", "-n")
    assert (result.code, len(result.stdout.splitlines())) == (0, 3)
    assert len(server.requests) == 1


def test_a_host_is_knocked_on_while_a_public_address_is_looked_for(stun, tmp_path, key_file):
    knocked = threading.Event()

    def answers(request, count):
        knocked.wait(TIMEOUT)
        return [good(request)]

    server = stun(answers)
    (tmp_path / "pyknock").mkdir()
    (tmp_path / "pyknock" / "client.conf").write_text(
        f"Host first\nSign auto\nStun {server.name}\nHost *\nHostName 127.0.0.1\nKeyFile {key_file}\n"
    )
    with listener() as receiver:
        environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
        words = ["open", "first,second", f"-p{receiver.getsockname()[1]}"]
        process = Process([*program("client"), *words], env=environment)
        # The knock for the second host comes first.
        assert receiver.recv(100)[45:] == socket.inet_aton("127.0.0.1")
        knocked.set()
        assert receiver.recv(100)[45:] == socket.inet_aton(ADDRESS)
        assert process.exit_code() == 0


@pytest.mark.slow
def test_it_asks_again_and_takes_the_answer(stun):
    server = stun(lambda request, count: [good(request)] if count == 3 else [])
    start = time.monotonic()
    assert auto(server.option).stdout == OPENED
    assert time.monotonic() - start > 1.4
    # All requests are the same, so that a late answer to the first one counts too.
    assert len(set(server.requests)) == 1


def test_a_server_that_is_dead_keeps_nobody_waiting(stun):
    silent = stun(lambda request, count: [])
    server = stun(lambda request, count: [good(request)])
    words = [f"--stun=127.0.0.1:{HOST.free_port()}", "--stun=missing.invalid", silent.option]
    result = auto(*words, server.option)
    assert (result.code, result.stdout, result.stderr) == (0, OPENED, "")


def test_a_server_with_many_addresses_takes_no_place_of_another(stun, namespace):
    namespace.hosts.write_text("".join(f"127.0.1.{number} many.test\n" for number in range(9)))
    stun(lambda request, count: [good(request)], network=namespace, port=3478)
    result = auto("--stun=many.test", "--stun=127.0.0.1", network=namespace)
    assert (result.code, result.stdout, result.stderr) == (0, OPENED, "")


def test_lies_before_the_truth_do_not_matter(stun):
    server = stun(lambda request, count: [lie(request) for lie, _ in LIES.values()] + [good(request)])
    result = auto(server.option)
    assert (result.code, result.stdout, result.stderr) == (0, OPENED, "")


@pytest.mark.slow
def test_a_server_that_lies_is_refused(stun, key_file):
    """The clients run at the same time, each with as many servers as it takes, because each needs five seconds."""
    lies = list(LIES.values())
    servers = [stun(lambda request, count, lie=lie: [lie(request)]) for lie, _ in lies]
    start = time.monotonic()
    clients = []
    for first in range(0, len(lies), 4):
        options = [server.option for server in servers[first : first + 4]]
        words = ["client", "open", "127.0.0.1", "-n", "-S", "auto", *options, "-k", key_file]
        clients.append(Process([*PYKNOCK, *words]))
    lines = []
    for asking in clients:
        assert asking.exit_code() == 5
        *found, last = asking.log.wait_for_end()
        assert last == "pyknock client: no STUN server told our public IPv4 address"
        lines += found
    assert 4.9 < time.monotonic() - start < 5 + TIMEOUT / 4
    assert lines == [
        f"pyknock client: STUN server '127.0.0.1' at {server.name}: {reason}"
        for server, (_, reason) in zip(servers, lies, strict=True)
    ]
    # The client asks at the start, and after 0.5, 1.5 and 3.5 seconds.
    assert [len(server.requests) for server in servers] == [4] * len(servers)


@pytest.mark.slow
def test_without_an_answer_there_is_no_knock(stun):
    server = stun(lambda request, count: [])
    with listener() as receiver:
        port = receiver.getsockname()[1]
        result = client("open", "127.0.0.1", f"-p{port}", "-S", "auto", server.option)
        receiver.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)
    assert (result.code, result.lines) == (
        5,
        [
            f"pyknock client: STUN server '127.0.0.1' at {server.name}: no answer",
            "pyknock client: no STUN server told our public IPv4 address",
        ],
    )


@pytest.mark.slow
def test_silence_costs_its_time_once(stun):
    """Not for each host, nor for each family."""
    inet, inet6 = stun(lambda request, count: []), stun(lambda request, count: [], "::1")
    start = time.monotonic()
    result = client("open", "127.0.0.1,::1,127.0.0.2", "-n", "-S", "auto", inet.option, inet6.option)
    assert 4.9 < time.monotonic() - start < 5 + TIMEOUT / 4
    assert result.code == 5 and len(result.lines) == 6
    assert len(inet.requests) == len(inet6.requests) == 4


def test_where_nobody_listens_it_does_not_wait():
    name = f"127.0.0.1:{HOST.free_port()}"
    start = time.monotonic()
    result = auto(f"--stun={name}")
    assert time.monotonic() - start < TIMEOUT / 4
    assert (result.code, result.lines[0]) == (
        5, f"pyknock client: STUN server '127.0.0.1' at {name}: Connection refused"
    )  # fmt: skip


# The first has no IPv4 address, and the kernel sends nothing to the second.
@pytest.mark.parametrize("servers", [["[::1]"], ["255.255.255.255"], ["[::1]", "255.255.255.255"]], ids=len)
def test_where_nobody_can_be_asked_it_does_not_wait(servers):
    result = auto(*[f"--stun={server}" for server in servers])
    assert (result.code, len(result.lines)) == (5, len(servers) + 1)
    assert result.lines[-1] == "pyknock client: no STUN server told our public IPv4 address"


def test_only_the_server_itself_is_heard(stun):
    """An answer from another port does not count."""
    with socket.socket(type=socket.SOCK_DGRAM) as other:

        def answers(request, count):
            # The client's socket is connected, so that this must not reach it. /proc tells its port.
            for line in open("/proc/net/udp").read().splitlines()[1:]:
                local, remote = line.split()[1:3]
                if remote.endswith(f":{server.port:04X}"):
                    other.sendto(good(request, "192.0.2.66"), ("127.0.0.1", int(local[-4:], 16)))
            return [good(request)]

        server = stun(answers)
        assert auto(server.option).stdout == OPENED


def test_it_asks_from_the_source_address():
    with listener(address="127.0.0.1") as receiver:
        words = [*program("client"), "open", "127.0.0.1", "-n", "-S", "auto", "-s", "127.0.0.5"]
        process = Process([*words, f"--stun=127.0.0.1:{receiver.getsockname()[1]}", KEY])
        request, source = receiver.recvfrom(100)
        receiver.sendto(good(request), source)
        assert process.exit_code() == 0
    assert source[0] == "127.0.0.5"


def test_servers_from_the_configuration(stun, tmp_path, key_file):
    server = stun(lambda request, count: [good(request)])
    folder = tmp_path / "pyknock"
    folder.mkdir()
    (folder / "client.conf").write_text(
        f"Host box\nHostName 127.0.0.1\nKeyFile {key_file}\nSign auto\n"
        f"Stun {server.name}\nHost *\nStun 127.0.0.1:1\n"
    )
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    words = [*program("client"), "open", "box", "-n"]
    assert run(words, env=environment).stdout == OPENED
    # --stun replaces the servers of the file. Without -k, its value may be the key, and is not shown.
    result = run([*words, "--stun=127.0.0.1:2"], env=environment)
    assert result.code == 5
    assert [line for line in result.lines if "STUN server " in line][:-1] == [
        "pyknock client: STUN server at 127.0.0.1:2: Connection refused"
    ]
    assert run([*words, "-S", "192.0.2.9"], env=environment).stdout == (
        "open 192.0.2.9 to 127.0.0.1:60120\n"
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["-S", "auto"], "-S/--sign-address: auto needs --stun, or Stun in client.conf"),
        (["--stun=a"], "--stun needs -S auto"),
        (["--stun=a", "-S", "192.0.2.1"], "--stun needs -S auto"),
        (["--stun=a:0"], "--stun: 'a:0' is not HOST, HOST:PORT or [ADDRESS]:PORT"),
        *(
            ([f"--stun={server}"], f"--stun: '{server}' is not HOST, HOST:PORT or [ADDRESS]:PORT")
            for server in ["", "stuns:a:1", "turn:a:1", "stun:a:0", "stun://a", "me@a", "a:b:1", "010.0.0.1"]
        ),
        (["--stun=a"] * 5, "--stun can be given up to 4 times"),
    ],
)
def test_what_does_not_fit_is_misuse(options, problem):
    result = client("open", "127.0.0.1", *options)
    assert (result.code, result.lines[0]) == (2, f"pyknock client: {problem}")
