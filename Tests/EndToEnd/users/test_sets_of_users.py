"""Users with sets of their own: the journal has the names of these sets."""

import signal

import pytest
from support.datagrams import CLOSE
from support.programs import program, run
from support.users import UserFiles

N = 12
LONG = "n" * 20


@pytest.fixture
def users(tmp_path):
    return UserFiles(tmp_path / "keys")


@pytest.fixture
def start(server, users, tmp_path, firewall):
    def start(*options, words=()):
        return server(users.option, f"--state={tmp_path / 'state'}", *options, words=[*words], network=firewall)

    return start


def knock(ours, name, address, command=1):
    ours.knock(address, command, key=UserFiles.key(name))


@pytest.mark.parametrize("kind", ["nft"], indirect=True)
def test_names_that_nobody_needs_are_forgotten(start, users, firewall):
    """All have room for 20 of these names. At each start, there are 12 others."""
    firewall.load_example()
    rounds = 3
    sets = [[f"s{round}_{number}_{LONG}" for number in range(12)] for round in range(rounds)]
    for name in sum(sets, []):
        firewall.nft(f"add set inet pyknock {name} {{ type ipv4_addr; flags timeout; }}")
    for round in range(rounds):
        for number in range(N):
            users.set(f"user{number}", f"nft inet/pyknock/{sets[round][number]}")
        # The first one keeps what it has opened in the first round.
        if round > 0:
            users.set("user0", f"nft inet/pyknock/{sets[0][0]}")
        ours = start(firewall.sets, "--ttl=1h")
        knock(ours, f"user{round}", f"192.0.2.{round}")
        ours.wait_for_counters(set_changed=1, open=1 + round)
        assert ours.stop() == 0, "\n".join(ours.log.lines[-8:])
    for round in range(rounds):
        firewall.expect([f"192.0.2.{round}"], name=sets[round][round])
    ours = start(firewall.sets, "--ttl=1h")
    knock(ours, "user0", "192.0.2.0", CLOSE)
    ours.wait_for_counters(open=rounds - 1)
    assert firewall.elements(name=sets[0][0]) == {}


def test_the_journal_is_kept_if_only_users_have_sets(start, users, firewall):
    firewall.load_example()
    name, _, value = firewall.sets.removeprefix("--").partition("=")
    users.set("alice", f"{name} {value}")
    users.set("bob")
    commands = ["true $ip", "true $ip"]
    ours = start(words=commands)
    knock(ours, "alice", "192.0.2.1")
    knock(ours, "alice", "192.0.2.2")
    knock(ours, "bob", "192.0.2.3")
    ours.wait_for_counters(open=2, succeeded=3)
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    ours = start(words=commands)
    ours.wait_for_counters(open=2)
    knock(ours, "alice", "192.0.2.1", CLOSE)
    ours.wait_for_counters(open=1)
    firewall.expect(["192.0.2.2"])


def test_a_server_whose_users_all_have_sets_needs_one_too(users, tmp_path):
    users.set("alice", "nft inet/pyknock/knock4")
    result = run([*program("server"), users.option, f"--state={tmp_path / 'state'}"])
    assert (result.code, result.lines[0]) == (
        2,
        "pyknock server: add --nft, --ipset or 'OPEN_CMD' 'CLOSE_CMD', also if each user has sets; operands given: 0",
    )
