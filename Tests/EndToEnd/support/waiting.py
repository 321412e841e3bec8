"""Waits for what does not report itself."""

import re
import time
from pathlib import Path

from support.programs import TIMEOUT


def until(condition, what, timeout=TIMEOUT):
    """Polls until the condition returns a true value, and returns that value.

    `what` names it if it does not come: a text, or a function that returns one.
    """
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"{what() if callable(what) else what}: not within {timeout} s")


def until_all_are_taken(process, port):
    """Waits until no datagram is queued at a UDP port in the network of a process."""
    tables = [Path(f"/proc/{process}/net/{table}") for table in ("udp", "udp6")]
    queued = re.compile(rf":{port:04X} \S+ \S+ \w+:(?!00000000)")
    until(
        lambda: not any(queued.search(table.read_text()) for table in tables),
        "all datagrams are taken",
    )
