"""The directory of users: which files count, to whom they belong, and links in it."""

import os
import re
import shutil
import socket

import pytest
from support.datagrams import KEY
from support.processes import NOBODY, as_nobody
from support.programs import program, run
from support.servers import client

RULE = "a name of at most 32 characters from a-z 0-9 _ @ - . that begins with a letter or digit"
OWNERS = "it must belong to root or to the server's user, and only its owner may write to it"
DIRECTORY = f"{OWNERS}, unless it is sticky or read-only"


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys"
    path.mkdir(mode=0o750)
    return path


def write(path, text=None):
    path.write_text((text or f"the key of {path.name}, which is long enough") + "\n")
    path.chmod(0o640)
    return path


def key_of(name):
    return f"the key of {name}, which is long enough"


def check(keys, *options, prefix=(), operands=("true $ip", "true $ip"), **more):
    words = [*prefix, *program("server"), "-n", "--keys", keys, "--state", keys.parent / "state", *options]
    return run([*words, *operands], **more)


def assert_good(keys, count, *options, **more):
    result = check(keys, *options, **more)
    assert (result.code, result.stdout, result.stderr) == (0, f"configuration OK, users: {count}\n", "")


def faults(keys, *options, **more):
    result = check(keys, *options, **more)
    assert (result.code, result.stdout) == (1, ""), result
    lines = [line.removeprefix("pyknock server: ") for line in result.lines]
    if len(lines) == 1:
        return lines
    assert lines[-1] == f"--keys: '{keys}': errors: {len(lines) - 1}"
    return sorted(lines[:-1])


def test_names_that_users_can_have(keys):
    names = ["a", "0", "a" * 32, "alice@laptop", "a-b_c.d", "new", "bak", "x.old", "rpmnew", "alice.dpkg"]
    for name in names:
        write(keys / name)
    assert_good(keys, len(names))


def test_names_that_are_skipped(keys):
    write(keys / "alice")
    for name in [
        ".alice.swp", "..data", "#alice#", "alice~", "alice.swp", "alice.bak", "alice.orig", "alice.new",
        "alice.dpkg-old", "alice.dpkg-new", "alice.ucf-dist", "alice.rpmsave", "alice.rpmnew", "alice-opkg",
        "alice.apk-new", "Alice~", "\n~",
    ]:  # fmt: skip
        (keys / name).write_text("")
    (keys / ".hidden").mkdir()
    assert_good(keys, 1)


@pytest.mark.parametrize(
    "name, shown",
    [
        ("Alice", "Alice"), ("a" * 33, "a" * 33), ("al ice", "al ice"), ("-a", "-a"), ("é", r"\xc3\xa9"),
        ("a\nb", r"a\x0ab"), ("\x1b[31m", r"\x1b[31m"), ("a'b", r"a\x27b"), ("n" * 255, "n" * 128 + "..."),
    ],
)  # fmt: skip
def test_another_name_is_an_error(keys, name, shown):
    write(keys / "alice")
    write(keys / name)
    assert faults(keys) == [f"'{keys}': '{shown}' is not {RULE}"]


def test_what_is_no_regular_file_is_an_error_without_waiting(keys):
    (keys / "directory").mkdir()
    os.mkfifo(keys / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(keys / "socket"))
    (keys / "missing").symlink_to("nothing")
    (keys / "to-fifo").symlink_to("fifo")
    assert faults(keys) == [
        f"'{keys}/directory': it is no regular file",
        f"'{keys}/fifo': it is no regular file",
        f"'{keys}/missing': No such file or directory",
        f"'{keys}/socket': it is no regular file",
        f"'{keys}/to-fifo': it is no regular file",
    ]


@pytest.mark.system_root
def test_a_device_is_not_opened(keys):
    os.mknod(keys / "null", 0o20600, os.makedev(1, 3))
    assert faults(keys) == [f"'{keys}/null': it is no regular file"]


