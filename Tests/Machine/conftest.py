"""Fixtures: a virtual machine, and a server in it."""

from contextlib import closing

import pytest
from machine import Machine, build_image
from support.datagrams import KEY, packet


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    return build_image(tmp_path_factory.mktemp("image"))


@pytest.fixture
def machine(image, tmp_path):
    with closing(Machine(image, tmp_path)) as machine:
        machine.write("/run/key", KEY, mode="600")
        machine.write("/run/rules", "table inet filter { set v4 { type ipv4_addr; }; }")
        machine.run("nft -f /run/rules")
        yield machine


@pytest.fixture
def start(machine):
    """Starts a server in the machine and waits until it is ready."""

    def start(*words):
        machine.start("pyknock", "server", "-p7000", "-k/run/key", *words)
        machine.until("grep 'listening on' /run/log || ! cat /run/log")

    return start


@pytest.fixture
def knock(machine):
    """Knocks on the server from the machine itself."""

    def knock(address="192.0.2.7", command="open"):
        machine.run(f"pyknock client {command} 127.0.0.1 -p7000 -k/run/key -S{address}")

    return knock


@pytest.fixture
def send(machine):
    """Sends a knock of a time stamp, which may be sent again."""

    def send(address, time_stamp):
        machine.send(packet(address, time_stamp=time_stamp), 7000)

    return send
