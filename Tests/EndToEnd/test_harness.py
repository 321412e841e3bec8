"""The tests themselves: what they start does not depend on how they were started."""

import signal
import sys
from pathlib import Path

from support.programs import run

SCRIPT = """
from support.processes import Process
shown = Process(["cat", "/proc/self/status"])
print(*[line for line in shown.output.wait_for_end() if line.startswith(("SigBlk", "SigIgn"))], sep="\\n")
"""


def test_programs_start_with_default_signals_under_nohup():
    numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}

    def ignore_and_block():
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, numbers)

    words = [sys.executable, "-c", SCRIPT]
    shown = run(words, preexec_fn=ignore_and_block, cwd=Path(__file__).parent)
    assert shown.stdout == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n", shown
