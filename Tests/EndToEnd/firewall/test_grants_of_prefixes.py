"""What a grant opens stays open until the last grant in it has ended, whatever the settings are by then."""

import ipaddress
import json
import signal
import time
from random import Random

import pytest
from support.datagrams import CLOSE, OPEN
from support.firewall import HOUR, only_ipset
from support.programs import program, run
from support.waiting import until


def make_sets(firewall, timeouts=True, family=4):
    """Makes knock4 or knock6 so that it holds prefixes. Returns the option for it."""
    name = f"knock{family}"
    if firewall.kind == "nft":
        flags = "timeout, interval" if timeouts else "interval"
        firewall.nft(f"table inet pyknock {{ set {name} {{ type ipv{family}_addr; flags {flags}; }}\n }}")
        return f"--nft=inet/pyknock/{',' if family == 6 else ''}{name}"
    kind = ["hash:net", "family", "inet6" if family == 6 else "inet"]
    firewall.output("ipset", "create", name, *kind, *(["timeout", "0"] if timeouts else []))
    return f"--ipset={',' if family == 6 else ''}{name}"


def networks(firewall, name="knock4"):
    """What a set holds, as the fewest networks."""
    found = []
    for element in firewall.elements(name):
        first, _, last = element.partition("-")
        ends = [ipaddress.ip_address(end) for end in (first, last)] if last else []
        found += ipaddress.summarize_address_range(*ends) if last else [ipaddress.ip_network(element)]
    return set(ipaddress.collapse_addresses(found))


class Listed:
    """The state directory of the servers of a test."""

    def __init__(self, path):
        self.path, self.option = path, f"--state={path}"

    def list(self):
        result = run([*program("server"), self.option, "--list", "--json"])
        assert (result.code, result.stderr) == (0, "")
        return json.loads(result.stdout)

    def addresses(self):
        return [item["address"] for item in self.list()]


@pytest.fixture
def listed(tmp_path):
    return Listed(tmp_path / "state")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "options, keeps",
    [
        ([], False),
        (["--ttl=1h"], False),
        ([], True),
        (["--ttl=1h"], True),
        (["--close-after=1h"], True),
        (["--close-after=1h", "--ttl=2h"], True),
    ],
)
def test_a_close_leaves_the_prefix_to_the_neighbours(firewall, start, listed, options, keeps, family):
    sets, name = make_sets(firewall, family=family), f"knock{family}"
    prefix, bits = ("192.0.2.0/24", 24) if family == 4 else ("2001:db8:1:2::/64", 64)
    one, two, three = (str(ipaddress.ip_network(prefix)[number]) for number in (7, 8, 9))
    state = [listed.option] if keeps else []
    ours = start(f"--grant-prefix{family}={bits}", "-v", *options, *state, sets=sets)
    warning = "warning: after a restart, a close will end the whole prefix, also for other addresses"
    assert bool(ours.log.matching(warning)) != keeps
    ours.knock(one)
    ours.knock(two)
    ours.wait_for_counters(open=2, accepted=2)
    # Nobody has asked for this one.
    ours.knock(three, CLOSE)
    ours.knock(one, CLOSE)
    ours.wait_for_counters(open=1, accepted=4)
    assert list(firewall.elements(name)) == [prefix]
    if keeps:
        assert listed.addresses() == [two]
    ours.knock(two, CLOSE)
    firewall.expect([], name=name)
    ours.wait_for_counters(open=0)
    assert not keeps or listed.list() == []


def test_a_grant_that_ends_early_leaves_the_prefix_until_the_end_of_the_rest(firewall, start, listed):
    sets = make_sets(firewall)
    ours = start("--grant-prefix4=24", "--ttl=300", "-v", listed.option, sets=sets)
    ours.knock("192.0.2.7")
    ours.wait_for_counters(open=1)
    ours.stop()
    ours = start("--grant-prefix4=24", "--ttl=2h", "-v", listed.option, sets=sets)
    ours.knock("192.0.2.8")
    ours.wait_for_counters(open=2)
    assert firewall.elements()["192.0.2.0/24"] > HOUR
    ours.knock("192.0.2.8", CLOSE)
    ours.wait_for_counters(open=1)
    assert 200 < firewall.elements()["192.0.2.0/24"] <= 300


@pytest.mark.slow
def test_the_prefix_closes_with_its_last_grant(firewall, start):
    ours = start("--grant-prefix4=24", "--ttl=3", "-v", sets=make_sets(firewall))
    ours.knock("192.0.2.7")
    ours.log.wait_for("set changed: open")
    time.sleep(1.5)
    ours.knock("192.0.2.8")
    ours.log.wait_for("^pyknock server: expired: close 192.0.2.7$")
    assert list(firewall.elements()) == ["192.0.2.0/24"]
    ours.log.wait_for("^pyknock server: expired: close 192.0.2.8$")
    firewall.expect([])


