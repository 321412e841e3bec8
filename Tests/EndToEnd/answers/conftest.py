"""Fixtures: servers that give answers, and clients that ask for them."""

from contextlib import ExitStack, closing

import pytest
from support.asker import ALICE, BOB, Asker
from support.users import UserFiles


@pytest.fixture
def asker():
    """Makes clients."""
    with ExitStack() as stack:

        def make(*words, **more):
            one = Asker(*words, **more)
            stack.enter_context(closing(one.socket))
            return one

        yield make


@pytest.fixture
def answering(server, tmp_path):
    """Starts a server that gives answers to alice."""

    def start(*options, key=ALICE, **more):
        return server(f"--state={tmp_path}/state", "--answer", *options, key=key, **more)

    return start


@pytest.fixture
def users(tmp_path):
    """The files of alice and bob."""
    users = UserFiles(tmp_path / "keys")
    users.set("alice", key=ALICE)
    users.set("bob", key=BOB)
    return users
