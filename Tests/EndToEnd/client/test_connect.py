"""pyknock client connect: it passes data between its standard streams and a connection."""

import contextlib
import os
import socket
import subprocess
import threading

import pytest
from support.programs import TIMEOUT, run
from support.waiting import until


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
        linger = (1).to_bytes(4, "little") + bytes(4)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    service.serve(break_off)
    popen = begin(words("connect", "127.0.0.1", str(service.port)))
    popen.stdin.write(b"hello")
    popen.stdin.flush()
    assert popen.wait(TIMEOUT) == 6
    assert popen.stderr.read() == b"pyknock client: the connection broke: Connection reset by peer\n"


def test_whoever_reads_the_output_may_go(words, service):
    def send(connection):
        with contextlib.suppress(OSError):
            connection.sendall(bytes(1 << 20))

    service.serve(send)
    popen = begin(words("connect", "127.0.0.1", str(service.port)))
    popen.stdout.close()
    assert popen.wait(TIMEOUT) == 6
    assert popen.stderr.read() == b"pyknock client: the connection broke: Broken pipe\n"
