"""Version 2 with the printed rules, and requests for a time."""

import signal
import socket

import pytest
from support.networks import SERVER
from support.requests import key_text, request
from support.users import UserFiles
from support.waiting import until


@pytest.fixture
def users(tmp_path):
    users = UserFiles(tmp_path / "keys")
    users.set("carol")
    return users


@pytest.fixture
def start_users(firewall, server, users, tmp_path):
    """Starts a server with users that changes the sets."""

    def start(*options, sets="knock4,knock6", words=(), **more):
        sets = f"--{firewall.kind}=" + ("inet/pyknock/" if firewall.kind == "nft" else "") + sets
        options = [users.option, f"--state={tmp_path / 'state'}", "-v", sets, *options]
        return server(*options, words=[*words], network=firewall, **more)

    return start


@pytest.mark.slow
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_first_user_of_version_2_comes_by_a_hangup_and_knocks_through_the_rules(
    firewall, outside, users, start_users, family
):
    port = firewall.free_port()
    firewall.load_example(f"--port={port}")
    ours = start_users("--ttl=1h", f"-p{port}", port=port)
    users.set("alice", key=key_text("alice"))
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("reloaded users and commands, users: 2$")
    with outside.socket(family) as sender:
        sender.sendto(request(key_text("alice"), seconds=60), (SERVER[family], port))
    ours.log.wait_for("accepted open 192.0.2.1 by alice from ")
    until(lambda: "192.0.2.1" in firewall.elements(), "the address is open")


@pytest.mark.slow
def test_a_set_keeps_time_if_it_has_timeouts(firewall, users, start_users):
    """With or without --ttl. A command that opens has no end by itself."""
    users.set("alice", key=key_text("alice"))
    firewall.load_example()
    asked = 0

    def is_accepted(ours):
        nonlocal asked
        asked += 1
        ours.send(request(key_text("alice"), f"192.0.2.{asked}", seconds=60))
        line = ours.log.wait_for(f"(accepted|refused) open 192.0.2.{asked} by alice .*")
        assert line[1] == "accepted" or "asks for a time, but nothing here ends what it opens" in line[0]
        ours.stop()
        return line[1] == "accepted"

    assert is_accepted(start_users("--ttl=1h"))
    assert is_accepted(start_users())
    assert not is_accepted(start_users(words=["true $ip", "true $ip"]))
    assert not is_accepted(start_users("--ttl=1h", words=["true $ip", "true $ip"]))
    assert is_accepted(start_users("--close-after=1h", words=["true $ip", "true $ip"]))
    assert is_accepted(start_users(words=["", "true $ip"]))
    if firewall.kind == "nft":
        firewall.nft("add set inet pyknock for_ever { type ipv4_addr; }")
    else:
        firewall.run("ipset create for_ever hash:ip")
    assert not is_accepted(start_users(sets="for_ever"))
    assert is_accepted(start_users("--close-after=1h", sets="for_ever"))
    # The set of a user, beside one of the server that has timeouts, and the other way around.
    nft = "nft inet/pyknock/" if firewall.kind == "nft" else "ipset "
    users.set("alice", f"{nft}for_ever", key=key_text("alice"))
    assert not is_accepted(start_users())
    users.set("alice", f"{nft}knock4", key=key_text("alice"))
    assert is_accepted(start_users(sets="for_ever"))
