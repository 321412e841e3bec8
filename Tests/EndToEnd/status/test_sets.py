"""What the sets hold: ours, and what others have put there."""

import os
import time
from datetime import datetime

import pytest
from support.datagrams import CLOSE
from support.firewall import only_ipset, only_nft
from support.processes import as_nobody
from support.waiting import until

pytestmark = pytest.mark.usefixtures("not_emulated")
NO_STATE = "pyknock status: no --state: it is not known whether the server runs, and what is ours"


def named(firewall, name="knock4"):
    return f"inet/pyknock/{name}" if firewall.kind == "nft" else f"ipset/{name}"


def about(firewall, name="knock4"):
    return f"set {name} of table inet pyknock" if firewall.kind == "nft" else f"ipset {name}"


def add(firewall, *elements, name="knock4"):
    """Adds elements. Each may have a time in seconds after a blank."""
    for element in elements:
        address, _, seconds = element.partition(" ")
        if firewall.kind == "nft":
            firewall.nft(f"add element inet pyknock {name} {{ {address} {seconds and f'timeout {seconds}s'} }}")
        else:
            firewall.output("ipset", "add", name, address, *(["timeout", seconds] if seconds else []))


def rows(lines):
    """The table without its times: the address, the user, whether it ends, whose it is, and where."""
    assert lines[2].split() == ["ADDRESS", "USER", "SINCE", "EXPIRES", "OURS", "IN"]
    found = []
    for line in lines[3:]:
        address, user, _, expires, ours, where = line.split(maxsplit=5)
        found.append((address, user, expires if expires.isalpha() else "time", ours, where))
    return found


def test_grants_and_what_others_have_added(firewall, start, status, tmp_path):
    firewall.load_example()
    state = f"--state={tmp_path}/state"
    ours = start("--ttl=1h", state)
    ours.knock("192.0.2.7")
    ours.knock("2001:db8::7")
    ours.wait_for_counters(open=2)
    add(firewall, "192.0.2.9", "192.0.2.3 600")
    add(firewall, "2001:db8::9", name="knock6")
    code, lines, errors = status(state, firewall.sets)
    assert (code, errors) == (0, [])
    expected = [
        ("192.0.2.3", "-", "time", "no", named(firewall)),
        ("192.0.2.7", "-", "time", "yes", named(firewall)),
        ("192.0.2.9", "-", "never", "no", named(firewall)),
        ("2001:db8::7", "-", "time", "yes", named(firewall, "knock6")),
        ("2001:db8::9", "-", "never", "no", named(firewall, "knock6")),
    ]
    assert rows(lines) == expected
    code, listed, errors = status(state, firewall.sets, "--json")
    assert (code, errors, listed["running"], listed["process"]) == (0, [], True, ours.pid)
    assert [item["range"] for item in listed["open"]] == [row[0] for row in expected]
    assert [item["ours"] for item in listed["open"]] == [row[3] == "yes" for row in expected]
    assert {(item["held"], item["user"]) for item in listed["open"]} == {(True, None)}
    other, mine = listed["open"][:2]
    seconds = datetime.fromisoformat(other["expires"]).timestamp() - time.time()
    assert 590 < seconds <= 601
    assert [other[name] for name in ("since", "ends", "command")] == [None] * 3
    assert abs(datetime.fromisoformat(mine["expires"]) - datetime.fromisoformat(mine["ends"])).seconds <= 1
    assert mine["command"] is False


def test_without_a_journal_what_is_ours_is_not_known(firewall, status):
    firewall.load_example()
    add(firewall, "192.0.2.9", "192.0.2.3 600")
    code, lines, errors = status(firewall.sets)
    assert (code, errors, lines[0]) == (4, [NO_STATE], "server: not known whether it runs")
    assert rows(lines) == [
        ("192.0.2.3", "?", "time", "?", named(firewall)),
        ("192.0.2.9", "?", "never", "?", named(firewall)),
    ]
    assert {line.split()[2] for line in lines[3:]} == {"?"}
    _, listed, _ = status(firewall.sets, "--json")
    assert {(item["ours"], item["held"]) for item in listed["open"]} == {(None, True)}


def test_the_kernels_time_counts_and_a_dead_server_lies_to_nobody(firewall, start, status, tmp_path):
    firewall.load_example()
    state = f"--state={tmp_path}/state"
    ours = start("--ttl=1h", state)
    ours.knock("192.0.2.7")
    ours.knock("192.0.2.8")
    ours.wait_for_counters(open=2)
    ours.stop()
    # The kernel ends the first one early, and has forgotten the second.
    if firewall.kind == "nft":
        firewall.nft("delete element inet pyknock knock4 { 192.0.2.7, 192.0.2.8 }")
    else:
        firewall.run("ipset flush knock4")
    add(firewall, "192.0.2.7 60")
    code, lines, errors = status(state, firewall.sets)
    assert (code, errors, lines[0]) == (3, [], "server: does not run")
    assert rows(lines) == [
        ("192.0.2.7", "-", "time", "yes", named(firewall)),
        ("192.0.2.8", "-", "gone", "yes", named(firewall)),
    ]
    _, listed, _ = status(state, firewall.sets, "--json")
    first, second = listed["open"]
    assert datetime.fromisoformat(first["expires"]).timestamp() - time.time() < 61
    assert datetime.fromisoformat(first["ends"]).timestamp() - time.time() > 3000
    assert (first["held"], second["held"]) == (True, False)


