"""The server is killed at each of its calls, and the next one makes good what is left."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.datagrams import CLOSE, KEY, OPEN, packet
from support.requests import key_text, request
from support.state import Journal
from support.users import Team, UserFiles
from support.waiting import until

SECONDS = 1


# Who knocks for which address, how, and what then stands in the file of the commands, or in the log.
ALONE = [
    (None, "192.0.2.1", OPEN, "open 192.0.2.1", "done"),
    (None, "192.0.2.2", OPEN, "open 192.0.2.2", "done"),
    (None, "192.0.2.2", CLOSE, "close 192.0.2.2", "done"),
    (None, "192.0.2.3", OPEN, "open 192.0.2.3", "done"),
]
# The command of alice goes on to bob.
TEAM = [
    ("alice", "192.0.2.1", OPEN, "open 192.0.2.1 alice", "done"),
    ("bob", "192.0.2.1", OPEN, "open already: open 192.0.2.1 by bob", "log"),
    ("alice", "192.0.2.1", CLOSE, "accepted close 192.0.2.1 by alice", "log"),
    ("bob", "192.0.2.3", OPEN, "open 192.0.2.3 bob", "done"),
]


# By kind: the users who knock, and those of them whose keys are of version 2.
KINDS = {
    "alone": (ALONE, []), "alone, version 2": (ALONE, [None]), "team": (TEAM, []),
    "team, both versions": (TEAM, ["alice"]),
}  # fmt: skip


def life(number, make, intruder, folder, knocks, version2):
    """Runs a server that is killed at its call with this number, and the next server. Returns whether it was killed."""
    folder.mkdir()
    calls = folder / "calls"
    calls.write_bytes(bytes(4))
    journal = (Journal if knocks is ALONE else Team)(make, folder)
    key = key_text("alone") if None in version2 else KEY
    if "alice" in version2:
        journal.users.set("alice", key=key_text("alice"))
    environment = {**os.environ, "LD_PRELOAD": str(intruder)}
    environment |= {"INTRUDER_DIE_AT": str(number), "INTRUDER_FILE": str(calls)}
    # free_port takes no port below 32768, so that no other server gets these knocks.
    port = 20000 + number
    ours = journal.start(f"-p{port}", seconds=SECONDS, port=port, env=environment, wait=False, key=key)
    sent = []

    def goes_on(pattern, file=None):
        until(
            lambda: (
                ours.popen.poll() is not None
                or (re.search(pattern, journal.done.read_text()) if file else ours.log.matching(pattern))
            ),
            f"{number}: {pattern}",
        )

    goes_on("listening on")
    for user, address, command, pattern, place in knocks:
        if user in version2:
            sent.append(request(key_text(user or "alone"), address, command))
        else:
            sent.append(packet(address, command, key=UserFiles.key(user) if user else KEY))
        ours.send(sent[-1])
        goes_on(pattern, file=place == "done")
    goes_on("close 192.0.2.1", file=True)
    was_killed = ours.popen.poll() is not None
    ours.popen.kill()
    ours.exit_code()

    ours = journal.start(seconds=SECONDS, key=key)
    ours.send(*sent)

    def is_closed():
        lines = journal.lines()
        last = {line.split()[1]: line.split()[0] for line in lines}
        return set(last.values()) <= {"close"}

    # A knock whose command had not begun may be lost. One whose command had begun is closed.
    # After a kill at the first start, nobody can tell a file that was just made from one that lost all.
    def is_over():
        counters = ours.counters()
        heard = sum(counters[name] for name in ("accepted", "replayed", "older-than-memory")) == len(sent)
        return heard and counters["open"] == 0 and is_closed()

    until(is_over, lambda: f"{number}: {journal.lines()} {ours.log.lines}")
    opens = [line for line in journal.lines() if line.startswith("open")]
    assert len(opens) == len(set(opens)), f"{number}: a replay: {journal.lines()}"
    return was_killed


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_whenever_it_is_killed_no_replay_and_no_grant_without_an_end(server, intruder, tmp_path, kind):
    with ThreadPoolExecutor(12) as pool:
        count = 1
        while True:
            numbers = range(count, count + 24)
            killed = list(pool.map(lambda n: life(n, server, intruder, tmp_path / str(n), *KINDS[kind]), numbers))
            count += 24
            if not all(killed):
                break
    assert count > 48
