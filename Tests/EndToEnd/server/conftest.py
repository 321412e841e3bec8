"""Fixtures: a configuration file, servers that it starts, and commands that wait."""

import os

import pytest
from support.configuration import COMMANDS, ServerConf


@pytest.fixture
def conf(tmp_path, key_file):
    return ServerConf(tmp_path / "server.conf", key_file)


@pytest.fixture
def started(server, conf):
    """Starts a server with its configuration file alone."""

    def start(*options, text=COMMANDS, **more):
        conf.write(text)
        return server(*options, "-f", str(conf.path), words=[], **more)

    return start


@pytest.fixture
def gate(tmp_path):
    """A FIFO: a command that reads a line from it waits until `open` is called."""

    class Gate:
        path = tmp_path / "gate"

        def open(self):
            os.write(self.descriptor, b"go on\n")

    os.mkfifo(Gate.path)
    Gate.descriptor = os.open(Gate.path, os.O_RDWR)
    yield Gate()
    os.close(Gate.descriptor)