def test_links_as_kubernetes_makes_them(keys, server):
    data = keys / "..2026_11_26_10_00_00.123456789"
    data.mkdir()
    for name in ("alice", "bob"):
        write(data / name)
        (keys / name).symlink_to(f"..data/{name}")
    (keys / "..data").symlink_to(data.name)
    keys.chmod(0o1777)
    ours = server("--keys", keys, "--state", keys.parent / "state", words=["true $ip", "true $ip"], key=key_of("bob"))
    ours.log.wait_for("^pyknock server: users: 2$")
    ours.knock()
    ours.log.wait_for("accepted open 192.0.2.1 by bob from ")


def test_other_links(keys):
    outside = write(keys.parent / "outside")
    (keys / ".below").mkdir()
    write(keys / ".below/file")
    links = {
        "a": ".below//./file", "b": str(outside), "c": "../outside", "d": ".below/../alice", "e": "e",
        "f": "/proc/self/exe", "g": ".below/", "h": ".below/file/x", "i": "x" * 255 + "/" + "y" * 255,
    }  # fmt: skip
    for name, target in links.items():
        (keys / name).symlink_to(target)
    (keys / ".out").symlink_to("..")
    (keys / "j").symlink_to(".out/outside")
    leaves = "it is a link that leads out of the directory"
    found = faults(keys)
    # The text of ELOOP depends on the C library.
    assert re.fullmatch(rf"'{keys}/e': .*[Ss]ymbolic link.*", found.pop(3))
    assert found == [
        f"'{keys}/b': {leaves}",
        f"'{keys}/c': {leaves}",
        f"'{keys}/d': {leaves}",
        f"'{keys}/f': {leaves}",
        f"'{keys}/g': it is no regular file",
        f"'{keys}/h': Not a directory",
        f"'{keys}/i': No such file or directory",
        f"'{keys}/j': {leaves}",
    ]


def test_up_to_40_links_are_followed(keys):
    write(keys / "u0")
    os.rename(keys / "u0", keys / ".l0")
    for number in range(1, 41):
        (keys / f".l{number}").symlink_to(f".l{number - 1}")
    os.rename(keys / ".l40", keys / "alice")
    assert_good(keys, 1)
    os.rename(keys / "alice", keys / ".l40")
    (keys / "alice").symlink_to(".l40")
    [line] = faults(keys)
    assert line.startswith(f"'{keys}/alice': ")


@pytest.mark.parametrize("mode, error", [(0o640, None), (0o600, None), (0o660, OWNERS), (0o642, OWNERS)])
def test_only_its_owner_may_write_to_a_file(keys, mode, error):
    write(keys / "alice").chmod(mode)
    if error:
        assert faults(keys) == [f"'{keys}/alice': {error}"]
    else:
        assert_good(keys, 1)


def test_others_may_read_a_file_with_a_warning(keys):
    write(keys / "alice").chmod(0o644)
    write(keys / "bob", "short").chmod(0o640)
    result = check(keys)
    assert (result.code, result.stdout) == (0, "configuration OK, users: 2\n")
    assert sorted(result.lines) == [
        f"pyknock server: warning: '{keys}/alice': others may read it; chmod 640 prevents that",
        f"pyknock server: warning: '{keys}/bob': the key is shorter than 16 bytes and may be guessed",
    ]


@pytest.mark.parametrize(
    "mode, is_good", [(0o755, True), (0o775, False), (0o707, False), (0o1777, True), (0o3775, True)]
)
def test_only_its_owner_may_write_to_the_directory_unless_it_is_sticky(keys, mode, is_good):
    write(keys / "alice")
    keys.chmod(mode)
    if is_good:
        assert_good(keys, 1)
    else:
        assert faults(keys) == [f"'{keys}': {DIRECTORY}"]


@pytest.mark.usefixtures("not_emulated")
def test_a_directory_that_is_mounted_read_only(keys):
    write(keys / "alice")
    keys.chmod(0o777)
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    result = check(keys, prefix=["unshare", "--mount", "sh", "-c", mount, keys])
    assert (result.code, result.stdout) == (0, "configuration OK, users: 1\n"), result


