"""The server changes sets of nftables and ipset: elements come, stay for their time, and go.

The tests read the sets with nft and ipset, and never trust what the server says.
"""

import os
import re
import signal
import socket
import threading

import pytest
from support.datagrams import CLOSE
from support.firewall import HOUR, only_ipset, only_nft
from support.networks import CLIENT, SERVER
from support.waiting import until


def test_a_second_knock_begins_the_time_anew(firewall, start):
    firewall.load_example()
    ours = start("--ttl=1h", "-v")
    ours.knock()
    firewall.expect(["192.0.2.1"])
    firewall.shorten("192.0.2.1")
    ours.knock()
    ours.log.wait_for("set changed: open", 2)
    assert firewall.elements()["192.0.2.1"] > HOUR / 2


def test_there_is_no_moment_without_an_element(firewall, outside, start):
    firewall.load_example()
    if firewall.kind == "nft":
        firewall.nft(
            "table inet watch {"
            " set seen { type ipv4_addr; flags timeout; }\n"
            " chain input { type filter hook input priority -10;"
            " udp dport 9 ip saddr != @seen counter drop; }\n"
            "}"
        )
        sets = "--nft=inet/watch/seen"
    else:
        match = "-m set ! --match-set knock4 src -j DROP"
        firewall.run(f"iptables -I INPUT -p udp --dport 9 {match}")
        sets = "--ipset=knock4"

    def dropped():
        if firewall.kind == "nft":
            return int(
                re.search(r"packets (\d+)", firewall.output("nft", "list", "table", "inet", "watch"))[1]
            )
        listed = firewall.output("iptables", "-nvxL", "INPUT")
        return int(re.search(r"^ *(\d+) .*dpt:9", listed, re.MULTILINE)[1])

    ours = start("--ttl=1h", "-v", sets=sets)
    ours.knock(CLIENT[socket.AF_INET])
    ours.log.wait_for("set changed: open")
    with outside.socket() as sender:
        sender.sendto(b"", (SERVER[socket.AF_INET], 9))
        before = dropped()
        ended = threading.Event()

        def send():
            while not ended.is_set():
                sender.sendto(b"", (SERVER[socket.AF_INET], 9))

        thread = threading.Thread(target=send)
        thread.start()
        for _ in range(300):
            ours.knock(CLIENT[socket.AF_INET])
        ours.log.wait_for("set .*: open", 301)
        ended.set()
        thread.join()
    assert dropped() == before


@pytest.mark.slow
def test_a_grant_ends_in_time_although_the_server_was_killed(firewall, start):
    firewall.load_example()
    ours = start("--ttl=4", "-v")
    ours.knock()
    ours.log.wait_for("set changed: open")
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    assert 0 < firewall.elements()["192.0.2.1"] <= 4
    firewall.expect([])


def test_without_a_ttl_a_grant_stays_until_it_is_closed(firewall, start):
    # A set without timeouts works, too.
    if firewall.kind == "nft":
        firewall.nft(
            "table inet pyknock {"
            " set knock4 { type ipv4_addr; flags timeout; }\n"
            " set knock6 { type ipv6_addr; }\n }"
        )
    else:
        firewall.output("ipset", "create", "knock4", "hash:ip", "timeout", "0")
        firewall.output("ipset", "create", "knock6", "hash:ip", "family", "inet6")
    ours = start("-v")
    ours.log.wait_for("grants a .* until it is closed$", 2)
    for address, name in (("192.0.2.1", "knock4"), ("2001:db8::1", "knock6")):
        ours.knock(address)
        ours.log.wait_for(f"set changed: open {address}")
        assert firewall.elements(name) in ({address: None}, {address: 0})
        ours.knock(address)
        ours.log.wait_for(f"set .*: open {address}", 2)
        ours.knock(address, CLOSE)
        firewall.expect([], name=name)


