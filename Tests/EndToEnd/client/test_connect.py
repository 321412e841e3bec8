"""pyknock client connect: it passes data between its standard streams and a connection."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading

import pytest
from support.programs import TIMEOUT, run, socket_error
from support.waiting import until

RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # struct linger: socket(7)


def begin(command):
    """Starts a program with a pipe for each standard stream."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)


def read_all(connection):
    """All data until the other side ends it."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_both_ways_and_each_end_is_passed_on(words, service):
    service.serve(lambda connection: connection.sendall(read_all(connection)[::-1]))
    result = run(words("connect", "127.0.0.1", str(service.port)), stdin=b"hello")
    assert (result.code, result.stdout, result.stderr) == (0, "olleh", "")


def test_the_end_of_the_connection_is_passed_on_first(words, service):
    received = []

    def bye(connection):
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        received.append(read_all(connection))

    service.serve(bye)
    popen = subprocess.Popen(
        words("connect", "127.0.0.1", str(service.port)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert popen.stdout.read() == b"bye"
    popen.stdin.write(b"one more thing")
    popen.stdin.close()
    assert popen.wait(TIMEOUT) == 0
    until(lambda: received == [b"one more thing"], "the rest has arrived")


@pytest.mark.parametrize("kind", ["pipes", "a socket"])
def test_much_at_once_in_both_directions(words, service, kind):
    """More data than all buffers hold goes both ways at once, and neither direction may block the other."""
    data = os.urandom(1 << 20) * 20
    received = []

    def serve(connection):
        sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(1)))
        sender.start()
        received.append(read_all(connection))
        sender.join()

    service.serve(serve)
    command = words("connect", "127.0.0.1", str(service.port))
    if kind == "pipes":
        popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        out, _ = popen.communicate(data, timeout=TIMEOUT)
    else:
        ours, theirs = socket.socketpair()
        popen = subprocess.Popen(command, stdin=theirs, stdout=theirs)
        theirs.close()
        sender = threading.Thread(target=lambda: (ours.sendall(data), ours.shutdown(1)))
        sender.start()
        out = read_all(ours)
        sender.join()
    assert popen.wait(TIMEOUT) == 0
    assert out == data
    until(lambda: received == [data], "the service has all")


def test_a_connection_that_breaks(words, service):
    def break_off(connection):
        connection.recv(5)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)

    service.serve(break_off)
    popen = begin(words("connect", "127.0.0.1", str(service.port)))
    popen.stdin.write(b"hello")
    popen.stdin.flush()
    assert popen.wait(TIMEOUT) == 6
    reset = socket_error("Connection reset by peer")
    assert popen.stderr.read().decode() == f"pyknock client: the connection broke: {reset}\n"


def both_clients(words, port):
    """`connect` and nc. Both end when the connection does, while their standard input stays open."""
    yield "connect", begin(words("connect", "127.0.0.1", str(port)))
    yield "nc", begin(["nc", "127.0.0.1", str(port)])


def test_a_reset_behind_the_end_of_the_connection(words, service):
    may_reset = threading.Semaphore(0)

    def end_and_reset(connection):
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        may_reset.acquire()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)

    service.serve(end_and_reset, times=2)
    for name, popen in both_clients(words, service.port):
        assert popen.stdout.read(3) == b"bye"
        assert popen.poll() is None
        may_reset.release()
        code = popen.wait(TIMEOUT)
        if name == "connect":
            assert code == 6
            assert popen.stderr.read() == b"pyknock client: the connection broke: Broken pipe\n"


@pytest.mark.slow
def test_a_server_that_dies_behind_the_end_of_the_connection(words, namespace, key_file):
    """Nobody answers the probes of keepalive. nc would wait for ever."""
    for name, seconds in (("time", 1), ("intvl", 1), ("probes", 1)):
        namespace.run(f"sysctl -qw net.ipv4.tcp_keepalive_{name}={seconds}")
    with namespace.socket(kind=socket.SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = str(listening.getsockname()[1])
        popen = begin([*namespace.prefix, *words("connect", "127.0.0.1", port)])
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"bye")
            connection.shutdown(socket.SHUT_WR)
            assert popen.stdout.read() == b"bye"
            namespace.run("ip link set lo down")
            assert popen.wait(TIMEOUT) == 6
            # The reason is in the words of the C library.
            assert popen.stderr.read().decode().endswith(f"{socket_error(' timed out')}\n")
    namespace.run("ip link set lo up")


def test_what_came_before_a_reset_is_written(words, service):
    """The client sees both at the same time, and has more to send."""
    is_connected, may_refuse, is_reset = (threading.Event() for _ in range(3))

    def refuse(connection):
        connection.recv(5)
        is_connected.set()
        may_refuse.wait(TIMEOUT)
        connection.sendall(b"too many connections")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        connection.close()
        is_reset.set()

    service.serve(refuse)
    popen = begin(words("connect", "127.0.0.1", str(service.port)))
    popen.stdin.write(b"hello")
    popen.stdin.flush()
    assert is_connected.wait(TIMEOUT)
    popen.send_signal(signal.SIGSTOP)
    may_refuse.set()
    assert is_reset.wait(TIMEOUT)
    popen.stdin.write(b"more")
    popen.stdin.flush()
    popen.send_signal(signal.SIGCONT)
    assert popen.wait(TIMEOUT) == 6
    assert popen.stdout.read() == b"too many connections"


def test_nobody_is_left_to_read_or_to_write(words, service):
    """ssh was killed. The service does not mind, and goes on waiting."""
    may_end = threading.Event()
    service.serve(lambda connection: may_end.wait(TIMEOUT))
    popen = begin(words("connect", "127.0.0.1", str(service.port)))
    popen.stdout.close()
    popen.stdin.close()
    assert popen.wait(TIMEOUT) == 0
    assert popen.stderr.read() == b""
    may_end.set()


def test_whoever_reads_the_output_may_go(words, service):
    def send(connection):
        with contextlib.suppress(OSError):
            connection.sendall(bytes(1 << 20))

    service.serve(send)
    popen = begin(words("connect", "127.0.0.1", str(service.port)))
    popen.stdout.close()
    assert popen.wait(TIMEOUT) == 6
    assert popen.stderr.read() == b"pyknock client: the connection broke: Broken pipe\n"