def test_a_directory_on_the_way_of_a_link_is_like_the_directory(keys):
    (keys / ".data").mkdir()
    write(keys / ".data/alice")
    (keys / "alice").symlink_to(".data/alice")
    (keys / ".data").chmod(0o775)
    assert faults(keys) == [f"'{keys}/alice': {OWNERS}"]
    (keys / ".data").chmod(0o1775)
    assert_good(keys, 1)


@pytest.mark.other_users
def test_owners(keys):
    write(keys / "alice")
    write(keys / "bob")
    os.chown(keys / "bob", NOBODY, NOBODY)
    assert faults(keys) == [f"'{keys}/bob': {OWNERS}"]
    assert_good(keys, 2, "--user", f"{NOBODY}:{NOBODY}")
    os.chown(keys, NOBODY, NOBODY)
    assert faults(keys) == [f"'{keys}': {DIRECTORY}"]
    assert_good(keys, 2, "--user", f"{NOBODY}:{NOBODY}")
    assert faults(keys, "--user", "1:1") == [f"'{keys}': {DIRECTORY}"]


@pytest.mark.other_users
def test_our_own_files(tmp_path):
    folder = tmp_path / "ours"
    folder.mkdir()
    keys = folder / "keys"
    keys.mkdir()
    write(keys / "alice")
    write(keys / "bob").chmod(0o600)
    for path in (folder, keys, keys / "alice"):
        os.chown(path, NOBODY, NOBODY)
    for parent in [tmp_path, *tmp_path.parents[:2]]:
        parent.chmod(0o755)
    assert faults(keys, prefix=as_nobody()) == [f"'{keys}/bob': Permission denied"]
    (keys / "bob").chmod(0o644)
    result = check(keys, prefix=as_nobody())
    assert (result.code, result.stdout) == (0, "configuration OK, users: 2\n")


def test_the_same_key_names_both_users(keys):
    write(keys / "alice", "k" * 64)
    write(keys / "bob", "k" * 64 + "\r")
    [line] = faults(keys)
    assert re.fullmatch(
        rf"'{keys}/(alice|bob)':1: it has the same key as (alice|bob)", line
    ) and {"alice", "bob"} <= set(re.findall("alice|bob", line))


def test_a_key_over_64_bytes_is_the_same_as_its_hash(keys):
    """RFC 2104. The hash must be text of Latin-1, so the bytes of the file are UTF-8."""
    hashlib = pytest.importorskip("hashlib")
    number = 0
    while True:
        key = f"{'long' * 20}{number}"
        digest = hashlib.sha256(key.encode()).digest()
        # Nothing that would end a line or be taken for another file.
        if not set(digest) & {0, 10, 13} and digest[:1].isalpha() and digest[-1:].isalnum():
            break
        number += 1
    write(keys / "alice", key)
    write(keys / "bob", digest.decode("latin-1"))
    [line] = faults(keys)
    assert "it has the same key as" in line


def test_the_key_of_k_must_be_another_one(keys, key_file):
    write(keys / "alice", KEY)
    assert faults(keys, "-k", key_file) == [f"'{keys}/alice':1: it has the same key as -k or PSK"]


def test_64_keys(keys, key_file):
    for number in range(64):
        write(keys / f"user{number}")
    assert_good(keys, 64)
    too_many = r":1: there are more than 64 keys of version 1"
    [line] = faults(keys, "-k", key_file)
    assert re.fullmatch(rf"'{keys}/user\d+'{too_many}", line)
    write(keys / "user64")
    [line] = faults(keys)
    assert re.fullmatch(rf"'{keys}/user\d+'{too_many}", line)


def test_every_user_can_knock(keys, server):
    for number in range(64):
        write(keys / f"user{number}")
    ours = server("--keys", keys, "--state", keys.parent / "state", words=["true $ip", "true $ip"])
    ours.log.wait_for("^pyknock server: users: 64$")
    for number in (0, 31, 63):
        ours.knock(key=key_of(f"user{number}"))
        ours.log.wait_for(f"accepted open 192.0.2.1 by user{number} from ")
    ours.knock(key="the key of nobody")
    ours.wait_for_counters(bad_mac=1)


