"""Knocks of version 1, and datagrams that are nearly knocks."""

import hashlib
import hmac
import ipaddress
import struct
import time

KEY = "a key that is long enough to be good"
OPEN, CLOSE = 1, 2
AF_INET, AF_INET6 = 2, 10
# The numbers of address families that a knock can have: all systems, and Linux, Windows, NetBSD and OpenBSD,
# FreeBSD, macOS.
FAMILY_NUMBERS = {"192.0.2.7": [2], "2001:db8::7": [10, 23, 24, 28, 30]}


def signed(body, key=KEY):
    """Any bytes, preceded by their MAC."""
    key = key.encode("latin-1")
    return hmac.new(key, body, hashlib.sha256).digest() + body


def packet(address="192.0.2.1", command=OPEN, age=0.0, *, key=KEY, family=None, time_stamp=None):
    """The datagram of a knock. `address` is text or bytes; `age` is in seconds."""
    if isinstance(address, str):
        address = ipaddress.ip_address(address).packed
    if family is None:
        family = AF_INET if len(address) == 4 else AF_INET6
    if time_stamp is None:
        time_stamp = time.time() - age
    return signed(struct.pack("<Bdi", command, time_stamp, family) + address, key)


def knocks_of_all_forms():
    """A knock of each form that a server takes."""
    return [packet(address, family=number) for address, numbers in FAMILY_NUMBERS.items() for number in numbers]


def nearly_knocks():
    """Datagrams that lack the form of a knock in one point each."""
    short, long = packet(), packet("2001:db8::7")
    kinds = [short[:size] for size in (0, 1, 32, 45, 48)] + [long[:size] for size in (50, 60)]
    kinds += [long + b"x", long + bytes(1300)]
    for datagram, other in (short, 10), (long, 2):
        kinds += [datagram[:32] + bytes([command]) + datagram[33:] for command in (0, 3, 255)]
        for place, number in (41, 0), (41, other), (41, 31), (42, 1), (43, 1), (44, 1), (44, 128):
            kinds.append(datagram[:place] + bytes([number]) + datagram[place + 1 :])
    return kinds
