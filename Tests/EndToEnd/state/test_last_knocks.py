"""When each user last knocked, and from where: `users` in the state directory."""

import errno
import os
import signal
import struct
import time
from ipaddress import IPv6Address

import pytest
from support.datagrams import packet
from support.state import HEADER, checksum, patch
from support.waiting import until

DAMAGED = "pyknock server: warning: --state: 'users' is damaged, or no file of ours: last knocks are forgotten"
KEYS = {name: f"the key of {name}, which is long enough" for name in ("alice", "bob", "carol")}


def last_knocks(path):
    """The time in seconds since 1970 and the source of the last knock, by the name of the user."""
    data = path.read_bytes()
    fields = struct.unpack_from("<8s3Q", data)
    assert fields[:2] == (b"pyknockU", 3)
    assert fields[3] == checksum(*struct.unpack_from("<3Q", data))
    assert len(data) == HEADER + 64 * fields[2]
    found = {}
    for offset in range(HEADER, len(data), 64):
        name, when, high, low, total = struct.unpack_from("<32sq3Q", data, offset)
        if total:
            assert total == checksum(*struct.unpack_from("<7Q", data, offset))
            source = IPv6Address(high << 64 | low)
            name = name.rstrip(b"\0").decode()
            assert name not in found
            found[name] = when / 1e6, str(source.ipv4_mapped or source)
    return found


def has_knock(path, name, source, since):
    when, found = last_knocks(path).get(name, (0, None))
    return found == source and since - 0.001 <= when <= time.time()


@pytest.fixture
def users(state, tmp_path):
    """A state directory, and a function that starts a server with users of these names."""
    keys = tmp_path / "keys"

    def start(*names, **more):
        keys.mkdir(exist_ok=True)
        keys.chmod(0o700)
        for old in keys.iterdir():
            old.unlink()
        for name in names:
            (keys / name).write_text(KEYS[name] + "\n")
            (keys / name).chmod(0o600)
        return state.start(f"--keys={keys}", words=["exit 0", "exit 0"], **more)

    state.start_with = start
    return state


def test_each_user_has_their_last_accepted_knock(users):
    ours = users.start_with("alice", "bob", "carol")
    path = users.path / "users"
    assert last_knocks(path) == {}
    assert path.stat().st_mode & 0o777 == 0o600
    begin = time.time()
    first = packet("192.0.2.1", key=KEYS["alice"])
    ours.send(first)
    until(lambda: has_knock(path, "alice", "127.0.0.1", begin), "the knock of alice is there")
    again = time.time()
    ours.send(packet("192.0.2.2", key=KEYS["bob"]), packet("192.0.2.1", key=KEYS["alice"]), host="::1")
    until(lambda: has_knock(path, "alice", "::1", again), "the second knock of alice is there")
    until(lambda: has_knock(path, "bob", "::1", again), "the knock of bob is there")
    before = last_knocks(path)
    # Neither a replay nor a refused knock counts.
    ours.send(first, packet("192.0.2.1", key=KEYS["bob"], age=500))
    ours.wait_for_counters(accepted=3, replayed=1, stale=1)
    assert last_knocks(path) == before


def test_names_keep_their_record_over_restarts(users):
    path = users.path / "users"
    ours = users.start_with("alice", "bob", "carol")
    ours.send(*[packet("192.0.2.1", key=key) for key in KEYS.values()])
    until(lambda: len(last_knocks(path)) == 3, "all have knocked")
    before = last_knocks(path)
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    ours = users.start_with("bob", "carol")
    assert last_knocks(path) == {name: before[name] for name in ("bob", "carol")}
    ours.stop()
    # A key of -k beside them would be a user without a name. Here it is alone.
    ours = users.start()
    assert last_knocks(path) == {}
    begin = time.time()
    ours.knock()
    until(lambda: has_knock(path, "", "127.0.0.1", begin), "the knock is there")
    ours.stop()
    assert not ours.log.matching("'users'")


