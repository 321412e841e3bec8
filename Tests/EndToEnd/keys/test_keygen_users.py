"""How keygen makes the file of a user."""

import fcntl
import os
import pty
import re
import resource
import signal
import stat

import pytest
from support.datagrams import KEY as VERSION1
from support.processes import NOBODY, as_nobody
from support.programs import program, run
from support.version2 import KEY2, OTHER_KEY2, ServerKey

USAGE = [
    "usage: pyknock keygen [--version2] [-o FILE]",
    "       pyknock keygen --keys DIR [--host HOST[:PORT] [--line]] NAME",
]
KEY = r"pk2\.[A-Za-z0-9_-]{70}\n"
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
        assert ServerKey((keys / name).read_text().strip()).is_whole


def server_id(path):
    return ServerKey(path.read_text().split()[0]).server_id


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
    assert result.lines[1:] == USAGE
    assert_made(keys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keys", "{}"], "write -o FILE, or --keys DIR and one NAME; operands given: 0"),
        (["--keys", "{}", "alice", "bob"], "write -o FILE, or --keys DIR and one NAME; operands given: 2"),
        (["alice"], "write -o FILE, or --keys DIR and one NAME; operands given: 1"),
        (["--keys", "{}", "-o", "-", "alice"], "--keys: only one of -o and --keys can be given"),
        (["--keys"], "--keys needs a value: DIR"),
        (["--host", "box"], "--host needs --keys"),
        (["--keys", "{}", "--line", "alice"], "--line needs --host"),
    ],
)
def test_misuse(keys, words, message):
    result = run([*program("keygen"), *(word.format(keys) for word in words)], cwd=keys)
    assert (result.code, result.stdout) == (2, "")
    assert result.lines == [f"pyknock keygen: {message}", *USAGE]
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
@pytest.mark.parametrize("more", [[], ["--host", "box"]], ids=["alone", "host"])
def test_killed_at_any_moment_it_has_made_nothing(keys, killed, call, more):
    """The next run removes what is left under a name that the server skips."""
    words = [*program("keygen"), "--keys", keys, *more, "alice"]
    result = run(words, env={**os.environ, "LD_PRELOAD": str(killed), "KILLED": call})
    assert result.code == -signal.SIGKILL
    assert [path.name for path in keys.iterdir()] == [".keygen"]
    assert keygen(keys, "alice").code == 0
    assert_made(keys, "alice")


def test_all_keys_of_a_directory_are_for_the_same_server(keys):
    (keys / "old").write_text(VERSION1 + "\nttl 1h\n")
    (keys / "alice.bak").write_text(KEY2)
    (keys / "README").write_text("pk2.")
    for name in ("alice", "bob", "carol"):
        assert keygen(keys, name).code == 0
        # As on a system that ends lines in another way, and with limits.
        (keys / name).write_text((keys / name).read_text().strip() + "\r\ncommands open\n")
    assert len({server_id(keys / name) for name in ("alice", "bob", "carol")}) == 1
    assert len({(keys / name).read_text() for name in ("alice", "bob", "carol")}) == 3
    assert server_id(keys / "alice") != ServerKey(KEY2).server_id


def test_keys_of_two_servers_are_an_error(keys):
    (keys / "alice").write_text(KEY2)
    (keys / "bob").write_text(OTHER_KEY2)
    result = keygen(keys, "carol")
    assert (result.code, result.stdout) == (1, "")
    assert result.lines[0] in [
        f"pyknock keygen: cannot make 'carol' in '{keys}': user {one} has the key of another server than {two}"
        for one, two in (("alice", "bob"), ("bob", "alice"))
    ]
    assert sorted(path.name for path in keys.iterdir()) == ["alice", "bob"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the key is empty"),
        (KEY2[:-1] + "\n", "the key of version 2 has another length than 74 characters; copy the whole key again"),
        (KEY2[:40] + "!" + KEY2[41:], "the key of version 2 has a character other than letters, digits, - and _;"
         " copy it again"),
        (KEY2[:40] + ("A" if KEY2[40] != "A" else "B") + KEY2[41:], "the key of version 2 is not what keygen has"
         " printed: a character is wrong; copy it again"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "its first line is that of a PEM or PGP file, not a key;"
         " pyknock keygen -o FILE makes one"),
        (None, "Invalid argument"),
        ("mode 666", "Operation not permitted"),
    ],
    ids=["empty", "short", "alphabet", "check", "other", "directory", "others may write it"],
)  # fmt: skip
def test_a_broken_key_of_another_user_is_an_error(keys, text, message):
    if text is None:
        (keys / "bob").mkdir()
    else:
        (keys / "bob").write_text(text)
        (keys / "bob").chmod(0o666 if text.startswith("mode") else 0o600)
    result = keygen(keys, "alice")
    assert (result.code, result.stdout) == (1, "")
    assert result.lines == [f"pyknock keygen: cannot make 'alice' in '{keys}': user bob: {message}"]
    assert [path.name for path in keys.iterdir()] == ["bob"]


