"""A hangup: the directory of users is read again, and each file stands alone."""

import os
import re
import signal

import pytest
from support.datagrams import packet
from support.processes import NOBODY
from support.users import UserFiles

RULE = "a name of at most 32 characters from a-z 0-9 _ @ - . that begins with a letter or digit"
OWNERS = "it must belong to root or to the server's user, and only its owner may write to it"
COMMAND = "echo $cmd $ip $PYKNOCK_USER"


@pytest.fixture
def users(tmp_path):
    users = UserFiles(tmp_path / "keys")
    for name in ("alice", "bob", "carol"):
        users.set(name)
    return users


@pytest.fixture
def start(server, users, tmp_path):
    def start(*options, words=(COMMAND, COMMAND), **more):
        return server(users.option, f"--state={tmp_path / 'state'}", "-v", *options, words=[*words], **more)

    return start


def reload(ours, count, good=True):
    """Has the server read the users again. Returns the lines of the log that this adds, without the last."""
    bad = "not all reloaded, see the errors before this line"
    done = f"{'reloaded users and commands' if good else bad}, users: {count}"
    lines = ours.reload()
    end = next(index for index, text in enumerate(lines) if re.match("reloaded|not (all )?reloaded", text))
    assert lines[end] == done
    # Knocks from before the hangup may still be at work, or be logged only now.
    earlier = "command ended|accepted|set changed|unauthenticated datagrams"
    return [text for text in lines[:end] if not re.match(earlier, text)]


def knock(ours, name, address="192.0.2.1", **fields):
    ours.knock(address, **{"key": UserFiles.key(name), **fields})


def assert_users(ours, *names, gone=(), refusal="bad-mac"):
    """Each of these users can knock, and the others cannot."""
    before = ours.counters()
    for name in gone:
        knock(ours, name)
    for name in names:
        knock(ours, name)
    expected = {"accepted": before["accepted"] + len(names), refusal: before[refusal] + len(gone)}
    ours.wait_for_counters(**{name.replace("-", "_"): count for name, count in expected.items()})


def test_users_are_added_and_removed(start, users):
    ours = start()
    users.remove("alice")
    users.set("dora")
    assert reload(ours, 3) == ["user removed: alice", "user added: dora"]
    assert_users(ours, "bob", "carol", "dora", gone=["alice"])
    assert reload(ours, 3) == []
    users.set("alice")
    assert reload(ours, 4) == ["user added: alice"]
    assert_users(ours, "alice", "bob", "carol", "dora")


def test_after_the_line_no_knock_of_a_removed_user_is_accepted(start, users):
    """In each round, knocks are on their way when the user goes."""
    ours = start()
    for round in range(20):
        ours.send(*[packet(f"192.0.2.{number}", key=UserFiles.key("alice")) for number in range(1, 20)])
        users.remove("alice")
        reload(ours, 2)
        accepted = len(ours.log.matching("accepted .* by alice"))
        knock(ours, "alice", age=round / 100)
        knock(ours, "bob", f"198.51.100.{round}")
        ours.log.wait_for(f"accepted open 198.51.100.{round} by bob")
        assert len(ours.log.matching("accepted .* by alice")) == accepted
        users.set("alice")
        reload(ours, 3)
    assert not ours.log.matching("invalid message")


def test_limits_change(start, users):
    ours = start()
    users.set("alice", "addresses 198.51.100.0/24")
    assert reload(ours, 3) == ["user changed: alice"]
    knock(ours, "alice")
    ours.log.wait_for("refused open 192.0.2.1 by alice from .*: not among the user's addresses")
    knock(ours, "alice", "198.51.100.1")
    ours.output.wait_for("^open 198.51.100.1 alice$")
    users.set("alice", "commands close")
    reload(ours, 3)
    knock(ours, "alice", "198.51.100.1", age=0.1)
    ours.log.wait_for("refused open 198.51.100.1 by alice from .*: not among the user's commands")
    users.set("alice")
    reload(ours, 3)
    assert_users(ours, "alice")


