"""Keys: where they come from, who may see them, and how new ones are made."""

import os
import pty
import re
import resource
import stat
from pathlib import Path

import pytest
from support.datagrams import KEY, signed
from support.networks import listener
from support.programs import program, run
from support.servers import client
from support.waiting import until

# What a key file holds, and the key that the original would have taken as its operand.
KEY_FILES = {
    "LF": (b"a long enough key\n", "a long enough key"),
    "CR LF": (b"a long enough key\r\n", "a long enough key"),
    "no end": (b"a long enough key", "a long enough key"),
    "second line": (b"a long enough key\nanother key\xff\0\n", "a long enough key"),
    "CR LF and a second line": (b"a long enough key\r\nanother\r\n", "a long enough key"),
    "blanks": (b" \ta long enough key \n", " \ta long enough key "),
    "CR inside": (b"a long\renough key\r\r\n", "a long\renough key\r"),
    "Latin-1": ("clé à l'été, ÿ\x80\u00a0\n".encode(), "clé à l'été, ÿ\x80\u00a0"),
    "leading -": (b"-k a long enough key\n", "-k a long enough key"),
    "4096 bytes": (b"k" * 4096, "k" * 4096),
    "4096 characters and CR LF": ("é".encode() * 4096 + b"\r\n", "é" * 4096),
}


@pytest.mark.parametrize("content, key", KEY_FILES.values(), ids=KEY_FILES.keys())
def test_the_key_is_the_first_line_of_its_file(server, tmp_path, content, key):
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    ours = server(words=["-k", path, "echo open", "echo close"], key=key)
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
    ours = server(words=["-k", "-", "echo open", ""], stdin=content, key=key)
    ours.knock()
    ours.output.wait_for("open")


def test_the_key_comes_through_an_inherited_pipe(server):
    reader, writer = os.pipe()
    os.write(writer, KEY.encode() + b"\n")
    os.close(writer)
    ours = server(words=["-k", f"/dev/fd/{reader}", "echo open", ""], pass_fds=[reader])
    os.close(reader)
    ours.knock()
    ours.output.wait_for("open")


