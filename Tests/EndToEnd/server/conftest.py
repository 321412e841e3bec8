"""Fixtures: a configuration file, and servers that it starts."""

import pytest
from support.configuration import COMMANDS, ServerConf


@pytest.fixture
def conf(tmp_path, key_file):
    return ServerConf(tmp_path / "server.conf", key_file)


@pytest.fixture
def started(server, conf):
    """Starts a server by its configuration file."""

    def start(*options, text=COMMANDS, **more):
        conf.write(text)
        return server(*options, "-f", str(conf.path), words=[], **more)

    return start
