"""Knocks that come twice, and the replay memory without a state directory."""

import time

from support.datagrams import packet


def test_a_knock_is_acted_on_once(server):
    ours = server()
    ours.send(ours.knock(), ours.knock("192.0.2.2"), host="::1")
    ours.wait_for_counters(accepted=2, replayed=2)
    ours.log.wait_for(
        r"refused open 192\.0\.2\.[12] from \[::1\]:\d+: replay of an accepted datagram, clock skew \S+ s$", 2
    )
    ours.output.wait_for("open", 2)
    assert len(ours.output.lines) == 2


def test_a_refused_knock_is_not_remembered(server):
    """Otherwise stale knocks could fill the replay memory."""
    ours = server()
    datagram = packet(age=500)
    ours.send(datagram, datagram)
    ours.wait_for_counters(stale=2, replayed=0)


def test_a_burst_of_replays_does_not_fill_the_log(server):
    ours = server()
    datagram = ours.knock()
    ours.send(*[datagram] * 500)
    ours.wait_for_counters(accepted=1, replayed=500)
    refused = len(ours.log.matching("refused open"))
    assert 50 <= refused <= 80
    # One line says how many others there were. The receiver counts before it writes lines.
    ours.log.wait_for("refusals not logged: ")
    assert len(ours.log.matching("refusals not logged: ")) == 1


def test_a_full_replay_memory_refuses_what_is_new(server):
    ours = server("-q", on_open="", wait=False)
    ours.wait_until_ready()
    now = time.time()
    first = packet(time_stamp=now)
    ours.send(first)
    for start in range(1, 4096, 455):
        ours.send(
            *[packet(time_stamp=now + number * 0.001) for number in range(start, start + 455)]
        )
        ours.wait_for_counters(accepted=start + 455)
    ours.send(first, packet("192.0.2.77"))
    ours.wait_for_counters(accepted=4096, replayed=1, replay_memory_full=1)
    ours.log.wait_for(r"refused open 192\.0\.2\.77 from 127\.0\.0\.1:\d+: replay memory full, clock skew \S+ s$")
    assert not ours.log.matching("replay of")
