"""Sets and commands in one server, and a family without a set."""

import pytest
from support.datagrams import CLOSE


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
