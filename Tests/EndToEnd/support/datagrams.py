"""Knocks of version 1, and datagrams that are nearly knocks."""

import hashlib
import hmac
import ipaddress
import struct
import time

KEY = "a key that is long enough to be good"
OPEN, CLOSE = 1, 2
AF_INET, AF_INET6 = 2, 10


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
