"""The server is killed at each of its calls, and the next one makes good what is left."""

import ipaddress
import os
import re
import struct
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.asker import ALICE, CHECK, DONE, FAILED, NOT_ALLOWED, Asker, nearly
from support.datagrams import CLOSE, KEY, OPEN, packet
from support.firewall import HOUR, only_nft
from support.state import Journal, patch
from support.users import Team, UserFiles
from support.waiting import until

SECONDS = 1


# The user, the address and the kind of each knock, and what is waited for in the file of the commands, or in the log.
ALONE = [
    (None, "192.0.2.1", OPEN, "open 192.0.2.1", "done"),
    (None, "192.0.2.2", OPEN, "open 192.0.2.2", "done"),
    (None, "192.0.2.2", CLOSE, "close 192.0.2.2", "done"),
    (None, "192.0.2.3", OPEN, "open 192.0.2.3", "done"),
]
# What is answered without a command of its own: a repeat, a check, and what is refused.
ANSWERED = [
    (None, "192.0.2.3", OPEN, None, None),
    (None, "192.0.2.4", CHECK, None, None),
    (None, None, OPEN, None, None),
]
# The command of alice goes on to bob.
TEAM = [
    ("alice", "192.0.2.1", OPEN, "open 192.0.2.1 alice", "done"),
    ("bob", "192.0.2.1", OPEN, "open already: open 192.0.2.1 by bob", "log"),
    ("alice", "192.0.2.1", CLOSE, "accepted close 192.0.2.1 by alice", "log"),
    ("bob", "192.0.2.3", OPEN, "open 192.0.2.3 bob", "done"),
]


# By kind: the knocks, and the users whose keys are of version 2, and who ask for answers.
KINDS = {
    "alone": (ALONE, []), "alone, version 2": (ALONE + ANSWERED, [None]), "team": (TEAM, []),
    "team, both versions": (TEAM, ["alice"]),
}  # fmt: skip


class Witness(Asker):
    """A client that knows which of its requests an answer belongs to."""

    def __init__(self, port, **more):
        super().__init__(port, **more)
        # By the tags of the requests: what was asked for, when it was sent last, and what the answer says and took.
        self.asked, self.sent, self.answers = {}, {}, {}

    def ask(self, command, address):
        datagram = super().ask(command, address)
        self.asked[datagram[:32]] = command, address
        return datagram

    def send(self, datagram):
        self.sent[datagram[:32]] = time.monotonic()
        return super().send(datagram)

    def listen(self):
        """Takes the answers that came. No request gets a second one, whichever server it is of."""
        for datagram in self.heard():
            found = {tag: self.key.open_answer(datagram, [tag]) for tag in self.asked}
            [(tag, answer)] = [(tag, answer) for tag, answer in found.items() if answer]
            command, address = self.asked[tag]
            assert tag not in self.answers, f"a second answer to {command} {address}"
            assert str(answer.address) == (address or "127.0.0.1")
            self.answers[tag] = answer.result, answer.seconds, time.monotonic() - self.sent[tag]

    def outcomes(self, but=()):
        return [(*self.asked[tag], *answer) for tag, answer in self.answers.items() if tag not in but]

    def has_all(self):
        return len(self.answers) == len(self.asked)

    def send_again(self, server, datagrams):
        self.server = "127.0.0.1", server.port
        for datagram in datagrams:
            self.send(datagram)


def dying_at(number, intruder, folder, counted=0):
    """The environment of a server that is killed at its call with this number, if so many were counted before."""
    calls = folder / "calls"
    calls.write_bytes(struct.pack("i", counted))
    return {
        **os.environ, "LD_PRELOAD": str(intruder), "INTRUDER_DIE_AT": str(number), "INTRUDER_FILE": str(calls)
    }  # fmt: skip


def call_by_call(life):
    """Lives servers that are killed at their first call, their second, and so on until one is not."""
    batch, count = 48, 1
    with ThreadPoolExecutor(24) as pool:
        while all(list(pool.map(life, range(count, count + batch)))):
            count += batch
    assert count > batch


def ports(number):
    """The ports of the two servers. The kernel gives nobody a port below 32768, so they alone get these knocks."""
    return 20000 + number, 26000 + number


def goes_on(ours, condition, what):
    """Waits for a condition, unless the server is killed before."""
    until(lambda: ours.popen.poll() is not None or condition(), what)


def count_new(ours, sent):
    """In a list, how many of these datagrams were new to the server. An empty list until it has heard them all."""
    counters = ours.counters()
    new = counters["accepted"] + counters["unspecified-address"]
    return [new] if new + counters["replayed"] + counters["older-than-memory"] == len(sent) else []


def line_of(user, address, command):
    """What the command notes."""
    return " ".join(filter(None, ("close" if command == CLOSE else "open", address, user)))


