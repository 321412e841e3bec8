"""contrib/pyknock.py where a system differs from Linux. Stand-ins take the place of the systems.

| what differs | where | test |
|---|---|---|
| no os.geteuid, os.O_NONBLOCK and clock_gettime, no permission bits, the home directory | Windows | test_windows |
| recv says ECONNRESET after an ICMP error, and EMSGSIZE for a long datagram | Windows | test_errors_of_recv |
| the clock has steps of 15 ms | Windows | test_a_coarse_clock in test_python_vectors.py |
| localtime fails for late times | Windows, 32 bits | test_a_system_without_such_late_times in test_python_answers.py |
| the number of AF_INET6 | macOS, iOS, Windows | test_the_datagram in test_python_version1.py |
| getsockname gives an address with its interface | macOS, iOS | test_an_address_with_its_interface |
| an error of send has another number, and no text | all | test_errors_of_send |
"""

import signal

import pytest
from support.version2 import KEY2, ServerKey

SERVER = ServerKey(KEY2)
OPENED = "open for 198.51.100.7 until it is closed\n"


@pytest.fixture
def server(responder):
    return responder(lambda requests: [SERVER.answer(requests[-1].tag, "198.51.100.7")])


WINDOWS = """
import os, time
os.name = "nt"
del os.geteuid, os.getuid, os.O_NONBLOCK, time.clock_gettime, time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC
"""


def test_windows(client, server):
    client.write(f"Host box\r\nHostName 127.0.0.1\r\nPort {server.port}\r\nKey {KEY2}\r\nAnswer yes\r\n", 0o644)
    variables = {"HOME": "/nowhere", "USERPROFILE": str(client.home)}
    result = client.run("open", "box", change=WINDOWS, environment=variables)
    assert (result.code, result.stdout, result.stderr) == (0, OPENED, "")
    (client.home / "key").write_text(KEY2)
    (client.home / "key").chmod(0o666)
    client.write(f"Host box\r\nHostName 127.0.0.1\r\nPort {server.port}\r\nKeyFile ~/key\r\nAnswer yes\r\n", 0o666)
    result = client.run("open", "box", change=WINDOWS, environment=variables)
    assert (result.code, result.stdout, result.stderr) == (0, OPENED, "")


def test_half_a_character_in_an_argument(client, key2_file):
    change = WINDOWS + "sys.argv[2] = '\\ud83d@x'"
    result = client.run("open", "HOST", "-k", key2_file, change=change)
    message = "pyknock.py: HOST: '\\xed\\xa0\\xbd@x' is not a host alone: leave out the user and the @"
    assert (result.code, result.lines[0]) == (2, message)


def sockets_with(method):
    """Changes a method of all sockets."""
    return f"import socket\nclass Socket(socket.socket):\n    calls = 0\n{method}\nsocket.socket = Socket"


@pytest.mark.parametrize(
    "error", ["ConnectionResetError(10054, 'reset')", "OSError(10040, 'too long')", "ConnectionRefusedError()"]
)
def test_errors_of_recv(client, server, key2_file, error):
    method = f"""
    def recv(self, size):
        Socket.calls += 1
        if Socket.calls < 4:
            raise {error}
        return super().recv(size)
"""
    arguments = ["open", "127.0.0.1", "--answer", f"-p{server.port}", "-k", key2_file]
    result = client.run(*arguments, change=sockets_with(method))
    assert (result.code, result.stdout, result.stderr) == (0, OPENED, "")


@pytest.mark.parametrize("error", ["ConnectionResetError(10054, 'reset')", "ConnectionRefusedError()"])
def test_errors_of_send(client, server, key2_file, error):
    """One is for what was sent before. Two in a row are for this datagram."""
    for calls, code in (2, 0), (3, 1):
        method = f"""
    def send(self, data):
        Socket.calls += 1
        if Socket.calls < {calls}:
            raise {error}
        return super().send(data)
"""
        arguments = ["open", "127.0.0.1", f"-p{server.port}", "-k", key2_file]
        result = client.run(*arguments, change=sockets_with(method))
        assert (result.code, len(result.lines)) == (code, code)
        if code:
            text = "reset" if "reset" in error else "ConnectionRefusedError"
            assert result.lines == [f"pyknock.py: cannot knock on 127.0.0.1:{server.port}: {text}"]


def test_an_address_with_its_interface(client, responder, key2_file):
    server = responder(lambda requests: [SERVER.answer(requests[-1].tag, "fe80::1")], address="::1")
    method = "    def getsockname(self):\n        return ('fe80::1%en0', 1, 0, 4)"
    arguments = ["open", "::1", "--answer", f"-p{server.port}", "-k", key2_file]
    result = client.run(*arguments, change=sockets_with(method))
    assert (result.code, result.stdout) == (0, "open for fe80::1 until it is closed\n")
    assert str(server.requests[0].address) == "fe80::1"


def test_an_interrupt_ends_it_without_a_traceback(client, responder, key2_file):
    server = responder(lambda requests: [])
    ours = client.start("open", "127.0.0.1", "--answer", f"-p{server.port}", "-k", key2_file)
    server.wait_for(1)
    ours.signal(signal.SIGINT)
    assert ours.exit_code() == 130
    assert (ours.output.wait_for_end(), ours.log.wait_for_end()) == ([], [])
