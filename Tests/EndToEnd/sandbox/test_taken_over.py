"""An attacker has taken over the receiver: what it tries fails, and the server ends."""

import errno
import os
import signal

import pytest
from support.asker import ALICE, BOB, DONE, Asker
from support.firewall import only_nft
from support.processes import NOBODY
from support.state import Journal
from support.users import UserFiles
from support.waiting import until

SECCOMP_KILLS = f"pyknock server: the receiver ended: signal {signal.SIGSYS.value}"


@pytest.fixture
def taken_over(server, intruder):
    """Starts a server whose receiver makes an attempt when a datagram comes."""

    def start(attempt, *options, **more):
        environment = {**os.environ, "LD_PRELOAD": str(intruder), "INTRUDER_ATTEMPT": attempt}
        environment |= more.pop("environment", {})
        ours = server(*options, env=environment, **more)
        ours.knock()
        return ours

    return start


ATTEMPTS = [
    "open", "socket", "connect", "fork", "exec", "ptrace", "kill", "map", "answer", "x32"
]  # fmt: skip


@pytest.mark.other_users
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_attempt_ends_the_server(taken_over, attempt):
    ours = taken_over(attempt, f"--user={NOBODY}")
    assert ours.exit_code() == 1
    assert ours.log.wait_for_end()[-2:] == [SECCOMP_KILLS, "pyknock server: stopped"]
    assert not ours.log.matching("intruder")


@pytest.mark.parametrize("attempt", ["open", "socket", "connect", "map", "answer"])
def test_without_the_sandbox_the_attempt_succeeds(taken_over, attempt):
    taken_over(attempt, "--no-sandbox").log.wait_for(rf"^intruder: {attempt}: \d+$")


REFUSALS = {
    "open": errno.EMFILE,
    "socket": errno.EMFILE,
    "fork": errno.EAGAIN,
    "exec": errno.EACCES,
    "ptrace": errno.EPERM,
    "kill": errno.EPERM,
}


@pytest.mark.other_users
@pytest.mark.parametrize("attempt", REFUSALS)
def test_without_seccomp_the_rest_still_holds(taken_over, attempt):
    ours = taken_over(attempt, "-v", f"--user={NOBODY}", environment={"INTRUDER_NO_SECCOMP": "1"})
    ours.log.wait_for(r"no files \(Landlock\), no seccomp \(Invalid argument\)$")
    ours.log.wait_for(f"^intruder: {attempt}: -{REFUSALS[attempt]}$")
    ours.output.wait_for("open 192.0.2.1")


def test_a_knock_that_it_makes_up_is_one_that_a_client_could_send(taken_over):
    ours = taken_over("lie: knock")
    ours.output.wait_for("^open 192.0.2.77 inet$")
    ours.output.wait_for("^open 192.0.2.1 inet$")


@pytest.mark.slow
def test_a_receiver_that_fills_the_queue_keeps_no_grant_from_its_end(server, intruder, tmp_path):
    """The closes that the executor begins by itself find room."""
    hold = tmp_path / "hold"
    hold.touch()
    journal = Journal(server, tmp_path)
    environment = {**os.environ, "LD_PRELOAD": str(intruder), "INTRUDER_ATTEMPT": "lie: many"}
    ours = journal.start(
        seconds=1,
        env=environment,
        on_open=f"while [ -e {hold} ]; do sleep 0.05; done; {journal.command}",
        on_close=journal.command,
    )
    ours.knock()
    until(lambda: len(ours.log.matching("expired: close")) == 64, "closes wait")
    hold.unlink()
    first = [f"{command} 192.0.0.{host}" for host in (1, 2, 3) for command in ("open", "close")]
    until(lambda: journal.lines()[:6] == first, lambda: f"{journal.lines()[:6]}")
    ours.signal(signal.SIGKILL)