def test_a_user_without_a_name_beside_the_others(keys, server):
    write(keys / "alice")
    ours = server("--keys", keys, "--state", keys.parent / "state")
    ours.log.wait_for("^pyknock server: users: 1, and one without a name$")
    ours.knock()
    ours.log.wait_for("accepted open 192.0.2.1 from ")
    ours.knock("192.0.2.2", key=key_of("alice"))
    ours.log.wait_for("accepted open 192.0.2.2 by alice from ")


def test_a_key_in_the_command_line_beside_the_others(keys):
    write(keys / "alice")
    result = check(keys, operands=["a key in the command line", "true $ip", "true $ip"])
    assert (result.code, result.stdout) == (0, "configuration OK, users: 1, and one without a name\n")
    result = check(keys, operands=["a key in the command line"])
    assert result.code == 2
    assert result.lines[0] == (
        "pyknock server: add --nft, --ipset or 'OPEN_CMD' 'CLOSE_CMD', each in single quotes; operands given: 1"
    )
    assert "a key in" not in result.stderr


def test_an_empty_directory_is_taken_with_a_warning(keys, key_file):
    result = check(keys)
    assert (result.code, result.stdout) == (0, "configuration OK, users: 0\n")
    assert result.lines == [f"pyknock server: warning: '{keys}' has no users, so nobody can knock"]
    result = check(keys, "-k", key_file)
    assert (result.code, result.stderr) == (0, "")


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_directory_that_is_none(keys, name):
    write(keys / "file")
    [line] = faults(keys / name)
    assert line == f"'{keys}/{name}': {'Not a directory' if name == 'file' else 'No such file or directory'}"


def test_a_key_instead_of_the_directory_is_not_shown(tmp_path):
    words = [*program("server"), "-n", "--keys", KEY, "--state", tmp_path / "state", "true $ip", "true $ip"]
    result = run(words, cwd=tmp_path)
    assert result.lines == ["pyknock server: --keys: directory (not shown, it may be a key): No such file or directory"]


def test_it_needs_a_state_directory(keys):
    result = run([*program("server"), "--keys", keys, "o", "c"])
    assert (result.code, result.lines[0]) == (2, "pyknock server: --keys needs --state")


def test_the_check_changes_nothing(keys):
    write(keys / "alice")
    assert_good(keys, 1)
    assert not (keys.parent / "state").exists()


@pytest.mark.slow
def test_a_directory_has_at_most_20000_files(keys):
    for number in range(20_001):
        (keys / f".x{number}").touch()
    write(keys / "alice")
    lines = faults(keys)
    assert lines == [f"'{keys}': it has more than 20000 files"]
    shutil.rmtree(keys)


@pytest.mark.usefixtures("not_emulated")
def test_no_key_is_in_the_memory_that_a_core_would_have(keys, server, tmp_path):
    """The server is not dumpable, so its memory is read as root."""
    write(keys / "alice", KEY + "\nttl 30m")
    ours = server(
        "--keys", keys, "--state", tmp_path / "state", "--close-after=1h", words=["true $ip", "true $ip"]
    )
    for process in (ours.pid, ours.receiver):
        found = 0
        with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
            for line in open(f"/proc/{process}/maps"):
                start, end = (int(number, 16) for number in line.split()[0].split("-"))
                if line.split()[1].startswith("rw"):
                    memory.seek(start)
                    found += memory.read(end - start).count(KEY.encode())
        assert found == 0


def test_client_and_server_by_keygen(keys, server):
    """The whole way: a user from keygen, whose key the client has."""
    assert run([*program("keygen"), "--keys", keys, "alice"]).code == 0
    key = (keys / "alice").read_text().strip()
    ours = server("--keys", keys, "--state", keys.parent / "state", words=["true $ip", "true $ip"])
    assert client("open", "127.0.0.1", f"-p{ours.port}", "-S", "192.0.2.1", key=key).code == 0
    ours.log.wait_for("accepted open 192.0.2.1 by alice from ")
