"""Users who open the same addresses in sets: each grant is of one user, and ends for that user alone."""

import re
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from support.datagrams import CLOSE
from support.firewall import HOUR
from support.users import UserFiles
from support.waiting import until


@pytest.fixture
def users(tmp_path):
    users = UserFiles(tmp_path / "keys")
    for name in ("alice", "bob"):
        users.set(name)
    return users


@pytest.fixture
def team(firewall, server, users, tmp_path):
    """Starts a server with the users and a set of prefixes."""
    if firewall.kind == "nft":
        firewall.make_intervals()
    else:
        firewall.run("ipset create knock4 hash:net timeout 0")

    def start(*options):
        sets = f"--{firewall.kind}=" + ("inet/pyknock/" if firewall.kind == "nft" else "") + "knock4"
        options = [f"--state={tmp_path / 'state'}", users.option, "-v", sets, *options]
        return server(*options, words=[], network=firewall)

    return start


def knock(ours, user, address="192.0.2.7", command=1, **fields):
    ours.knock(address, command, key=UserFiles.key(user), **fields)


def is_left(firewall, seconds, element="192.0.2.7"):
    rest = firewall.elements().get(element)
    return rest is not None and seconds - 5 < rest <= seconds


@pytest.mark.parametrize("prefix", [24, 32])
def test_an_address_stays_until_the_last_end_that_remains(firewall, team, users, prefix):
    users.set("alice", "ttl 30m")
    ours = team("--ttl=1h", *(["--grant-prefix4=24"] if prefix == 24 else []))
    element = "192.0.2.0/24" if prefix == 24 else "192.0.2.7"
    knock(ours, "alice")
    ours.wait_for_counters(open=1)
    assert is_left(firewall, HOUR / 2, element)
    knock(ours, "bob")
    ours.wait_for_counters(open=2)
    assert is_left(firewall, HOUR, element)
    knock(ours, "bob", command=CLOSE)
    ours.wait_for_counters(open=1)
    assert is_left(firewall, HOUR / 2, element)
    # He has nothing there any more. This is no repeat.
    knock(ours, "bob", command=CLOSE, age=0.1)
    ours.wait_for_counters(accepted=4)
    knock(ours, "bob", "192.0.2.8", CLOSE)
    ours.log.wait_for("^pyknock server: nothing to close: close 192.0.2.8 by bob$")
    assert is_left(firewall, HOUR / 2, element)
    knock(ours, "alice", command=CLOSE)
    ours.wait_for_counters(open=0)
    assert firewall.elements() == {}


def test_with_one_user_a_close_without_a_grant_closes_all_the_same(firewall, team, users):
    users.remove("bob")
    ours = team("--ttl=1h")
    command = "nft add element inet pyknock knock4 {{ {} timeout 1h }}"
    firewall.run((command if firewall.kind == "nft" else "ipset add knock4 {} timeout 3600").format("192.0.2.9"))
    knock(ours, "alice", "192.0.2.9", CLOSE)
    firewall.expect([])


@pytest.mark.parametrize("options", [[], ["--close-after=1h"], ["--ttl=1h"]])
def test_the_kernel_gets_the_end_of_a_user(firewall, team, users, options):
    """So a dead server closes, too."""
    users.set("alice", "ttl 100s")
    expires = datetime.now(UTC) + timedelta(minutes=3)
    users.set("bob", f"expires {expires:%Y-%m-%dT%H:%MZ}")
    left = expires.replace(second=0, microsecond=0).timestamp() - time.time()
    ours = team(*options, *([] if options else ["--close-after=2h"]))
    knock(ours, "alice")
    knock(ours, "bob", "192.0.2.9")
    ours.wait_for_counters(open=2)
    assert is_left(firewall, 100)
    assert is_left(firewall, left + 1, "192.0.2.9")


def test_what_a_removed_user_has_opened_is_closed_and_nothing_else(firewall, team, users):
    ours = team("--ttl=1h", "--grant-prefix4=24")
    knock(ours, "alice", "192.0.2.7")
    knock(ours, "bob", "192.0.2.8")
    knock(ours, "alice", "198.51.100.7")
    ours.wait_for_counters(open=3)
    users.remove("alice")
    ours.signal(signal.SIGHUP)
    for address in ("192.0.2.7", "198.51.100.7"):
        ours.log.wait_for(f"^pyknock server: revoked: close {address} by alice$")
    ours.wait_for_counters(open=1)
    firewall.expect(["192.0.2.0/24"])


def test_a_shorter_ttl_shortens_what_is_open_in_the_set_too(firewall, team, users):
    ours = team("--ttl=1h", "--grant-prefix4=24")
    knock(ours, "alice", "192.0.2.7")
    knock(ours, "alice", "198.51.100.7")
    knock(ours, "bob", "198.51.100.8")
    ours.wait_for_counters(open=3)
    users.set("alice", "ttl 100s")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("^pyknock server: shortened: open 192.0.2.7 by alice, ")
    ours.log.wait_for("^pyknock server: shortened: open 198.51.100.7 by alice, ")
    until(lambda: is_left(firewall, 100, "192.0.2.0/24"), "the set has the new time")
    # Bob needs it for longer.
    assert is_left(firewall, HOUR, "198.51.100.0/24")


def test_another_prefix_closes_what_is_open(firewall, team, users):
    ours = team("--ttl=1h", "--grant-prefix4=24")
    knock(ours, "alice")
    knock(ours, "bob", "198.51.100.7")
    ours.wait_for_counters(open=2)
    users.set("alice", "grant-prefix4 32")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("^pyknock server: revoked: close 192.0.2.7 by alice$")
    firewall.expect(["198.51.100.0/24"])
    knock(ours, "alice")
    firewall.expect(["198.51.100.0/24", "192.0.2.7"])
    # After a restart, grants stay as they are, also if the server reads the files again.
    ours.stop()
    users.set("alice", "grant-prefix4 25")
    ours = team("--ttl=1h", "--grant-prefix4=24")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("reloaded users")
    ours.wait_for_counters(open=2)
    assert not ours.log.matching("revoked")


def test_a_user_whose_key_expires_loses_what_is_open(firewall, team, users):
    ours = team("--ttl=1h")
    knock(ours, "alice")
    knock(ours, "bob", "192.0.2.9")
    ours.wait_for_counters(open=2)
    users.set("alice", "expires 2001-01-01")
    ours.stop()
    ours = team("--ttl=1h")
    ours.log.wait_for("^pyknock server: revoked: close 192.0.2.7 by alice$")
    firewall.expect(["192.0.2.9"])
    assert not [line for line in ours.log.lines if re.search("192.0.2.9", line)]
