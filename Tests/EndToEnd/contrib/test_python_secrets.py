"""contrib/pyknock.py: that a key is not seen on a terminal, in a core dump, or by another module."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest
from support.programs import ROOT, TIMEOUT
from support.terminals import TerminalProcess
from support.version2 import KEY2

PROMPT = b"key (not shown): "
WORDS = ["open", "127.0.0.1", "-n", "-k-"]
SENT = b"open 127.0.0.1 to 127.0.0.1:60120\r\n"


@pytest.fixture
def terminal(client):
    """A function that starts the client on a terminal, which asks for the key."""
    with contextlib.ExitStack() as stack:

        def start(**options):
            started = stack.enter_context(contextlib.closing(TerminalProcess(*client.words(*WORDS, **options))))
            started.wait_for(PROMPT)
            return started

        yield start


def test_a_terminal_is_asked_for_the_key_and_hides_it(terminal):
    ours = terminal()
    assert not ours.echoes()
    ours.type(KEY2.encode() + b"\n")
    ours.wait_for(SENT)
    assert ours.popen.wait(TIMEOUT) == 0
    assert ours.echoes()
    assert ours.text == PROMPT + b"\r\n" + SENT


def test_control_z_does_not_stop_it_while_it_asks(terminal):
    """After `fg`, the terminal would show the key."""
    assert terminal().ignores(signal.SIGTSTP)


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129), ("SIGQUIT", 131)])
def test_a_terminal_shows_again_what_is_typed_after_a_signal(terminal, name, code):
    ours = terminal()
    assert not ours.echoes()
    os.kill(ours.popen.pid, getattr(signal, name))
    assert ours.popen.wait(TIMEOUT) == code
    assert ours.echoes()


@pytest.mark.parametrize(
    "typed, message",
    {
        b"\4": "EOFError",
        b"secret\xe4\xe4\n": "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs",
    }.items(),
)
def test_a_key_that_cannot_be_read_is_one_line(terminal, typed, message):
    ours = terminal()
    ours.type(typed)
    ours.wait_for(f"standard input: {message}\r\n".encode())
    assert ours.popen.wait(TIMEOUT) == 1
    assert ours.text == PROMPT + f"\r\npyknock.py: standard input: {message}\r\n".encode()


def test_half_a_character_on_a_terminal(client):
    """The console of Windows gives halves of characters."""
    change = "import getpass\nsys.stdin.isatty = lambda: True\ngetpass.getpass = lambda _: 'secret\\ud83d'"
    result = client.run(*WORDS, change=change)
    message = "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs"
    assert (result.code, result.lines) == (1, [f"pyknock.py: standard input: {message}"])


def test_a_terminal_that_cannot_hide_it_is_not_asked(client):
    """getpass would warn, and then read what the terminal shows."""
    change = "import getpass\nsys.stdin.isatty = lambda: True\ngetpass.getpass = getpass.fallback_getpass"
    result = client.run(*WORDS, stdin=KEY2.encode() + b"\n", change=change)
    message = "pyknock.py: standard input: this terminal would show the key; use -k FILE"
    assert (result.code, result.stdout, result.lines) == (1, "", [message])


def test_there_is_no_core_dump(terminal):
    limits = Path(f"/proc/{terminal().popen.pid}/limits").read_text()
    assert ["Max", "core", "file", "size", "0", "0", "bytes"] in map(str.split, limits.splitlines())


def test_no_module_beside_it_is_loaded(python, client, tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "pyknock.py").write_text((ROOT / "contrib/pyknock.py").read_text())
    (folder / "link.py").symlink_to(folder / "pyknock.py")
    for name in "hmac", "secrets", "socket", "getpass":
        (folder / f"{name}.py").write_text("raise SystemExit('loaded')\n")
    for name in "pyknock.py", "link.py":
        for directory, path in (folder, name), (tmp_path, folder / name):
            result = subprocess.run(
                [python, "-B", path, *WORDS], input=KEY2.encode(), capture_output=True, cwd=directory, timeout=TIMEOUT,
                env=client.environment(),
            )  # fmt: skip
            assert (result.returncode, result.stderr) == (0, b"")


def test_a_descriptor_that_is_closed(client):
    """Python has None instead of a file then."""
    for number, words, code, output, errors in (
        (0, WORDS, 1, "", "pyknock.py: standard input: it is closed\n"),
        (1, ["--version"], 1, "", "pyknock.py: standard output: it is closed\n"),
        (2, ["open"], 2, "", ""),
    ):
        result = client.run(*words, preexec_fn=lambda number=number: os.close(number))
        assert (result.code, result.stdout, result.stderr) == (code, output, errors)
