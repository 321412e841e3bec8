"""How keygen makes the file of a user."""

import fcntl
import os
import re
import resource
import signal
import stat

import pytest
from support.processes import NOBODY, as_nobody
from support.programs import program, run

USAGE = "usage: pyknock keygen [-o FILE | --keys DIR NAME]"
KEY = r"[A-Za-z0-9_][A-Za-z0-9_-]{42}\n"
RULE = "a name of at most 32 characters from a-z 0-9 _ @ - . that begins with a letter or digit"
SKIPPED = "a user: the server skips such a file as a backup"


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys"
    path.mkdir(mode=0o700)
    return path


def keygen(keys, name, **options):
    return run([*program("keygen"), "--keys", keys, name], **options)


def assert_made(keys, *names):
    assert sorted(path.name for path in keys.iterdir()) == sorted(names)
    for name in names:
        assert re.fullmatch(KEY, (keys / name).read_text())


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
@pytest.mark.parametrize(("of_keys", "of_file"), [(0o700, 0o600), (0o707, 0o600), (0o750, 0o640), (0o2710, 0o640)])
def test_the_group_may_read_if_the_directory_gives_it_anything(keys, umask, of_keys, of_file):
    keys.chmod(of_keys)
    result = keygen(keys, "alice", umask=umask)
    assert (result.code, result.stdout, result.stderr) == (0, "", "")
    assert_made(keys, "alice")
    assert stat.S_IMODE((keys / "alice").stat().st_mode) == of_file


@pytest.mark.other_users
def test_root_makes_it_for_the_owner_and_the_group_of_the_directory(keys):
    keys.chmod(0o750)
    os.chown(keys, NOBODY, 1)
    assert keygen(keys, "alice").code == 0
    made = (keys / "alice").stat()
    assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (NOBODY, 1, 0o640)


@pytest.mark.other_users
def test_the_user_of_the_server_makes_it(keys):
    os.chown(keys, NOBODY, NOBODY)
    result = run([*as_nobody(), *program("keygen"), "--keys", ".", "alice"], cwd=keys)
    assert (result.code, result.stderr) == (0, "")
    made = (keys / "alice").stat()
    assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (NOBODY, NOBODY, 0o600)


@pytest.mark.other_users
def test_others_make_none(keys):
    keys.chmod(0o777)
    result = run([*as_nobody(), *program("keygen"), "--keys", ".", "alice"], cwd=keys)
    assert result.code == 1
    assert result.lines == ["pyknock keygen: cannot make 'alice' in '.': Operation not permitted"]
    assert_made(keys)


@pytest.mark.parametrize("name", ["a", "7", "alice-laptop", "bob_2@example.org", "a.new.x", "32" + 30 * "-"])
def test_names(keys, name):
    assert keygen(keys, name).code == 0
    assert_made(keys, name)


@pytest.mark.parametrize(
    ("name", "shown", "accepted"),
    [
        ("", "''", RULE),
        ("Alice", "'Alice'", RULE),
        ("-alice", "'-alice'", RULE),
        (".alice", "'.alice'", RULE),
        ("#alice#", "'#alice#'", RULE),
        ("alice~", "'alice~'", RULE),
        ("a b", "'a b'", RULE),
        ("../alice", "'../alice'", RULE),
        ("zoë", "'zo\\xC3\\xAB'", RULE),
        (33 * "a", f"'{33 * 'a'}'", RULE),
        ("alice.bak", "'alice.bak'", SKIPPED),
        ("alice.dpkg-old", "'alice.dpkg-old'", SKIPPED),
        ("alice.rpmsave", "'alice.rpmsave'", SKIPPED),
        ("alice-opkg", "'alice-opkg'", SKIPPED),
    ],
)
def test_other_names_are_refused(keys, name, shown, accepted):
    result = run([*program("keygen"), "--keys", keys, "--", name])
    assert result.code == 2
    assert result.lines[0].lower() == f"pyknock keygen: NAME: {shown} is not {accepted}".lower()
    assert result.lines[1:] == [USAGE]
    assert_made(keys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keys", "{}"], "write -o FILE, or --keys DIR and one NAME; operands given: 0"),
        (["--keys", "{}", "alice", "bob"], "write -o FILE, or --keys DIR and one NAME; operands given: 2"),
        (["alice"], "write -o FILE, or --keys DIR and one NAME; operands given: 1"),
        (["--keys", "{}", "-o", "-", "alice"], "--keys: only one of -o and --keys can be given"),
        (["--keys"], "--keys needs a value: DIR"),
    ],
)
def test_misuse(keys, words, message):
    result = run([*program("keygen"), *(word.format(keys) for word in words)], cwd=keys)
    assert (result.code, result.stdout) == (2, "")
    assert result.lines == [f"pyknock keygen: {message}", USAGE]
    assert_made(keys)


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "directory"])
def test_it_never_overwrites(keys, kind):
    path, other = keys / "alice", keys.parent / "other"
    other.write_text("precious")
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(other if kind == "link" else "nowhere")
    before = path.lstat()
    result = keygen(keys, "alice")
    assert result.code == 1
    assert result.lines == [f"pyknock keygen: cannot make 'alice' in '{keys}': File exists"]
    assert path.lstat() == before
    assert [path.name for path in keys.iterdir()] == ["alice"]
    assert other.read_text() == "precious"
    assert kind != "file" or path.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "error"), [("nowhere", "No such file or directory"), ("file", "Not a directory")]
)
def test_without_a_directory_it_makes_nothing(tmp_path, name, error):
    (tmp_path / "file").touch()
    result = keygen(tmp_path / name, "alice")
    assert result.code == 1
    assert result.lines == [f"pyknock keygen: cannot make 'alice' in '{tmp_path}/{name}': {error}"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_on_a_full_disk_it_leaves_nothing(keys):
    def forbid_writing():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))

    # Python ignores SIGXFSZ, and the program inherits this, so that the write fails.
    result = keygen(keys, "alice", preexec_fn=forbid_writing, restore_signals=False)
    assert result.code == 1
    assert result.lines == [f"pyknock keygen: cannot make 'alice' in '{keys}': File too large"]
    assert_made(keys)


def test_two_at_once_do_not_meet(keys):
    directory = os.open(keys, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    result = keygen(keys, "alice")
    os.close(directory)
    assert result.code == 1
    assert result.lines == [
        f"pyknock keygen: cannot make 'alice' in '{keys}': Resource temporarily unavailable"
    ]
    assert_made(keys)


@pytest.mark.parametrize("call", ["fchown", "fchmod", "write", "fsync", "linkat"])
def test_killed_at_any_moment_it_has_made_nothing(keys, killed, call):
    """The next run removes what is left under a name that the server skips."""
    result = keygen(keys, "alice", env={**os.environ, "LD_PRELOAD": str(killed), "KILLED": call})
    assert result.code == -signal.SIGKILL
    assert [path.name for path in keys.iterdir()] == [".keygen"]
    assert keygen(keys, "alice").code == 0
    assert_made(keys, "alice")
