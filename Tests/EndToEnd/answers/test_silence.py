"""Who gets no answer: nobody without --answer, and nobody who sends what was sent before."""

import signal

import pytest
from support.asker import ALICE, BOB, CHECK, CLOSE, DONE, NOT_ALLOWED
from support.datagrams import packet
from support.programs import program, run
from support.requests import key_text
from support.version2 import KEY2
from support.waiting import until


def scan(client, valid):
    """What a scanner sends that has recorded a request, and once had the key."""
    client.send(valid)
    client.send(client.ask(age=3600))
    client.ask(age=-3600)
    client.ask(address="0.0.0.0")
    client.ask(address="224.0.0.1")
    client.ask(CHECK, address=None)
    for place in 0, 35, 71:
        client.send(valid[:place] + bytes([valid[place] ^ 1]) + valid[place + 1 :])
    client.send(bytes(72))
    client.send(packet())
    for size in 0, 1, 49, 61, 64, 71, 73, 1400:
        client.send(bytes(size))


@pytest.mark.parametrize("options", [[], ["--keys"]], ids=["key", "keys"])
def test_without_the_option_a_scan_sees_nothing(server, asker, tmp_path, users, options):
    ours = server(
        f"--state={tmp_path}/state", *(users.option for _ in options), key=ALICE,
        **({"words": ["echo", "echo"]} if options else {}),
    )  # fmt: skip
    client = asker(ours.port)
    valid = client.ask()
    client.ask(CLOSE)
    # Refusals that would be answered.
    client.ask(address=None)
    client.ask(seconds=60)
    scan(client, valid)
    client.ask(address="192.0.2.99")
    ours.log.wait_for("accepted open 192.0.2.99")
    ours.wait_for_counters(queued=0, running=0)
    assert ours.stop() == 0
    assert client.heard() == []


def test_with_the_option_only_new_requests_that_ask_get_one(answering, asker):
    ours = answering()
    client = asker(ours.port)
    client.ask(wants_answer=False)
    client.ask(CLOSE, wants_answer=False)
    client.ask(seconds=60, wants_answer=False)
    valid = client.ask()
    assert client.receive() == (DONE, 0, "192.0.2.1")
    refused = client.ask(seconds=60)
    assert client.receive() == (NOT_ALLOWED, 0, "192.0.2.1")
    client.send(valid)
    client.send(refused)
    client.ask(age=3600)
    client.ask(age=-3600)
    client.send(bytes(72))
    client.send(packet())
    ours.wait_for_counters(replayed=2, stale=2, unknown_key=1)
    assert ours.stop() == 0
    assert client.heard() == []


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_recorded_gets_a_second_answer_after_a_restart(answering, asker, stop):
    ours = answering()
    client = asker(ours.port)
    recorded = [client.ask(), client.ask(CHECK), client.ask(CLOSE), client.ask(seconds=60)]
    assert sorted(client.receive()[0] for _ in recorded) == [DONE, DONE, DONE, NOT_ALLOWED]
    ours.signal(stop)
    ours.exit_code()
    ours = answering(port=ours.port, words=[f"-p{ours.port}", "-k", "-", "echo", "echo"], stdin=ALICE.encode())
    for request in recorded:
        client.send(request)
    # After a kill, what is older than the end of the last server is refused without a look.
    refusals = ["replayed"] if stop == signal.SIGTERM else ["replayed", "older-than-memory"]
    until(lambda: sum(ours.counters()[name] for name in refusals) == 4, "all are refused")
    assert ours.counters()["accepted"] == 0
    assert client.heard() == []


def test_other_keys_of_the_server_open_no_answer(answering, asker, users):
    ours = answering(users.option, words=["echo", "echo"])
    alice = asker(ours.port)
    tag = alice.ask()[:32]
    datagram = alice.socket.recv(2048)
    assert len(datagram) == 64
    assert alice.key.open_answer(datagram, [tag])
    assert asker(ours.port, key=BOB).key.open_answer(datagram, [tag]) is None
    assert asker(ours.port, key=key_text("alice", "other")).key.open_answer(datagram, [tag]) is None
    for bit in range(512):
        changed = (int.from_bytes(datagram, "big") ^ 1 << bit).to_bytes(64, "big")
        assert alice.key.open_answer(changed, [tag]) is None


def test_a_copy_that_is_faster_and_comes_from_elsewhere_opens_and_hears_nothing(answering, asker, users):
    """The limits of alice do not allow its source. Her own request, which comes later, is as good as before."""
    users.set("alice", "addresses source", key=ALICE)
    ours = answering(users.option, words=["echo $cmd $ip", "true"])
    alice, thief = asker(ours.port), asker(ours.port)
    alice.socket.bind(("127.0.0.1", 0))
    thief.socket.bind(("127.0.0.2", 0))
    for count in (1, 2):
        request = thief.ask(address="127.0.0.1")
        ours.wait_for_counters(address_not_allowed=count)
        alice.send(request)
        assert alice.receive() == (DONE, 0, "127.0.0.1")
    ours.wait_for_counters(replayed=0, accepted=2)
    # A check loses nothing, and says what is wrong.
    assert thief.outcome(CHECK, "127.0.0.1") == (NOT_ALLOWED, 0, "127.0.0.1")
    assert thief.heard() == []


def test_answers_need_a_state_directory():
    result = run([*program("server"), "--answer", KEY2, "true", "true"])
    assert (result.code, result.lines[0]) == (2, "pyknock server: --answer needs --state")
