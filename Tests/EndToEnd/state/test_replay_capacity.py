"""--replay-capacity."""

import pytest
from support.state import HEADER, KNOCK
from support.waiting import until


@pytest.mark.slow
def test_what_was_remembered_longer_ago_than_the_drift_makes_room(state):
    ours = state.start("--replay-capacity=16", "-t4")
    for host in range(16):
        ours.knock(f"192.0.2.{host}")
    ours.wait_for_counters(accepted=16)
    ours.knock("192.0.2.99")
    ours.wait_for_counters(replay_memory_full=1)
    ours.stop()
    ours = state.start("--replay-capacity=16", "-t4")
    ours.log.wait_for("knocks remembered")

    def is_accepted():
        ours.knock("192.0.2.100")
        return ours.counters()["accepted"]

    until(is_accepted, "there is room")


def test_the_capacity_can_be_changed_but_nothing_is_forgotten(state):
    ours = state.start("--replay-capacity=100")
    old = [ours.knock(f"192.0.2.{host}") for host in range(20)]
    ours.wait_for_counters(accepted=20)
    ours.stop()
    assert state.fails("--replay-capacity=16") == (
        f"pyknock server: --state: '{state.path}':"
        " 'replay' in it holds 20, more than --replay-capacity"
    )
    for capacity in (20, 5000):
        ours = state.start(f"--replay-capacity={capacity}")
        ours.send(*old)
        ours.wait_for_counters(replayed=20, accepted=0)
        ours.stop()
        assert state.replay.stat().st_size == HEADER + capacity * KNOCK
    assert sorted(file.name for file in state.path.iterdir()) == ["replay", "users"]


@pytest.mark.slow
def test_the_capacity_can_be_lowered_once_what_was_remembered_is_stale(state):
    state.remember_ten("-t1", "--replay-capacity=100")

    def is_forgotten():
        ours = state.start("-t1", "--replay-capacity=100")
        found = ours.log.wait_for(r"(\d+) knocks remembered")[1] == "0"
        ours.stop()
        return found

    until(is_forgotten, "all is stale")
    state.start("-t1", "--replay-capacity=16").log.wait_for("0 knocks remembered")


@pytest.mark.parametrize(
    "capacity, drift, room",
    [
        (4096, 86400, "85 knocks"), (16, 81, "355 knocks"), (16, 80, None), (4096, 3600, None),
        (1000000, "1e12", "less than one knock"), (16, 28800, "1 knocks"),
    ],
)  # fmt: skip
def test_a_drift_that_is_too_long_for_the_capacity_is_a_warning(server, capacity, drift, room):
    ours = server(f"--replay-capacity={capacity}", f"-t{drift}")
    lines = ours.log.matching("capacity")
    assert len(lines) == (1 if room else 0)
    if room:
        assert lines[0].string == (
            "pyknock server: warning: with this drift, --replay-capacity has room for "
            f"{room} an hour, and every further one is refused"
        )