def test_another_key_in_the_same_file(start, users):
    ours = start()
    key = users.set("alice", key="another key of alice, which is long enough")
    assert reload(ours, 3) == ["user removed, the key is another one: alice", "user added: alice"]
    assert_users(ours, gone=["alice"])
    knock(ours, "alice", "192.0.2.9", key=key)
    ours.output.wait_for("^open 192.0.2.9 alice$")


def test_a_key_moves_to_another_file(start, users):
    ours = start()
    (users.path / "alice").rename(users.path / "dora")
    assert reload(ours, 3) == ["user removed: alice", "user added: dora"]
    knock(ours, "alice")
    ours.output.wait_for("^open 192.0.2.1 dora$")


def test_two_users_swap_their_keys(start, users):
    ours = start()
    users.set("alice", key=UserFiles.key("bob"))
    users.set("bob", key=UserFiles.key("alice"))
    lines = reload(ours, 3)
    changes = ("user removed, the key is another one", "user added")
    assert sorted(lines) == sorted(f"{change}: {name}" for change in changes for name in ("alice", "bob"))
    knock(ours, "alice")
    ours.output.wait_for("^open 192.0.2.1 bob$")


def missing_key(file):
    file.write_text("")


def many_bytes(file):
    file.write_text("x" * 20_000)


def bad_line(file):
    file.write_text(UserFiles.key("bob") + "\ncomands open\n")


def bad_value(file):
    file.write_text(UserFiles.key("bob") + "\nexpires tomorrow\n")


def same_key(file):
    file.write_text(UserFiles.key("carol") + "\n")


def writable(file):
    file.chmod(0o622)


def directory(file):
    file.unlink()
    file.mkdir()


def dangling(file):
    file.unlink()
    file.symlink_to("nothing")


def outside(file):
    file.unlink()
    file.symlink_to("/etc/hostname")


