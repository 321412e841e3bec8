"""Sets and commands in one server, and a family without a set."""

import os

import pytest
from support.datagrams import CLOSE
from support.users import UserFiles


@pytest.mark.slow
def test_the_set_changes_before_the_command_runs(firewall, server, key_file):
    firewall.load_example()
    shown = "nft list set inet pyknock knock4" if firewall.kind == "nft" else "ipset list knock4"
    test = f"{shown} | grep -q $ip && echo $cmd: there || echo $cmd: not there"
    words = ["-k", str(key_file), test, test]
    ours = server(firewall.sets, "--ttl=1h", words=words, network=firewall)
    ours.knock()
    ours.output.wait_for("^open: there$")
    ours.knock(command=CLOSE)
    ours.output.wait_for("^close: not there$")


def test_the_command_runs_also_when_the_set_was_not_changed(firewall, server, key_file):
    firewall.load_example()
    words = ["-k", str(key_file), "echo $ip", ""]
    ours = server(firewall.sets, "--ttl=1h", words=words, network=firewall)
    firewall.remove_sets()
    ours.knock()
    ours.output.wait_for(r"^192\.0\.2\.1$")
    ours.log.wait_for("set not changed: open 192.0.2.1")


@pytest.mark.parametrize(
    ("names", "good", "bad", "family"),
    [
        ("knock4", "192.0.2.1", "2001:db8::1", "inet6"),
        (",knock6", "2001:db8::1", "192.0.2.1", "inet"),
    ],
)
def test_a_family_without_a_set_is_refused(firewall, server, key_file, names, good, bad, family):
    firewall.load_example()
    sets = f"--nft=inet/pyknock/{names}" if firewall.kind == "nft" else f"--ipset={names}"
    words = ["-k", str(key_file), "echo $ip", "echo $ip"]
    ours = server(sets, "-v", words=words, network=firewall)
    ours.log.wait_for(f"^pyknock server: no set for {family}, its knocks are refused$")
    ours.knock(bad)
    ours.log.wait_for(
        f"^pyknock server: refused open {bad} from .*: no set for its address family, clock skew"
    )
    ours.knock(good)
    ours.output.wait_for(good)
    assert ours.output.matching(bad) == []
    counters = ours.counters()
    assert (counters["no-set-for-family"], counters["set-changed"]) == (1, 1)


@pytest.mark.slow
def test_close_commands_of_one_user_keep_no_address_of_another_open(firewall, server, tmp_path):
    """More of them wait than expired grants may be closing at a time."""
    firewall.load_example()
    users = UserFiles(tmp_path / "keys")
    alice, bob = users.set("alice"), users.set("bob")
    os.mkfifo(tmp_path / "gate")
    gate = os.open(tmp_path / "gate", os.O_RDWR)
    words = ["true", f"[ $PYKNOCK_USER = bob ] || read line < {tmp_path}/gate"]
    options = [users.option, f"--state={tmp_path}/state", "--close-after=1h", "-v"]
    ours = server(firewall.sets, *options, words=words, network=firewall)
    for number in range(65):
        ours.knock(f"198.51.100.{number}", key=alice)
    ours.knock(key=bob)
    ours.wait_for_counters(succeeded=66)
    for number in range(65):
        ours.knock(f"198.51.100.{number}", CLOSE, key=alice)
    firewall.expect(["192.0.2.1"])
    ours.wait_for_counters(running=1, queued=64)
    # This ends his grant now.
    users.remove("bob")
    ours.reload()
    ours.log.wait_for("^pyknock server: revoked: close 192.0.2.1 by bob$")
    firewall.expect([])
    os.write(gate, 65 * b"go on\n")
    ours.wait_for_counters(succeeded=132, open=0)
    os.close(gate)


@pytest.mark.slow
def test_what_the_kernel_has_ended_in_a_set_may_be_open_by_a_command(firewall, start, tmp_path):
    firewall.load_example()
    options = [f"--state={tmp_path}/state", "--ttl=1", "--close-after=1h", "-v"]
    ours = start(*options, words=["-k", "-", "true", "true"])
    ours.knock("192.0.2.1")
    ours.log.wait_for("set changed: open 192.0.2.1$")
    firewall.expect([])
    ours.knock("192.0.2.2")
    what = "set knock4 of table inet pyknock" if firewall.kind == "nft" else "ipset knock4"
    ours.log.wait_for(f"^pyknock server: no longer in {what}: 192.0.2.1$")
    ours.wait_for_counters(open=2)
