"""Requests of version 2, and servers with keys of both versions."""

import pytest
from support.datagrams import CLOSE, KEY, OPEN, packet
from support.requests import CHECK, key_text, request
from support.users import UserFiles

KEY2 = key_text("alone")


@pytest.fixture
def users(tmp_path):
    users = UserFiles(tmp_path / "keys")
    users.set("alice", key=key_text("alice"))
    users.set("bob", key=key_text("bob"))
    users.set("carol")
    return users


@pytest.fixture
def start(server, users, tmp_path):
    """Starts a server with two users of version 2 and one of version 1."""
    command = "echo $cmd $ip $PYKNOCK_USER"

    def start(*options, words=(command, command), **more):
        return server(users.option, f"--state={tmp_path / 'state'}", *options, words=[*words], **more)

    return start


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_request_opens_and_closes(server, address):
    ours = server(key=KEY2, on_open="echo $cmd $ip $af")
    for command in OPEN, CLOSE:
        ours.send(request(KEY2, address, command))
        name, family = "open" if command == OPEN else "close", "inet6" if ":" in address else "inet"
        ours.output.wait_for(f"^{name} {address} {family}$")
    ours.wait_for_counters(accepted=2)


def test_the_key_in_the_command_line(server):
    ours = server(words=[KEY2, "echo $ip", "true $ip"])
    ours.send(request(KEY2))
    ours.output.wait_for("^192.0.2.1$")


def test_both_versions_side_by_side(start):
    ours = start()
    ours.log.wait_for("^pyknock server: users: 3$")
    for number, name in enumerate(["alice", "bob", "alice"]):
        ours.send(request(key_text(name), f"192.0.2.{number}"))
        ours.output.wait_for(f"^open 192.0.2.{number} {name}$")
    ours.knock("192.0.2.9", key=UserFiles.key("carol"))
    ours.output.wait_for("^open 192.0.2.9 carol$")
    ours.send(request(key_text("dora")), request(key_text("alice", "another server")), packet(key=KEY))
    ours.wait_for_counters(accepted=4, unknown_key=2, bad_mac=1, wrong_length=0)


def test_a_user_of_version_2_without_a_name_beside_the_others(start):
    ours = start("-k-", stdin=f"{KEY2}\n".encode())
    ours.log.wait_for("^pyknock server: users: 3, and one without a name$")
    ours.send(request(KEY2), request(key_text("alice"), "192.0.2.2"))
    ours.output.wait_for("^open 192.0.2.1 ?$")
    ours.output.wait_for("^open 192.0.2.2 alice$")


def test_every_flipped_bit_is_refused(start):
    ours = start()
    datagram = request(key_text("alice"))
    number = int.from_bytes(datagram, "little")
    ours.send(*[(number ^ 1 << bit).to_bytes(72, "little") for bit in range(576)])
    ours.wait_for_counters(unknown_key=320, bad_mac=256, accepted=0)
    ours.send(datagram)
    ours.output.wait_for("^open 192.0.2.1 alice$")


def test_a_replay_is_refused_whatever_came_between(start):
    ours = start()
    datagrams = [request(key_text("alice")), packet(key=UserFiles.key("carol")), request(key_text("bob"))]
    ours.send(*datagrams, *datagrams[::-1], *datagrams)
    ours.wait_for_counters(accepted=3, replayed=6)


def test_a_stale_request_is_refused(start):
    ours = start()
    ours.send(request(key_text("alice"), age=61), request(key_text("alice"), age=-61.5, command=CHECK))
    line = "refused {} 192.0.2.1 by alice from .*: time stamp outside the allowed drift, clock skew "
    ours.log.wait_for(line.format("open") + r"-6\d.\d s$")
    ours.log.wait_for(line.format("check") + r"\+61.\d s$")


@pytest.mark.parametrize("allowed", [True, False])
def test_the_observed_source(start, allowed):
    ours = start(*["--allow-observed-source"] * allowed)
    ours.send(request(key_text("alice"), None))
    if allowed:
        ours.output.wait_for("^open 127.0.0.1 alice$")
        return
    hint = r" \(only --allow-observed-source replaces it by the sender's address\)"
    ours.log.wait_for(f"refused open :: by alice from .*: unspecified address{hint}, clock skew ")
    # A check changes nothing, so it may ask.
    ours.send(request(key_text("alice"), None, CHECK))
    ours.wait_for_counters(accepted=1, unspecified_address=1)


def test_a_time_is_refused_where_nothing_ends_what_is_opened(server, start):
    ours = server(key=KEY2)
    ours.send(request(KEY2, seconds=60))
    ours.log.wait_for("refused open 192.0.2.1 from .*: asks for a time, but nothing here ends what it opens, clock ")
    ours.wait_for_counters(time_not_kept=1, accepted=0)
    timed = start("--close-after=1h")
    timed.send(request(key_text("alice"), seconds=60))
    timed.output.wait_for("^open 192.0.2.1 alice$")


# Of each length, a datagram that no key has made.
JUNK = [bytes([1 if index == 32 else 2 if index == 41 else 0 for index in range(49)])]
JUNK += [bytes([1 if index == 32 else 10 if index == 41 else 0 for index in range(61)]), bytes(72)]


@pytest.mark.parametrize(
    "key, options, refused",
    [
        (KEY, [], {"bad_mac": 2}),
        (KEY2, [], {"unknown_key": 1}),
        (KEY2, ["--no-version1"], {"unknown_key": 1}),
        # No key is for the length that is let in.
        (KEY, ["--no-version1"], {"wrong_length": 1}),
    ],
)
def test_with_one_key_the_filter_follows_its_version(server, key, options, refused):
    ours = server(*options, key=key)
    ours.send(*JUNK, bytes(71), bytes(73), bytes(64))
    others = dict.fromkeys(("bad_mac", "unknown_key", "wrong_length"), 0)
    ours.wait_for_counters(kernel_dropped=6 - sum(refused.values()), **{**others, **refused})


@pytest.mark.parametrize("options, passed", [([], 3), (["--no-version1"], 1)])
def test_with_users_the_filter_lets_all_three_lengths_in(start, users, options, passed):
    for name in "alice", "bob":
        users.remove(name)
    ours = start(*options)
    ours.send(*JUNK, bytes(71), bytes(73))
    # There is no key of version 2.
    expected = {"bad_mac": 2, "wrong_length": 1} if passed == 3 else {"bad_mac": 0, "wrong_length": 1}
    ours.wait_for_counters(kernel_dropped=5 - passed, **expected)


def test_version_1_can_be_refused(start):
    ours = start("--no-version1")
    ours.log.wait_for("^pyknock server: warning: --no-version1: keys of version 1, which open nothing: 1$")
    ours.knock(key=UserFiles.key("carol"))
    ours.send(request(key_text("alice")))
    ours.output.wait_for("^open 192.0.2.1 alice$")
    ours.wait_for_counters(accepted=1, kernel_dropped=1, bad_mac=0)
