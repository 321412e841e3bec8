"""contrib/pyknock.py with keys of version 1, against the server of this program and the original's."""

import socket
import struct
import threading
import time

import pytest
from support.datagrams import CLOSE, KEY, OPEN, signed
from support.networks import listener
from support.programs import ROOT, program, run
from support.version2 import exclusive_or


@pytest.fixture
def knock(client, key_file):
    return lambda *arguments, **more: client.run(*arguments, "-k", str(key_file), **more)


def test_the_server_opens_and_closes(knock, server):
    ours = server()
    for word in "open", "close":
        result = knock(word, "127.0.0.1", f"-p{ours.port}")
        assert (result.code, result.stdout, result.stderr) == (0, "", "")
        ours.output.wait_for(f"{word} 127.0.0.1 inet$")
    assert knock("open", "::1", f"-p{ours.port}").code == 0
    ours.output.wait_for("open ::1 inet6$")
    assert knock("open", "127.0.0.1", "-S", "2001:db8::7", f"-p{ours.port}").code == 0
    ours.output.wait_for("open 2001:db8::7 inet6$")


def test_the_observed_source(knock, server):
    ours = server("--allow-observed-source")
    assert knock("open", "127.0.0.1", "-S", "observed", f"-p{ours.port}").code == 0
    ours.output.wait_for("open 127.0.0.1 inet$")


def test_the_original_opens(knock, original_server):
    theirs = original_server()
    assert knock("open", "127.0.0.1", f"-p{theirs.port}").code == 0
    theirs.output.wait_for("open 127.0.0.1 inet$")


def test_a_key_with_characters_over_127(client, server):
    ours = server(key="clé à 16 octets ÿ")
    arguments = ["open", "127.0.0.1", "-k", "-", f"-p{ours.port}"]
    assert client.run(*arguments, stdin="clé à 16 octets ÿ\n".encode()).code == 0
    ours.output.wait_for("open 127.0.0.1 inet$")


# AF_INET6 on macOS and Windows. The datagram has the number of Linux, which all servers take.
@pytest.mark.parametrize("number", [10, 30, 23])
def test_the_datagram(knock, number):
    with listener(family=socket.AF_INET6, address="::1") as receiver:
        port = receiver.getsockname()[1]
        change = "import socket\nreal = socket.socket\n"
        change += "socket.socket = lambda family, kind: real(10 if family == socket.AF_INET6 else family, kind)\n"
        change += "found = socket.getaddrinfo\n"
        change += f"socket.getaddrinfo = lambda *a: [({number}, *rest) for _, *rest in found(*a[:2], 10, *a[3:])]\n"
        change += f"socket.AF_INET6 = {number}"
        before = time.time()
        assert knock("close", "::1", f"-p{port}", change=change).code == 0
        datagram = receiver.recv(100)
    command, time_stamp, family = struct.unpack("<Bdi", datagram[32:45])
    assert datagram == signed(datagram[32:], KEY)
    assert (command, family, datagram[45:]) == (CLOSE, 10, bytes(15) + b"\1")
    assert before - 0.001 <= time_stamp <= time.time()


def test_all_addresses_get_the_same_bytes_with_an_address_to_open_for(knock, namespace):
    namespace.hosts.write_text("127.0.0.1 two.test\n127.0.0.2 two.test\n::1 two.test\n")
    with (
        listener(namespace, port=7011) as first,
        listener(namespace, address="127.0.0.2", port=7011) as second,
        listener(namespace, socket.AF_INET6, "::1", 7011) as third,
    ):
        third.setblocking(False)
        assert knock("open", "two.test", "-p7011", "-S192.0.2.7", network=namespace).code == 0
        datagram = first.recv(100)
        assert second.recv(100) == datagram and datagram[32] == OPEN and len(datagram) == 49
        with pytest.raises(BlockingIOError):
            third.recv(100)
        assert knock("open", "two.test", "-p7011", network=namespace).code == 0
        assert len({first.recv(100), second.recv(100), datagram}) == 3
        assert len(third.recv(100)) == 61


# What Python takes for a blank, and Swift does not.
@pytest.mark.parametrize("key", [KEY + "\x85", KEY + "\x1c", "\x1f" + KEY])
def test_all_bytes_of_a_key_count(client, key):
    with listener() as receiver:
        words = ["open", "127.0.0.1", "-k-", f"-p{receiver.getsockname()[1]}"]
        assert client.run(*words, stdin=key.encode() + b"\r\n").code == 0
        ours = receiver.recv(100)
        assert run([*program("client"), *words], stdin=key.encode() + b"\r\n").code == 0
        theirs = receiver.recv(100)
    for datagram in ours, theirs:
        assert datagram == signed(datagram[32:], key)