@pytest.mark.parametrize("old, new", [(24, 32), (32, 24), (24, 20), (20, 24)])
def test_a_restart_with_another_prefix_length_closes_what_was_opened(firewall, start, listed, old, new):
    sets = make_sets(firewall)
    for bits, address in ((old, "192.0.2.7"), (new, "192.0.2.8")):
        ours = start(f"--grant-prefix4={bits}", "--ttl=1h", "-v", listed.option, sets=sets)
        ours.knock(address)
        until(lambda address=address: address in listed.addresses(), "it is listed")
        ours.signal(signal.SIGKILL)
        ours.exit_code()
    ours = start(f"--grant-prefix4={new}", "--ttl=1h", "-v", listed.option, sets=sets)
    ours.knock("192.0.2.7", CLOSE)
    ours.wait_for_counters(open=1)
    assert networks(firewall) == {ipaddress.ip_network(f"192.0.2.8/{new}", strict=False)}
    ours.knock("192.0.2.8", CLOSE)
    firewall.expect([])
    assert until(lambda: listed.list() == [], "nothing is listed")


@pytest.mark.parametrize("new", ["other set", "no set"])
def test_a_restart_with_another_set_or_none_closes_what_was_opened(firewall, start, server, listed, new):
    sets = make_sets(firewall)
    ours = start("--grant-prefix4=24", "--ttl=1h", "-v", listed.option, sets=sets)
    ours.knock("192.0.2.7")
    ours.knock("192.0.2.9")
    ours.wait_for_counters(open=2)
    ours.stop()
    if new == "other set":
        if firewall.kind == "nft":
            firewall.nft("add set inet pyknock other { type ipv4_addr; flags timeout; }")
        else:
            firewall.run("ipset create other hash:ip timeout 0")
        ours = start("--ttl=1h", "-v", listed.option, sets=sets.replace("knock4", "other"))
        ours.knock("192.0.2.7")
        ours.wait_for_counters(open=3)
        assert list(firewall.elements("other")) == ["192.0.2.7"]
        assert [item["range"] for item in listed.list()].count("192.0.2.0/24") == 2
    else:
        ours = server("-v", listed.option, network=firewall)
    ours.knock("192.0.2.7", CLOSE)
    ours.wait_for_counters(open=1)
    assert list(firewall.elements()) == ["192.0.2.0/24"]
    ours.knock("192.0.2.9", CLOSE)
    firewall.expect([])
    if new == "other set":
        firewall.expect([], name="other")
    assert until(lambda: listed.list() == [], "nothing is listed")


def test_where_the_set_is_gone_the_grant_stays_listed(firewall, start, listed):
    ours = start("--ttl=1h", "-v", listed.option, sets=make_sets(firewall))
    ours.knock("192.0.2.7")
    ours.wait_for_counters(open=1)
    firewall.remove_sets()
    ours.knock("192.0.2.7", CLOSE)
    ours.log.wait_for("^pyknock server: not closed: close 192.0.2.7, trying again in a minute$")
    assert listed.addresses() == ["192.0.2.7"]
    make_sets(firewall)
    # It comes at once, and is no repeat, since the first has failed.
    ours.knock("192.0.2.7", CLOSE)
    ours.wait_for_counters(open=0)
    assert listed.list() == []


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "start"])
def test_what_somebody_has_removed_is_taken_off_the_list_and_never_put_back(firewall, start, listed, restarts):
    sets = make_sets(firewall)
    options = ["--grant-prefix4=24", "--ttl=1h", "-v", listed.option]
    ours = start(*options, sets=sets)
    # So many that at the start the receiver is ready first. Nothing then wakes the executor.
    for address in ("192.0.2.7", "192.0.2.8", *(f"198.51.100.{number}" for number in range(40))):
        ours.knock(address)
    ours.wait_for_counters(open=42)
    if restarts:
        ours.stop()
    if firewall.kind == "nft":
        firewall.nft("flush set inet pyknock knock4")
    else:
        firewall.run("ipset flush knock4")
    if restarts:
        ours = start(*options, sets=sets)
    else:
        ours.knock("192.0.2.8", CLOSE)
    what = "set knock4 of table inet pyknock" if firewall.kind == "nft" else "ipset knock4"
    ours.log.wait_for(f"^pyknock server: no longer open: 192.0.2.7 was removed from {what}$")
    until(lambda: listed.list() == [], "nothing is listed")
    ours.wait_for_counters(open=0)
    assert firewall.elements() == {}


def test_an_element_that_stands_for_ever_is_not_ours_and_its_grant_ends(firewall, start, listed, tmp_path):
    sets, done = make_sets(firewall), tmp_path / "done"
    if firewall.kind == "nft":
        firewall.nft("add element inet pyknock knock4 { 192.0.2.7 }")
    else:
        firewall.run("ipset add knock4 192.0.2.7 timeout 0")
    words = ["-k", "-", "true", f"echo close >> {done}"]
    ours = start("--ttl=1h", "--close-after=1h", "-v", listed.option, sets=sets, words=words)
    ours.knock("192.0.2.7")
    ours.wait_for_counters(open=1, succeeded=1)
    ours.knock("192.0.2.7", CLOSE)
    ours.log.wait_for("set not changed: close 192.0.2.7: .* holds it without a timeout")
    ours.wait_for_counters(open=0, succeeded=2)
    assert firewall.elements()["192.0.2.7"] in (None, 0)
    assert (done.read_text(), listed.list()) == ("close\n", [])
    assert not ours.log.matching("not closed")


