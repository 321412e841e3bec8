"""Which addresses the client knocks on, which address it signs, and its exit codes."""

import re
import socket
import struct
import time

import pytest
from support.datagrams import CLOSE, KEY, signed
from support.networks import listener
from support.programs import EMULATED
from support.servers import client


def sources(ours):
    """The source address of each accepted knock. Waits for the first."""
    ours.log.wait_for("accepted")
    return [match[1] for match in ours.log.matching(r"accepted .* from (\S+):\d+\b")]


def test_a_knock_has_its_bytes_where_the_original_has_them():
    with listener() as receiver:
        before = time.time()
        assert client("close", "127.0.0.1", f"-p{receiver.getsockname()[1]}").code == 0
        datagram = receiver.recv(4096)
    command, time_stamp, family = struct.unpack("<Bdi", datagram[32:45])
    assert datagram == signed(datagram[32:], KEY) and len(datagram) == 49
    assert (command, family, datagram[45:]) == (CLOSE, 2, bytes([127, 0, 0, 1]))
    assert before - 0.001 <= time_stamp <= time.time()


def test_success_is_silent_and_v_tells_what_was_sent():
    with listener(family=socket.AF_INET6, address="::1") as receiver:
        port = receiver.getsockname()[1]
        result = client("open", "::1", f"-p{port}")
        assert (result.code, result.stdout, result.stderr) == (0, "", "")
        result = client("open", "::1", f"-p{port}", "-v", "-S", "192.0.2.9")
        assert (result.code, result.stdout) == (0, "")
        assert result.lines == [f"pyknock client: sent open 192.0.2.9 to [::1]:{port}"]


def test_every_address_of_a_host_is_knocked_on_once(server, network):
    ours = server(network=network)
    assert client("open", "both.test", f"-p{ours.port}", network=network).code == 0
    ours.output.wait_for("open", 2)
    assert ours.wait_for_counters(accepted=2, succeeded=2)["replayed"] == 0
    assert sorted(ours.output.lines) == ["open 127.0.0.1 inet", "open fd00::1 inet6"]


@pytest.mark.parametrize("option, source", [("-4", "127.0.0.1"), ("-6", "[fd00::1]")])
def test_a_family_option_takes_only_addresses_of_that_family(server, network, option, source):
    ours = server(network=network)
    result = client("open", "both.test", option, f"-p{ours.port}", "-v", network=network)
    assert result.code == 0 and len(result.lines) == 1
    assert sources(ours) == [source]


@pytest.mark.parametrize("option, host", [("-6", "127.0.0.1"), ("-4", "::1"), ("-4", "six.test")])
def test_a_host_without_an_address_of_the_family_cannot_be_resolved(network, option, host):
    result = client("open", host, option, network=network)
    assert (result.code, result.stdout, len(result.lines)) == (3, "", 1)
    assert result.stderr.startswith(f"pyknock client: cannot resolve '{host}': ")


@pytest.mark.parametrize(
    "signed, source", [("192.0.2.7", "127.0.0.1"), ("2001:db8::7", "[fd00::1]")]
)
def test_a_signed_address_is_knocked_for_once(server, network, signed, source):
    ours = server(network=network)
    result = client("open", "both.test", "-S", signed, f"-p{ours.port}", "-v", network=network)
    assert result.code == 0 and len(result.lines) == 1
    ours.output.wait_for(f"open {signed}")
    assert sources(ours) == [source]
    assert sum(ours.counters().values()) == 2  # One accepted, one succeeded.


@pytest.mark.parametrize(
    "host, signed, source",
    [("six.test", "192.0.2.7", "[fd00::1]"), ("four.test", "::7", "127.0.0.1")],
)
def test_a_signed_address_of_the_other_family_is_sent_where_there_is_no_choice(
    server, network, host, signed, source
):
    ours = server(network=network)
    assert client("open", host, "-S", signed, f"-p{ours.port}", network=network).code == 0
    ours.output.wait_for(f"open {signed}")
    assert sources(ours) == [source]


def test_a_signed_address_goes_to_the_other_family_when_its_own_cannot_be_reached(server, network):
    ours = server(network=network)
    result = client("open", "half.test", "-S", "192.0.2.7", f"-p{ours.port}", network=network)
    assert (result.code, result.stderr) == (0, "")
    ours.output.wait_for("open 192.0.2.7")
    assert sources(ours) == ["[fd00::1]"]


def test_all_addresses_get_the_same_datagram_with_a_signed_address(network):
    hosts = network.hosts.read_text()
    network.hosts.write_text("127.0.0.1 two.test\n127.0.0.2 two.test\n")
    with (
        listener(network, address="127.0.0.1", port=60119) as first,
        listener(network, address="127.0.0.2", port=60119) as second,
    ):
        assert client("open", "two.test", "-S::7", "-p60119", network=network).code == 0
        assert first.recv(4096) == second.recv(4096)
        assert client("open", "two.test", "-p60119", network=network).code == 0
        assert first.recv(4096) != second.recv(4096)
    network.hosts.write_text(hosts)