def damage_a_record(path):
    # So many bytes of the time that they were not the same before.
    patch(path, HEADER + 32, 8 * b"\x99")


def replace_by_a_link(path):
    target = path.with_name("target")
    target.write_text("precious")
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize(
    "damage",
    [
        damage_a_record,
        lambda path: patch(path, 16, b"\x99"),
        lambda path: patch(path, 0, b"something else"),
        lambda path: patch(path, 8, b"\2"),
        lambda path: os.truncate(path, 1000),
        lambda path: path.write_bytes(os.urandom(10_000)),
    ],
    ids=["a record", "the header", "the kind", "an older version", "cut short", "noise"],
)
def test_a_damaged_file_is_written_again(users, damage):
    path = users.path / "users"
    ours = users.start_with("alice")
    ours.send(packet(key=KEYS["alice"]))
    until(lambda: last_knocks(path), "the knock is there")
    ours.stop()
    damage(path)
    ours = users.start_with("alice")
    assert [line for line in ours.log.lines if "'users'" in line] == [DAMAGED]
    assert last_knocks(path) == {}
    ours.send(packet("192.0.2.2", key=KEYS["alice"]))
    until(lambda: last_knocks(path), "the knock is there again")
    ours.stop()
    ours = users.start_with("alice")
    assert not ours.log.matching("'users'")
    assert list(last_knocks(path)) == ["alice"]


@pytest.mark.parametrize(
    ("replace", "error"),
    [
        (replace_by_a_link, errno.ELOOP),
        (lambda path: (path.unlink(), path.mkdir()), errno.EISDIR),
        (lambda path: (path.unlink(), os.mkfifo(path, 0o600)), errno.EINVAL),
        (lambda path: path.chmod(0o666), errno.EACCES),
    ],
    ids=["a link", "a directory", "a pipe", "open to others"],
)
def test_what_cannot_be_used_ends_nothing(users, replace, error):
    path = users.path / "users"
    users.start_with("alice").stop()
    replace(path)
    ours = users.start_with("alice")
    assert DAMAGED in ours.log.lines
    # musl has another text for ELOOP.
    reason = f"({os.strerror(error)}|Symbolic link loop)"
    ours.log.wait_for(f"^pyknock server: warning: --state: 'users' cannot be written: {reason};")
    ours.send(packet(key=KEYS["alice"]))
    ours.wait_for_counters(accepted=1, state_behind=1, succeeded=1)
    if path.is_symlink():
        assert path.read_text() == "precious"


def test_no_state_keeps_nothing(server, tmp_path):
    ours = server(cwd=tmp_path)
    ours.knock()
    ours.wait_for_counters(accepted=1)
    ours.stop()
    assert os.listdir(tmp_path) == []


def test_another_key_has_no_last_knock(users, tmp_path):
    """The users of the old and of the new key may be two people."""
    path, alice = users.path / "users", tmp_path / "keys/alice"
    ours = users.start_with("alice", "bob")
    ours.send(*[packet(key=KEYS[name]) for name in ("alice", "bob")])
    until(lambda: len(last_knocks(path)) == 2, "both have knocked")
    before = last_knocks(path)
    alice.write_text(KEYS["carol"] + "\n")
    ours.reload()
    assert last_knocks(path) == {"bob": before["bob"]}
    begin = time.time()
    ours.send(packet("192.0.2.2", key=KEYS["carol"]))
    until(lambda: has_knock(path, "alice", "127.0.0.1", begin), "the knock with the new key is there")
    # Who is removed and comes back has not knocked since.
    alice.unlink()
    ours.reload()
    alice.write_text(KEYS["alice"] + "\n")
    alice.chmod(0o600)
    ours.reload()
    assert last_knocks(path) == {"bob": before["bob"]}
    # All other changes keep it.
    (tmp_path / "keys/bob").write_text(KEYS["bob"] + "\ncommands open\n")
    assert "user changed: bob" in ours.reload()
    assert last_knocks(path) == {"bob": before["bob"]}
