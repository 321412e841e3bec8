"""What a grant opens stays open until the last grant in it has ended, whatever the settings are by then."""

import ipaddress
import json
import re
import signal
import time
from random import Random

import pytest
from support.datagrams import CLOSE, KEY, OPEN
from support.firewall import HOUR, only_ipset
from support.grant_model import Model, networks
from support.programs import program, run
from support.users import UserFiles
from support.waiting import until

# How long grants of the user bob last at most (seconds).
BOB = 4


def make_sets(firewall, timeouts=True, family=4, name=None):
    """Makes a set that holds prefixes: knock4 or knock6, if it has no other name. Returns the option for it."""
    name = name or f"knock{family}"
    if firewall.kind == "nft":
        flags = "timeout, interval" if timeouts else "interval"
        firewall.nft(f"table inet pyknock {{ set {name} {{ type ipv{family}_addr; flags {flags}; }}\n }}")
        return f"--nft=inet/pyknock/{',' if family == 6 else ''}{name}"
    kind = ["hash:net", "family", "inet6" if family == 6 else "inet"]
    firewall.output("ipset", "create", name, *kind, *(["timeout", "0"] if timeouts else []))
    return f"--ipset={',' if family == 6 else ''}{name}"


class Listed:
    """The state directory of the servers of a test."""

    def __init__(self, path):
        self.path, self.option = path, f"--state={path}"

    def list(self):
        result = run([*program("status"), self.option, "--json"])
        return json.loads(result.stdout)["open"]

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
        until(lambda: listed.addresses() == [two], "one is listed")
    ours.knock(two, CLOSE)
    firewall.expect([], name=name)
    ours.wait_for_counters(open=0)
    if keeps:
        until(lambda: listed.list() == [], "nothing is listed")


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
    assert networks(firewall.elements()) == {ipaddress.ip_network(f"192.0.2.8/{new}", strict=False)}
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
    until(lambda: listed.list() == [], "nothing is listed")


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
    ours.log.wait_for(f"^pyknock server: no longer in {what}: 192.0.2.7$")
    until(lambda: listed.list() == [], "nothing is listed")
    ours.wait_for_counters(open=0)
    assert firewall.elements() == {}


@pytest.mark.slow
def test_a_removed_address_is_found_among_the_places_of_many_that_are_closed(firewall, start):
    """A knock asks the kernel about four grants, not about four places."""
    ours = start("--ttl=1h", "-v", sets=make_sets(firewall))
    many = [f"10.0.{number >> 8}.{number & 255}" for number in range(400)]
    sent = 0
    for command, addresses in (OPEN, [*many, "192.0.2.7"]), (CLOSE, many):
        for address in addresses:
            ours.knock(address, command)
            sent += 1
            if sent % 100 == 0:  # The socket has room for so many.
                ours.wait_for_counters(accepted=sent)
    ours.wait_for_counters(accepted=sent, open=1)
    firewall.delete("192.0.2.7")
    ours.knock("192.0.2.8")
    ours.log.wait_for("^pyknock server: no longer in .*: 192.0.2.7$")
    ours.wait_for_counters(open=1)


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
        "^pyknock server: not opened: open 192.0.16.1: 16 grants are open, all that --grant-capacity allows$"
    )
    ours.wait_for_counters(open=16, not_opened=1)
    assert "192.0.16.0/24" not in firewall.elements()
    # What somebody has removed makes room.
    firewall.delete("192.0.3.0/24")
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