def test_an_address_without_a_route_is_no_fault_if_another_was_knocked_on(server, network):
    """Only -v tells it. A client with one family would see the line with each knock on a host with two."""
    ours = server(network=network)
    result = client("open", "half.test", f"-p{ours.port}", network=network)
    assert (result.code, result.stdout, result.stderr) == (0, "", "")
    ours.output.wait_for("open fd00::1")
    result = client("open", "half.test", f"-p{ours.port}", "-v", network=network)
    sent, failed = result.lines
    assert (result.code, sent) == (0, f"pyknock client: sent open fd00::1 to [fd00::1]:{ours.port}")
    assert failed.startswith(f"pyknock client: cannot knock on 192.0.2.1:{ours.port}: Network ")


def test_a_host_that_cannot_be_reached_at_all_is_exit_1_with_a_line_each(network):
    result = client("open", "dead.test", "-p7001", network=network)
    assert (result.code, result.stdout) == (1, "")
    lines = sorted(result.lines)
    assert len(lines) == 2
    assert lines[0].startswith("pyknock client: cannot knock on 192.0.2.1:7001: Network ")
    assert lines[1].startswith("pyknock client: cannot knock on [2001:db8:2::1]:7001: Network ")


def test_a_source_address_chooses_its_family(server, network):
    ours = server(network=network)
    result = client("open", "both.test", "-s", "127.0.0.9", f"-p{ours.port}", network=network)
    assert (result.code, result.lines) == (0, [])
    ours.output.wait_for("open 127.0.0.9 inet")
    assert sources(ours) == ["127.0.0.9"]


def test_a_source_address_of_the_wrong_family_is_exit_1():
    result = client("open", "127.0.0.1", "-s", "::1")
    assert (result.code, result.stdout) == (1, "")
    assert result.lines == [
        "pyknock client: '127.0.0.1' has no address of the family of the source address"
    ]


def test_a_source_address_of_another_machine_is_exit_1():
    result = client("open", "127.0.0.1", "-s", "203.0.113.7")
    assert (result.code, len(result.lines)) == (1, 1)
    assert result.stderr.startswith(
        "pyknock client: cannot knock on 127.0.0.1:60120 from 203.0.113.7: "
    )


@pytest.mark.parametrize("address", ["localhost", "127.0.0.999", "127.0.0.1:5"])
def test_a_source_address_that_is_not_numeric_is_exit_4(address):
    result = client("open", "127.0.0.1", "-s", address)
    assert (result.code, result.stdout) == (4, "")
    assert result.lines == [
        f"pyknock client: source address: '{address}' is not a numeric IPv4 or IPv6 address"
    ]


# IPv4 in the forms of inet_aton(3) that inet_pton(3) does not take, and the address that each stands for.
OLD_FORMS = {
    "010.0.0.1": "8.0.0.1", "127.1": "127.0.0.1", "0x7f.0.0.1": "127.0.0.1", "127.0.1": "127.0.0.1",
    "2130706433": "127.0.0.1", "0177.0.0.01": "127.0.0.1", "0x7F000001": "127.0.0.1",
}  # fmt: skip


@pytest.mark.parametrize(
    "address",
    ["localhost", "127.0.0.999", "127.0.0.1:5", "198.51.1007", " 192.0.2.1", "192.0.2.1 ", "192.0.2.1.",
     "1.2.3", "fe80::1%lo", "::1%1", "[::1]", "2001:db8::/64", "::ffff:010.0.0.1", "1:2", "AUTO",
     *OLD_FORMS],
)  # fmt: skip
def test_a_signed_address_is_what_inet_pton_takes(address):
    result = client("open", "127.0.0.1", "-S", address)
    assert (result.code, result.stdout) == (5, "")
    assert result.lines == [
        f"pyknock client: signed address: '{address}' is not auto, observed, an IPv4 address such as"
        " 192.0.2.1, or an IPv6 address"
    ]


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["fe80::1"], "cannot knock on [fe80::1]:60120"),
        (["ff02::1"], "cannot knock on [ff02::1]:60120"),
        (["local.test"], "cannot knock on [fe80::2]:60120"),
        (["::1", "-s", "fe80::77"], "cannot knock on [::1]:60120 from fe80::77"),
        (["::1", "-S", "auto", "--stun", "fe80::1"], "STUN server 'fe80::1' at [fe80::1]:3478"),
    ],
)
def test_a_link_local_address_needs_its_interface(network, key_file, arguments, where):
    result = client("open", *arguments, "-k", key_file, key=None, network=network)
    reason = "a link-local address needs its interface, as in fe80::1%eth0"
    assert (result.code != 0, result.lines[0]) == (True, f"pyknock client: {where}: {reason}")


