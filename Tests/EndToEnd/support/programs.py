"""The program under test and the Python original: where they are, and how to run them to their end."""

import os
import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# PYKNOCK may begin with an emulator.
PYKNOCK = shlex.split(os.environ.get("PYKNOCK", ".build/embedded/release/pyknock"))
PYKNOCK[-1] = str(ROOT / PYKNOCK[-1])
ORIGINAL = ROOT / os.environ.get("PYKNOCK_ORIGINAL", ".build/venv/bin")
APPLETS = ["server", "client", "keygen", "status"]
EMULATED = len(PYKNOCK) > 1

# Anything that takes longer, in seconds, fails the test. No test that passes waits this long.
TIMEOUT = 60 if EMULATED else 20


def program(applet):
    """The words that start an applet."""
    return [*PYKNOCK, applet]


class Result:
    """How a program ended, and what it wrote."""

    def __init__(self, completed):
        self.code = completed.returncode
        self.stdout = (completed.stdout or b"").decode("utf-8", "backslashreplace")
        self.stderr = (completed.stderr or b"").decode("utf-8", "backslashreplace")
        self.lines = self.stderr.splitlines()

    def __repr__(self):
        return f"exit {self.code}\nstdout: {self.stdout}\nstderr: {self.stderr}"


def socket_error(text):
    """What a message says of an error that SO_ERROR tells.

    QEMU 7.2 hands on the number that this machine has. On MIPS that is no error, or another one.
    """
    return "No error information" if EMULATED and "mips" in PYKNOCK[0] else text


def run(words, *, stdin=b"", **options):
    """Runs a program to its end."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": TIMEOUT, **options}
    return Result(subprocess.run(words, input=stdin, **options))


def options_in_help(applet):
    """The options of an applet by name, each with the name of its value, or None."""
    options = {}
    for line in run([*program(applet), "--help"]).stdout.splitlines():
        if found := re.match(r"  (?:(-\w), |    )(--[\w-]+)(?: ([^ ]+))?(?:$| {2,})", line):
            for name in filter(None, found.groups()[:2]):
                options[name] = found[3]
    return options