@pytest.mark.slow
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("seed", range(3))
def test_sets_journal_and_list_are_those_of_a_model(firewall, start, listed, family, seed, tmp_path):
    """Random knocks of five users and one without a name, and ends. Sets and a user are removed and put back.

    Each user but alice has a limit. The prefixes of carol and the others overlap.

    The server restarts after TERM or KILL with other times, prefixes and sets.

    A removed set comes back empty. `Tests/Machine/test_sleep.py` does the same with a machine that really sleeps.
    """
    random, model, steps = Random(seed), Model(), []
    names = [f"knock{family}", f"other{family}"]
    base = "192.0.2.0" if family == 4 else "2001:db8::"
    hosts = [str(ipaddress.ip_address(base) + 3 * number) for number in range(12)]
    full = 32 if family == 4 else 128
    # The server, how many knocks it has had, and its settings.
    ours = sent = name = bits = seconds = None
    users, keys = UserFiles(tmp_path / "keys"), {None: KEY}
    own = ipaddress.ip_network(f"{base}/{full - 4}")
    limits = {
        "alice": [], "bob": [f"ttl {BOB}s"], "carol": [f"grant-prefix{family} {full - 3}"],
        "dora": ["commands close"], "eve": [f"addresses {own}"],
    }  # fmt: skip
    for user, lines in limits.items():
        keys[user] = users.set(user, *lines)

    def restart():
        nonlocal ours, sent, name, bits, seconds
        if ours:
            ours.signal(random.choice([signal.SIGKILL, signal.SIGTERM]))
            ours.exit_code()
        # It does not start if its set is not there.
        name = random.choice([name for name in names if name not in model.gone])
        bits = full - random.choice([0, 2, 3, 4])
        ttl, after = random.choice([(2, None), (HOUR, 3), (None, 2), (HOUR, None)])
        seconds, sent = min(ttl or HOUR, after or HOUR), 0
        table = "--nft=inet/pyknock/" if firewall.kind == "nft" else "--ipset="
        options = [f"--grant-prefix{family}={bits}"] if bits < full else []
        options += [f"--ttl={ttl}"] if ttl else []
        options += [f"--close-after={after}"] if after else []
        steps.append(f"restart: {name} {' '.join(options)}")
        options += ["-v", listed.option, users.option]
        ours = start(*options, sets=table + ("," if family == 6 else "") + name)
        model.restart()

    def knock(address, command, user=None):
        nonlocal sent
        verb, by = "open" if command == OPEN else "close", f" by {user}" if user else ""
        steps.append(f"{verb} {address} by {user}")
        refusal = ""
        if user == "dora" and command == OPEN:
            refusal = ": not among the user's commands"
        elif user == "eve" and ipaddress.ip_address(address) not in own:
            refusal = ": not among the user's addresses"
        line = f": {'refused' if refusal else 'accepted'} {verb} {re.escape(address)}{by} from .*{refusal}"
        count = len(ours.log.matching(line))
        ours.knock(address, command, key=keys[user])
        end = time.time() + (min(seconds, BOB) if user == "bob" else seconds)
        ours.log.wait_for(line, count + 1)
        if refusal:
            return
        sent += 1
        # The executor is done with it.
        ours.wait_for_counters(accepted=sent, queued=0)
        if command == OPEN:
            model.open(user, address, name, full - 3 if user == "carol" else bits, end)
        else:
            model.close(user, address)

    def change_alice():
        """Removes the user alice, or puts her back."""
        if (users.path / "alice").exists():
            users.remove("alice")
            model.remove("alice")
        else:
            users.set("alice")
        steps.append(f"HUP with {sorted(file.name for file in users.path.iterdir())}")
        # The file of bob has an error if the set is gone.
        done = ": (not all )?reloaded"
        count = len(ours.log.matching(done))
        ours.signal(signal.SIGHUP)
        ours.log.wait_for(done, count + 1)

    def wait_until_no_end_is_near():
        until(lambda: not model.is_near_an_end(time.time(), 1), "no end is near")
        model.expire(time.time())

    def remove(removed):
        steps.append(f"remove {' '.join(removed)}")
        # What ends meanwhile might still be closed, or not.
        wait_until_no_end_is_near()
        if firewall.kind == "ipset":
            firewall.run(f"ipset destroy {removed[0]}")
        elif removed == names:
            firewall.nft("delete table inet pyknock")
        else:
            firewall.nft(f"delete set inet pyknock {removed[0]}")
        model.gone.update(removed)

    def put_back(name):
        steps.append(f"put back {name}")
        # What ends meanwhile might still be tried, or not.
        wait_until_no_end_is_near()
        # The server has tried to close all that has ended.
        for (user, address, each, _), end in model.grants.items():
            if each == name and end is None:
                by = f" by {user}" if user else ""
                ours.log.wait_for(f": not closed: close {address}{by}, trying again in a minute$")
        make_sets(firewall, family=family, name=name)
        model.put_back(name)
        # At the next knock the server looks.
        knock(hosts[0], CLOSE)

    def wait_for_an_end():
        steps.append("wait")
        first = min((end for end in model.grants.values() if end), default=0)
        if first < time.time() + 3:
            until(lambda: time.time() > first, "time passes")

    def is_as_model():
        now = time.time()
        model.expire(now)
        return (
            not model.is_near_an_end(now, 0.5)
            and model.is_listed(listed.list())
            and all(networks(firewall.elements(each)) == model.held(each) for each in names if each not in model.gone)
        )

    def check():
        until(is_as_model, lambda: f"seed {seed}: {steps}: {model.grants}, but {listed.list()}")

    for each in names:
        make_sets(firewall, family=family, name=each)
    restart()
    for _ in range(30):
        choice = random.random()
        if choice < 0.05:
            wait_for_an_end()
        elif choice > 0.93:
            change_alice()
        elif choice < 0.15:
            if model.gone == set(names):
                put_back(name)
                check()
            restart()
        elif choice < 0.25 and not model.gone:
            remove(random.choice([names, names[:1], names[1:]] if firewall.kind == "nft" else [names[:1], names[1:]]))
        elif choice < 0.5 and model.gone:
            put_back(random.choice(sorted(model.gone)))
        else:
            user = random.choice([user for user in keys if user is None or (users.path / user).exists()])
            knock(random.choice(hosts), random.choice([OPEN, OPEN, CLOSE]), user)
        check()
    for each in sorted(model.gone):
        put_back(each)
    if not (users.path / "alice").exists():
        change_alice()
    for address in hosts:
        for user in keys:
            knock(address, CLOSE, user)
    check()
    assert model.grants == {}
    assert all(firewall.elements(each) == {} for each in names)
