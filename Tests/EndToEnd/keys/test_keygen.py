"""How new keys are made, and where they go."""

import os
import pty
import re
import resource
import stat

import pytest
from support.programs import program, run
from support.version2 import ServerKey


@pytest.mark.slow
def test_keygen_prints_43_characters_of_base64url():
    keys = [run(program("keygen")).stdout for _ in range(300)]
    for key in keys:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{42}\n", key)
    assert len(set(keys)) == 300
    # All 64 characters occur. The probability that one is missing by chance is 1 in 10^86.
    assert len(set("".join(keys)) - {"\n"}) == 64


def test_version_2_has_a_new_server_each_time(tmp_path):
    texts = [run([*program("keygen"), "--version2"]).stdout for _ in range(20)]
    assert run([*program("keygen"), "--version2", "-o", tmp_path / "key"]).stdout == ""
    texts.append((tmp_path / "key").read_text())
    for text in texts:
        assert re.fullmatch(r"pk2\.[A-Za-z0-9_-]{70}\n", text)
        assert ServerKey(text.strip()).is_whole
    keys = [ServerKey(text) for text in texts]
    assert len({key.server_id for key in keys}) == len({key.secret for key in keys}) == len(keys)


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
    ours = server(words=["-k", path, "echo open $ip", ""], key=key.strip())
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


@pytest.mark.parametrize("words", [["-o", "-"], ["-o-"], ["--output=-"]])
def test_a_dash_is_the_standard_output(tmp_path, words):
    result = run([*program("keygen"), *words], cwd=tmp_path)
    assert (result.code, result.stderr) == (0, "")
    assert re.fullmatch(r"[\w-]{43}\n", result.stdout)
    assert list(tmp_path.iterdir()) == []


def test_keygen_leaves_no_file_when_it_cannot_make_one(tmp_path):
    path = tmp_path / "missing" / "key"
    result = run([*program("keygen"), "-o", path])
    assert result.code == 1
    assert result.lines == [f"pyknock keygen: cannot make '{path}': No such file or directory"]
    assert list(tmp_path.iterdir()) == []


def test_keygen_leaves_no_file_when_it_cannot_write_it(tmp_path):
    def forbid_writing():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    # Python ignores SIGXFSZ, and the program inherits this, so that the write fails.
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
        "pyknock keygen: warning: others have access to the file that the key goes to; chmod 600 prevents that"
    ]
    assert len(path.read_text()) == 44
