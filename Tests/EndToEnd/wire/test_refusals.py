"""What the server does not act on, reached with real datagrams, and what it says about that."""

import ipaddress
import math
import re
import time

import pytest
from support.datagrams import AF_INET, AF_INET6, CLOSE, OPEN, packet, signed

DATAGRAM = r"a datagram from 127\.0\.0\.1:\d+"
FAMILIES = "address family and length do not match"
SKEW = r", clock skew (\S+) s$"


def knock_of(address, command="open"):
    return rf"{command} {re.escape(address)} from 127\.0\.0\.1:\d+"


def unusable(address, reason, shown=None):
    hint = ""
    if reason == "unspecified":
        hint = r" \(only --allow-observed-source takes the sender's address in its place\)"
    return (
        f"{reason}-address",
        lambda: packet(address),
        knock_of(shown or address),
        f"{reason} address{hint}",
    )


# The counter, the datagram, whom the line names, and the reason that it gives.
REFUSALS = {
    "family 0": (
        "unknown-family", lambda: packet(family=0), DATAGRAM,
        r"unknown address family \(family 0, 49 bytes\)",
    ),
    "family -2147483648": (
        "unknown-family", lambda: packet("2001:db8::1", family=-(2**31)), DATAGRAM,
        r"unknown address family \(family -2147483648, 61 bytes\)",
    ),
    "family 258": (
        "unknown-family", lambda: packet(family=258), DATAGRAM,
        r"unknown address family \(family 258, 49 bytes\)",
    ),
    "IPv4 in 16 bytes": (
        "family-length-mismatch", lambda: packet("2001:db8::1", family=AF_INET), DATAGRAM,
        FAMILIES + r" \(family 2, 61 bytes\)",
    ),
    "IPv6 in 4 bytes": (
        "family-length-mismatch", lambda: packet("192.0.2.1", family=AF_INET6), DATAGRAM,
        FAMILIES + r" \(family 10, 49 bytes\)",
    ),
    "macOS IPv6 in 4 bytes": (
        "family-length-mismatch", lambda: packet("192.0.2.1", family=30), DATAGRAM,
        FAMILIES + r" \(family 30, 49 bytes\)",
    ),
    "NaN": (
        "time-not-finite", lambda: packet(time_stamp=math.nan), DATAGRAM,
        "time stamp is not a finite number",
    ),
    "infinity": (
        "time-not-finite", lambda: packet(time_stamp=math.inf), DATAGRAM,
        "time stamp is not a finite number",
    ),
    "-infinity": (
        "time-not-finite", lambda: packet(time_stamp=-math.inf), DATAGRAM,
        "time stamp is not a finite number",
    ),
    "0.0.0.0": unusable("0.0.0.0", "unspecified"),
    "::": unusable("::", "unspecified"),
    "::ffff:0.0.0.0": unusable("::ffff:0.0.0.0", "unspecified", "0.0.0.0"),
    "224.0.0.1": unusable("224.0.0.1", "multicast"),
    "239.255.255.255": unusable("239.255.255.255", "multicast"),
    "ff02::1": unusable("ff02::1", "multicast"),
    "::ffff:224.0.0.1": unusable("::ffff:224.0.0.1", "multicast", "224.0.0.1"),
    "255.255.255.255": unusable("255.255.255.255", "broadcast"),
    "::ffff:255.255.255.255": unusable("::ffff:255.255.255.255", "broadcast", "255.255.255.255"),
}  # fmt: skip


@pytest.mark.parametrize("counter, make, whom, reason", REFUSALS.values(), ids=REFUSALS.keys())
def test_an_authentic_datagram_is_refused_with_the_reason_and_the_skew(
    server, counter, make, whom, reason
):
    ours = server()
    ours.send(make())
    ours.log.wait_for(f"^pyknock server: refused {whom}: {reason}{SKEW}")
    assert ours.wait_for_counters(**{counter: 1})["accepted"] == 0
    ours.knock("192.0.2.9")
    ours.output.wait_for("open")
    assert ours.output.lines == ["open 192.0.2.9 inet"]


