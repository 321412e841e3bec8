"""Datagrams without the right MAC, or that the kernel drops."""

import pytest
from support.datagrams import CLOSE, OPEN, packet, signed


@pytest.mark.parametrize(
    "sign", [signed, lambda body: bytes(32) + body], ids=["signed", "unsigned"]
)
def test_every_length_is_survived(server, sign):
    ours = server()
    lengths = [*range(201), 1000, 1472, 4095, 4096, 4097, 65507]
    for length in lengths:
        body = b"\1".ljust(length - 32, b"\0")
        ours.send(sign(body) if length > 32 else bytes(length))
    # Two of the lengths are right. Those datagrams have family 0 or a bad MAC.
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
    # Any flipped bit of the command makes an unknown command, which the kernel drops.
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
        r"unauthenticated datagrams: (\d+) with an unknown key or a bad MAC, 0 of wrong length;"
        r" the kernel dropped (\d+) \(wrong form, or no room\)$"
    )
    assert 0 < int(line[1]) + int(line[2]) <= 200
    assert len(ours.log.matching("unauthenticated datagrams")) == 1
    assert not ours.log.matching("refused")
