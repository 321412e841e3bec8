"""The client runs a command, and may close afterwards."""

import contextlib
import os
import signal

import pytest
from support.datagrams import CLOSE, OPEN
from support.networks import listener
from support.processes import Process
from support.programs import TIMEOUT, run


@pytest.fixture
def knocks(words):
    """Returns the commands, open or close, of the next knocks that a client sends."""
    with listener() as receiver:
        port = receiver.getsockname()[1]

        def heard(count):
            receiver.settimeout(TIMEOUT)
            return [receiver.recv(100)[32] for _ in range(count)]

        heard.words = lambda *arguments: words(f"-p{port}", *arguments)
        yield heard


def test_its_streams_and_status_are_those_of_the_command(knocks):
    command = ["sh", "-c", "cat; echo error >&2; exit 7"]
    result = run(knocks.words("open", "127.0.0.1", "--", *command), stdin=b"in")
    assert (result.code, result.stdout, result.stderr) == (7, "in", "error\n")
    assert knocks(1) == [OPEN]


@pytest.mark.parametrize(
    ("command", "code"),
    [(["true"], 0), (["sh", "-c", "exit 3"], 3), (["sh", "-c", "kill -9 $$"], -signal.SIGKILL)],
)
def test_close_comes_afterwards_whatever_happened(knocks, command, code):
    result = run(knocks.words("open", "127.0.0.1", "--close", "--", *command))
    assert (result.code, result.stderr) == (code, "")
    assert knocks(2) == [OPEN, CLOSE]


@pytest.mark.parametrize(
    ("command", "code", "why"),
    [("nosuchcommand", 127, "No such file or directory"), ("/etc/passwd", 126, "Permission denied")],
)
def test_a_command_that_cannot_run(knocks, command, code, why):
    result = run(knocks.words("open", "127.0.0.1", "--close", "--", command))
    assert (result.code, result.stderr) == (code, f"pyknock client: cannot run '{command}': {why}\n")
    assert knocks(2) == [OPEN, CLOSE]


def test_a_command_that_the_kernel_does_not_know(knocks, tmp_path, not_emulated):
    # A shell would run this file. The client must not copy so many arguments.
    command = tmp_path / "command"
    command.write_text("echo never\n")
    command.chmod(0o755)
    result = run(knocks.words("open", "127.0.0.1", "--close", "--", command, *["x"] * 9000))
    expected = f"pyknock client: cannot run '{command}': Exec format error\n"
    assert (result.code, result.stdout, result.stderr) == (126, "", expected)
    assert knocks(2) == [OPEN, CLOSE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_goes_to_the_command_and_close_comes_all_the_same(knocks, number):
    command = ["sh", "-c", "trap 'echo caught; exit 5' TERM HUP; echo ready; while :; do sleep 0.01; done"]
    process = Process(knocks.words("open", "127.0.0.1", "--close", "--", *command))
    with contextlib.closing(process):
        process.output.wait_for("ready")
        process.signal(number)
        assert process.exit_code() == 5
        assert process.output.wait_for_end() == ["ready", "caught"]
    assert knocks(2) == [OPEN, CLOSE]


def test_an_interrupt_from_the_terminal_reaches_both(knocks):
    command = ["sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.01; done"]
    process = Process(knocks.words("open", "127.0.0.1", "--close", "--", *command))
    with contextlib.closing(process):
        process.output.wait_for("ready")
        os.killpg(process.pid, signal.SIGINT)
        assert process.exit_code() == 5
    assert knocks(2) == [OPEN, CLOSE]


@pytest.mark.slow
def test_the_command_waits_for_the_port(knocks, service, closed_port):
    open_port = ["open", "127.0.0.1", f"--wait-port={service.port}"]
    assert run(knocks.words(*open_port, "--", "echo", "there")).stdout == "there\n"
    assert knocks(1) == [OPEN]
    shut = ["open", "127.0.0.1", f"--wait-port={closed_port}", "--wait=1", "--close"]
    result = run(knocks.words(*shut, "--", "echo", "there"))
    assert (result.code, result.stdout) == (1, "")
    assert knocks(3) == [OPEN, OPEN, CLOSE]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["connect", "::1"], "operands: open|close HOST, or connect HOST PORT (3) needed, 2 given"),
        (["connect", "::1", "0"], "PORT: '0' is not a port number from 1 to 65535"),
        (["connect", "::1", "ssh"], "PORT: 'ssh' is not a port number from 1 to 65535"),
        (["open", "::1", "--close"], "--close needs a COMMAND after --"),
        (["close", "::1", "--", "true"], "COMMAND: 'close' is not open, the only one that runs a command"),
        (["open", "::1", "--wait=0"], "--wait: '0' is not a duration such as 90, 15m, 2h or 1d, at most 366 days"),
        (["open", "::1", "--wait-port=0"], "--wait-port: '0' is not a port number from 1 to 65535"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_misuse(words, arguments, problem):
    result = run(words(*arguments))
    assert (result.code, result.lines[0]) == (2, f"pyknock client: {problem}")