def test_every_reason_for_a_refusal_is_counted_under_its_name(server):
    ours = server(on_open="")
    assert {"wrong-length", "unknown-command", "kernel-dropped", "bad-mac", "stale", "replayed", "older-than-memory"} < set(
        ours.counters()
    )
    assert {row[0] for row in REFUSALS.values()} < set(ours.counters())


@pytest.mark.parametrize(
    "age, shown", [(61, -61), (3600, -3600), (-62, 62), (-3600, 3600)], ids=str
)
def test_a_stale_knock_is_refused_with_the_measured_skew(server, age, shown):
    ours = server()
    ours.knock(age=age)
    line = ours.log.wait_for(
        rf"refused {knock_of('192.0.2.1')}: time stamp outside the allowed drift{SKEW}"
    )
    assert re.fullmatch(r"[+-]\d+\.\d", line[1])
    assert shown - 10 < float(line[1]) <= shown + 0.1
    assert ours.counters()["stale"] == 1


@pytest.mark.parametrize("time_stamp", [0.0, -1e308, 1e308, 5e-324, 2.0**63, -(2.0**64)], ids=str)
def test_any_finite_time_is_refused_as_stale(server, time_stamp):
    ours = server()
    ours.knock(time_stamp=time_stamp)
    ours.log.wait_for(
        rf"refused {knock_of('192.0.2.1')}: time stamp outside the allowed drift{SKEW}"
    )


@pytest.mark.parametrize("age, is_fresh", [(-55, True), (50, True), (60.1, False), (-75, False)])
def test_the_default_drift_is_a_minute_both_ways(server, age, is_fresh):
    ours = server()
    ours.knock(age=age)
    ours.wait_for_counters(accepted=int(is_fresh), stale=int(not is_fresh))


def test_the_drift_has_a_fraction(server):
    ours = server("-t", "100.9")
    ours.knock("192.0.2.1", age=100.2)
    ours.knock("192.0.2.2", age=100.95)
    ours.wait_for_counters(accepted=1, stale=1)
    ours.output.wait_for("open")
    assert ours.output.lines == ["open 192.0.2.1 inet"]


def test_a_knock_is_acted_on_once(server):
    ours = server()
    ours.send(ours.knock(), ours.knock("192.0.2.2"), host="::1")
    ours.wait_for_counters(accepted=2, replayed=2)
    ours.log.wait_for(
        r"refused open 192\.0\.2\.[12] from \[::1\]:\d+: replay of an accepted datagram" + SKEW, 2
    )
    ours.output.wait_for("open", 2)
    assert len(ours.output.lines) == 2


def test_a_refused_knock_is_not_remembered(server):
    """Otherwise what comes behind the MAC could fill the memory."""
    ours = server()
    datagram = packet(age=500)
    ours.send(datagram, datagram)
    ours.wait_for_counters(stale=2, replayed=0)


def test_a_burst_of_replays_does_not_fill_the_log(server):
    ours = server()
    datagram = ours.knock()
    ours.send(*[datagram] * 500)
    ours.wait_for_counters(accepted=1, replayed=500)
    refused = len(ours.log.matching("refused open"))
    assert 50 <= refused <= 80
    # The rest is in the one line about what was only counted.
    assert len(ours.log.matching("refusals not logged: ")) == 1


def test_a_full_replay_memory_refuses_what_is_new(server):
    ours = server("-q", on_open="", wait=False)
    ours.wait_until_ready()
    now = time.time()
    first = packet(time_stamp=now)
    ours.send(first)
    for start in range(1, 4096, 455):
        ours.send(
            *[packet(time_stamp=now + number * 0.001) for number in range(start, start + 455)]
        )
        ours.wait_for_counters(accepted=start + 455)
    ours.send(first, packet("192.0.2.77"))
    ours.wait_for_counters(accepted=4096, replayed=1, replay_memory_full=1)
    ours.log.wait_for(rf"refused {knock_of('192.0.2.77')}: replay memory full{SKEW}")
    assert not ours.log.matching("replay of")