def test_it_knocks_on_a_hundred_addresses_of_a_family(knock, namespace):
    addresses = [f"127.0.1.{number}" for number in range(101)]
    namespace.hosts.write_text("".join(f"{address} many.test\n" for address in [*addresses, "::1"]))
    result = knock("open", "many.test", "-n", network=namespace)
    assert (result.code, len(set(result.stdout.splitlines()))) == (0, 101)


@pytest.mark.parametrize("words", [["check"], ["open", "--ttl=1h"], ["open", "--answer"]], ids=lambda words: words[-1])
def test_what_needs_version_2(knock, words):
    result = knock(words[0], "127.0.0.1", *words[1:])
    name = words[-1].partition("=")[0]
    assert (result.code, result.stdout) == (2, "")
    assert result.lines[0] == f"pyknock.py: {name} needs a key of version 2, and that for '127.0.0.1' is of version 1"


def test_settings_for_version_2_do_not_count(client, key_file):
    with listener() as receiver:
        port = receiver.getsockname()[1]
        client.write(f"Host 127.0.0.1\nPort {port}\nKeyFile {key_file}\nTtl 1h\nAnswer yes\n")
        result = client.run("open", "127.0.0.1")
        assert (result.code, result.stdout, result.stderr) == (0, "", "")
        assert len(receiver.recv(100)) == 49
        assert client.run("open", "127.0.0.1", "-v").lines == [
            "pyknock.py: '127.0.0.1': Ttl and Answer do not count, since the key is of version 1",
            f"pyknock.py: sent open 127.0.0.1 to 127.0.0.1:{port}",
        ]


@pytest.mark.slow
def test_the_public_address(knock, server, responder):
    """From a STUN server that answers the second time."""
    ours = server()
    with listener() as stun:

        def answer():
            request, sender = [stun.recvfrom(100) for _ in range(2)][1]
            masked = exclusive_or(bytes([203, 0, 113, 9]), request[4:8])
            value = struct.pack(">BBH4s", 0, 1, 0, masked)
            other = struct.pack(">HH5s3x", 0x8022, 5, b"other")
            stun.sendto(b"junk", sender)
            stun.sendto(b"\1\1\0\x18" + request[4:20] + other + b"\0\x20\0\x08" + value, sender)

        thread = threading.Thread(target=answer)
        thread.start()
        place = f"127.0.0.1:{stun.getsockname()[1]}"
        result = knock("open", "127.0.0.1", "-S", "auto", "--stun", place, f"-p{ours.port}")
        thread.join()
    assert (result.code, result.stderr) == (0, "")
    ours.output.wait_for("open 203.0.113.9 inet$")


def test_the_public_address_is_that_of_the_source(client, key2_file, responder):
    """The STUN server tells where it sees the client."""
    with listener() as stun:

        def answer():
            request, sender = stun.recvfrom(100)
            value = struct.pack(">BBH4s", 0, 1, 0, exclusive_or(socket.inet_aton(sender[0]), request[4:8]))
            stun.sendto(b"\1\1\0\x0c" + request[4:20] + b"\0\x20\0\x08" + value, sender)

        for source in "127.0.0.1", "127.0.0.2":
            thread = threading.Thread(target=answer)
            thread.start()
            place = f"127.0.0.1:{stun.getsockname()[1]}"
            words = ["open", "127.0.0.1", "-n", "-k", key2_file, "-S", "auto", "--stun", place, "-s", source]
            result = client.run(*words)
            thread.join()
            assert (result.code, result.stdout) == (0, f"open {source} to 127.0.0.1:60120\n")


@pytest.mark.slow
def test_a_public_address_that_nobody_tells(knock):
    with listener() as stun:
        place = f"127.0.0.1:{stun.getsockname()[1]}"
        change = "pyknock.STUN_MOMENTS = 0.1, 0.2"
        result = knock("open", "127.0.0.1", "-S", "auto", "--stun", place, change=change)
    assert (result.code, result.lines) == (5, ["pyknock.py: no STUN server told our public address"])


def test_the_version_is_that_of_the_project(client):
    source = (ROOT / "Sources/Programs/Version.swift").read_text()
    assert f'"{client.run("-V").stdout.split()[1]}"' in source
