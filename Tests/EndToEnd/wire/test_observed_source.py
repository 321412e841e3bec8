"""-S observed: the server opens for the address that the datagram came from, if this is allowed."""

import socket

import pytest
from support.datagrams import packet
from support.servers import client

ALLOWED = "--allow-observed-source"


@pytest.mark.parametrize(
    ("host", "opened"), [("127.0.0.1", "127.0.0.1 inet"), ("::1", "::1 inet6")]
)
def test_it_opens_for_the_source(server, host, opened):
    ours = server(ALLOWED)
    result = client("open", host, f"-p{ours.port}", "-S", "observed", "-v")
    unspecified = "::" if ":" in host else "0.0.0.0"
    bracketed = f"[{host}]" if ":" in host else host
    assert (result.code, result.lines) == (
        0, [f"pyknock client: sent open {unspecified} to {bracketed}:{ours.port}"]
    )  # fmt: skip
    ours.output.wait_for(f"^open {opened}$")
    ours.log.wait_for(rf"^pyknock server: accepted open {host} from ")


def test_it_is_refused_unless_the_server_allows_it(server):
    ours = server()
    assert client("open", "127.0.0.1", f"-p{ours.port}", "-S", "observed").code == 0
    ours.log.wait_for(
        r"refused open 0\.0\.0\.0 from 127\.0\.0\.1:\d+: unspecified address "
        r"\(only --allow-observed-source replaces it by the sender's address\)"
    )
    ours.wait_for_counters(accepted=0, unspecified_address=1)


def test_a_named_address_still_counts(server):
    ours = server(ALLOWED)
    ours.knock("192.0.2.1")
    ours.output.wait_for("^open 192.0.2.1 inet$")


def test_who_copies_it_cannot_use_it_from_elsewhere(server):
    ours = server(ALLOWED)
    datagram = packet("0.0.0.0")
    ours.send(datagram)
    ours.wait_for_counters(accepted=1)
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))
        other.sendto(datagram, ("127.0.0.1", ours.port))
    ours.wait_for_counters(accepted=1, replayed=1, succeeded=1)
    ours.output.wait_for("open")
    assert ours.output.lines == ["open 127.0.0.1 inet"]


def test_families_go_by_the_source(start, firewall):
    """The family of the source decides whether there is a set, not the family in the datagram."""
    firewall.load_example()
    sets = firewall.sets.replace(",knock6", "")
    ours = start(ALLOWED, sets=sets)
    ours.send(packet("0.0.0.0"), host="::1")
    ours.wait_for_counters(accepted=0, no_set_for_family=1)
    ours.send(packet("::"), host="127.0.0.1")
    ours.wait_for_counters(accepted=1, set_changed=1)
    assert list(firewall.elements()) == ["127.0.0.1"]


def test_n_prints_what_is_signed():
    result = client("open", "localhost", "-4", "-n", "-S", "observed")
    assert result.stdout == "open 0.0.0.0 to 127.0.0.1:60120\n"
