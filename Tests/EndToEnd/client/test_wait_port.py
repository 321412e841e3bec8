"""--wait-port: the client waits until a port is open, and knocks again meanwhile."""

import contextlib
import subprocess
import time

import pytest
from support.networks import listener
from support.programs import TIMEOUT, program, run, socket_error
from support.servers import CHECK


def test_a_port_that_is_open(words, service):
    result = run(words("open", "127.0.0.1", f"--wait-port={service.port}"))
    assert (result.code, result.stderr) == (0, "")


@pytest.mark.slow
def test_a_port_that_opens_late(words, closed, closed_port):
    """The server or the firewall may be slow."""
    with listener() as receiver:
        knock_port = receiver.getsockname()[1]
        waiting = subprocess.Popen(
            words(f"-p{knock_port}", "open", "127.0.0.1", f"--wait-port={closed_port}")
        )
        # The client sends the second knock when its first attempts to connect have failed.
        receiver.recv(100)
        receiver.recv(100)
        closed.listen()
        assert waiting.wait(TIMEOUT) == 0


@pytest.mark.slow
@pytest.mark.parametrize("what", ["wait-port", "connect"])
def test_a_port_that_never_opens(words, closed_port, what):
    start = time.monotonic()
    arguments = ["connect", "localhost", str(closed_port)]
    if what == "wait-port":
        arguments = ["open", "localhost", f"--wait-port={closed_port}"]
    result = run(words(*arguments, "--wait=1s", "-4"))
    assert result.code == 1
    assert 0.9 < time.monotonic() - start < 1 + TIMEOUT / 4
    assert result.stderr == (
        f"pyknock client: port {closed_port} of 'localhost' did not open within 1 s: "
        f"{socket_error('Connection refused')}{CHECK}\n"
    )


@pytest.mark.slow
def test_each_host_whose_port_does_not_open_is_told_of(words, closed_port):
    """They are waited for at the same time."""
    start = time.monotonic()
    result = run(words("open", "127.0.0.1,127.0.0.2", f"--wait-port={closed_port}", "--wait=1s"))
    assert time.monotonic() - start < 1 + TIMEOUT / 20
    assert result.code == 1
    assert result.lines == [
        f"pyknock client: port {closed_port} of '127.0.0.{number}' did not open within 1 s: "
        f"{socket_error('Connection refused')}{CHECK}"
        for number in (1, 2)
    ]


@pytest.mark.slow
def test_it_knocks_again_and_each_knock_is_a_new_one(key_file, closed_port):
    with listener() as receiver:
        port = receiver.getsockname()[1]
        for options in ([], ["-S", "192.0.2.1"]):
            arguments = ["open", "127.0.0.1", "-k", key_file, f"-p{port}", *options]
            result = run(
                [*program("client"), *arguments, f"--wait-port={closed_port}", "--wait=2"]
            )
            assert result.code == 1
            receiver.setblocking(False)
            knocks = set()
            with contextlib.suppress(BlockingIOError):
                while True:
                    knocks.add(receiver.recv(100))
            # The client knocks at the start, and after 0.9 and 1.9 seconds.
            assert len(knocks) == 3