def test_an_address_without_a_time_is_not_from_a_knock_with_one(firewall, start, status, tmp_path):
    """The administrator has added it for ever, so it will stay."""
    firewall.load_example()
    state = f"--state={tmp_path}/state"
    ours = start("--ttl=1h", state)
    add(firewall, "192.0.2.7")
    ours.knock("192.0.2.7")
    ours.wait_for_counters(open=1)
    _, lines, _ = status(state, firewall.sets)
    assert rows(lines) == [
        ("192.0.2.7", "-", "time", "yes", named(firewall)),
        ("192.0.2.7", "-", "never", "no", named(firewall)),
    ]


def test_prefixes_and_other_ranges(firewall, start, status, tmp_path):
    if firewall.kind == "nft":
        firewall.make_intervals("10.0.0.5-10.0.0.9, 224.0.0.0/3")
        others = [("10.0.0.5-10.0.0.9", "never"), ("224.0.0.0/3", "never")]
    else:
        firewall.run("ipset create knock4 hash:net timeout 0")
        firewall.run("ipset add knock4 10.0.0.0/8")
        firewall.run("ipset add knock4 10.1.0.0/16 nomatch")
        firewall.run("ipset add knock4 10.2.0.0/16 timeout 600")
        others = [("10.0.0.0/8", "never"), ("10.2.0.0/16", "time")]
    state, sets = f"--state={tmp_path}/state", firewall.sets.partition(",")[0]
    ours = start("--grant-prefix4=24", "--ttl=1h", state, sets=sets)
    for host in ("192.0.2.7", "192.0.2.8", "198.51.100.1"):
        ours.knock(host)
    ours.wait_for_counters(open=3)
    code, lines, errors = status(state, sets)
    assert (code, errors) == (0, [])
    networks = ["192.0.2.0/24", "192.0.2.0/24", "198.51.100.0/24"]
    ours_now = [(network, "-", "time", "yes", named(firewall)) for network in networks]
    foreign = [(net, "-", when, "no", named(firewall)) for net, when in others]
    assert sorted(rows(lines)) == sorted(ours_now + foreign)
    _, listed, _ = status(state, sets, "--json")
    assert {(item["address"], item["range"]) for item in listed["open"] if item["ours"]} == {
        ("192.0.2.7", "192.0.2.0/24"), ("192.0.2.8", "192.0.2.0/24"), ("198.51.100.1", "198.51.100.0/24")
    }  # fmt: skip
    ours.knock("192.0.2.8", CLOSE)
    ours.wait_for_counters(open=2)

    def mine():
        return [row[0] for row in rows(status(state, sets)[1]) if row[3] == "yes"]

    until(lambda: mine() == ["192.0.2.0/24", "198.51.100.0/24"], "the closed grant is off the list")


@only_nft
def test_grants_that_share_an_element_are_ours(firewall, start, status, tmp_path):
    firewall.nft("table inet pyknock { set knock4 { type ipv4_addr; flags interval; auto-merge; }\n }")
    state, sets = f"--state={tmp_path}/state", "--nft=inet/pyknock/knock4"
    ours = start(state, sets=sets)
    for host in (6, 7, 8):
        ours.knock(f"192.0.2.{host}")
    ours.wait_for_counters(open=3)
    firewall.nft("flush set inet pyknock knock4")
    firewall.nft("add element inet pyknock knock4 { 192.0.2.6-192.0.2.8, 203.0.113.0-203.0.113.4 }")
    _, lines, errors = status(state, sets)
    assert errors == []
    assert [row[:1] + row[2:4] for row in rows(lines)] == [
        ("192.0.2.6", "never", "yes"),
        ("192.0.2.7", "never", "yes"),
        ("192.0.2.8", "never", "yes"),
        ("203.0.113.0-203.0.113.4", "never", "no"),
    ]
    # One address more is nobody's.
    firewall.nft("add element inet pyknock knock4 { 192.0.2.9 }")
    firewall.expect(["192.0.2.6-192.0.2.9", "203.0.113.0-203.0.113.4"])
    _, lines, _ = status(state, sets)
    assert [row[0] for row in rows(lines) if row[3] == "no"] == ["192.0.2.6-192.0.2.9", "203.0.113.0-203.0.113.4"]


UNUSABLE = {
    "missing": "",
    "concatenated": "add set inet pyknock knock4 { type ipv4_addr . inet_service; }",
    "other type": "add set inet pyknock knock4 { type inet_service; }",
    "map": "add map inet pyknock knock4 { type ipv4_addr : inet_service; }",
}


