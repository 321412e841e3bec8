"""Tries to look into other processes and to take what they have: thief.py PID...

For each attempt it writes a line: the process, the attempt, and the error, or that it succeeded. With `parent`
instead of the numbers, it tries the process that started its shell, and the other children of that.
"""

import ctypes
import os
import sys
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
# The numbers of MIPS begin at 4000: asm/unistd_o32.h.
PIDFD_GETFD = 438 + (4000 if os.uname().machine == "mips" else 0)
PTRACE_SEIZE, PTRACE_ATTACH = 0x4206, 16


def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def read_memory(process):
    class Part(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))

    # The first address of a program or library in a map of all processes that run Python.
    start = int(Path("/proc/self/maps").read_text().split("-")[0], 16)
    buffer = ctypes.create_string_buffer(8)
    ours, other = Part(ctypes.addressof(buffer), 8), Part(start, 8)
    check(libc.process_vm_readv(process, ctypes.byref(ours), 1, ctypes.byref(other), 1, 0))


def take_descriptor(process, number):
    check(libc.syscall(PIDFD_GETFD, os.pidfd_open(process), number, 0))


ATTEMPTS = {
    **{f"pidfd_getfd {number}": lambda process, n=number: take_descriptor(process, n) for number in range(24)},
    "ptrace attach": lambda process: check(libc.ptrace(PTRACE_ATTACH, process, 0, 0)),
    "ptrace seize": lambda process: check(libc.ptrace(PTRACE_SEIZE, process, 0, 0)),
    "process_vm_readv": read_memory,
    "fd": lambda process: os.listdir(f"/proc/{process}/fd"),
    **{
        name: lambda process, n=name: open(f"/proc/{process}/{n}", "rb").close()
        for name in ("mem", "maps", "environ", "auxv", "fd/0", "root/etc/passwd", "map_files/0-1000")
    },
}

processes = [int(number) for number in sys.argv[1:] if number != "parent"]
if not processes:
    executor = int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])
    children = Path(f"/proc/{executor}/task/{executor}/children").read_text().split()
    processes = [executor, *(int(child) for child in children if int(child) != os.getppid())]
for process in processes:
    for name, attempt in ATTEMPTS.items():
        try:
            attempt(process)
            print(process, f"{name}: done")
        except OSError as error:
            print(process, f"{name}: {error.errno}")
print("end", flush=True)