def life(number, make, intruder, folder, knocks, asking):
    """Runs a server that is killed at its call with this number, and the next server. Returns whether it was killed."""
    folder.mkdir()
    journal = (Team if knocks is TEAM else Journal)(make, folder)
    key = ALICE if None in asking else KEY
    for name in filter(None, asking):
        journal.users.set(name, key=ALICE)
    options = ["--answer"] if asking else []
    environment = dying_at(number, intruder, folder)
    first, second = ports(number)
    ours = journal.start(f"-p{first}", *options, seconds=SECONDS, port=first, env=environment, wait=False, key=key)
    witness = Witness(first)
    sent = []

    def goes_on_to(pattern, file=None):
        goes_on(
            ours,
            lambda: re.search(pattern, journal.done.read_text()) if file else ours.log.matching(pattern),
            f"{number}: {pattern}",
        )

    def hear(before=()):
        """Hears answers, and compares the new ones with what the commands did. Returns whether all came."""
        witness.listen()
        lines = journal.lines()
        for command, address, result, seconds, took in witness.outcomes(but=before):
            line = line_of(*asking, address, command)
            if address is None:
                assert (result, seconds) == (NOT_ALLOWED, 0)
            elif result == FAILED:
                # If the receiver was killed, the executor stops, and drops commands. Otherwise the end came first.
                has_ended = (
                    (CLOSE, address) in witness.asked.values() or took >= SECONDS
                    or ours.log.matching(f"expired: close {address}")
                )  # fmt: skip
                assert seconds == 0 and command != CHECK
                assert command == CLOSE or line not in lines or has_ended, line
            else:
                assert (result, seconds) == (DONE, 0 if command == CLOSE else SECONDS)
                # What alice closes stays open for bob.
                is_noted = command != CHECK and (command, *asking) != (CLOSE, "alice")
                assert line in lines or not is_noted, f"{line}: {lines}"
        return witness.has_all()

    goes_on_to("listening on")
    for user, address, command, pattern, place in knocks:
        if user in asking:
            sent.append(witness.ask(command, address))
        else:
            sent.append(packet(address, command, key=UserFiles.key(user) if user else KEY))
            ours.send(sent[-1])
        if pattern:
            goes_on_to(pattern, file=place == "done")
    goes_on_to("close 192.0.2.1", file=True)
    goes_on(ours, hear, f"{number}: all answers")
    was_killed = ours.popen.poll() is not None
    ours.popen.kill()
    ours.exit_code()
    hear()
    before = set(witness.answers)

    ours = journal.start(f"-p{second}", *options, seconds=SECONDS, port=second, key=key)
    witness.send_again(ours, sent)

    def is_closed():
        lines = journal.lines()
        last = {line.split()[1]: line.split()[0] for line in lines}
        return set(last.values()) <= {"close"}

    # A knock whose command had not begun may be lost. One whose command had begun is closed.
    # After a kill at the first start, nobody can tell a file that was just made from one that lost all.
    def is_over():
        return ours.counters()["open"] == 0 and is_closed() and count_new(ours, sent)

    [new] = until(is_over, lambda: f"{number}: {journal.lines()} {ours.log.lines}")
    assert ours.stop() == 0
    hear(before)
    # Each new request that asks for an answer got one.
    answered = len(witness.answers) - len(before)
    assert max(0, new - len(sent) + len(witness.asked)) <= answered <= new
    opens = Counter(line for line in journal.lines() if line.startswith("open"))
    asked = Counter(line_of(user, address, command) for user, address, command, *_ in knocks)
    assert opens <= asked, f"{number}: a replay: {journal.lines()}"
    return was_killed


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_whenever_it_is_killed_no_replay_and_no_grant_without_an_end(server, intruder, tmp_path, kind):
    call_by_call(lambda number: life(number, server, intruder, tmp_path / str(number), *KINDS[kind]))


def life_with_sets(number, make, intruder, folder, firewall):
    """The same for sets, where each grant lasts an hour."""
    folder.mkdir()
    journal = Journal(make, folder)
    # The servers share the sets.
    first, second = (str(ipaddress.ip_address("198.18.0.0") + 2 * number + i) for i in (0, 1))

    def start(port, **more):
        options = [f"-p{port}", firewall.sets, f"--state={journal.path}", "--answer", "--ttl=1h"]
        return make(*options, port=port, words=["-k", "-"], stdin=ALICE.encode(), network=firewall, **more)

    def open_now():
        return {first, second} & set(firewall.elements())

    def recorded():
        return {item["address"] for item in journal.list(network=firewall) if item["ours"]}

    def hear():
        """Hears answers, and compares them with the sets. Returns whether all came."""
        witness.listen()
        for command, address, result, seconds, _ in witness.outcomes():
            if address is None:
                assert (result, seconds) == (NOT_ALLOWED, 0)
            else:
                # Between the record and the answer, other servers may have the processor for more than a second.
                assert (result, seconds) == (DONE, 0 if command == CLOSE else nearly(HOUR))
        # What was asked for last decides, once it is answered.
        last = {address: (command, tag) for tag, (command, address) in witness.asked.items() if command != CHECK}
        is_open = open_now()
        for address, (command, tag) in last.items():
            if address and tag in witness.answers:
                assert (address in is_open) == (command == OPEN)
        return witness.has_all()

    # Only the calls after its start count.
    port, next_port = ports(number)
    ours = start(port, env=dying_at(number, intruder, folder, counted=-1_000_000))
    patch(folder / "calls", 0, bytes(4))
    witness = Witness(port, network=firewall)
    sent = []
    for command, address in (OPEN, first), (CLOSE, first), (OPEN, second), (CHECK, first), (OPEN, None):
        sent.append(witness.ask(command, address))
        goes_on(ours, hear, f"{number}: an answer to {command} {address}")
        if was_killed := ours.popen.poll() is not None:
            break
    ours.popen.kill()
    ours.exit_code()
    hear()
    before = len(witness.answers)

    ours = start(next_port)
    witness.send_again(ours, sent)
    [new] = until(lambda: count_new(ours, sent), lambda: f"{number}: {ours.log.lines}")
    # What is open is recorded, and the other way round.
    until(lambda: recorded() == open_now(), lambda: f"{number}: {recorded()} recorded, {open_now()} open")
    assert ours.stop() == 0
    hear()
    assert len(witness.answers) - before == new
    return was_killed


@pytest.mark.slow
@only_nft
def test_whenever_it_is_killed_no_answer_about_a_set_is_false(server, intruder, tmp_path, firewall):
    firewall.load_example()
    call_by_call(lambda number: life_with_sets(number, server, intruder, tmp_path / str(number), firewall))