def fifo(file):
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    "spoil, fault",
    [
        (missing_key, ":1: the key is empty"),
        (many_bytes, ": it is larger than 16384 bytes"),
        (bad_line, ":2: it does not begin with commands, ttl, addresses, "),
        (bad_value, ":2: expires: the value (not shown, it may be the key) is not a day such as "),
        (same_key, ":1: it has the same key as carol"),
        (writable, f": {OWNERS}"),
        (directory, ": it is no regular file"),
        (dangling, ": No such file or directory"),
        (outside, ": it is a link that leads out of the directory"),
        (fifo, ": it is no regular file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_file_keeps_its_user_and_nobody_else(start, users, spoil, fault):
    ours = start()
    spoil(users.path / "bob")
    users.remove("alice")
    users.set("dora")
    if spoil is same_key:
        # Another key is another user, so bob is gone.
        lines = reload(ours, 2, good=False)
        present = ["carol", "dora"]
    else:
        lines = reload(ours, 3, good=False)
        present = ["bob", "carol", "dora"]
    [line] = [line for line in lines if "bob" in line and line.startswith("'")]
    assert line.startswith(f"'{users.path}/bob'{fault}")
    assert "user removed: alice" in lines and "user added: dora" in lines
    assert_users(ours, *present, gone=["alice"])


def test_bad_names_keep_nobody_from_being_removed(start, users):
    ours = start()
    users.set("Dora")
    users.remove("alice")
    lines = reload(ours, 2, good=False)
    assert lines == [f"'{users.path}': 'Dora' is not {RULE}", "user removed: alice"]


def test_without_the_directory_all_stay(start, users):
    ours = start()
    users.path.rename(users.path.parent / "elsewhere")
    assert f"'{users.path}': No such file or directory" in reload(ours, 3, good=False)
    assert_users(ours, "alice", "bob", "carol")
    users.path.mkdir(mode=0o777)
    users.path.chmod(0o777)
    assert f"'{users.path}': {OWNERS}, unless it is sticky or read-only" in reload(ours, 3, good=False)
    assert_users(ours, "alice", "bob", "carol")


def test_an_empty_directory_is_taken(start, users):
    ours = start()
    for name in ("alice", "bob", "carol"):
        users.remove(name)
    removed = [f"user removed: {name}" for name in ("alice", "bob", "carol")]
    warning = f"warning: '{users.path}' has no users, so nobody can knock"
    lines = reload(ours, 0)
    assert (sorted(lines[:-1]), lines[-1]) == (removed, warning)
    # No key is for datagrams of this length.
    assert_users(ours, gone=["alice", "bob", "carol"], refusal="wrong-length")
    users.set("alice")
    assert reload(ours, 1) == ["user added: alice"]
    assert_users(ours, "alice")


def test_a_list_that_lacks_a_file_removes_nobody(start, users, unlisted):
    """A file that is replaced while the directory is listed may be missing in the list."""
    ours = start(env={**os.environ, "LD_PRELOAD": str(unlisted)})
    for name in ("alice", "bob", "carol"):
        (users.path / f".unlisted-{name}").touch()
    users.remove("alice")
    (users.path / "bob").write_text(UserFiles.key("bob") + "\ncommands open\n")
    (users.path / "carol").write_text("")
    lines = reload(ours, 2, good=False)
    assert sorted(lines) == [
        f"'{users.path}/carol':1: the key is empty",
        "user changed: bob",
        "user removed: alice",
    ]
    assert_users(ours, "bob", "carol", gone=["alice"])


def test_the_key_of_the_server_goes_from_its_file(start, users, tmp_path, key_file):
    conf = tmp_path / "server.conf"
    commands = f"open-command {COMMAND}\nclose-command {COMMAND}\n"
    conf.write_text(f"key-file {key_file}\n{commands}")
    ours = start("-f", str(conf), words=[])
    ours.log.wait_for("^pyknock server: users: 3, and one without a name$")
    ours.knock()
    ours.output.wait_for("^open 192.0.2.1 ?$")
    conf.write_text(commands)
    assert "user removed: the one without a name" in reload(ours, 3)
    ours.knock("192.0.2.2")
    knock(ours, "bob", "192.0.2.3")
    ours.output.wait_for("^open 192.0.2.3 bob$")
    ours.wait_for_counters(accepted=2, bad_mac=1)
    # It comes back, too.
    conf.write_text(f"key-file {key_file}\n{commands}")
    reload(ours, "3, and one without a name")
    ours.knock("192.0.2.4")
    ours.output.wait_for("^open 192.0.2.4 ?$")


def test_nothing_else_is_lost(start, users):
    """The replay memory, and knocks that the receiver has not read yet."""
    ours = start()
    seen = packet("192.0.2.1", key=UserFiles.key("alice"))
    ours.send(seen)
    ours.wait_for_counters(accepted=1)
    os.kill(ours.receiver, signal.SIGSTOP)
    knock(ours, "bob", "192.0.2.2")
    knock(ours, "carol", "192.0.2.3")
    users.remove("carol")
    users.set("dora")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("user added: dora")
    os.kill(ours.receiver, signal.SIGCONT)
    ours.log.wait_for("^pyknock server: reloaded users and commands, users: 3$")
    ours.output.wait_for("^open 192.0.2.2 bob$")
    ours.send(seen)
    counters = ours.wait_for_counters(replayed=1)
    # Whether the knock of carol comes before the change is a race. Her command does not run.
    assert counters["accepted"] + counters["bad-mac"] == 3
    assert not ours.output.matching("carol")


def test_a_key_file_with_the_key_of_a_user_changes_nothing(server, users, key_file, tmp_path):
    """The user without a name keeps the old key."""
    options = [users.option, f"--state={tmp_path / 'state'}", "-k", str(key_file)]
    ours = server(*options, words=[COMMAND, COMMAND])
    old = key_file.read_text()
    key_file.write_text((users.path / "alice").read_text())
    assert reload(ours, "3, and one without a name", good=False) == ["the key of -k: it has the same key as alice"]
    ours.knock(key=old.strip())
    ours.wait_for_counters(accepted=1)


def test_each_of_several_reloads_is_answered(start, users):
    """Both changes wait for the receiver at the same time."""
    ours = start()
    os.kill(ours.receiver, signal.SIGSTOP)
    users.set("dora")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("user added: dora")
    users.set("eve")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("user added: eve")
    os.kill(ours.receiver, signal.SIGCONT)
    ours.log.wait_for("^pyknock server: reloaded users and commands, users: 5$")
    users.remove("eve")
    assert "user removed: eve" in reload(ours, 4)


def test_with_sets_alone(start, firewall, users):
    firewall.load_example()
    ours = start(firewall.sets, "--ttl=1h", words=[], network=firewall)
    knock(ours, "alice")
    knock(ours, "bob", "192.0.2.2")
    ours.wait_for_counters(open=2)
    users.remove("alice")
    users.set("dora")
    assert "user removed: alice" in reload(ours, 3)
    knock(ours, "dora", "192.0.2.3")
    firewall.expect(["192.0.2.2", "192.0.2.3"])


def test_each_user_of_an_address_is_revoked(start, firewall, users):
    """The first close removes the element that both had."""
    firewall.load_example()
    ours = start(firewall.sets, "--ttl=1h", words=[], network=firewall)
    knock(ours, "alice")
    knock(ours, "bob")
    ours.wait_for_counters(open=2)
    users.remove("alice")
    users.remove("bob")
    reload(ours, 1)
    ours.log.wait_for("^pyknock server: revoked: close 192.0.2.1 by alice$")
    ours.log.wait_for("^pyknock server: revoked: close 192.0.2.1 by bob$")
    assert not ours.log.matching("no longer in")
    firewall.expect([])


@pytest.mark.parametrize("options", [["--close-after=1h"], ["--close-after=1h", "--close-on-exit"]])
def test_with_commands_that_close(start, users, options):
    ours = start(*options)
    knock(ours, "alice")
    ours.output.wait_for("^open 192.0.2.1 alice$")
    users.remove("alice")
    lines = reload(ours, 2)
    assert "user removed: alice" in lines
    ours.log.wait_for("^pyknock server: revoked: close 192.0.2.1 by alice$")
    ours.output.wait_for("^close 192.0.2.1 alice$")
    ours.wait_for_counters(open=0)


@pytest.mark.other_users
def test_with_another_user(start, users, tmp_path):
    """The executor keeps what it needs to read the directory."""
    os.chown(users.path, 0, NOBODY)
    users.path.chmod(0o750)
    for name in ("alice", "bob", "carol"):
        os.chown(users.path / name, 0, NOBODY)
        (users.path / name).chmod(0o640)
    ours = start(f"--user={NOBODY}")
    users.remove("alice")
    assert reload(ours, 2) == ["user removed: alice"]
    assert_users(ours, "bob", gone=["alice"])


CANNOT = "^pyknock server: warning: HUP cannot read the users again, only a restart can: '.*': "


@pytest.mark.other_users
@pytest.mark.parametrize("mode, root, reason", [(0o700, False, "Permission denied"), (0o755, True, "No such file")])
def test_the_start_warns_if_a_reload_cannot_work(start, firewall, users, tmp_path, mode, root, reason):
    """With sets alone, the server keeps no privilege to read the files."""
    firewall.load_example()
    users.path.chmod(mode)
    (tmp_path / "root").mkdir()
    options = [f"--chroot={tmp_path / 'root'}"] if root else []
    ours = start(firewall.sets, f"--user={NOBODY}", *options, words=[], network=firewall)
    ours.log.wait_for(CANNOT + reason)
