"""A replay memory that is damaged or foreign: no knock is accepted that may have been before."""

import os
import random
import signal
import time

import pytest
from support.datagrams import KEY
from support.programs import program, run
from support.state import HEADER, KNOCK
from support.waiting import until

DAMAGES = {
    "a record": lambda state: state.patch(HEADER + 3 * KNOCK + 5, b"\xff\xff"),
    "zeros in the middle": lambda state: state.patch(HEADER + 3 * KNOCK, bytes(4 * KNOCK)),
    "zeros at the end": lambda state: state.patch(HEADER + 9 * KNOCK, bytes(KNOCK)),
    "zeros in the header": lambda state: state.patch(0, bytes(HEADER)),
    "a sequence number": lambda state: state.patch(HEADER + 9 * KNOCK + 40, b"\xff" * 8),
    "both marks": lambda state: state.patch(512, bytes(1024)),
    "the header": lambda state: state.patch(16, b"\1"),
    "a part": lambda state: os.truncate(state.replay, HEADER + 5 * KNOCK + 7),
    "all but the header": lambda state: os.truncate(state.replay, HEADER),
    "nearly all": lambda state: os.truncate(state.replay, 1),
    "too much": lambda state: os.truncate(state.replay, state.replay.stat().st_size + 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_after_a_damage_nothing_is_accepted_that_may_have_been_before(state, damage):
    old = state.remember_ten("-t4")
    damage(state)
    ours = state.start("-t4")
    line = ours.log.wait_for(r"the replay memory was damaged, or of an older version: .*")[0]
    assert line.startswith(
        "the replay memory was damaged, or of an older version: what is stamped before now + 4 s is refused; "
    )

    def refuses_all():
        ours.send(*old)
        refused = ("replayed", "older-than-memory", "stale")
        until(lambda: sum(ours.counters()[name] for name in refused) >= 10, "all are refused")
        assert ours.counters()["accepted"] == 0

    refuses_all()
    # The server has written a new file, which still refuses the old knocks.
    ours.signal(signal.SIGKILL)
    ours.exit_code()
    ours = state.start("-t4")
    ours.log.wait_for("knocks remembered")
    assert not ours.log.matching("damaged")
    refuses_all()

    def is_accepted():
        ours.knock("192.0.2.78")
        return ours.counters()["accepted"]

    until(is_accepted, "a knock is accepted")


def test_a_damage_is_logged_even_if_the_server_cannot_start(state):
    """Such a start changes nothing, so the next one finds the damage too."""
    ours = state.start("--close-after=1h")
    for host in range(20):
        ours.knock(f"192.0.2.{host}")
    ours.wait_for_counters(open=20)
    ours.stop()
    state.patch(512, bytes(1024))
    words = ["--state", state.path, "--close-after=1h", "--grant-capacity=16", "-k", "-", "true", "true"]
    result = run([*program("server"), *words], stdin=KEY.encode())
    assert result.code == 1
    assert [line.partition(": ")[2].partition(":")[0] for line in result.lines] == [
        "the replay memory was damaged, or of an older version", "--state"
    ]  # fmt: skip
    ours = state.start("--close-after=1h")
    ours.log.wait_for("the replay memory was damaged, or of an older version: .*; 20 knocks remembered$")


def test_a_record_that_was_not_written_to_its_end_is_no_damage(state):
    old = state.remember_ten()
    state.patch(HEADER + 10 * KNOCK, os.urandom(20))
    ours = state.start()
    ours.log.wait_for("^pyknock server: 10 knocks remembered$")
    ours.send(*old)
    ours.wait_for_counters(replayed=10, accepted=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_no_damage_ends_the_server_or_lets_a_replay_in(state, seed):
    generator = random.Random(seed)
    old = state.remember_ten("--replay-capacity=32")
    good = state.replay.read_bytes()
    # The bytes of the header, the marks and the records.
    places = [*range(40), *range(512, 600), *range(1024, 1100), *range(HEADER, HEADER + 10 * KNOCK)]
    for _ in range(12):
        changed = bytearray(good)
        for _ in range(generator.choice([1, 1, 2, 8])):
            changed[generator.choice(places)] = generator.randrange(256)
        state.replay.write_bytes(changed[: generator.choice([len(changed)] * 4 + [HEADER + 300])])
        ours = state.start("--replay-capacity=32", wait=False)
        if ours.log.wait_for("listening on|--state")[0] == "--state":
            assert ours.exit_code() == 1
            continue
        ours.send(*old)
        refused = ("replayed", "older-than-memory")
        end = time.monotonic() + 20
        while sum(ours.counters()[name] for name in refused) < 10:
            assert time.monotonic() < end
        assert ours.counters()["accepted"] == 0
        ours.stop()
