"""Keys and requests of version 2. The client in contrib/ makes the requests, which shares no code with the server."""

import base64
import hashlib
import hmac
import ipaddress
import sys
import time

from support.datagrams import OPEN
from support.programs import ROOT

# Set before pyknock is imported: its folder belongs to the project.
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "contrib"))

import pyknock  # noqa: E402

CHECK = 3


def key_text(name, server="server"):
    """A key of version 2: always the same for a name and a server."""
    server_id = hashlib.sha256(server.encode()).digest()[:16]
    secret = hashlib.sha256(name.encode()).digest()
    check = hmac.digest(secret, b"pyknock 2 key" + server_id, "sha256")[:4]
    return "pk2." + base64.urlsafe_b64encode(server_id + secret + check).decode().rstrip("=")


def request(key, address="192.0.2.1", command=OPEN, age=0.0, seconds=0, answer=False):
    """A request. Without an address, it is for the one that it comes from."""
    address = address and ipaddress.ip_address(address)
    micros = time.time_ns() // 1000 - round(age * 1e6)
    return pyknock.read_key(key).request(command, micros, address, seconds, answer)
