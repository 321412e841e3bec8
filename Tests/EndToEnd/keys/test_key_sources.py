"""Where the key comes from: a file, a pipe, or an operand."""

import os
import subprocess

import pytest
from support.datagrams import KEY, signed
from support.networks import listener
from support.programs import EMULATED, program, run
from support.servers import client
from support.waiting import until

# The content of a key file, and the same key as an operand of the original.
KEY_FILES = {
    "LF": (b"a long enough key\n", "a long enough key"),
    "CR LF": (b"a long enough key\r\n", "a long enough key"),
    "no end": (b"a long enough key", "a long enough key"),
    "blank lines": (b"a long enough key\r\n\r\n \t\n", "a long enough key"),
    "CR inside": (b"a long\renough key\r\n", "a long\renough key"),
    "Latin-1": ("clé à l'été, \x80\u00a0ÿ\n".encode(), "clé à l'été, \x80\u00a0ÿ"),
    "leading -": (b"-k a long enough key\n", "-k a long enough key"),
    "Base64": (b"c3VmZmljaWVudGx5IGxvbmc=\n", "c3VmZmljaWVudGx5IGxvbmc="),
    "4096 bytes": (b"k" * 4096, "k" * 4096),
    "4096 characters and CR LF": ("é".encode() * 4096 + b"\r\n", "é" * 4096),
}


@pytest.mark.parametrize("content, key", KEY_FILES.values(), ids=KEY_FILES.keys())
def test_the_key_is_the_first_line_of_its_file(server, tmp_path, content, key):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    ours = server(words=["-k", path, "echo open $ip", "echo close $ip"], key=key)
    ours.knock()
    ours.output.wait_for("open")
    assert not ours.log.matching("warning")
    with listener() as receiver:
        sent = client(
            "-k", path, "-p", str(receiver.getsockname()[1]), "open", "127.0.0.1", key=None
        )
        assert (sent.code, sent.lines) == (0, [])
        datagram = receiver.recv(4096)
    assert datagram == signed(datagram[32:], key)


@pytest.mark.parametrize("content, key", KEY_FILES.values(), ids=KEY_FILES.keys())
def test_the_key_is_the_first_line_of_the_standard_input(server, content, key):
    ours = server(words=["-k", "-", "echo open $ip", ""], stdin=content, key=key)
    ours.knock()
    ours.output.wait_for("open")


@pytest.mark.parametrize("path", ["-", "/dev/stdin", "/proc/self/fd/0"])
def test_what_follows_the_key_is_left_for_the_command(path):
    words = ["-k", path, "open", "127.0.0.1", "--", "cat"]
    sent = run([*program("client"), *words], stdin=KEY.encode() + b"\nfirst\nsecond")
    assert (sent.code, sent.stdout, sent.stderr) == (0, "first\nsecond", "")


def test_what_follows_the_key_in_a_file_is_left_for_the_command(tmp_path):
    (tmp_path / "both").write_text(KEY + "\r\nfirst\nsecond")
    with open(tmp_path / "both", "rb") as both:
        words = [*program("client"), "-k-", "open", "127.0.0.1", "--", "cat"]
        completed = subprocess.run(words, stdin=both, capture_output=True, check=True)
    assert completed.stdout == b"first\nsecond"


def test_the_key_comes_through_an_inherited_pipe(server):
    reader, writer = os.pipe()
    os.write(writer, KEY.encode() + b"\n")
    os.close(writer)
    ours = server(words=["-k", f"/dev/fd/{reader}", "echo open $ip", ""], pass_fds=[reader])
    os.close(reader)
    ours.knock()
    ours.output.wait_for("open")


def test_the_key_comes_through_a_fifo_when_someone_writes_it(server, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ours = server(words=["-k", fifo, "echo open $ip", ""], wait=False)

    def open_to_write():
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    # This succeeds when the server has opened the FIFO. The key comes in two pieces.
    with open(until(open_to_write, "the server opens the FIFO"), "wb", buffering=0) as writer:
        writer.write(KEY[:7].encode())
        writer.write(KEY[7:].encode() + b"\n")
        ours.log.wait_for("listening on")
    ours.knock()
    ours.output.wait_for("open")


@pytest.mark.parametrize("mode", [0o444, 0o604, 0o644])
@pytest.mark.parametrize("applet, operands", [("server", ["", ""]), ("client", ["open", "::1"])])
def test_a_key_file_that_others_may_read_warns_and_works(process, tmp_path, applet, operands, mode):
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(mode)
    if EMULATED and applet == "server":
        operands = [*operands, "--no-sandbox"]
    started = process([*program(applet), "-k", path, *operands, "-v", "-p60119"])
    started.log.wait_for("listening on|sent open")
    assert started.log.lines[0] == (
        f"pyknock {applet}: warning: key file '{path}': others may read it; chmod 600 prevents that"
    )
    assert len(started.log.matching("warning")) == 1


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440])
def test_a_key_file_of_its_owner_gives_no_warning(server, key_file, mode):
    key_file.chmod(mode)
    ours = server(words=["-k", key_file, "", ""])
    assert len(ours.log.lines) == 1


@pytest.mark.parametrize("key, warns", [("k" * 15, True), ("é" * 15, True), ("k" * 16, False)])
def test_a_key_under_16_bytes_warns_and_works(server, key, warns):
    ours = server(key=key)
    assert len(ours.log.lines) == 1 + warns
    if warns:
        assert ours.log.lines[0] == (
            "pyknock server: warning: the key is shorter than 16 bytes and may be guessed;"
            " pyknock keygen makes a good one"
        )
    ours.knock()
    ours.output.wait_for("open")


IN_ARGV = "warning: a key in the command line shows in ps and the history; use -k FILE"
LIKE_A_PATH = (
    "warning: PSK looks like the name of a file, but is itself the key; to read FILE, write -k FILE"
)


def test_a_key_operand_warns_once_that_a_file_is_better(server):
    ours = server(words=[KEY, "echo open $ip", ""])
    ours.knock()
    ours.output.wait_for("open")
    assert ours.log.lines[0] == f"pyknock server: {IN_ARGV}"
    assert len(ours.log.matching("warning")) == 1
    sent = client("open", "127.0.0.1", KEY, key=None)
    assert (sent.code, sent.lines) == (0, [f"pyknock client: {IN_ARGV}"])


@pytest.mark.parametrize("key", ["./my key of pyknock", "/nowhere/it/is-not", "a+long/enough+key=", "an-existing-key!"])
def test_a_key_operand_that_looks_like_a_path_warns_and_works(server, tmp_path, key):
    (tmp_path / "an-existing-key!").touch()
    ours = server(words=[key, "echo open $ip", ""], key=key, cwd=tmp_path)
    ours.knock()
    ours.output.wait_for("open")
    assert ours.log.lines[:2] == [f"pyknock server: {IN_ARGV}", f"pyknock server: {LIKE_A_PATH}"]
    sent = client("open", "127.0.0.1", key, key=None, cwd=tmp_path)
    assert (sent.code, sent.lines) == (
        0, [f"pyknock client: {IN_ARGV}", f"pyknock client: {LIKE_A_PATH}"]
    )  # fmt: skip
