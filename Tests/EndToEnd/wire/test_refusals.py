"""Authentic datagrams that the server refuses, and what it logs about them."""

import math
import re

import pytest
from support.datagrams import AF_INET, AF_INET6, packet

DATAGRAM = r"a datagram from 127\.0\.0\.1:\d+"
FAMILIES = "address family and length do not match"
SKEW = r", clock skew (\S+) s$"


def knock_of(address, command="open"):
    return rf"{command} {re.escape(address)} from 127\.0\.0\.1:\d+"


def unusable(address, reason, shown=None):
    hint = ""
    if reason == "unspecified":
        hint = r" \(only --allow-observed-source replaces it by the sender's address\)"
    return (
        f"{reason}-address",
        lambda: packet(address),
        knock_of(shown or address),
        f"{reason} address{hint}",
    )


# By name: the counter, the datagram, how the line names it, and the reason.
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
    others = [
        "wrong-length", "unknown-key", "bad-mac", "unknown-command", "unknown-flag", "unknown-door", "reserved-byte",
        "seconds-not-zero", "stale", "time-not-kept", "replayed", "older-than-memory", "kernel-dropped",
    ]  # fmt: skip
    assert {*others, *(row[0] for row in REFUSALS.values())} < set(ours.counters())


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