LIES = [
    "short", "long", "kind", "new user", "removed user", "users told", "update", "user", "other user",
    "command", "length", "rest", "multicast", "source", "answer", "refusal", "way", "seconds",
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_what_no_sound_receiver_sends_ends_the_server(taken_over, lie):
    ours = taken_over(f"lie: {lie}")
    assert ours.exit_code() == 1
    lines = ours.log.wait_for_end()
    assert "pyknock server: invalid message from the receiver: killing it" in lines
    assert lines[-2:] == ["pyknock server: the receiver ended: signal 9", "pyknock server: stopped"]
    assert ours.output.wait_for_end() == []


def test_a_receiver_that_hangs_up_ends_the_server(taken_over):
    """The executor takes an empty message for the end of the connection."""
    ours = taken_over("lie: empty")
    assert ours.exit_code() == 1
    assert ours.log.wait_for_end()[-2:] == [
        "pyknock server: the receiver ended: signal 9", "pyknock server: stopped"
    ]  # fmt: skip


RECEIVING = ["receive", "read", "receive message", "copy", "copy by fcntl"]


@pytest.fixture
def answering(server, intruder, firewall, tmp_path):
    """Starts a server with sets whose executor makes an attempt before it sends an answer, and asks for one."""

    def start(attempt, *options, environment=(), **more):
        if "words" not in more:
            more |= {"words": ["-k", "-"], "stdin": ALICE.encode()}
        ours = server(
            firewall.sets, "--ttl=1h", f"--state={tmp_path}/state", "--answer", *options,
            env={**os.environ, "LD_PRELOAD": str(intruder), "INTRUDER_ANSWER": attempt, **dict(environment)},
            network=firewall, **more,
        )  # fmt: skip
        client = Asker(ours.port, network=firewall)
        client.ask()
        return ours, client

    firewall.load_example()
    return start


@only_nft
@pytest.mark.parametrize("attempt", RECEIVING)
def test_an_executor_with_sets_alone_cannot_receive(answering, attempt):
    ours, client = answering(attempt)
    assert ours.exit_code() == -signal.SIGSYS
    assert client.heard() == []


@only_nft
@pytest.mark.parametrize("attempt, result", [("receive", f"-{errno.EAGAIN}"), ("copy", r"\d+")])
@pytest.mark.parametrize("how", ["no sandbox", "no seccomp", "commands"])
def test_otherwise_it_can(answering, attempt, result, how):
    if how == "commands":
        ours, client = answering(attempt, words=["-k", "-", "true", "true"], stdin=ALICE.encode())
    elif how == "no sandbox":
        ours, client = answering(attempt, "--no-sandbox")
    else:
        ours, client = answering(attempt, environment={"INTRUDER_NO_SECCOMP": "1"})
        reason = r"the executor can receive on the socket: no seccomp \(Invalid argument\)"
        ours.log.wait_for(f"^pyknock server: warning: sandbox: {reason}$")
    ours.log.wait_for(f"^intruder: {attempt}: {result}$")
    assert client.receive()[:1] == (DONE,)


@pytest.mark.parametrize("others", [False, True], ids=["alone", "with others"])
def test_a_receiver_cannot_have_more_answers_sent_than_a_user_may_get(server, intruder, tmp_path, others):
    users = UserFiles(tmp_path / "keys")
    users.set("alice", key=ALICE)
    if others:
        users.set("bob", key=BOB)
    ours = server(
        f"--state={tmp_path}/state", "--answer", users.option, "--replay-capacity=80", "--time-drift=3600",
        env={**os.environ, "LD_PRELOAD": str(intruder), "INTRUDER_ATTEMPT": "lie: answers"},
        words=["true", "true"],
    )  # fmt: skip
    client = Asker(ours.port)
    client.ask(wants_answer=False)
    ours.log.wait_for("^intruder: lie: answers: 0$")
    ours.log.wait_for("accepted open")
    assert ours.stop() == 0
    answers = client.heard()
    assert len(answers) == (10 if others else 80)
    assert {len(answer) for answer in answers} == {64}
