"""Programs that run beside a test."""

import contextlib
import ctypes
import os
import re
import select
import signal
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from support.programs import EMULATED, PYKNOCK, TIMEOUT

NOBODY = 65534
# pidfd_getfd(2). The numbers of MIPS begin at 4000: asm/unistd_o32.h.
PIDFD_GETFD = 438 + (4000 if os.uname().machine == "mips" else 0)


def keep_ignored_signals_from_children():
    """Has all programs start with default signals, even if the tests run under nohup or in the background.

    A signal with a handler has its default action again after exec; an ignored or blocked one stays so.
    """
    for number in signal.valid_signals():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


# Everything that starts a server uses this module.
keep_ignored_signals_from_children()


def as_nobody(*options):
    """The words that run a program as an ordinary user without privileges; setpriv takes the options."""
    for folder in Path(PYKNOCK[-1]).parents:
        if not folder.stat().st_mode & 0o001:
            pytest.skip(f"needs a program that every user can run, and {folder} is closed to others")
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *options]


def stat_of(process):
    """The fields of /proc/PID/stat from the third, the state, on: proc_pid_stat(5)."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def name_of(process):
    """What ps(1) shows without the arguments, or nothing once the process has ended: proc_pid_comm(5)."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/comm").read_text().rstrip("\n")


def status_of(process):
    """The lines of /proc/PID/status by name: proc_pid_status(5)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def capabilities_of(process):
    """The inheritable, permitted, effective, bounding and ambient capabilities."""
    status = status_of(process)
    return [int(status[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")]


def children_of(process):
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def links_of(process):
    """What the descriptors of a process refer to. Some may be closed meanwhile."""
    found = []
    for entry in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry))
    return found


def memory_of(pid):
    """The readable memory of a process."""
    parts = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            if line.split()[1][0] == "r" and not line.endswith("[vvar]"):
                try:
                    memory.seek(start)
                    parts.append(memory.read(end - start))
                except (OSError, OverflowError):
                    pass
    return b"".join(parts)


def install_filter(code):
    """Has the kernel ask a filter of system calls before each call: seccomp(2), linux/filter.h."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    filter = struct.pack("HP", (len(code) - 1) // 8, ctypes.addressof(code))
    PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0) == 0


def descriptor_of(process, number):
    """A descriptor of another process, duplicated: pidfd_getfd(2)."""
    process = os.pidfd_open(process)
    result = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, process, number, 0)
    error = ctypes.get_errno()
    os.close(process)
    if result < 0:
        raise OSError(error, os.strerror(error))
    return result


def messages_to(receiver, count):
    """The next messages of the executor to a receiver that stands still. It does not take them any more."""
    messages = []
    for name in os.listdir(f"/proc/{receiver}/fd"):
        if not os.readlink(f"/proc/{receiver}/fd/{name}").startswith("socket:"):
            continue
        with socket.socket(fileno=descriptor_of(receiver, int(name))) as end:
            if end.family == socket.AF_UNIX:
                end.settimeout(20)
                messages += [end.recv(2000) for _ in range(count)]
    return messages


class Lines:
    """The lines that programs write to a pipe.

    A thread empties the pipe, so that no program waits for room. A test that looks first reads the rest of the pipe.
    So it finds all that was written before an event that it has seen.
    """

    def __init__(self, stream):
        self.changed = threading.Condition()
        self.ended = False
        self._lines, self._begun = [], b""
        self._stream = stream
        os.set_blocking(stream.fileno(), False)
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self):
        poll = select.poll()
        poll.register(self._stream, select.POLLIN)
        while not self.ended:
            poll.poll()
            self._read()

    def _read(self):
        """Reads what is in the pipe, which has room for 64 KiB."""
        with self.changed:
            try:
                data = b"" if self.ended else os.read(self._stream.fileno(), 1 << 16)
            except BlockingIOError:
                return
            self.ended = data == b""
            *lines, self._begun = (self._begun + data).split(b"\n")
            if self.ended and self._begun:
                lines.append(self._begun)
                self._begun = b""
            for line in lines:
                # Under an emulator each server is started so: see `Server`.
                if not EMULATED or not line.endswith(b": warning: no sandbox"):
                    self._lines.append(line.decode("utf-8", "backslashreplace"))
            self.changed.notify_all()

    @property
    def lines(self):
        """What has been written by now."""
        with self.changed:
            self._read()
            return list(self._lines)

    def matching(self, pattern):
        return [match for line in self.lines if (match := re.search(pattern, line))]

    def wait_for(self, pattern, count=1):
        """Waits until `count` lines match the pattern. Returns the match in the last of them."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.matching(pattern)) >= count or self.ended, TIMEOUT)
            found = self.matching(pattern)
            text = "\n".join(self.lines[-40:])
            assert len(found) >= count, f"{len(found)} of {count} lines with {pattern!r} in:\n{text}"
            return found[count - 1]

    def wait_for_end(self):
        with self.changed:
            assert self.changed.wait_for(lambda: self.ended, TIMEOUT), "the stream does not end"
            return self.lines


def answering(error, call, first_argument=None):
    """Has the kernel seem to answer a call with an error, if its first argument is this."""
    load, equal, give, allow = 0x20, 0x15, 0x06, 0x7FFF0000
    code = [(load, 0, 0, 0), (equal, 1, 0, call), (give, 0, 0, allow)]
    if first_argument is not None:
        code += [(load, 0, 0, 16), (equal, 1, 0, first_argument), (give, 0, 0, allow)]
    install_filter([*code, (give, 0, 0, 0x00050000 | error)])


class Process:
    """A program, with the lines that it writes."""

    def __init__(self, words, *, stdin=b"", **options):
        options = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "start_new_session": True,
            **options,
        }
        self.popen = subprocess.Popen(words, stdin=subprocess.PIPE, **options)
        self.pid = self.popen.pid
        self.output = Lines(self.popen.stdout) if self.popen.stdout else None
        self.log = Lines(self.popen.stderr) if self.popen.stderr else None
        with contextlib.suppress(BrokenPipeError), self.popen.stdin as pipe:
            pipe.write(stdin)

    def signal(self, number):
        os.kill(self.pid, number)

    def exit_code(self):
        return self.popen.wait(TIMEOUT)

    def close(self):
        """Kills the program and all other processes of its session."""
        self.popen.kill()
        self.popen.wait()
        # Any process may end while this looks at it.
        for process in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if int(stat_of(process)[3]) == self.popen.pid:
                    os.kill(int(process), signal.SIGKILL)
