"""Programs on terminals."""

import fcntl
import os
import pty
import re
import select
import subprocess
import termios
from pathlib import Path

from support.programs import TIMEOUT


class TerminalProcess:
    """A program on a terminal of its own."""

    def __init__(self, *words):
        self.ours, theirs = pty.openpty()
        self.popen = subprocess.Popen(
            words, stdin=theirs, stdout=theirs, stderr=theirs,
            preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),
        )  # fmt: skip
        self.theirs = theirs
        self.text = b""

    def wait_for(self, text):
        while text not in self.text:
            assert select.select([self.ours], [], [], TIMEOUT)[0], self.text
            self.text += os.read(self.ours, 4096)

    def type(self, text):
        os.write(self.ours, text)

    def echoes(self):
        return bool(termios.tcgetattr(self.theirs)[3] & termios.ECHO)

    def ignores(self, number):
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        [mask] = re.findall(r"^SigIgn:\t(\w+)$", status, re.MULTILINE)
        return bool(int(mask, 16) >> number - 1 & 1)

    def close(self):
        self.popen.kill()
        self.popen.wait()
        os.close(self.ours)
        os.close(self.theirs)