def test_without_a_ttl_the_time_of_the_set_applies(firewall, start, tmp_path):
    if firewall.kind == "nft":
        sets, what = "--nft=inet/pyknock/knock4", "set knock4 of table inet pyknock"
        make = "table inet pyknock { set knock4 { type ipv4_addr; flags timeout; timeout %ss; }\n }"
        firewall.nft(make % 900)
    else:
        sets, what = "--ipset=knock4", "ipset knock4"
        firewall.run("ipset create knock4 hash:ip timeout 900")
    ours = start("-v", f"--state={tmp_path}/state", sets=sets)
    ours.log.wait_for(f"^pyknock server: grants a /32 in {what} for 900 s \\(the set's own time\\)$")
    ours.knock("192.0.2.1")
    ours.log.wait_for("set changed: open 192.0.2.1")
    assert 890 < firewall.elements()["192.0.2.1"] <= 900
    # Somebody makes the set again, with a time that is over soon.
    if firewall.kind == "nft":
        firewall.nft("delete table inet pyknock")
        firewall.nft(make % 2)
    else:
        firewall.run("ipset destroy knock4")
        firewall.run("ipset create knock4 hash:ip timeout 2")
    ours.knock("192.0.2.2")
    ours.log.wait_for("no longer in .*: 192.0.2.1$")
    ours.log.wait_for("^pyknock server: expired: close 192.0.2.2$")
    firewall.expect([])
    ours.wait_for_counters(open=0)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [False, True], ids=["running", "killed"])
def test_a_set_without_timeouts_is_closed_by_the_server(firewall, start, tmp_path, kills):
    if firewall.kind == "nft":
        firewall.nft("table inet pyknock { set knock4 { type ipv4_addr; }\n }")
    else:
        firewall.run("ipset create knock4 hash:ip")
    sets = "--nft=inet/pyknock/knock4" if firewall.kind == "nft" else "--ipset=knock4"
    options = [f"--state={tmp_path}/state", "--close-after=2", "-v"]
    ours = start(*options, sets=sets)
    ours.knock("192.0.2.7")
    # On a loaded machine, it may be closed again before nft or ipset lists it.
    ours.log.wait_for("set changed: open 192.0.2.7")
    if kills:
        ours.signal(signal.SIGKILL)
        ours.exit_code()
        ours = start(*options, sets=sets)
        ours.log.wait_for("1 grant is open")
    until(lambda: list(firewall.elements()) == [], "it is closed")
    ours.wait_for_counters(open=0)


@pytest.mark.parametrize("table_family", ["ip", "ip6", "inet", "bridge", "netdev"])
@only_nft
def test_sets_of_every_family_of_tables(firewall, start, table_family):
    firewall.nft(
        f"table {table_family} t {{ set a {{ type ipv4_addr; flags timeout; }}\n"
        "set b { type ipv6_addr; flags timeout; }\n }"
    )
    ours = start("--ttl=1h", "-v", sets=f"--nft={table_family}/t/a,b")
    ours.knock("192.0.2.1")
    ours.knock("2001:db8::1")
    ours.log.wait_for("set changed", 2)
    assert list(firewall.elements("a", f"{table_family} t")) == ["192.0.2.1"]
    assert list(firewall.elements("b", f"{table_family} t")) == ["2001:db8::1"]


@only_nft
def test_the_longest_names(firewall, start):
    table, name = "t" * 255, "s" * 255
    firewall.nft(f"table inet {table} {{ set {name} {{ type ipv4_addr; flags timeout; }}\n }}")
    ours = start("--ttl=1h", "-v", sets=f"--nft=inet/{table}/{name}")
    ours.knock()
    ours.log.wait_for("set changed")


@only_ipset
def test_the_longest_name_of_an_ipset(firewall, start):
    name = "s" * 31
    firewall.run(f"ipset create {name} hash:ip timeout 0")
    ours = start("--ttl=2147483", "-v", sets=f"--ipset={name}")
    ours.knock()
    ours.log.wait_for("set changed")


@pytest.mark.slow
def test_an_answer_that_is_there_is_taken_however_late(start, firewall, intruder, tmp_path):
    """The server may be paused between its request and the answer, for longer than it waits for one."""
    firewall.load_example()
    milliseconds = tmp_path / "slow"
    milliseconds.write_text("0")
    environment = {**os.environ, "LD_PRELOAD": str(intruder), "INTRUDER_SLOW": str(milliseconds)}
    ours = start(env=environment)
    milliseconds.write_text("2100")
    ours.knock()
    ours.wait_for_counters(set_changed=1, set_not_changed=0)
    firewall.expect(["192.0.2.1"])
    milliseconds.write_text("0")
