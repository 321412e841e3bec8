"""Answers of servers that change sets: at once, with the time that the user's own grant still has."""

import pytest
from support.asker import ALICE, BOB, CHECK, CLOSE, DONE, FAILED, NO_ROOM, NOT_ALLOWED, Asker, nearly
from support.firewall import only_nft
from support.processes import NOBODY


@pytest.fixture
def start_answering(server, firewall, tmp_path):
    """Starts a server that changes sets and gives answers. Returns it and a client."""

    def start(*options, key=ALICE, sets=firewall.sets, **more):
        options = [sets, f"--state={tmp_path}/state", "--answer", *options]
        if "words" not in more:
            more |= {"words": ["-k", "-"], "stdin": key.encode()}
        ours = server(*options, key=key, network=firewall, **more)
        return ours, Asker(ours.port, network=firewall)

    firewall.load_example()
    return start


def left(firewall, address="192.0.2.1", **which):
    """The seconds that the kernel still keeps an address."""
    return round(firewall.elements(**which)[address])


def test_what_the_kernel_has(start_answering, firewall):
    ours, client = start_answering("--ttl=1h")
    assert client.outcome() == (DONE, nearly(3600), "192.0.2.1")
    assert 3595 <= left(firewall) <= 3600
    assert client.outcome(CLOSE) == (DONE, 0, "192.0.2.1")
    assert firewall.elements() == {}
    assert client.outcome(CLOSE) == (DONE, 0, "192.0.2.1")
    assert client.outcome(address="2001:db8::7", seconds=100) == (DONE, nearly(100), "2001:db8::7")
    assert 95 <= left(firewall, "2001:db8::7", name="knock6") <= 100


def test_an_open_never_shortens_what_is_open(start_answering, firewall, tmp_path):
    ours, client = start_answering("--ttl=1h")
    assert client.outcome(seconds=100) == (DONE, nearly(100), "192.0.2.1")
    assert 95 <= left(firewall) <= 100
    assert client.outcome(seconds=60) == (DONE, nearly(100), "192.0.2.1")
    assert 95 <= left(firewall) <= 100
    assert client.outcome(seconds=200) == (DONE, nearly(200), "192.0.2.1")
    assert 195 <= left(firewall) <= 200
    assert client.outcome(seconds=4_000_000_000) == (DONE, nearly(3600), "192.0.2.1")
    assert client.outcome(seconds=1) == (DONE, nearly(3600), "192.0.2.1")
    assert 3595 <= left(firewall) <= 3600
    # The journal has it, too.
    ours.stop()
    ours, client = start_answering("--ttl=1h")
    assert client.outcome(seconds=1) == (DONE, nearly(3600), "192.0.2.1")


@only_nft
def test_an_address_that_is_opened_alone_is_not_shortened_either(start_answering, firewall):
    """The set has too many elements in the range, so each knock opens the address alone."""
    firewall.remove_sets()
    others = [f"192.0.2.{number}" for number in range(1, 256) if number % 4]
    firewall.make_intervals(", ".join(f"{address} timeout {2 + n % 2}h" for n, address in enumerate(others)))
    ours, client = start_answering("--ttl=1h", "--grant-prefix4=24", sets="--nft=inet/pyknock/knock4,")
    address = "192.0.2.128"
    assert client.outcome(address=address) == (DONE, nearly(3600), address)
    assert client.outcome(address=address, seconds=5) == (DONE, nearly(3600), address)
    assert set(firewall.elements()) == {*others, address}
    ours.wait_for_counters(open=1)
    ours.stop()
    # A server with other settings keeps its end, too.
    ours, client = start_answering("--ttl=1h", sets="--nft=inet/pyknock/knock4,")
    assert client.outcome(address=address, seconds=5) == (DONE, nearly(3600), address)
    ours.wait_for_counters(open=1)


@pytest.mark.slow
def test_a_short_time_ends_by_itself(start_answering, firewall):
    ours, client = start_answering("--ttl=1h")
    assert client.outcome(seconds=1) == (DONE, 1, "192.0.2.1")
    ours.log.wait_for("expired: close 192.0.2.1|no longer in .*: 192.0.2.1")
    firewall.expect([])
    ours.wait_for_counters(open=0)


