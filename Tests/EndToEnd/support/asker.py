"""A client of version 2 that asks for answers."""

import ipaddress
import itertools
import socket
import time

import pytest
from support.datagrams import CLOSE, OPEN
from support.networks import HOST
from support.programs import TIMEOUT
from support.requests import CHECK, key_text, pyknock

DONE, FAILED, NOT_ALLOWED, NO_ROOM = range(4)
ALICE, BOB = key_text("alice"), key_text("bob")
__all__ = ["ALICE", "BOB", "CHECK", "CLOSE", "DONE", "FAILED", "NOT_ALLOWED", "NO_ROOM", "Asker", "nearly"]
counter = itertools.count()


def nearly(seconds):
    """What an answer says of so many seconds. A machine that has much to do may need some of them before it answers."""
    return pytest.approx(seconds - 10, abs=10)


class Asker:
    """It sends requests from one socket, and takes the answers to all of them."""

    def __init__(self, port, host="127.0.0.1", key=ALICE, network=HOST):
        self.key, self.tags = pyknock.read_key(key), []
        self.server = (host, port)
        self.socket = network.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket.settimeout(TIMEOUT)

    def ask(self, command=OPEN, address="192.0.2.1", seconds=0, wants_answer=True, age=0):
        """Sends a request, and returns it. Without an address, it is for the one that it comes from."""
        # No two have the same time.
        micros = time.time_ns() // 1000 - int(age * 1_000_000) + next(counter)
        address = address and ipaddress.ip_address(address)
        return self.send(self.key.request(command, micros, address, seconds, wants_answer))

    def send(self, datagram):
        self.tags.append(datagram[:32])
        self.socket.sendto(datagram, self.server)
        return datagram

    def receive(self):
        """The next answer: the result, the seconds and the address."""
        datagram, self.source = self.socket.recvfrom(2048)
        answer = self.key.open_answer(datagram, self.tags)
        assert answer, datagram
        assert abs(answer.micros / 1e6 - time.time()) < TIMEOUT
        return answer.result, answer.seconds, str(answer.address)

    def outcome(self, *words, **more):
        """Sends a request, and returns the answer."""
        self.ask(*words, **more)
        return self.receive()

    def heard(self):
        """The datagrams that came. What the server had to do must be done."""
        found = []
        self.socket.settimeout(0)
        try:
            while True:
                found.append(self.socket.recv(2048))
        except BlockingIOError:
            return found
        finally:
            self.socket.settimeout(TIMEOUT)
