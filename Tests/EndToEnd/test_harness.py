"""The tests themselves: how they start programs, and what they see of them."""

import os
import signal
import sys
from pathlib import Path

from support.processes import Lines
from support.programs import run

SCRIPT = """
from support.processes import Process
shown = Process(["cat", "/proc/self/status"])
print(*[line for line in shown.output.wait_for_end() if line.startswith(("SigBlk", "SigIgn"))], sep="\\n")
"""

# 32 and 33, which the C library keeps to itself. Its posix_spawn(3), and so make(1), starts programs that ignore them.
OF_LIBRARY = 0b11 << 31


def test_programs_start_with_default_signals_under_nohup():
    numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}

    def ignore_and_block():
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, numbers)

    words = [sys.executable, "-c", SCRIPT]
    shown = run(words, preexec_fn=ignore_and_block, cwd=Path(__file__).parent)
    masks = {name: int(mask, 16) & ~OF_LIBRARY for name, mask in map(str.split, shown.stdout.splitlines())}
    assert masks == {"SigBlk:": 0, "SigIgn:": 0}, shown


def test_what_was_written_before_an_event_is_seen_after_it():
    """Not only once a thread of the test has come to read it."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as stream, os.fdopen(writer, "wb", buffering=0) as pipe:
        seen = Lines(stream)
        for number in range(1, 1001):
            pipe.write(b"line\nbegun ")
            assert len(seen.matching("line$")) == number
        pipe.close()
        assert seen.wait_for_end()[-2:] == ["begun line", "begun "]