def test_a_check_changes_nothing(start_answering, firewall):
    ours, client = start_answering("--ttl=1h", "-v")
    assert client.outcome(CHECK) == (DONE, 3600, "192.0.2.1")
    assert client.outcome(CHECK, None) == (DONE, 3600, "127.0.0.1")
    assert firewall.elements() == {}
    ours.log.wait_for(r"accepted check 192\.0\.2\.1 from 127\.0\.0\.1:")
    assert client.outcome(seconds=100) == (DONE, nearly(100), "192.0.2.1")
    assert client.outcome(CHECK) == (DONE, 3600, "192.0.2.1")
    assert 95 <= left(firewall) <= 100
    counters = ours.counters()
    assert (counters["accepted"], counters["set-changed"], counters["open"]) == (3 + 1, 1, 1)


def test_without_a_ttl_it_is_open_until_it_is_closed(start_answering, firewall):
    ours, client = start_answering()
    assert client.outcome() == (DONE, 0, "192.0.2.1")
    assert client.outcome(CHECK) == (DONE, 0, "192.0.2.1")
    assert client.outcome(seconds=60) == (DONE, 0, "192.0.2.1")
    assert client.outcome(CLOSE) == (DONE, 0, "192.0.2.1")
    assert client.outcome(seconds=60) == (DONE, nearly(60), "192.0.2.1")


def test_a_set_that_is_gone(start_answering, firewall):
    ours, client = start_answering("--ttl=1h")
    firewall.remove_sets()
    assert client.outcome() == (FAILED, 0, "192.0.2.1")
    assert client.outcome(address="2001:db8::7") == (FAILED, 0, "2001:db8::7")
    ours.log.wait_for("set not changed: open", 2)


def test_users_hear_of_their_own_grants_and_limits_alone(start_answering, firewall, users):
    users.set("alice", "ttl 600", key=ALICE)
    users.set("bob", "addresses 192.0.2.0/24", "commands open", key=BOB)
    ours, alice = start_answering("--ttl=1h", users.option, "--grant-capacity=16", words=[])
    bob = Asker(ours.port, key=BOB, network=firewall)
    assert bob.outcome() == (DONE, nearly(3600), "192.0.2.1")
    assert alice.outcome(CHECK) == (DONE, 600, "192.0.2.1")
    assert alice.outcome(seconds=60) == (DONE, nearly(60), "192.0.2.1")
    assert 3595 <= left(firewall) <= 3600
    assert alice.outcome(CLOSE) == (DONE, 0, "192.0.2.1")
    assert bob.outcome(address="198.51.100.1") == (NOT_ALLOWED, 0, "198.51.100.1")
    assert bob.outcome(CHECK, "198.51.100.1") == (NOT_ALLOWED, 0, "198.51.100.1")
    assert bob.outcome(CLOSE) == (NOT_ALLOWED, 0, "192.0.2.1")
    # A quarter of the grants is bob's.
    for host in (2, 3, 4):
        assert bob.outcome(address=f"192.0.2.{host}") == (DONE, nearly(3600), f"192.0.2.{host}")
    assert bob.outcome(address="192.0.2.5") == (NO_ROOM, 0, "192.0.2.5")
    assert bob.outcome(CHECK, "192.0.2.5") == (NO_ROOM, 0, "192.0.2.5")
    assert bob.outcome(CHECK, "192.0.2.4") == (DONE, 3600, "192.0.2.4")
    assert alice.outcome(CHECK, "192.0.2.5") == (DONE, 600, "192.0.2.5")


@only_nft
@pytest.mark.other_users
def test_as_another_user_in_another_root(start_answering, firewall, tmp_path):
    # An address can be sent from, whatever privileges are gone.
    root = tmp_path / "root"
    root.mkdir(mode=0o755)
    ours, client = start_answering("--ttl=1h", f"--user={NOBODY}", f"--chroot={root}", "-v")
    ours.log.wait_for("the executor has no capability except CAP_NET_ADMIN")
    assert client.outcome() == (DONE, nearly(3600), "192.0.2.1")
    client = Asker(ours.port, "::1", network=firewall)
    assert client.outcome(CLOSE) == (DONE, 0, "192.0.2.1")
