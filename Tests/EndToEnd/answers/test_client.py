"""The client and a server that gives answers."""

import re

import pytest
from support.asker import ALICE, BOB
from support.programs import program, run


@pytest.fixture
def client(tmp_path):
    """Runs the client with a key."""

    def start(server, *words, key=ALICE):
        return run([*program("client"), f"-p{server.port}", "-k-", *words], stdin=key.encode())

    return start


def shown(result):
    return result.code, re.sub(r"\d\d:\d\d", "TIME", result.stdout), result.lines


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_open_check_and_close(answering, client, host):
    server = answering("--close-after=1h")
    opened = f"open for {host} until TIME (1 h)\n"
    assert shown(client(server, "check", host)) == (0, f"good: would {opened}", [])
    assert shown(client(server, "open", host, "--answer")) == (0, opened, [])
    assert shown(client(server, "close", host, "--answer")) == (0, f"closed for {host}\n", [])
    assert shown(client(server, "open", host, "--answer", "--ttl=90")) == (
        0, f"open for {host} until TIME (1 min 30 s)\n", []
    )  # fmt: skip
    assert shown(client(server, "open", host, "--answer", "-S", "192.0.2.9"))[0] == 0


def test_a_command_that_fails(answering, client):
    server = answering(on_open="exit 3")
    result = client(server, "open", "127.0.0.1", "--answer", "--", "echo", "x")
    message = "'127.0.0.1': failed for 127.0.0.1: the log of the server says why"
    assert shown(result) == (8, "", [f"pyknock client: {message}"])


def test_what_a_user_may_not(answering, client, users):
    users.set("alice", "addresses 192.0.2.0/24", key=ALICE)
    server = answering(users.option, words=["echo", "echo"])
    for word in "open", "check":
        result = client(server, word, "127.0.0.1", "--answer")
        message = "'127.0.0.1': not allowed for 127.0.0.1: the server or the limits of the key forbid it"
        assert shown(result) == (7, "", [f"pyknock client: {message}"])
    assert shown(client(server, "open", "127.0.0.1", "--answer", key=BOB))[0] == 0
    assert shown(client(server, "open", "127.0.0.1", "-S192.0.2.5", "--answer"))[0] == 0


@pytest.mark.parametrize("sign", [[], ["-S", "observed"]])
def test_without_answers_a_server_still_opens(server, client, sign):
    ours = server("--allow-observed-source", "-v", key=ALICE)
    assert shown(client(ours, "open", "127.0.0.1", *sign)) == (0, "", [])
    ours.log.wait_for("accepted open 127.0.0.1.*")