@only_nft
@pytest.mark.parametrize("commands", UNUSABLE.values(), ids=UNUSABLE)
def test_a_set_that_cannot_be_read_is_named(firewall, status, commands):
    firewall.nft(f"add table inet pyknock; add set inet pyknock knock6 {{ type ipv6_addr; }}; {commands}")
    add(firewall, "2001:db8::9", name="knock6")
    code, lines, errors = status(firewall.sets)
    assert (code, errors[0]) == (1, NO_STATE)
    name = "set knock4 of table inet pyknock"
    problem = f"{name} is a map" if "map" in commands else f"{name} does not hold ipv4_addr"
    assert errors[1].startswith(f"pyknock status: {problem if commands else f'there is no {name}'}; to make it: ")
    assert [row[0] for row in rows(lines)] == ["2001:db8::9"]


@only_ipset
def test_a_set_of_another_type_of_ipset_is_named(firewall, status):
    firewall.run("ipset create knock4 hash:ip,port")
    code, _, errors = status("--ipset=knock4")
    assert (code, errors[0]) == (1, NO_STATE)
    assert errors[1].startswith("pyknock status: ipset knock4 does not hold addresses of family inet as hash:ip or ")


@pytest.mark.other_users
def test_without_the_capability_each_set_is_named(firewall, start, status, public):
    firewall.load_example()
    path = public / "state"
    path.mkdir(mode=0o700)
    state = f"--state={path}"
    ours = start("--ttl=1h", state)
    ours.knock("192.0.2.7")
    ours.wait_for_counters(open=1)
    ours.stop()
    for file in (path, *path.iterdir()):
        os.chown(file, 65534, 65534)
    code, lines, errors = status(state, firewall.sets, prefix=as_nobody())
    assert code == 1
    problem = "Operation not permitted (the capability CAP_NET_ADMIN is needed)"
    assert errors == [f"pyknock status: {about(firewall, name)}: {problem}" for name in ("knock4", "knock6")]
    # What the journal says.
    assert rows(lines) == [("192.0.2.7", "-", "time", "yes", named(firewall))]


@pytest.mark.slow
@pytest.mark.parametrize("intervals", [False, True], ids=["addresses", "intervals"])
def test_a_large_set_takes_little_memory(firewall, status, intervals):
    count = 100_000
    hosts = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(0, 2 * count, 2)]
    if firewall.kind == "nft":
        flags = "flags interval;" if intervals else ""
        firewall.nft(f"table inet pyknock {{ set knock4 {{ type ipv4_addr; {flags} }}\n }}")
        firewall.nft(f"add element inet pyknock knock4 {{ {', '.join(hosts)} }}")
    else:
        firewall.run(f"ipset create knock4 hash:{'net' if intervals else 'ip'} maxelem {count}")
        lines = "".join(f"add knock4 {host}\n" for host in hosts)
        firewall.output("ipset", "restore", stdin=lines.encode())
    sets = "--nft=inet/pyknock/knock4" if firewall.kind == "nft" else "--ipset=knock4"
    limit = ["prlimit", f"--as={64 << 20}", "--"]

    def lists_all():
        code, lines, errors = status(sets, prefix=limit)
        assert (code, errors) == (4, [NO_STATE])
        return [line.split()[0] for line in lines[3:]] == hosts

    # While the kernel makes its hash table larger, it leaves elements out of a list (nft_rhash_walk in
    # net/netfilter/nft_set_hash.c). nft(8) does the same then.
    until(lists_all, "all are listed")


@pytest.mark.parametrize("times", [2, 99])
def test_a_set_that_changes_while_it_is_read_is_read_again(firewall, status, netlink, times):
    firewall.load_example()
    add(firewall, *(f"192.0.2.{host}" for host in range(1, 30)))
    sets = firewall.sets.partition(",")[0]
    environment = {**os.environ, "LD_PRELOAD": str(netlink), "NETLINK": f"changed {times}"}
    code, lines, errors = status(sets, env=environment)
    # There may be two datagrams for each attempt.
    assert len(rows(lines)) == 29
    if times == 99:
        line = f"pyknock status: {about(firewall)}: it changes while it is read, so elements may be missing"
        assert (code, errors) == (1, [NO_STATE, line])
    else:
        assert (code, errors) == (4, [NO_STATE])


@pytest.mark.parametrize("size", [1, 4, 40, 180])
def test_an_answer_that_is_cut_short_is_an_error(firewall, status, netlink, size):
    firewall.load_example()
    add(firewall, *(f"192.0.2.{host}" for host in range(1, 30)))
    environment = {**os.environ, "LD_PRELOAD": str(netlink), "NETLINK": f"cut {size}"}
    code, _, errors = status(firewall.sets.partition(",")[0], env=environment)
    line = f"pyknock status: {about(firewall)}: the kernel's answer is malformed"
    assert (code, errors) == (1, [NO_STATE, line])