def test_no_room_for_a_grant_is_refused_until_a_place_is_free(firewall, start):
    ours = start("--grant-prefix4=24", "--grant-capacity=16", "-v", sets=make_sets(firewall))
    for number in range(17):
        ours.knock(f"192.0.{number}.1")
    ours.log.wait_for(
        "^pyknock server: not opened: open 192.0.16.1: 16 addresses are open, all that --grant-capacity allows$"
    )
    ours.wait_for_counters(open=16, not_opened=1)
    assert "192.0.16.0/24" not in firewall.elements()
    # What somebody has removed makes room.
    if firewall.kind == "nft":
        firewall.nft("delete element inet pyknock knock4 { 192.0.3.0/24 }")
    else:
        firewall.run("ipset del knock4 192.0.3.0/24")
    ours.knock("192.0.16.1")
    ours.log.wait_for("set changed: open 192.0.16.1")


@only_ipset
def test_the_mask_of_an_ipset_is_seen_at_each_change(firewall, start):
    firewall.run("ipset create knock4 hash:ip timeout 0")
    ours = start("--ttl=1h", "-v", sets="--ipset=knock4")
    firewall.run("ipset destroy knock4")
    firewall.run("ipset create knock4 hash:ip timeout 0 netmask 24")
    ours.knock("192.0.2.7")
    ours.log.wait_for("set not changed: open 192.0.2.7: ipset knock4 has a mask")
    assert firewall.elements() == {}


class Model:
    """What must be open: for each grant its range and its end, by set."""

    def __init__(self):
        self.grants = {}

    def open(self, address, name, bits, end):
        network = ipaddress.ip_network(f"{address}/{bits}", strict=False)
        self.grants[address, name, network] = end

    def close(self, address):
        self.grants = {key: end for key, end in self.grants.items() if key[0] != address}

    def expire(self, now):
        self.grants = {key: end for key, end in self.grants.items() if end > now}

    def networks(self, name):
        return set(ipaddress.collapse_addresses(key[2] for key in self.grants if key[1] == name))

    def listed(self):
        return sorted((address, str(network)) for address, _, network in self.grants)


@pytest.mark.slow
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seed", range(2))
def test_sets_journal_and_list_are_those_of_a_model(firewall, start, listed, family, seed):
    """Random knocks, ends, and restarts by TERM or KILL with other times, prefixes and sets."""
    random, model = Random(seed), Model()
    names = ["knock4", "other4"] if family == 4 else ["knock6", "other6"]
    for name in names:
        if firewall.kind == "nft":
            firewall.nft(f"table inet pyknock {{ set {name} {{ type ipv{family}_addr; flags timeout, interval; }}\n }}")
        else:
            kind = "inet" if family == 4 else "inet6"
            firewall.run(f"ipset create {name} hash:net family {kind} timeout 0")
    base = "192.0.2.0" if family == 4 else "2001:db8::"
    hosts = [str(ipaddress.ip_address(base) + 3 * number) for number in range(12)]
    full = 32 if family == 4 else 128
    ours = None

    def restart():
        nonlocal ours, name, bits, ttl, after
        if ours:
            ours.signal(random.choice([signal.SIGKILL, signal.SIGTERM]))
            ours.exit_code()
        name, bits = random.choice(names), full - random.choice([0, 2, 3, 4])
        ttl, after = random.choice([(3, None), (HOUR, 4), (None, 3), (HOUR, None)])
        table = "--nft=inet/pyknock/" if firewall.kind == "nft" else "--ipset="
        options = [f"--grant-prefix{family}={bits}"] if bits < full else []
        options += [f"--ttl={ttl}"] if ttl else []
        options += [f"--close-after={after}"] if after else []
        sets = table + ("," if family == 6 else "") + name
        ours = start("-v", listed.option, *options, sets=sets)

    def is_as_model():
        model.expire(time.time())
        near = any(abs(end - time.time()) < 0.5 for end in model.grants.values())
        if near:  # Just now it ends.
            return False
        items = sorted((item["address"], item["range"]) for item in listed.list())
        return items == model.listed() and all(networks(firewall, each) == model.networks(each) for each in names)

    name = bits = ttl = after = None
    restart()
    for _ in range(30):
        if random.random() < 0.2:
            restart()
        address, command = random.choice(hosts), random.choice([OPEN, OPEN, CLOSE])
        ours.knock(address, command)
        ours.log.wait_for(f"set (changed|already up to date): (open|close) {address}$")
        if command == OPEN:
            model.open(address, name, bits, time.time() + min(ttl or HOUR, after or HOUR))
        else:
            model.close(address)
        until(is_as_model, lambda: f"{model.grants}, but {listed.list()}")
    for address in hosts:
        ours.knock(address, CLOSE)
        model.close(address)
    until(is_as_model, lambda: f"{model.grants}, but {listed.list()}")
    assert all(firewall.elements(each) == {} for each in names)
