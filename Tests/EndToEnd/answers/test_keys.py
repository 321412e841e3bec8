"""Which process has which keys of version 2. Of the keys themselves, none has any."""

import os
import signal

import pytest
from support.asker import ALICE, BOB, DONE, Asker
from support.processes import memory_of, messages_to, stat_of
from support.requests import key_text, pyknock
from support.version2 import ServerKey
from support.waiting import until

REQUEST, ANSWER, SECRETS = ["tag", "mask"], ["answer tag", "answer mask"], ["secret", "server id"]


def keys_in(memory, text):
    """The names of the keys of a user that are in a memory."""
    key = ServerKey(text)
    keys = {"secret": key.secret, "server id": key.server_id}
    keys |= {label: key.derived(label.encode()) for label in [*REQUEST, *ANSWER]}
    assert pyknock.read_key(text).tag_key == keys["tag"]
    # The start may have been overwritten.
    return {label for label, value in keys.items() if value in memory or value[8:] in memory and label != "server id"}


def test_only_the_executor_has_the_keys_for_answers_and_no_other(not_emulated, server, tmp_path, users):
    ours = server(f"--state={tmp_path}/state", "--answer", users.option, words=["true", "true"])
    carol = key_text("carol")
    users.remove("bob")
    users.set("carol", key=carol)
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("reloaded")
    for key in ALICE, carol:
        assert Asker(ours.port, key=key).outcome() == (DONE, 0, "192.0.2.1")
        assert keys_in(memory_of(ours.pid), key) == set(ANSWER)
        assert keys_in(memory_of(ours.receiver), key) == set(REQUEST)
    assert keys_in(memory_of(ours.pid), BOB) == keys_in(memory_of(ours.receiver), BOB) == set()


@pytest.mark.parametrize("source", ["operand", "file", "stdin"])
def test_without_answers_the_executor_has_none(not_emulated, server, tmp_path, source):
    path = tmp_path / "key"
    path.write_text(ALICE)
    path.chmod(0o600)
    operand = {"operand": [ALICE], "file": ["-k", path], "stdin": ["-k", "-"]}[source]
    ours = server(words=[*operand, "echo $ip", "true"], stdin=ALICE.encode())
    Asker(ours.port).ask()
    ours.output.wait_for("192.0.2.1")
    assert keys_in(memory_of(ours.pid), ALICE) == set()
    assert keys_in(memory_of(ours.receiver), ALICE) == set(REQUEST)
    if source == "file":
        path.write_text(BOB)
        ours.signal(signal.SIGHUP)
        ours.log.wait_for("reloaded")
        assert keys_in(memory_of(ours.pid), BOB) == keys_in(memory_of(ours.pid), ALICE) == set()
        assert keys_in(memory_of(ours.receiver), BOB) == set(REQUEST)
        assert keys_in(memory_of(ours.receiver), ALICE) == set()


def test_the_message_to_the_receiver_lacks_the_keys_for_answers(not_emulated, server, tmp_path, users):
    users.remove("bob")
    ours = server(f"--state={tmp_path}/state", "--answer", users.option, words=["true", "true"])
    os.kill(ours.receiver, signal.SIGSTOP)
    until(lambda: stat_of(ours.receiver)[0] == "T", "the receiver stands still")
    users.set("bob", key=BOB)
    ours.signal(signal.SIGHUP)
    messages = messages_to(ours.receiver, 2)
    assert [message[0] for message in messages] == [3, 6]
    assert keys_in(messages[0], BOB) == set(REQUEST)
