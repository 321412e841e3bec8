"""-k - on a terminal: a prompt, and the key is not shown."""

import contextlib
import os
import signal

import pytest
from support.datagrams import KEY
from support.processes import children_of
from support.programs import TIMEOUT, program
from support.terminals import TerminalProcess
from support.waiting import until

PROMPT = b"key (not shown): "


@pytest.fixture
def terminal():
    with contextlib.ExitStack() as stack:
        yield lambda *words: stack.enter_context(contextlib.closing(TerminalProcess(*words)))


@pytest.mark.parametrize("path", ["-", "/dev/stdin", "/dev/tty"])
def test_the_client_asks_for_the_key_and_hides_it(terminal, path):
    ours = terminal(*program("client"), "-v", "-k", path, "open", "127.0.0.1")
    ours.wait_for(PROMPT)
    assert not ours.echoes()
    ours.type(KEY.encode() + b"\n")
    ours.wait_for(b"sent open 127.0.0.1 to 127.0.0.1:60120\r\n")
    assert ours.popen.wait(TIMEOUT) == 0
    assert ours.echoes()
    assert ours.text == PROMPT + b"\r\npyknock client: sent open 127.0.0.1 to 127.0.0.1:60120\r\n"


def test_the_server_asks_for_the_key_and_hides_it(terminal):
    ours = terminal(*program("server"), "-n", "-p0601", "-b127.0.0.1", "-k-", "echo $ip", "")
    ours.wait_for(PROMPT)
    ours.type(KEY.encode() + b"\n")
    ours.wait_for(b"configuration OK\r\n")
    assert ours.popen.wait(TIMEOUT) == 0
    assert ours.echoes()
    assert KEY.encode() not in ours.text


def test_what_is_typed_behind_the_key_is_for_the_command(terminal):
    ours = terminal(*program("client"), "-k-", "open", "127.0.0.1", "--", "head", "-n1")
    ours.wait_for(PROMPT)
    ours.type(KEY.encode() + b"\nmore\n")
    ours.wait_for(b"more\r\n")
    assert ours.popen.wait(TIMEOUT) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_it_and_the_terminal_shows_again_what_is_typed(terminal, number):
    ours = terminal(*program("client"), "-k", "-", "open", "127.0.0.1")
    ours.wait_for(PROMPT)
    ours.popen.send_signal(number)
    assert ours.popen.wait(TIMEOUT) == -number
    assert ours.echoes()


def test_the_terminal_shows_what_is_typed_while_the_program_is_stopped(terminal):
    # A shell with job control: it takes the terminal when its child stops, and gives it back after a line.
    script = '"$@"; read; fg'
    ours = terminal("bash", "-mc", script, "bash", *program("client"), "-k-", "open", "127.0.0.1")
    ours.wait_for(PROMPT)
    assert not ours.echoes()
    [child] = children_of(ours.popen.pid)
    os.kill(child, signal.SIGTSTP)
    until(ours.echoes, "the terminal shows what is typed")
    ours.type(b"\n")
    until(lambda: not ours.echoes(), "the terminal hides what is typed")
    ours.type(KEY.encode() + b"\n")
    assert ours.popen.wait(TIMEOUT) == 0
    assert ours.echoes()


@pytest.mark.parametrize("stops", [False, True], ids=["started there", "sent there"])
def test_in_the_background_it_leaves_the_terminal_to_the_shell(terminal, stops):
    words = b" ".join(word.encode() for word in [*program("client"), "-vk-", "open", "127.0.0.1"])
    # A shell that edits its lines, so that the terminal must not show what is typed at the prompt.
    shell = terminal("env", "PS1=$ ", "TERM=dumb", "bash", "--norc", "-i")
    shell.wait_for(b"$ ")
    if stops:
        shell.type(words + b"\n")
        shell.wait_for(PROMPT)
        shell.type(b"\x1a")
        shell.wait_for(b"Stopped")
        shell.text = b""
        shell.type(b"bg\n")
    else:
        shell.type(words + b" &\n")
    shell.wait_for(b"&\r\n")
    # It stops once there is something to read.
    while b"Stopped" not in shell.text:
        shell.text = b""
        shell.type(b"jobs; echo $((1 + 1))1\n")
        shell.wait_for(b"21\r\n")
    shell.text = b""
    shell.type(b"fg\n")
    shell.wait_for(PROMPT)
    assert not shell.echoes()
    shell.type(KEY.encode() + b"\n")
    shell.wait_for(b"sent open 127.0.0.1 to 127.0.0.1:60120\r\n")
    assert KEY.encode() not in shell.text
