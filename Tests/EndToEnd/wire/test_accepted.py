"""Knocks that are accepted, and how their addresses are written."""

import ipaddress
import re
import subprocess

import pytest
from support.datagrams import CLOSE, FAMILY_NUMBERS, packet
from support.programs import ROOT


def test_the_datagram_in_the_description_of_the_protocol_is_a_knock():
    text = (ROOT / "doc/PROTOCOL.md").read_text()
    [(command, shown)] = re.findall("```sh\n(.*?)```\n\n```\n(.*?)```", text, re.DOTALL)
    assert subprocess.check_output(["sh", "-ec", command], text=True) == shown
    assert bytes.fromhex(shown) == packet("192.0.2.1", key="key", time_stamp=1700000000)


@pytest.mark.parametrize("family", FAMILY_NUMBERS["2001:db8::7"])
def test_the_ipv6_family_of_every_system_is_known(server, family):
    ours = server()
    ours.knock("2001:db8::1", family=family)
    ours.output.wait_for("^open 2001:db8::1 inet6$")
    ours.log.wait_for(r"^pyknock server: accepted open 2001:db8::1 from 127\.0\.0\.1:\d+$")


@pytest.mark.parametrize("address", ["192.168.1.5", "100.64.0.7", "192.0.0.2", "fd00::5", "fe80::5"])
def test_a_private_address_that_is_not_the_source_is_a_hint_at_nat(server, address):
    ours = server()
    ours.knock(address)
    ours.log.wait_for(
        rf"^pyknock server: accepted open {address} from 127\.0\.0\.1:\d+"
        r" \(private, and not the source: behind NAT the client needs -S\)$"
    )
    # Its own source address, and a public one, are none.
    for address in ("127.0.0.1", "203.0.113.5", "2001:db8::5"):
        ours.knock(address)
        ours.log.wait_for(rf"^pyknock server: accepted open {address} from 127\.0\.0\.1:\d+$")


def test_close_runs_the_other_command(server):
    ours = server(on_open="echo first", on_close="echo second $cmd")
    ours.knock(command=CLOSE)
    ours.log.wait_for(r"^pyknock server: accepted close 192\.0\.2\.1 from 127\.0\.0\.1:\d+$")
    ours.output.wait_for("^second close$")
    assert ours.output.lines == ["second close"]


# Addresses and how they are written, with the examples of RFC 5952, sections 4 and 5.
ADDRESSES = {
    "::ffff:1.2.3.4": "1.2.3.4 inet",
    "::ffff:0:1.2.3.4": "::ffff:0:102:304 inet6",
    "::1": "::1 inet6",
    "1::": "1:: inet6",
    "::2:0:0:0:1": "::2:0:0:0:1 inet6",
    "2001:0db8::0001": "2001:db8::1 inet6",
    "2001:db8:0:0:0:0:2:1": "2001:db8::2:1 inet6",
    "2001:db8:0:1:1:1:1:1": "2001:db8:0:1:1:1:1:1 inet6",
    "2001:0:0:1:0:0:0:1": "2001:0:0:1::1 inet6",
    "2001:db8:0:0:1:0:0:1": "2001:db8::1:0:0:1 inet6",
    "2001:DB8::ABCD": "2001:db8::abcd inet6",
    "fe80::a00:27ff:fe4e:66a1": "fe80::a00:27ff:fe4e:66a1 inet6",
    "0:1:2:3:4:5:6:7": "0:1:2:3:4:5:6:7 inet6",
    "1:2:3:4:5:6:7:0": "1:2:3:4:5:6:7:0 inet6",
    "1:2:3:4:5:6:0:0": "1:2:3:4:5:6:: inet6",
    "0:0:3:4:5:6:7:8": "::3:4:5:6:7:8 inet6",
    "1:0:0:4:0:0:7:8": "1::4:0:0:7:8 inet6",
    "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff": "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff inet6",
    "1.0.0.0": "1.0.0.0 inet",
    "10.20.30.255": "10.20.30.255 inet",
    "223.255.255.255": "223.255.255.255 inet",
    "255.255.255.254": "255.255.255.254 inet",
    "127.0.0.1": "127.0.0.1 inet",
}


def test_addresses_are_written_as_rfc_5952_has_them(server):
    ours = server()
    for address in ADDRESSES:
        ours.knock(ipaddress.ip_address(address).packed)
    ours.output.wait_for("open", len(ADDRESSES))
    assert ours.output.lines == [f"open {text}" for text in ADDRESSES.values()]