# Unauthenticated datagrams


@pytest.mark.parametrize(
    "sign", [signed, lambda body: bytes(32) + body], ids=["signed", "unsigned"]
)
def test_every_length_is_survived(server, sign):
    ours = server()
    lengths = [*range(201), 1000, 1472, 4095, 4096, 4097, 65507]
    for length in lengths:
        body = b"\1".ljust(length - 32, b"\0")
        ours.send(sign(body) if length > 32 else bytes(length))
    # The two right lengths are then of family 0, or have a bad MAC.
    wrong = "unknown_family" if sign is signed else "bad_mac"
    ours.wait_for_counters(kernel_dropped=len(lengths) - 2, accepted=0, **{wrong: 2})
    ours.knock()
    ours.output.wait_for("open 192.0.2.1")


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_valid_knock_with_bytes_behind_or_missing_is_refused(server, address):
    ours = server()
    body = packet(address)[32:]
    ours.send(signed(body + b"\0"), signed(body[:-1]), signed(body) + b"\0", signed(body)[:-1])
    ours.wait_for_counters(kernel_dropped=4, accepted=0)


def test_any_command_but_open_and_close_is_dropped_by_the_kernel(server):
    ours = server()
    for command in range(256):
        if command not in (OPEN, CLOSE):
            ours.send(packet(command=command), packet("2001:db8::1", command=command))
    ours.wait_for_counters(kernel_dropped=2 * 254, accepted=0, unknown_command=0)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_every_flipped_bit_is_refused(server, address):
    ours = server()
    datagram = packet(address)
    bits = [1 << bit for bit in range(8 * len(datagram))]
    number = int.from_bytes(datagram, "little")
    ours.send(*[(number ^ bit).to_bytes(len(datagram), "little") for bit in bits])
    # Of the command, each bit makes another that is none.
    ours.wait_for_counters(bad_mac=len(bits) - 8, kernel_dropped=8, accepted=0)
    ours.send(datagram)
    ours.output.wait_for("open " + address)


def test_another_key_is_a_bad_mac(server):
    ours = server()
    ours.knock(key=ours.key + "x")
    ours.knock(key=ours.key[:-1])
    ours.wait_for_counters(bad_mac=2, accepted=0)


@pytest.mark.usefixtures("not_emulated")
def test_unauthenticated_datagrams_are_counted_in_one_line_a_minute(server):
    ours = server("-vv")
    for _ in range(2):
        ours.send(*[bytes(40), packet(key="another key")] * 50)
        ours.log.wait_for("^pyknock server: unauthenticated datagrams: ")
    ours.wait_for_counters(kernel_dropped=100, bad_mac=100, accepted=0)
    line = ours.log.wait_for(
        r"unauthenticated datagrams: (\d+) with a bad MAC, 0 of wrong length;"
        r" the kernel dropped (\d+) \(of another form, or for want of room\)$"
    )
    assert 0 < int(line[1]) + int(line[2]) <= 200
    assert len(ours.log.matching("unauthenticated datagrams")) == 1
    assert not ours.log.matching("refused")


# What is accepted


@pytest.mark.parametrize("family", [10, 23, 24, 28, 30])
def test_the_ipv6_family_of_every_system_is_known(server, family):
    ours = server()
    ours.knock("2001:db8::1", family=family)
    ours.output.wait_for("^open 2001:db8::1 inet6$")
    ours.log.wait_for(r"^pyknock server: accepted open 2001:db8::1 from 127\.0\.0\.1:\d+$")


def test_close_runs_the_other_command(server):
    ours = server(on_open="echo first", on_close="echo second $cmd")
    ours.knock(command=CLOSE)
    ours.log.wait_for(r"^pyknock server: accepted close 192\.0\.2\.1 from 127\.0\.0\.1:\d+$")
    ours.output.wait_for("^second close$")
    assert ours.output.lines == ["second close"]


# RFC 5952, with the examples of its sections 4 and 5.
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
