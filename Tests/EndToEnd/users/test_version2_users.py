"""Users of version 2: what of them is wrong at the start, and what a hangup changes."""

import re
import signal

import pytest
from support.datagrams import CLOSE
from support.programs import program, run
from support.requests import key_text, request
from support.users import UserFiles

COMMAND = "echo $cmd $ip $PYKNOCK_USER"


@pytest.fixture
def users(tmp_path):
    return UserFiles(tmp_path / "keys")


@pytest.fixture
def start(server, users, tmp_path):
    def start(*options, **more):
        options = [users.option, f"--state={tmp_path / 'state'}", *options]
        return server(*options, words=[COMMAND, COMMAND], **more)

    return start


def reload(ours, *expected):
    """Has the server read the users again, which adds these lines to its log."""
    lines = ours.reload()
    assert [text for text in lines if re.match("user |'|.*reloaded", text)] == list(expected)


def check(users):
    return run([*program("server"), "-n", users.option, "--state=/nowhere", "true $ip", "true $ip"])


def fault(users):
    result = check(users)
    assert (result.code, len(result.lines)) == (1, 2)
    assert result.lines[1] == f"pyknock server: --keys: '{users.path}': errors: 1"
    return result.lines[0].removeprefix("pyknock server: ")


def test_keys_of_two_servers_name_both_files(users):
    users.set("alice", key=key_text("alice"))
    users.set("bob", key=key_text("bob", "another server"))
    line = fault(users)
    assert re.fullmatch(rf"'{users.path}/(\w+)':1: it is for another server than the key of (\w+)", line)
    assert {"alice", "bob"} <= set(re.findall("alice|bob", line.removeprefix(f"'{users.path}")))


def test_the_same_key_twice_names_both_files(users):
    users.set("alice", key=key_text("alice"))
    users.set("bob", key=key_text("alice"))
    line = fault(users)
    assert re.fullmatch(rf"'{users.path}/(\w+)':1: it has the same key as (\w+)", line)
    assert {"alice", "bob"} <= set(re.findall("alice|bob", line.removeprefix(f"'{users.path}")))


@pytest.mark.parametrize(
    "key, line",
    [
        (key_text("alice"), "it has the same key as -k or PSK"),
        (key_text("alice", "another server"), "it is for another server than the key of -k or PSK"),
    ],
)
def test_the_key_without_a_name_is_one_of_them(users, tmp_path, key, line):
    users.set("alice", key=key_text("alice"))
    words = [*program("server"), "-n", users.option, "--state=/nowhere", key, "true $ip", "true $ip"]
    assert run(words).lines[-2] == f"pyknock server: '{users.path}/alice':1: {line}"


def test_only_keys_of_version_1_are_limited_to_64(users, start):
    for number in range(64):
        users.set(f"old{number}")
    for number in range(100):
        users.set(f"new{number}", key=key_text(f"new{number}"))
    ours = start()
    ours.log.wait_for("^pyknock server: users: 164$")
    for name in "new0", "new50", "new99":
        ours.send(request(key_text(name)))
        ours.output.wait_for(f"^open 192.0.2.1 {name}$")
    ours.knock("192.0.2.2", key=UserFiles.key("old63"))
    ours.output.wait_for("^open 192.0.2.2 old63$")
    users.set("old64")
    line = fault(users)
    assert re.fullmatch(rf"'{users.path}/old\d+':1: there are more than 64 keys of version 1", line)


@pytest.mark.parametrize("others", [True, False], ids=["beside version 1", "alone"])
def test_a_hangup_adds_the_first_user_of_version_2_and_removes_it(users, start, others):
    if others:
        users.set("carol")
    ours = start()
    ours.send(request(key_text("alice")))
    ours.wait_for_counters(wrong_length=1, accepted=0)
    users.set("alice", key=key_text("alice"))
    reload(ours, "user added: alice", f"reloaded users and commands, users: {1 + others}")
    ours.send(request(key_text("alice")))
    ours.output.wait_for("^open 192.0.2.1 alice$")
    users.remove("alice")
    users.set("bob", key=key_text("bob"))
    reload(ours, "user removed: alice", "user added: bob", f"reloaded users and commands, users: {1 + others}")
    ours.send(request(key_text("alice")), request(key_text("bob"), "192.0.2.3"))
    ours.output.wait_for("^open 192.0.2.3 bob$")
    users.remove("bob")
    reload(ours, "user removed: bob", f"reloaded users and commands, users: {others:d}")
    ours.send(request(key_text("bob")))
    ours.wait_for_counters(wrong_length=2, unknown_key=1, accepted=2)
    if others:
        ours.knock("192.0.2.4", key=UserFiles.key("carol"))
        ours.output.wait_for("^open 192.0.2.4 carol$")


def test_a_hangup_replaces_a_key_by_one_of_the_other_version(users, start):
    users.set("alice")
    ours = start()
    done = ["user removed, the key is another one: alice", "user added: alice", "reloaded users and commands, users: 1"]
    users.set("alice", key=key_text("alice"))
    reload(ours, *done)
    ours.knock(key=UserFiles.key("alice"))
    ours.send(request(key_text("alice")))
    ours.output.wait_for("^open 192.0.2.1 alice$")
    users.set("alice", key=key_text("alice, again"))
    reload(ours, *done)
    ours.send(request(key_text("alice")), request(key_text("alice, again"), "192.0.2.2"))
    ours.output.wait_for("^open 192.0.2.2 alice$")
    users.set("alice")
    reload(ours, *done)
    ours.knock("192.0.2.3", key=UserFiles.key("alice"))
    ours.output.wait_for("^open 192.0.2.3 alice$")
    ours.wait_for_counters(accepted=3, wrong_length=1, unknown_key=1, bad_mac=0)


