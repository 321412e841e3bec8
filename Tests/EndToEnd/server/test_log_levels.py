"""What -q, -v and -vv show."""

import re

import pytest
from support.datagrams import CLOSE, packet

# One line of each kind, and the levels that show it.
LINES = {
    "listening": "-vv -v default",
    "accepted open 192.0.2.1 ": "-vv -v default",
    "refused open 192.0.2.2 .*: time stamp outside": "-vv -v default",
    "unauthenticated datagrams: ": "-vv -v default",
    "command started: open 192.0.2.1: process": "-vv",
    "command ended: open 192.0.2.1: exit status 0": "-vv -v",
    "command ended: open 192.0.2.3: exit status 1": "-vv -v default -q",
    "the command is empty: close 192.0.2.4": "-vv -v",
    "counters: ": "-vv -v default -q",
    "stopping on SIGTERM": "-vv -v default",
    "stopped": "-vv -v default",
    "warning: the key is shorter": "-vv -v default -q",
}


@pytest.mark.parametrize("level", ["-q", "default", "-v", "-vv", "-v -v", "-vvv", "-v -q", "-q -v"])
def test_each_level_shows_what_it_should(server, level):
    options = [] if level == "default" else level.split()
    command = "case $ip in *.3) exit 1;; esac"
    ours = server(*options, on_open=command, on_close="", wait=False, key="short")
    ours.wait_until_ready()
    ours.knock("192.0.2.1")
    ours.knock("192.0.2.2", age=99)
    ours.knock("192.0.2.3")
    ours.knock("192.0.2.4", CLOSE)
    ours.send(b"rubbish", packet(key="another key"))
    ours.wait_for_counters(
        succeeded=1, failed=1, accepted=3, stale=1, bad_mac=1, kernel_dropped=1, queued=0
    )
    assert ours.stop() == 0
    lines = "\n".join(ours.log.wait_for_end())
    same = {"-v -v": "-vv", "-vvv": "-vv", "-v -q": "-q", "-q -v": "default"}.get(level, level)
    shown = {pattern for pattern in LINES if re.search(pattern, lines)}
    assert shown == {pattern for pattern, levels in LINES.items() if same in levels.split()}
