"""A user who sends all that they can: the knocks of the others are accepted, and their lines are in the log."""

import os
import re
import shutil
import signal
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.datagrams import packet
from support.waiting import until

NAMES = ["alice", "bob", "carol"]


def key(name):
    return f"the key of {name}, which nobody can guess"


def knock(name, address="192.0.2.1", **fields):
    return packet(address, key=key(name), **fields)


@pytest.fixture
def start_users(server, tmp_path):
    """Starts a server with users of these names, each with lines of limits."""

    def start(*options, users, commands=("exit 0", "exit 0"), **more):
        keys = tmp_path / "keys"
        keys.mkdir(mode=0o700)
        for name, limits in users.items():
            (keys / name).write_text(f"{key(name)}\n{limits}")
            (keys / name).chmod(0o600)
        return server(f"--keys={keys}", f"--state={tmp_path / 'state'}", *options, words=commands, **more)

    return start


def send_many(ours, datagrams, **counters):
    """Sends datagrams so that the socket has room for all, and waits for these counters."""
    for start in range(0, len(datagrams), 200):
        ours.send(*datagrams[start : start + 200])
        sent = start + len(datagrams[start : start + 200])
        until(lambda sent=sent: total(ours) >= sent, "they are taken")
    ours.wait_for_counters(**counters)


def total(ours):
    counters = ours.counters()
    names = ("accepted", "replayed", "key-too-fast", "address-not-allowed", "stale", "replay-memory-full")
    return sum(counters[name] for name in names)


def test_nobody_fills_the_replay_memory(start_users):
    """Of 64 places, a user has 8 at once."""
    ours = start_users("--replay-capacity=64", users=dict.fromkeys(NAMES, ""))
    now = time.time()
    flood = [knock("alice", time_stamp=now + number / 1000) for number in range(100)]
    send_many(ours, flood, accepted=8, key_too_fast=92)
    line = ours.log.wait_for(
        r"^pyknock server: refused open 192\.0\.2\.1 by alice from 127\.0\.0\.1:\d+: "
        r"more than the user's share of --replay-capacity, clock skew \S+ s$"
    )
    assert line
    ours.send(*[knock(name, "192.0.2.2", time_stamp=now + number / 1000) for name in NAMES[1:] for number in range(8)])
    ours.wait_for_counters(accepted=24, key_too_fast=92, replay_memory_full=0)
    # Replays are charged to nobody, and what alice has sent is still known.
    ours.send(*flood[:8])
    ours.wait_for_counters(accepted=24, replayed=8, key_too_fast=92)


def test_a_user_alone_has_all_of_the_replay_memory(start_users):
    ours = start_users("--replay-capacity=64", users={"alice": ""})
    now = time.time()
    flood = [knock("alice", time_stamp=now + number / 1000) for number in range(70)]
    send_many(ours, flood, accepted=64, replay_memory_full=6, key_too_fast=0)


@pytest.mark.slow
def test_a_share_refills(start_users):
    """With a drift of 2 seconds, one of two places is free again after two seconds."""
    ours = start_users("-t2", "--replay-capacity=16", users=dict.fromkeys(NAMES, ""))
    ours.send(knock("alice"), knock("alice", "192.0.2.2"), knock("alice", "192.0.2.3"))
    ours.wait_for_counters(accepted=2, key_too_fast=1)

    def is_accepted():
        ours.send(knock("alice", "192.0.2.4"))
        return ours.counters()["accepted"] == 3

    begin = time.monotonic()
    until(is_accepted, "the third knock is accepted")
    assert time.monotonic() - begin > 1


def test_nobody_uses_up_the_lines_of_others(start_users):
    ours = start_users(users={"alice": "addresses 198.51.100.0/24\n", "bob": "addresses 198.51.100.0/24\n"})
    send_many(ours, [knock("alice")] * 500, address_not_allowed=500)
    lines = len(ours.log.matching("refused open 192.0.2.1 by alice"))
    assert 60 <= lines <= 80
    ours.send(knock("bob"))
    ours.log.wait_for(
        r"^pyknock server: refused open 192\.0\.2\.1 by bob from \S+: not among the user's addresses, clock skew \S+ s$"
    )
    # Recordings have a budget of lines of their own. It is the same for all users.
    replay = knock("alice", "198.51.100.1")
    ours.send(replay, replay)
    ours.log.wait_for("refused open 198.51.100.1 by alice from .* replay of an accepted datagram")
    ours.log.wait_for("accepted open 198.51.100.1 by alice from ")
    [line] = ours.log.matching(r"refusals not logged: .*")
    assert re.fullmatch(r"refusals not logged: \d+ \(too many by alice\)", line[0])


@pytest.mark.parametrize(("age", "counters"), [(0, {"accepted": 1, "replayed": 399}), (900, {"stale": 400})])
def test_recordings_use_up_no_lines_of_users(start_users, age, counters):
    """Anyone can send what they have recorded, at once or later."""
    ours = start_users(users={"alice": "commands open\n", "bob": ""})
    send_many(ours, [knock("alice", age=age)] * 400, **counters)
    assert 60 <= len(ours.log.matching("refused open 192.0.2.1 by alice from ")) <= 80
    ours.send(knock("alice", command=2))
    ours.log.wait_for(r"refused close 192\.0\.2\.1 by alice from \S+: not among the user's commands, clock skew \S+ s$")
    for line in ours.log.matching("refusals not logged: .*"):
        assert "alice" not in line[0]


def test_metrics_of_users(start_users, tmp_path):
    path = tmp_path / "metrics"
    ours = start_users(f"--metrics={path}", users={"alice": "", "bob": "commands close\n", "carol": ""})
    ours.send(knock("alice"), knock("alice", "192.0.2.2"), knock("bob"), knock("alice", age=900))
    ours.wait_for_counters(accepted=2, stale=1, command_not_allowed=1)
    assert ours.stop() == 0
    families = {family.name: family for family in text_string_to_metric_families(path.read_text())}

    def values(name):
        return {sample.labels["user"]: sample.value for sample in families[name].samples}

    assert values("pyknock_user_accepted") == {"alice": 2, "bob": 0}
    assert values("pyknock_user_refused") == {"alice": 1, "bob": 1}
    assert path.stat().st_mode & 0o777 == 0o640


SLOW = (
    r"^pyknock server: warning: with 3 keys, this machine can check at most \d+ datagrams in a second; "
    "in a flood of more, knocks are lost$"
)


def test_a_slow_machine_is_told_of_many_keys(start_users, slow_mac):
    slow = {**os.environ, "LD_PRELOAD": str(slow_mac)}
    ours = start_users(users=dict.fromkeys(NAMES, ""), env=slow)
    [line] = ours.log.matching(SLOW)
    # Each MAC takes at least 100 microseconds.
    assert 0 < int(re.search(r"most (\d+)", line[0])[1]) <= 3334
    ours.send(knock("carol"))
    ours.wait_for_counters(accepted=1)


def test_a_slow_machine_with_one_key_is_told_once_there_are_more(start_users, slow_mac, tmp_path):
    ours = start_users(users={"alice": ""}, env={**os.environ, "LD_PRELOAD": str(slow_mac)})
    assert not ours.log.matching("at most")
    for name in ("bob", "carol"):
        shutil.copy(tmp_path / "keys/alice", tmp_path / "keys" / name)
        (tmp_path / "keys" / name).write_text(key(name))
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("reloaded users")
    assert ours.log.matching(SLOW)