HOSTS = {
    "server.example.org": ("server.example.org", 60120), "192.0.2.1:7": ("192.0.2.1", 7),
    "[2001:db8::1]": ("2001:db8::1", 60120), "[2001:db8::1]:65535": ("2001:db8::1", 65535), "Box_1": ("Box_1", 60120),
}  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_what_the_client_gets(keys, host):
    name, port = HOSTS[host]
    result = run([*program("keygen"), "--keys", keys, "--host", host, "a@b"])
    key = (keys / "a@b").read_text().strip()
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout == (
        f"# The key of a@b\nHost {name}\n    HostName {name}\n    Port {port}\n    Key {key}\n"
    )
    (keys / "a@b").unlink()
    result = run([*program("keygen"), "--keys", keys, "--line", "--host", host, "a@b"])
    key = (keys / "a@b").read_text().strip()
    assert (result.code, result.stderr) == (0, "")
    shown = f"[{name}]" if ":" in name else name
    assert result.stdout == f"pyknock2:a@b@{shown}:{port}#{key}\n"


@pytest.mark.parametrize(
    "host",
    ["", ":7", "box:", "box:0", "box:x", "box:65536", "2001:db8::1", "[2001:db8::1", "[2001:db8::1]7", "[192.0.2.1]",
     "[::]", "[ff02::1]", "[fe80::1%lo]", "[::ffff:192.0.2.1]", "[box]", "me@box", "-box", ".box", "a b", "a/b", "a#b",
     "b\u00fc.example", "0.0.0.0", "255.255.255.255", "224.0.0.1", 254 * "a", "a\nb"],
)  # fmt: skip
def test_other_hosts_are_refused(keys, host):
    result = run([*program("keygen"), "--keys", keys, f"--host={host}", "alice"])
    assert (result.code, result.stdout) == (2, "")
    [line, *usage] = result.lines
    assert usage == USAGE
    assert re.fullmatch(
        r"pyknock keygen: --host: '.*' is not HOST, HOST:PORT, \[ADDRESS\] or \[ADDRESS\]:PORT", line
    )
    assert_made(keys)


def test_if_it_cannot_be_printed_there_is_no_user(keys):
    words = [*program("keygen"), "--keys", keys, "--host", "box", "alice"]
    with open("/dev/full", "wb") as full:
        result = run(words, stdout=full)
    assert result.code == 1
    assert result.lines == [
        f"pyknock keygen: cannot make 'alice' in '{keys}': standard output: No space left on device"
    ]
    assert_made(keys)
    # As with a program in the pipe that is not installed.
    reader, writer = os.pipe()
    os.close(reader)
    result = run(words, stdout=writer)
    os.close(writer)
    assert result.code == 1
    assert result.lines == [f"pyknock keygen: cannot make 'alice' in '{keys}': standard output: Broken pipe"]
    assert_made(keys)


def test_a_name_that_is_taken_prints_no_key(keys):
    assert keygen(keys, "alice").code == 0
    result = run([*program("keygen"), "--keys", keys, "--host", "box", "alice"])
    assert (result.code, result.stdout) == (1, "")
    assert result.lines == [f"pyknock keygen: cannot make 'alice' in '{keys}': File exists"]


def test_a_terminal_shows_what_is_for_the_client(keys, tmp_path):
    words = [*program("keygen"), "--keys", keys, "--host", "box", "--line"]
    ours, theirs = pty.openpty()
    result = run([*words, "alice"], stdout=theirs)
    os.close(theirs)
    assert (result.code, result.stderr) == (0, "")
    assert os.read(ours, 4096).startswith(b"pyknock2:alice@box:60120#pk2.")
    os.close(ours)
    with open(tmp_path / "line", "wb") as public:
        (tmp_path / "line").chmod(0o644)
        result = run([*words, "bob"], stdout=public)
    assert result.lines == [
        "pyknock keygen: warning: others have access to the file that the key goes to; chmod 600 prevents that"
    ]