def test_a_hangup_takes_keys_of_another_server_only_for_all(users, start):
    for name in "alice", "bob":
        users.set(name, key=key_text(name))
    ours = start()
    users.set("carol", key=key_text("carol", "another server"))
    fault = "it is for another server than the key of (alice|bob)"
    ours.signal(signal.SIGHUP)
    ours.log.wait_for(f"'{users.path}/carol':1: {fault}$")
    ours.log.wait_for("not all reloaded, .*, users: 2$")
    for name in "alice", "bob":
        users.set(name, key=key_text(name, "another server"))
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("reloaded users and commands, users: 3$")
    for name in "alice", "bob", "carol":
        ours.send(request(key_text(name, "another server")))
        ours.output.wait_for(f"^open 192.0.2.1 {name}$")
    ours.send(request(key_text("alice")))
    ours.wait_for_counters(unknown_key=1, accepted=3)


def test_with_a_key_file_too_only_a_restart_takes_keys_of_another_server(users, start, key_file):
    """A hangup shuts nobody out."""
    names = {"": key_file, "alice": users.path / "alice", "bob": users.path / "bob"}

    def put(*server):
        for name, path in names.items():
            path.write_text(key_text(name, *server))
            path.chmod(0o600)

    def knock(ours, address, *server):
        for name in names:
            ours.send(request(key_text(name, *server), address))
            ours.output.wait_for(f"^{f'open {address} {name}'.strip()}$")

    put()
    ours = start(f"-k{key_file}")
    put("another server")
    lines = ours.reload()
    fault = "it is for another server than the key of"
    assert re.fullmatch(f"the key of -k: {fault} (alice|bob); to change the keys of all, restart", lines[0])
    for name in "alice", "bob":
        assert any(line.startswith(f"'{users.path}/{name}':1: {fault} ") for line in lines[1:3])
    assert lines[3:] == ["not all reloaded, see the errors before this line, users: 2, and one without a name"]
    knock(ours, "192.0.2.1")
    ours.stop()
    knock(start(f"-k{key_file}"), "192.0.2.2", "another server")


@pytest.mark.parametrize("forgotten", ["alice", "bob", "carol"])
def test_a_hangup_shuts_nobody_out_for_a_file_that_was_forgotten(users, start, forgotten):
    """All keys except one become those of another server."""
    names = ["alice", "bob", "carol"]
    for name in names:
        users.set(name, key=key_text(name))
    ours = start()
    moved = [name for name in names if name != forgotten]
    for name in moved:
        users.set(name, key=key_text(name, "another server"))
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("not all reloaded, .*, users: 3$")
    faults = [match[1] for match in ours.log.matching("/(\\w+)':1: it is for another server than the key of")]
    assert sorted(faults) == moved
    for name in names:
        ours.send(request(key_text(name)))
        ours.output.wait_for(f"^open 192.0.2.1 {name}$")
    users.set(forgotten, key=key_text(forgotten, "another server"))
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("reloaded users and commands, users: 3$")
    for name in names:
        ours.send(request(key_text(name, "another server"), "192.0.2.2"))
        ours.output.wait_for(f"^open 192.0.2.2 {name}$")


def test_a_hangup_shuts_nobody_out_for_a_key_without_room(users, start):
    """There are 64 keys of version 1, and one user of version 2 becomes another one of version 1."""
    for number in range(64):
        users.set(f"old{number}", key=UserFiles.key(f"old{number}"))
    users.set("alice", key=key_text("alice"))
    ours = start()
    users.set("alice", key=UserFiles.key("alice"))
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("/alice':1: there are more than 64 keys of version 1$")
    ours.log.wait_for("not all reloaded, .*, users: 65$")
    ours.send(request(key_text("alice")))
    ours.output.wait_for("^open 192.0.2.1 alice$")


def test_a_hangup_changes_only_limits(users, start):
    for name in "alice", "bob":
        users.set(name, key=key_text(name))
    ours = start()
    users.set("alice", "commands close", key=key_text("alice"))
    reload(ours, "user changed: alice", "reloaded users and commands, users: 2")
    ours.send(request(key_text("alice")), request(key_text("alice"), command=CLOSE))
    ours.output.wait_for("^close 192.0.2.1 alice$")
    ours.log.wait_for("refused open 192.0.2.1 by alice from .*: not among the user's commands")
    ours.send(request(key_text("bob")))
    ours.output.wait_for("^open 192.0.2.1 bob$")


@pytest.mark.parametrize("old, new", [(key_text("alice"), UserFiles.key("alice")), ("k" * 30, key_text("alice"))])
def test_a_key_file_whose_version_changes_takes_a_restart(server, key_file, old, new):
    """Its datagrams would not pass the filter of the socket."""
    key_file.write_text(old)
    ours = server(f"-k{key_file}", words=["echo $ip", "true $ip"])
    key_file.write_text(new)
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("the key has another version, and so another length of datagrams: restart$")
    ours.log.wait_for("^pyknock server: not reloaded, going on as before$")
    ours.send(request(old)) if old.startswith("pk2.") else ours.knock(key=old)
    ours.output.wait_for("^192.0.2.1$")
    # Another key of the same version is taken.
    key_file.write_text(key_text("another") if old.startswith("pk2.") else "another key, long enough")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("^pyknock server: reloaded key and commands$")
