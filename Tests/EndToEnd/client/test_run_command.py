"""The client runs a command, and may close afterwards."""

import contextlib
import os
import signal
import subprocess

import pytest
from support.datagrams import CLOSE, OPEN
from support.networks import listener
from support.processes import Process, stat_of
from support.programs import EMULATED, TIMEOUT, run
from support.waiting import until


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


def test_the_client_becomes_the_command(knocks):
    process = Process(knocks.words("open", "127.0.0.1", "--", "sh", "-c", "echo $$"))
    assert process.output.wait_for_end() == [str(process.pid)]
    assert process.exit_code() == 0


@pytest.mark.parametrize("options", [[], ["--close"]], ids=" ".join)
def test_the_command_inherits_descriptors(knocks, options):
    read, write = os.pipe()
    words = knocks.words("open", "127.0.0.1", *options, "--", "sh", "-c", f"echo here > /proc/self/fd/{write}")
    assert run(words, pass_fds=[write]).code == 0
    assert os.read(read, 100) == b"here\n"
    os.close(read), os.close(write)


@pytest.mark.parametrize("options", [[], ["--close"]], ids=" ".join)
@pytest.mark.parametrize("ignored", [[], [signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP]], ids=len)
def test_the_command_inherits_the_signals_that_are_ignored_and_blocked(knocks, options, ignored, not_emulated):
    script = (
        "import os, signal, sys\n"
        "for number in range(1, 32):\n"
        "  if number in (signal.SIGKILL, signal.SIGSTOP): continue\n"
        f"  signal.signal(number, signal.SIG_IGN if number in {[*map(int, ignored)]} else signal.SIG_DFL)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "os.execvp(sys.argv[1], sys.argv[1:])\n"
    )
    command = ["grep", "Sig[BI]", "/proc/self/status"]
    words = knocks.words("open", "127.0.0.1", *options, "--", *command)
    seen = [run(["/usr/bin/python3", "-c", script, *words]).stdout for words in (words, command)]
    assert seen[0] == seen[1] != ""


@pytest.mark.parametrize("options", [[], ["--close"]], ids=" ".join)
@pytest.mark.parametrize("proc", [{}, {"INTRUDER_NO_PROC": "1"}], ids=["file", "pipe"])
def test_a_line_of_the_log_leaves_the_alarm_of_the_caller(
    knocks, tmp_path, options, proc, request, not_emulated
):
    """Such as the time limit of `perl -e 'alarm 10; exec @ARGV' pyknock ...`."""
    if proc:
        proc["LD_PRELOAD"] = str(request.getfixturevalue("intruder"))

    def set_alarm():
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        signal.setitimer(signal.ITIMER_REAL, 3600)

    shown = "getitimer(0)[0] > 0, getsignal(SIGALRM) == SIG_IGN, len(pthread_sigmask(0, []))"
    script = f"from signal import *; print({shown})"
    command = ["/usr/bin/python3", "-c", script]
    with open(tmp_path / "log", "w") as log:
        result = run(
            knocks.words("-v", "open", "127.0.0.1", *options, "--", *command),
            env={**os.environ, **proc}, preexec_fn=set_alarm, stderr=subprocess.PIPE if proc else log,
        )  # fmt: skip
    assert "sent open" in result.stderr + (tmp_path / "log").read_text()
    # Without --close the timer is the command's. A child never has one.
    assert result.stdout == f"{not options} True 1\n"


@pytest.mark.parametrize("options", [[], ["--close"]], ids=" ".join)
@pytest.mark.parametrize("name", ["INT", "TERM", "QUIT", "HUP", "SEGV", "PIPE"])
def test_it_dies_of_the_signal_that_kills_the_command(knocks, options, name):
    """So that an interrupt also ends the loop of a shell around it."""
    if EMULATED and name in ("QUIT", "SEGV"):
        pytest.skip("an emulator ends otherwise at this signal")
    result = run(knocks.words("open", "127.0.0.1", *options, "--", "sh", "-c", f"kill -{name} $$"))
    assert (result.code, result.stderr) == (-getattr(signal, f"SIG{name}"), "")
    assert knocks(1 + len(options)) == [OPEN, CLOSE][: 1 + len(options)]


def test_it_stops_and_continues_with_the_command(knocks):
    command = ["sh", "-c", "echo ready; kill -STOP $$; echo went on; exit 5"]
    process = Process(knocks.words("open", "127.0.0.1", "--close", "--", *command))
    with contextlib.closing(process):
        process.output.wait_for("ready")
        until(lambda: stat_of(process.pid)[0] == "T", "the client has stopped, too")
        process.signal(signal.SIGCONT)
        assert process.exit_code() == 5
        assert process.output.wait_for_end() == ["ready", "went on"]
    assert knocks(2) == [OPEN, CLOSE]


# All signals that end a program and can be caught. A service manager sends ABRT, for example.
ENDING = ["HUP", "INT", "QUIT", "TERM", "ALRM", "USR1", "USR2", "XCPU", "VTALRM", "PROF", "IO", "PWR"]
# An emulator keeps these to itself, with those that make a core file.
CORE = ["ABRT", "ILL", "TRAP", "BUS", "FPE", "SEGV", "SYS", "RTMAX"]


@pytest.mark.parametrize("name", ENDING + CORE)
@pytest.mark.parametrize("options", [["--repeat=100"], ["--wait-port=1", f"--wait={TIMEOUT}"]], ids=" ".join)
def test_a_signal_while_it_waits_closes(knocks, options, name):
    if EMULATED and name in [*CORE, "QUIT", "XCPU"]:
        pytest.skip("an emulator does not pass this signal on")
    process = Process(knocks.words("open", "127.0.0.1", *options, "--close", "--", "true"))
    with contextlib.closing(process):
        assert knocks(1) == [OPEN]
        process.signal(getattr(signal, f"SIG{name}"))
        if options == ["--repeat=100"]:
            # It still repeats the close. Another signal ends that, too.
            assert knocks(1) == [CLOSE]
            process.signal(getattr(signal, f"SIG{name}"))
        assert process.exit_code() == -getattr(signal, f"SIG{name}")
        assert process.log.wait_for_end() == []
    if options != ["--repeat=100"]:
        assert knocks(1) == [CLOSE]


def test_an_ignored_signal_stays_ignored(knocks, tmp_path):
    command = ["sh", "-c", "echo ready; until test -e $0; do sleep 0.01; done; exit 5", tmp_path / "end"]
    words = knocks.words("open", "127.0.0.1", "--close", "--", *command)
    process = Process(["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *words])
    with contextlib.closing(process):
        process.output.wait_for("ready")
        process.signal(signal.SIGHUP)
        (tmp_path / "end").touch()
        assert process.exit_code() == 5
    assert knocks(2) == [OPEN, CLOSE]


def test_signals_that_the_command_ignores_do_not_keep_it_from_closing(knocks, tmp_path):
    script = "trap '' INT TERM; echo ready; until test -e $0; do sleep 0.01; done; exit 5"
    command = ["sh", "-c", script, tmp_path / "end"]
    process = Process(knocks.words("open", "127.0.0.1", "--close", "--", *command))
    with contextlib.closing(process):
        process.output.wait_for("ready")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            process.signal(number)
        (tmp_path / "end").touch()
        assert process.exit_code() == 5
    assert knocks(2) == [OPEN, CLOSE]


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
        (["connect", "::1"], "write connect HOST PORT; operands given: 2"),
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
