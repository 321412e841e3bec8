"""Sets that others remove, replace, fill or change while the server runs."""

import ipaddress
import subprocess

import pytest
from support.datagrams import CLOSE, OPEN
from support.firewall import DAY, only_nft
from support.waiting import until


@only_nft
def test_an_element_without_time_is_somebody_elses(firewall, start):
    firewall.load_example()
    firewall.nft("add element inet pyknock knock4 { 192.0.2.1, 192.0.2.2 timeout 1d }")
    ours = start("--ttl=1h", "-v")
    for address in ("192.0.2.1", "192.0.2.2"):
        ours.knock(address)
        ours.log.wait_for(f"set already up to date: open {address}")
    elements = firewall.elements()
    assert elements["192.0.2.1"] is None
    assert DAY - 60 < elements["192.0.2.2"] <= DAY
    ours.knock("192.0.2.1", CLOSE)
    ours.knock("192.0.2.2", CLOSE)
    ours.log.wait_for("set changed: close 192.0.2.2")
    ours.log.wait_for(
        "^pyknock server: set not changed: close 192.0.2.1: set knock4 of table inet pyknock holds it"
        " without a timeout, so it is not from a knock with --ttl$"
    )
    assert firewall.elements() == {"192.0.2.1": None}


def test_the_server_survives_that_a_set_is_removed_and_made_anew(firewall, start):
    firewall.load_example()
    ours = start("--ttl=1h", "-v")
    ours.knock()
    ours.log.wait_for("set changed: open")
    firewall.remove_sets()
    for count, command in enumerate((OPEN, CLOSE), 1):
        ours.knock(command=command)
        missing = "table inet pyknock" if firewall.kind == "nft" else "ipset knock4"
        ours.log.wait_for(
            f"^pyknock server: set not changed: (open|close) 192.0.2.1: there is no {missing};", count
        )
    firewall.load_example()
    ours.knock()
    ours.log.wait_for("set changed: open", 2)
    assert list(firewall.elements()) == ["192.0.2.1"]
    counters = ours.counters()
    assert (counters["set-changed"], counters["set-not-changed"]) == (2, 2)
    assert (counters["accepted"], counters["running"], counters["queued"]) == (4, 0, 0)
    assert ours.stop() == 0


@only_nft
def test_a_set_made_anew_in_another_way_is_seen_at_once(firewall, start):
    firewall.load_example()
    ours = start("--ttl=1h", "-v")
    made = "table inet pyknock {{ set knock4 {{ type ipv4_addr; flags {}; }}\n }}"
    firewall.remove_sets()
    firewall.nft(made.format("timeout, interval"))
    ours.knock("192.0.2.1")
    ours.log.wait_for("set changed: open 192.0.2.1")
    ours.knock("192.0.2.2")
    ours.log.wait_for("set changed: open 192.0.2.2")
    # Both are single addresses: no interval lacks its end.
    assert set(firewall.elements()) == {"192.0.2.1", "192.0.2.2"}
    firewall.remove_sets()
    firewall.nft(made.format("dynamic, timeout"))
    ours.knock("192.0.2.3")
    ours.log.wait_for("set changed: open 192.0.2.3")
    assert set(firewall.elements()) == {"192.0.2.3"}
    firewall.remove_sets()
    firewall.nft("table inet pyknock { set knock4 { type ipv4_addr; }\n }")
    ours.knock("192.0.2.4")
    ours.log.wait_for("set not changed: open 192.0.2.4: set knock4 .* has no timeouts")


def test_a_full_set(firewall, start):
    if firewall.kind == "nft":
        firewall.nft(
            "table inet pyknock { set knock4 { type ipv4_addr; flags timeout; size 1; }\n }"
        )
        sets, what = "--nft=inet/pyknock/knock4", "set knock4 of table inet pyknock"
    else:
        firewall.run("ipset create knock4 hash:ip timeout 0 maxelem 1")
        sets, what = "--ipset=knock4", "ipset knock4"
    ours = start("--ttl=1h", "-v", sets=sets)
    ours.knock("192.0.2.1")
    ours.log.wait_for("set changed: open 192.0.2.1")
    ours.knock("192.0.2.2")
    line = ours.log.wait_for("set not changed.*")[0]
    assert line == f"set not changed: open 192.0.2.2: {what} is full"
    # A full set still takes a knock for an address that is in it.
    ours.knock("192.0.2.1")
    ours.log.wait_for("set (changed|already up to date): open 192.0.2.1", 2)
    assert list(firewall.elements()) == ["192.0.2.1"]


@only_nft
@pytest.mark.parametrize("options", [[], ["--grant-prefix4=31"]], ids=["addresses", "intervals"])
def test_others_may_change_rules_at_the_same_time(firewall, start, options):
    if options:
        firewall.make_intervals()
    else:
        firewall.load_example()
    ours = start("--ttl=1h", "-v", *options, sets="--nft=inet/pyknock/knock4")
    busy = subprocess.Popen(
        [*firewall.prefix, "sh", "-c", "yes 'add table inet x; delete table inet x' | nft -i"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for number in range(200):
            ours.knock(f"192.0.{number}.0")
        ours.log.wait_for("set changed", 200)
    finally:
        subprocess.run(["pkill", "--session", str(busy.pid)])
        busy.wait()
    assert len(firewall.elements()) == 200


@pytest.mark.slow
@pytest.mark.parametrize("holds", ["addresses", "intervals"])
def test_a_hundred_thousand_addresses(firewall, start, holds):
    addresses = [str(ipaddress.ip_address("10.0.0.0") + 2 * number) for number in range(100_000)]
    if firewall.kind == "nft":
        flags = "timeout" if holds == "addresses" else "timeout, interval"
        firewall.nft(f"table inet pyknock {{ set knock4 {{ type ipv4_addr; flags {flags}; }}\n }}")
        # Only root of the system may send larger messages to the kernel.
        for first in range(0, len(addresses), 4000):
            some = ",".join(addresses[first : first + 4000])
            firewall.nft(f"add element inet pyknock knock4 {{ {some} }}")
    else:
        kind = "hash:ip" if holds == "addresses" else "hash:net"
        lines = [f"create knock4 {kind} timeout 0 maxelem 200000"]
        lines += [f"add knock4 {address}" for address in addresses]
        firewall.output("ipset", "restore", stdin="\n".join(lines).encode())
    sets = "--nft=inet/pyknock/knock4" if firewall.kind == "nft" else "--ipset=knock4"
    ours = start("--ttl=1h", "-v", sets=sets)
    for number in range(1, 21, 2):
        ours.knock(f"10.0.0.{number}")
    ours.log.wait_for("set changed: open", 10)
    ours.knock("10.0.0.1", CLOSE)
    ours.log.wait_for("set changed: close")
    expected = {*addresses, *(f"10.0.0.{number}" for number in range(3, 21, 2))}
    # While the kernel resizes a large set, a listing lacks some elements.
    until(lambda: set(firewall.elements()) == expected, "the set is right")
