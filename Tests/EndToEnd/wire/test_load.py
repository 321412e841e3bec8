"""Many bad datagrams: they cost no memory and few lines of the log."""

import errno
import os
import re
import signal
import time
from pathlib import Path

import pytest
from support.datagrams import packet, signed
from support.waiting import until

KIB = 1024


def resident_size(ours):
    """The resident bytes of both processes. smaps_rollup is exact; VmRSS may lag by some pages for each processor."""
    total = 0
    for process in (ours.pid, ours.receiver):
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        total += int(re.search(r"^Rss:\s+(\d+) kB", text, re.MULTILINE)[1]) * KIB
    return total


MALFORMED = {
    "before the MAC": [
        lambda number: number.to_bytes(2, "big") * (number % 100),
        lambda number: number.to_bytes(32, "big") + b"\1" + bytes(16),
        lambda number: number.to_bytes(32, "big") + b"\2" + bytes(28),
        lambda number: packet()[:-1] + b"\xff",
        lambda number: packet()[:32],
    ],
    "behind the MAC": [
        lambda number: packet(command=3 + number % 253),
        lambda number: packet(family=1000 + number),
        lambda number: packet("2001:db8::1", family=2),
        lambda number: packet(age=1000 + number),
        lambda number: packet("224.0.0.1"),
        lambda number: packet(time_stamp=float("nan")),
        lambda number: signed(number.to_bytes(17, "little")[::-1]),
        lambda number: signed(b"\2" + number.to_bytes(28, "big")),
        lambda number: signed(number.to_bytes(4, "big") * (number % 40)),
        lambda number: signed(b"\1" + number.to_bytes(16, "big")),
    ],
}


@pytest.mark.slow
@pytest.mark.usefixtures("not_emulated")
@pytest.mark.parametrize("makers", MALFORMED.values(), ids=MALFORMED.keys())
def test_10000_malformed_datagrams_cost_no_memory_and_no_flood_of_lines(server, makers):
    ours = server(on_close="")

    def refused():
        others = ("accepted", "succeeded", "failed", "running", "queued")
        counters = ours.counters()
        return sum(counters.values()) - sum(counters[name] for name in others)

    def send(first, last):
        # The buffer of a socket holds a burst of this size.
        for start in range(first, last, 500):
            numbers = range(start, start + 500)
            ours.send(*[makers[number % len(makers)](number) for number in numbers])
            until(lambda total=numbers.stop: refused() == total, "all are refused")

    ours.knock("192.0.2.1")
    ours.output.wait_for("open 192.0.2.1")
    send(0, 1000)
    before = resident_size(ours)
    send(1000, 11_000)
    assert resident_size(ours) - before <= 64 * KIB
    ours.knock("192.0.2.2")
    ours.output.wait_for("open 192.0.2.2")
    assert ours.counters()["accepted"] == 2
    # 60 lines for the user, 60 for recordings, and one more of each in a second.
    assert len(ours.log.matching("unauthenticated|refused")) < 140


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.ECONNREFUSED, errno.EIO], ids=os.strerror)
def test_an_error_costs_a_datagram_at_most(server, intruder, error):
    """No datagram is handled twice because of it, either."""
    ours = server(env={**os.environ, "LD_PRELOAD": str(intruder), "INTRUDER_ERROR": str(error)})
    for number in range(1, 4):
        ours.knock(f"192.0.2.{number}")
        ours.output.wait_for(f"^open 192.0.2.{number} inet$")
    assert ours.counters()["accepted"] == 3
    assert ours.counters()["replayed"] == 0
    assert ours.stop() == 0
    told = f"pyknock server: cannot receive, going on: {os.strerror(error)}"
    assert ours.log.wait_for_end().count(told) == 1


@pytest.mark.slow
def test_each_knock_is_judged_by_the_time_of_its_own_turn(server):
    """The receiver waits while the connection to the executor is full, and then takes what has come meanwhile."""
    ours = server("-t", "2", "--no-shell", on_open="echo $ip")
    ours.signal(signal.SIGSTOP)
    ours.send(*(packet(f"10.0.{number // 200}.{number % 200}") for number in range(300)))
    time.sleep(2.5)
    ours.knock("192.0.2.1")
    ours.signal(signal.SIGCONT)
    ours.output.wait_for("^192.0.2.1$")
    assert not ours.log.matching(r"clock skew \+")
