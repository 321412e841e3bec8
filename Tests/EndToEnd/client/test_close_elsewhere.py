"""`--close` after the client's addresses have changed: it closes what was opened."""

import contextlib
import signal
import socket

import pytest
from support.networks import CLIENT, SERVER, Namespace, connect
from support.processes import Process
from support.programs import run

# Each test makes two networks.
pytestmark = pytest.mark.slow

HOME = ("192.0.2.2", "2001:db8::2")
AWAY = ("192.0.2.9", "2001:db8::9")


def move(addresses):
    """The words that give the client's interface other addresses."""
    words = [f"ip address add {a}/{64 if ':' in a else 24} dev cable {'nodad' * (':' in a)};" for a in addresses]
    return ["sh", "-ec", "ip address flush dev cable; " + " ".join(words)]


@pytest.fixture
def ours(server, tmp_path):
    """A server with IPv4 and IPv6, and its client in another network: `ours.outside`."""
    with contextlib.ExitStack() as stack:
        networks = []
        for name in ("inside", "outside"):
            (tmp_path / name).mkdir()
            networks.append(stack.enter_context(contextlib.closing(Namespace(tmp_path / name))))
        inside, outside = networks
        connect("cable", (outside, CLIENT), (inside, SERVER))
        outside.hosts.write_text("".join(f"{address} both.test\n" for address in SERVER.values()))
        ours = server("--allow-observed-source", "-p60120", port=60120, network=inside)
        ours.outside = outside
        yield ours


@pytest.fixture
def away(ours, words, tmp_path):
    """Runs the client, and changes its addresses while COMMAND runs. Returns the lines of its log."""

    def away(now, *arguments, count=2):
        command = ["sh", "-c", "until test -e $0; do sleep 0.01; done", tmp_path / "end"]
        process = Process([*ours.outside.prefix, *words(*arguments, "--close", "--", *command)])
        with contextlib.closing(process):
            # Before that, datagrams may wait for the address of the link.
            ours.output.wait_for("open .*", count)
            run([*ours.outside.prefix, *move(now)])
            (tmp_path / "end").touch()
            assert process.exit_code() == 0
            return process.log.wait_for_end()

    return away


def done(ours, count):
    """The addresses that the server has opened, and those that it has closed."""
    ours.output.wait_for(".*", count)
    lines = [line.split() for line in ours.output.lines]
    assert len(lines) == count
    return [sorted(line[1] for line in lines if line[0] == command) for command in ("open", "close")]


@pytest.mark.parametrize("now", [AWAY, AWAY[:1], AWAY[1:]], ids=["both", "inet", "inet6"])
def test_it_closes_the_addresses_that_were_opened(ours, away, now):
    """If a family has no address any more, the datagram goes to an address of the other one."""
    assert away(now, "-p60120", "open", "both.test") == []
    assert done(ours, 4) == [[*HOME], [*HOME]]


def test_each_of_several_hosts_closes_what_it_opened(ours, away):
    assert away(AWAY, "-p60120", "open", ",".join(SERVER.values())) == []
    assert done(ours, 4) == [[*HOME], [*HOME]]


@pytest.mark.parametrize("option", ["-s", "-S"])
def test_it_closes_a_named_address_that_is_gone(ours, away, option):
    assert away(AWAY, "-p60120", "open", "both.test", option, HOME[0], count=1) == []
    assert done(ours, 2) == [[HOME[0]], [HOME[0]]]


def test_it_closes_all_addresses_that_were_opened_while_it_waited(ours, words):
    options = ["-p60120", "--wait-port=9", "--close"]
    process = Process([*ours.outside.prefix, *words("open", SERVER[socket.AF_INET], *options, "--", "true")])
    with contextlib.closing(process):
        ours.output.wait_for(f"open {HOME[0]} inet")
        run([*ours.outside.prefix, *move(AWAY)])
        ours.output.wait_for(f"open {AWAY[0]} inet")
        process.signal(signal.SIGTERM)
        assert process.exit_code() == -signal.SIGTERM
    assert done(ours, 4) == [[HOME[0], AWAY[0]]] * 2


def test_with_observed_it_says_what_may_stay_open(ours, away):
    """The server takes the source of the datagram, so the client can only close for its present address."""
    assert away(AWAY[:1], "-p60120", "open", "both.test", "-S", "observed") == [
        f"pyknock client: warning: 'both.test' was opened from {address}, and not closed from there: "
        "with -S observed it may stay open"
        for address in HOME[::-1]
    ]
    assert done(ours, 3) == [[*HOME], [AWAY[0]]]