@pytest.mark.parametrize("address", OLD_FORMS)
def test_an_old_form_of_a_host_and_a_source_is_taken_with_a_warning(network, address):
    meant = OLD_FORMS[address]
    warning = f"pyknock client: warning: HOST '{address}' is read as {meant}"
    result = client("open", address, "-n", "-s127.0.0.1", network=network)
    assert result.lines[:1] == [warning]
    if meant == "127.0.0.1":
        assert (result.code, result.stdout) == (0, "open 127.0.0.1 to 127.0.0.1:60120\n")
        result = client("open", "127.0.0.1", "-n", "-s", address, network=network)
        assert (result.code, result.stdout) == (0, "open 127.0.0.1 to 127.0.0.1:60120\n")
        assert result.lines == [
            f"pyknock client: warning: source address '{address}' is read as 127.0.0.1"
        ]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "four.test", "fe80::77%lo"])
def test_a_usual_host_gets_no_warning(network, host):
    assert client("open", host, "-n", network=network).stderr == ""


@pytest.mark.parametrize("hosts, count", [("[::1]", 1), ("[::1],[::1],127.0.0.1", 3), ("[fe80::77%lo]", 1)])
def test_an_ipv6_host_may_be_in_brackets(network, hosts, count):
    result = client("open", hosts, "-n", "-S192.0.2.1", network=network)
    assert (result.code, len(result.stdout.splitlines()), result.stderr) == (0, count, "")


@pytest.mark.parametrize(
    "host, part",
    [("box:22", "port"), ("127.0.0.1:60120", "port"), ("[::1]:60120", "port"), ("[box]", "port"),
     ("udp:box:1", "port"),
     ("box:", "port"), ("[::1", "port"), ("me@box", "user"), ("me@127.0.0.1:22", "user"),
     ("ssh://box", "URL"), ("box/24", "URL"), ("four.test,me@box", "user")],
)  # fmt: skip
@pytest.mark.parametrize("command", ["open", "close", "connect"])
def test_more_than_a_host_is_misuse(network, host, part, command):
    result = client(command, host, *(["22"] if command == "connect" else []), network=network)
    advice = {
        "port": "leave out brackets, and the port, which -p or Port in client.conf names",
        "user": "leave out the user and the @",
        "URL": "write its name or address, and no URL or path",
    }[part]
    if "," in host and command == "connect":
        return
    assert (result.code, result.stdout) == (2, "")
    assert result.lines[0] == (
        f"pyknock client: HOST: '{host.split(',')[-1]}' is not a host alone: {advice}"
    )


def test_a_link_local_address_is_shown_with_its_zone(server, network):
    ours = server("-b", "fe80::77%lo", network=network)
    # The receiver may not ask for the name, except under an emulator, which has no filter.
    # QEMU 7.2 swaps only two of the zone's four bytes for big-endian machines.
    zone = f"(1|lo|{1 << 16})" if EMULATED else "1"
    ours.log.wait_for(rf"listening on \[fe80::77%{zone}\]:{ours.port}, ")
    sent = client("open", "fe80::77%lo", "-v", f"-p{ours.port}", network=network)
    assert (sent.code, sent.lines) == (
        0, [f"pyknock client: sent open fe80::77 to [fe80::77%lo]:{ours.port}"]
    )  # fmt: skip
    ours.log.wait_for(rf"accepted open fe80::77 from \[fe80::77%{zone}\]:")


@pytest.mark.parametrize(
    "address, reason",
    [
        ("0.0.0.0", "unspecified address"), ("::", "unspecified address"),
        ("::ffff:0.0.0.0", "unspecified address"),
        ("255.255.255.255", "broadcast address"), ("ff02::1", "multicast address"),
    ],
)  # fmt: skip
def test_an_address_that_no_server_opens_for_is_exit_5(address, reason):
    result = client("open", "127.0.0.1", "-S", address)
    assert (result.code, result.stdout) == (5, "")
    assert result.lines == [
        f"pyknock client: signed address: no server opens for this: {reason}"
    ]


@pytest.mark.parametrize("host", ["missing.test", "x" * 300, "127.0.0.999", "two words"])
def test_a_host_that_cannot_be_resolved_is_exit_3(network, host):
    result = client("open", host, network=network)
    assert (result.code, result.stdout, len(result.lines)) == (3, "", 1)
    shown = f"'{host}'" if len(host) <= 128 else f"'{host[:128]}...'"
    assert re.match(rf"pyknock client: cannot resolve {re.escape(shown)}: \S", result.stderr)
