"""Version 2 from the server's side, for tests of clients: opens requests, seals answers. See doc/PROTOCOL.md."""

import base64
import hashlib
import hmac
import ipaddress
import json
import socket
import struct
import threading
from dataclasses import dataclass

from support.networks import HOST
from support.programs import ROOT, TIMEOUT

VECTORS = json.loads((ROOT / "Tests/Vectors/version2.json").read_text())
KEY2, OTHER_KEY2 = (key["text"] for key in VECTORS["keys"])


def mac(key, *parts):
    return hmac.digest(key, b"".join(parts), hashlib.sha256)


def exclusive_or(one, other):
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")


@dataclass(frozen=True)
class Request:
    """What a datagram asks for."""

    tag: bytes
    command: int
    flags: int
    door: int
    reserved: int
    seconds: int
    time: int
    address: ipaddress.IPv4Address | ipaddress.IPv6Address


class ServerKey:
    """The keys that a server derives from a text."""

    def __init__(self, text):
        data = base64.urlsafe_b64decode(text.removeprefix("pk2.") + "==")
        self.server_id, self.secret = data[:16], data[16:48]
        self.is_whole = len(text) == 74 and self.derived(b"key")[:4] == data[48:]

    def derived(self, label):
        return mac(self.secret, b"pyknock 2 " + label, self.server_id)

    def open(self, datagram):
        """The request in a datagram, or None if it is not one of this key."""
        tag, masked_id, masked = datagram[:32], datagram[32:40], datagram[40:]
        mask = mac(mac(self.server_id, b"pyknock 2 id mask"), tag)[:8]
        if len(datagram) != 72 or exclusive_or(masked_id, mask) != self.derived(b"id")[:8]:
            return None
        plain = exclusive_or(masked, mac(self.derived(b"mask"), tag))
        if mac(self.derived(b"tag"), plain) != tag:
            return None
        address = ipaddress.IPv6Address(plain[16:])
        return Request(tag, *struct.unpack("<4BIQ", plain[:16]), address.ipv4_mapped or address)

    def answer(self, tag, address, result=0, seconds=0, time=0):
        """The answer to the request with this tag."""
        address = ipaddress.ip_address(address)
        if address.version == 4:
            address = ipaddress.IPv6Address(f"::ffff:{address}")
        plain = struct.pack("<IIQ", result, seconds, time) + address.packed
        answer_tag = mac(self.derived(b"answer tag"), tag, plain)
        return answer_tag + exclusive_or(plain, mac(self.derived(b"answer mask"), answer_tag))


class Responder:
    """A socket that answers requests. `reply` gets the requests so far, and returns datagrams for the last."""

    def __init__(self, reply, key=KEY2, address="127.0.0.1", port=0, network=HOST):
        self.key, self.reply = ServerKey(key), reply
        self.requests, self.datagrams = [], []
        # Where the last datagram came from.
        self.sender = None
        self.changed = threading.Condition()
        self.socket = network.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.socket.bind((address, port))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            datagram, self.sender = self.socket.recvfrom(2048)
            if datagram == b"":
                return
            request = self.key.open(datagram)
            with self.changed:
                self.datagrams.append(datagram)
                if request:
                    self.requests.append(request)
                self.changed.notify_all()
            for answer in (request and self.reply(self.requests)) or []:
                self.socket.sendto(answer, self.sender)

    def wait_for(self, count):
        """Waits until so many datagrams came."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.datagrams) >= count, TIMEOUT), "no such request"

    def close(self):
        self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()