def test_the_key_comes_through_a_fifo_when_someone_writes_it(server, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ours = server(words=["-k", fifo, "echo open", ""], wait=False)

    def open_to_write():
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return None

    # That works once the server has it open. The key may also come in two pieces.
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


def test_a_key_operand_warns_once_that_a_file_is_better(server):
    ours = server(words=[KEY, "echo open", ""])
    ours.knock()
    ours.output.wait_for("open")
    assert ours.log.lines[0] == (
        "pyknock server: warning: a key in the command line shows in ps and the history;"
        " use -k FILE"
    )
    assert len(ours.log.matching("warning")) == 1


@pytest.mark.parametrize("key", [KEY, "é" * 40, "k" * 200])
def test_a_key_operand_is_gone_from_ps_once_the_server_listens(not_emulated, server, key):
    ours = server(words=[key, "echo open", "echo close"])
    shown = Path(f"/proc/{ours.pid}/cmdline").read_bytes()
    assert shown == b"\0".join(
        [*map(os.fsencode, program("server")), f"-p{ours.port}".encode(), bytes(len(key.encode())),
         b"echo open", b"echo close", b""]
    )  # fmt: skip


def memory_of(pid):
    """All that a process has in its memory."""
    parts = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            if line.split()[1][0] == "r" and not line.endswith("[vvar]"):
                try:
                    memory.seek(start)
                    parts.append(memory.read(end - start))
                except (OSError, OverflowError):
                    pass
    return b"".join(parts)


@pytest.mark.parametrize("source", ["operand", "file", "stdin"])
def test_the_key_is_nowhere_in_the_memory_of_a_running_server(
    not_emulated, server, key_file, source
):
    operand = {"operand": [KEY], "file": ["-k", key_file], "stdin": ["-k", "-"]}[source]
    ours = server(words=[*operand, "echo open", "echo seen"], stdin=KEY.encode() + b"\n")
    ours.knock()
    ours.output.wait_for("open")
    memory = memory_of(ours.pid)
    assert b"echo seen" in memory
    assert KEY.encode() not in memory and KEY.encode()[8:] not in memory


# keygen


def test_keygen_prints_43_characters_of_base64url():
    keys = [run(program("keygen")).stdout for _ in range(300)]
    for key in keys:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{42}\n", key)
    assert len(set(keys)) == 300
    # All 64 characters are used; that one is missing by chance has odds of 1 in 10^86.
    assert len(set("".join(keys)) - {"\n"}) == 64


def test_keygen_is_silent_into_a_pipe_and_a_private_file(tmp_path):
    result = run(program("keygen"))
    assert (result.code, result.stderr) == (0, "")
    with open(os.open(tmp_path / "key", os.O_CREAT | os.O_WRONLY, 0o600), "wb") as private:
        result = run(program("keygen"), stdout=private)
    assert (result.code, result.stderr) == (0, "")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_keygen_makes_a_file_of_mode_600_whatever_the_umask(server, tmp_path, umask):
    path = tmp_path / "new key"
    result = run([*program("keygen"), "-o", path], umask=umask)
    assert (result.code, result.stdout, result.stderr) == (0, "", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_text()
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{42}\n", key)
    ours = server(words=["-k", path, "echo open", ""], key=key.strip())
    ours.knock()
    ours.output.wait_for("open")
    assert not ours.log.matching("warning")


@pytest.mark.parametrize("kind", ["file", "dangling link", "link", "fifo", "directory"])
def test_keygen_never_overwrites(tmp_path, kind):
    path, other = tmp_path / "key", tmp_path / "other"
    other.write_text("precious")
    if kind == "file":
        path.write_text("precious")
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "link":
        path.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    before = path.lstat()
    result = run([*program("keygen"), f"--output={path}"])
    assert (result.code, result.stdout) == (1, "")
    assert result.lines == [f"pyknock keygen: cannot make '{path}': File exists"]
    assert path.lstat() == before
    assert other.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()
    assert kind != "file" or path.read_text() == "precious"


def test_keygen_leaves_no_file_when_it_cannot_make_one(tmp_path):
    path = tmp_path / "missing" / "key"
    result = run([*program("keygen"), "-o", path])
    assert result.code == 1
    assert result.lines == [f"pyknock keygen: cannot make '{path}': No such file or directory"]
    assert list(tmp_path.iterdir()) == []


def test_keygen_leaves_no_file_when_it_cannot_write_it(tmp_path):
    def forbid_writing():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    # Python ignores XFSZ, and so does the program that it starts: the write then fails.
    path = tmp_path / "key"
    result = run([*program("keygen"), "-o", path], preexec_fn=forbid_writing, restore_signals=False)
    assert result.code == 1
    assert result.lines == [f"pyknock keygen: cannot make '{path}': File too large"]
    assert list(tmp_path.iterdir()) == []


def test_keygen_says_that_it_could_not_write():
    with open("/dev/full", "wb") as full:
        result = run(program("keygen"), stdout=full)
    assert result.code == 1
    assert result.lines == ["pyknock keygen: standard output: No space left on device"]


def test_keygen_without_a_standard_output_says_so():
    result = run(["sh", "-c", '"$@" >&-', "sh", *program("keygen")])
    assert result.code == 1
    assert re.fullmatch(r"pyknock keygen: standard output: Bad file .*\n", result.stderr)


def test_keygen_warns_on_a_terminal():
    ours, theirs = pty.openpty()
    result = run(program("keygen"), stdout=theirs)
    os.close(theirs)
    assert result.code == 0
    assert result.lines == [
        "pyknock keygen: warning: the key shows on the terminal; -o FILE keeps it out of sight"
    ]
    assert re.fullmatch(rb"[\w-]{43}\r\n", os.read(ours, 4096))
    os.close(ours)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_keygen_warns_into_a_file_of_others(tmp_path, mode):
    path = tmp_path / "key"
    with open(path, "wb") as public:
        path.chmod(mode)
        result = run(program("keygen"), stdout=public)
    assert result.code == 0
    assert result.lines == [
        "pyknock keygen: warning: others have access to the file that the key goes to; use -o FILE"
    ]
    assert len(path.read_text()) == 44
