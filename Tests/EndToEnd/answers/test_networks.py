"""The way of answers: from the address that was asked, to the one that asked, whatever is between them."""

import os
import socket
from contextlib import closing

import pytest
from support.asker import ALICE, CHECK, CLOSE, DONE, Asker
from support.firewall import only_nft
from support.networks import CLIENT, SERVER, Namespace, connect
from support.processes import links_of, status_of
from support.waiting import until

FAMILIES = [socket.AF_INET, socket.AF_INET6]
MORE = {socket.AF_INET: "192.0.2.77", socket.AF_INET6: "2001:db8::77"}

# The last of them is the directory that ls reads.
DESCRIPTORS = "echo $(ls /proc/self/fd)"


@pytest.fixture
def answering(server, firewall, tmp_path):
    """A server in the network of the firewall, whose commands do nothing."""

    def start(*options, **more):
        options = [f"--state={tmp_path}/state", "--answer", *options]
        return server(*options, key=ALICE, network=firewall, on_open="true", **more)

    return start


@only_nft
@pytest.mark.parametrize("bound", [None, "address"], ids=["any", "bound"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_comes_from_the_address_that_was_asked(answering, firewall, outside, family, bound):
    length = 24 if family == socket.AF_INET else 64
    firewall.add_address(f"{MORE[family]}/{length}", "cable")
    ours = answering("-v", *(["-b", MORE[family]] if bound else []))
    for address in [MORE[family]] if bound else [SERVER[family], MORE[family]]:
        client = Asker(ours.port, address, network=outside)
        assert client.outcome(CHECK, None) == (DONE, 0, CLIENT[family])
        assert client.source[:2] == (address, ours.port)


@only_nft
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "::1"])
def test_on_the_machine_itself(answering, firewall, address):
    ours = answering()
    client = Asker(ours.port, address, network=firewall)
    assert client.outcome() == (DONE, 0, "192.0.2.1")
    assert client.source[0] == address


@only_nft
def test_a_socket_of_ipv4_alone(answering, firewall, outside):
    """It tells in another form what was asked."""
    ours = answering("-b", "0.0.0.0")
    client = Asker(ours.port, SERVER[socket.AF_INET], network=outside)
    assert client.outcome(CHECK, None) == (DONE, 0, CLIENT[socket.AF_INET])
    assert client.source[0] == SERVER[socket.AF_INET]


@only_nft
def test_a_link_local_address(answering, firewall, outside):
    firewall.add_address("fe80::1/64", "cable")
    outside.add_address("fe80::2/64", "cable")
    ours = answering()
    client = Asker(ours.port, "fe80::1", network=outside)
    client.server = ("fe80::1", ours.port, 0, outside.inside(lambda: socket.if_nametoindex("cable")))
    assert client.outcome(CHECK, None) == (DONE, 0, "fe80::2")
    assert client.source[0].split("%")[0] == "fe80::1"


@only_nft
@pytest.mark.parametrize("family", FAMILIES)
def test_through_nat(answering, firewall, outside, tmp_path, family):
    """The NAT of the client's network lets the answer in, since it comes from where the request went."""
    folder = tmp_path / "inner"
    folder.mkdir()
    with closing(Namespace(folder)) as inner:
        homes = {socket.AF_INET: "10.0.0.2", socket.AF_INET6: "fd00::2"}
        routers = {socket.AF_INET: "10.0.0.1", socket.AF_INET6: "fd00::1"}
        connect("home", (inner, homes), (outside, routers))
        outside.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        inner.run(f"ip -{4 if family == socket.AF_INET else 6} route add default via {routers[family]}")
        rules = tmp_path / "nat"
        rules.write_text(
            "table inet nat { chain out { type nat hook postrouting priority 100; oifname cable masquerade; }\n"
            "chain forward { type filter hook forward priority 0; policy drop; iifname home accept;\n"
            "ct state established accept; }\n }"
        )
        outside.run(f"nft -f {rules}")
        ours = answering()
        client = Asker(ours.port, SERVER[family], network=inner)
        assert client.outcome(CHECK, None) == (DONE, 0, CLIENT[family])
        assert client.outcome(CLOSE) == (DONE, 0, "192.0.2.1")


@pytest.mark.parametrize("family, host", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_socket_that_is_passed(server, tmp_path, family, host, not_emulated):
    """Servers use it, one after the other. One of them gives answers. No command gets it."""
    passed = socket.socket(family, socket.SOCK_DGRAM)
    passed.bind((host, 0))
    port = passed.getsockname()[1]
    prefix = ["bash", "-c", f'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&{passed.fileno()}', "bash"]
    client = Asker(port, host)
    for options in [], ["--answer"], []:
        ours = server(
            f"--state={tmp_path}/state", *options, port=port, key=ALICE, prefix=prefix,
            pass_fds=[passed.fileno()], on_open=f"{DESCRIPTORS}; echo done $ip",
        )  # fmt: skip
        client.ask()
        ours.output.wait_for("done 192.0.2.1")
        assert ours.output.lines[0] == "0 1 2 3"
        if options:
            assert client.receive() == (DONE, 0, "192.0.2.1")
        assert ours.stop() == 0
        assert client.heard() == []


def test_no_command_gets_the_socket(server, tmp_path, not_emulated):
    """A command has the standard descriptors alone. The receiver has its own, and no second one for the socket."""
    ours = server(f"--state={tmp_path}/state", "--answer", key=ALICE, on_open=f"{DESCRIPTORS}; echo end")
    client = Asker(ours.port)
    assert client.outcome() == (DONE, 0, "192.0.2.1")
    ours.output.wait_for("end")
    assert ours.output.lines[0] == "0 1 2 3"

    def sockets(process):
        return [link for link in links_of(process) if link.startswith("socket:")]

    # The socket, and the pair.
    assert len(sockets(ours.receiver)) == 2
    shared = set(sockets(ours.receiver)) & set(sockets(ours.pid))
    assert len(shared) == 1
    assert status_of(ours.receiver)["Seccomp"] == "2"
    assert ours.stop() == 0
    until(lambda: not os.path.exists(f"/proc/{ours.pid}"), "the end")
