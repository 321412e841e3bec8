"""The server as a process: start, stop, what it binds to, and poor surroundings."""

import ctypes
import errno
import fcntl
import os
import resource
import shutil
import signal
import socket
import struct
import time
from pathlib import Path

import pytest
from support.datagrams import CLOSE, KEY, packet
from support.networks import libc
from support.processes import children_of
from support.programs import PYKNOCK, program, run
from support.servers import client
from support.waiting import until


@pytest.fixture
def gate(tmp_path):
    """A FIFO that a command reads a line from, and so waits until `open` is called."""

    class Gate:
        path = tmp_path / "gate"

        def open(self):
            os.write(self.descriptor, b"go on\n")

    os.mkfifo(Gate.path)
    Gate.descriptor = os.open(Gate.path, os.O_RDWR)
    yield Gate()
    os.close(Gate.descriptor)


def test_a_hangup_stops_the_server_unless_it_is_ignored(server):
    for action in (signal.SIG_DFL, signal.SIG_IGN):
        ours = server(preexec_fn=lambda: signal.signal(signal.SIGHUP, action))
        ours.signal(signal.SIGHUP)
        if action == signal.SIG_DFL:
            assert ours.exit_code() == 0
            ours.log.wait_for("^pyknock server: stopping on SIGHUP$")
        else:
            ours.knock()
            ours.output.wait_for("open")
            assert ours.stop() == 0


STOPS = [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")]


@pytest.mark.parametrize("number, name", STOPS)
def test_a_signal_stops_an_idle_server_with_exit_0(server, number, name):
    ours = server()
    ours.signal(number)
    assert ours.exit_code() == 0
    assert ours.log.wait_for_end()[1:] == [
        f"pyknock server: stopping on {name}",
        "pyknock server: stopped",
    ]


@pytest.mark.parametrize("number, name", STOPS)
def test_a_running_command_may_finish_and_what_waits_is_logged(server, gate, number, name):
    ours = server("-v", on_open=f"echo start; read line < {gate.path}; echo end", on_close="exit 1")
    ours.knock()
    ours.output.wait_for("start")
    ours.knock("192.0.2.2")
    ours.knock("2001:db8::3", command=CLOSE)
    ours.wait_for_counters(accepted=3, queued=2)
    ours.signal(number)
    ours.log.wait_for(f"^pyknock server: stopping on {name}$")
    ours.log.wait_for("command not run", 2)
    ours.knock("192.0.2.4")
    ours.signal(number)
    assert ours.counters()["accepted"] == 3
    gate.open()
    assert ours.exit_code() == 0
    assert ours.output.wait_for_end() == ["start", "end"]
    lines = ours.log.wait_for_end()
    lines = [line for line in lines if "counters" not in line and "accepted" not in line]
    assert lines[-5:] == [
        f"pyknock server: stopping on {name}",
        "pyknock server: command not run, the server stops: open 192.0.2.2",
        "pyknock server: command not run, the server stops: close 2001:db8::3",
        "pyknock server: command ended: open 192.0.2.1: exit status 0",
        "pyknock server: stopped",
    ]


def test_a_running_command_is_ended_after_five_seconds(server):
    ours = server(on_open="echo start; sleep 600")
    ours.knock()
    ours.output.wait_for("start")
    start = time.monotonic()
    assert ours.stop() == 0
    assert 4.9 <= time.monotonic() - start
    ours.log.wait_for("command timed out, sent TERM: open 192.0.2.1")
    ours.log.wait_for("command ended: open 192.0.2.1: signal 15")


AS_PROCESS_1 = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def test_process_1_reaps_orphans_and_stops_on_term(server, gate):
    command = f"(read line < {gate.path}; echo orphan) & echo command"
    ours = server(prefix=AS_PROCESS_1, on_open=command)
    [ours.pid] = children_of(ours.pid)
    assert Path(f"/proc/{ours.pid}/status").read_text().split("NSpid:")[1].split()[1] == "1"
    ours.knock()
    ours.wait_for_counters(succeeded=1)
    assert len(children_of(ours.pid)) == 2  # The receiver is one.
    gate.open()
    ours.output.wait_for("orphan")
    until(lambda: len(children_of(ours.pid)) == 1, "the orphan is reaped")
    assert ours.stop() == 0
    ours.log.wait_for("stopping on SIGTERM")


@pytest.mark.usefixtures("not_emulated")
def test_process_1_is_stopped_while_it_waits_for_its_key(server, tmp_path):
    fifo = tmp_path / "key"
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDWR), "rb"):
        ours = server(prefix=AS_PROCESS_1, words=["-k", str(fifo), "", ""], wait=False)
        until(lambda: children_of(ours.pid), "process 1")
        [inner] = children_of(ours.pid)
        until(lambda: f"{fifo}" in links_of(inner), "the key file is open")
        os.kill(inner, signal.SIGTERM)
        assert ours.exit_code() == 128 + signal.SIGTERM


def links_of(process):
    """What the descriptors of a process stand for."""
    return [os.readlink(entry) for entry in Path(f"/proc/{process}/fd").iterdir()]


def test_process_1_is_stopped_from_inside(server):
    ours = server(prefix=AS_PROCESS_1, on_open="kill -TERM 1")
    ours.knock()
    assert ours.exit_code() == 0
    ours.log.wait_for("stopping on SIGTERM")


def test_ignored_and_blocked_signals_of_the_parent_make_no_difference(server):
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD]

    def ignore_and_block():
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    ours = server(on_open="exit 7", preexec_fn=ignore_and_block)
    ours.knock()
    ours.log.wait_for("command ended: open 192.0.2.1: exit status 7")
    assert ours.stop() == 0


# Addresses


def test_a_port_in_use_is_one_line_and_exit_1(server, key_file):
    taken = server()
    result = run([*program("server"), "-k", key_file, f"-p{taken.port}", "o", "c"])
    assert (result.code, result.stdout, len(result.lines)) == (1, "", 1)
    assert result.stderr.startswith(f"pyknock server: cannot bind to [::]:{taken.port}: Address ")


@pytest.mark.parametrize("address, other", [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_a_bound_server_leaves_the_other_addresses_free(server, address, other):
    ours = server("-b", address)
    ours.log.wait_for(rf"listening on \[?{address}\]?:{ours.port}, ")
    with socket.socket(
        socket.AF_INET6 if ":" in other else socket.AF_INET, socket.SOCK_DGRAM
    ) as free:
        free.bind((other, ours.port))
    assert client("open", address, f"-p{ours.port}").code == 0
    ours.output.wait_for(f"open {address}")


@pytest.mark.parametrize("address", ["localhost", "127.0.0.999", "::1::", "127.0.0.1:60120", "-5"])
def test_an_address_that_is_not_numeric_is_exit_1(key_file, address):
    result = run([*program("server"), "-k", key_file, "-b", address, "o", "c"])
    assert (result.code, result.stdout) == (1, "")
    assert result.lines == [
        f"pyknock server: bind address: '{address}' is not a numeric IPv4 or IPv6 address"
    ]


@pytest.mark.parametrize(
    "address, shown", [("203.0.113.7", "203.0.113.7"), ("2001:DB8:0::7", "[2001:db8::7]")]
)
def test_an_address_of_another_machine_is_exit_1(key_file, address, shown):
    result = run([*program("server"), "-k", key_file, "-p60119", "-b", address, "o", "c"])
    assert (result.code, len(result.lines)) == (1, 1)
    assert result.stderr.startswith(f"pyknock server: cannot bind to {shown}:60119: ")


def test_the_default_address_takes_both_families_whatever_the_system_says(server, namespace):
    script = "echo 1 > /proc/sys/net/ipv6/bindv6only"
    assert run([*namespace.prefix, "sh", "-c", script]).code == 0
    ours = server(network=namespace)
    for host in ("127.0.0.1", "::1"):
        ours.send(packet(), host=host)
    ours.wait_for_counters(accepted=2)


def without_ipv6():
    """Makes socket(AF_INET6) fail with EAFNOSUPPORT, by a seccomp filter, as without IPv6.

    Source: seccomp(2), linux/filter.h, linux/audit.h.
    """
    load, equal, give, allow = 0x20, 0x15, 0x06, 0x7FFF0000
    # The system call, by the architecture of the process: x86_64, i386, aarch64.
    numbers = {0xC000003E: 41, 0x40000003: 359, 0xC00000B7: 198}
    code = []
    for architecture, number in numbers.items():
        code += [
            (load, 0, 0, 4), (equal, 0, 5, architecture),
            (load, 0, 0, 0), (equal, 0, 3, number),
            (load, 0, 0, 16), (equal, 0, 1, socket.AF_INET6),
            (give, 0, 0, 0x00050000 | errno.EAFNOSUPPORT),
        ]  # fmt: skip
    code.append((give, 0, 0, allow))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    filter = struct.pack("HxxxxxxP", (len(code) - 1) // 8, ctypes.addressof(code))
    PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0) == 0


def test_a_kernel_without_ipv6_is_served_by_ipv4(server):
    ours = server(preexec_fn=without_ipv6)
    ours.log.wait_for(rf"listening on 0\.0\.0\.0:{ours.port}, ")
    assert not ours.log.matching("::")
    ours.knock()
    ours.output.wait_for("open 192.0.2.1")


def test_a_kernel_without_ipv6_cannot_bind_to_an_ipv6_address(key_file):
    words = [*program("server"), "-k", key_file, "-b", "::1", "-p60119", "o", "c"]
    result = run(words, preexec_fn=without_ipv6)
    assert (result.code, len(result.lines)) == (1, 1)
    assert result.stderr.startswith("pyknock server: cannot bind to [::1]:60119: Address family ")


# Standard error and output that do not work


def check_that_it_runs_commands(ours, folder):
    ours.wait_until_ready()
    for number in range(1, 6):
        ours.knock(f"192.0.2.{number}")
    log = folder / "log"
    expected = "".join(f"192.0.2.{number}\n" for number in range(1, 6))
    until(lambda: log.exists() and log.read_text() == expected, "the commands run")


@pytest.mark.parametrize("closed", [[2], [1, 2], [0, 1, 2]], ids=str)
def test_a_server_with_closed_standard_descriptors_works(server, tmp_path, key_file, closed):
    ours = server(
        words=["-k", key_file, f"echo $ip >> {tmp_path}/log", "true"],
        wait=False,
        preexec_fn=lambda: [os.close(number) for number in closed],
    )
    check_that_it_runs_commands(ours, tmp_path)
    # No socket of the server has become one of the standard descriptors.
    for number in closed:
        assert os.readlink(f"/proc/{ours.pid}/fd/{number}") == "/dev/null"
    assert ours.stop() == 0


@pytest.mark.parametrize("reader", ["stalled", "gone"])
def test_a_server_whose_standard_error_nobody_reads_works(server, tmp_path, reader):
    ours_end, theirs = os.pipe()
    if reader == "gone":
        os.close(ours_end)
    else:
        fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(theirs, False)
        os.write(theirs, bytes(4096))
        os.set_blocking(theirs, True)
    # The operand brings a warning, the first thing that is written.
    words = [KEY, f"echo $ip >> {tmp_path}/log", "true"]
    ours = server("-vv", words=words, wait=False, stderr=theirs)
    check_that_it_runs_commands(ours, tmp_path)
    assert ours.stop() == 0
    os.close(theirs)
    if reader == "stalled":
        os.close(ours_end)


def test_a_terminal_that_nobody_reads_stops_neither_the_server_nor_its_end(server, tmp_path):
    ours_end, theirs = os.openpty()
    log = tmp_path / "log"
    words = [KEY, f"echo $ip >> {log}", ""]
    ours = server("-vv", words=words, wait=False, stderr=theirs)
    ours.wait_until_ready()
    for first in range(0, 400, 100):  # Far more lines than the terminal holds.
        ours.send(*[packet(f"10.0.{first // 100}.{number}") for number in range(100)])
        until(lambda: log.exists() and len(log.read_text().split()) == first + 100, "commands run")
    assert ours.stop() == 0
    os.close(theirs)
    os.close(ours_end)


def test_a_log_file_at_its_limit_does_not_end_the_server(server, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    words = [KEY, f"echo $ip > {tmp_path}/$ip", ""]
    with open(tmp_path / "log", "w") as log:
        ours = server("-vv", words=words, wait=False, stderr=log, preexec_fn=limit)
    ours.wait_until_ready()
    for number in range(1, 31):
        ours.knock(f"10.0.0.{number}")
    until((tmp_path / "10.0.0.30").exists, "the last command runs")
    assert (tmp_path / "log").stat().st_size == 1024
    assert ours.stop() == 0


@pytest.mark.parametrize(
    "arguments", [["client", "open", "127.0.0.1", "short"], ["keygen"]], ids=" ".join
)
def test_no_applet_dies_of_a_standard_error_that_nobody_reads(tmp_path, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    output = open(tmp_path / "public", "w")
    result = run([*PYKNOCK, *arguments], stderr=writer, stdout=output)
    os.close(writer)
    assert result.code == 0


# No shell


@pytest.fixture
def root_without_shell(tmp_path):
    """A prefix that runs a program in a file system without /bin."""
    links, mounts = [], [Path("/dev"), Path("/proc"), tmp_path]
    for name in ("lib", "lib32", "lib64", "libx32"):
        place = Path("/", name)
        (links if place.is_symlink() else mounts if place.exists() else []).append(place)
    mounts += [Path("/usr", name) for name in ("lib", "lib32", "lib64", "libx32")]
    mounts += [Path(PYKNOCK[-1])] + [Path(shutil.which(word)) for word in PYKNOCK[:-1][:1]]
    root = tmp_path / "root"
    root.mkdir()
    script = ["mount -t tmpfs none " + str(root)]
    for place in filter(Path.exists, mounts):
        target = f"{root}{place}"
        make = (
            f"mkdir -p {target}"
            if place.is_dir()
            else f"mkdir -p {Path(target).parent}; : > {target}"
        )
        script.append(f"{make}; mount --rbind {place} {target}")
    script += [f"ln -s {os.readlink(link)} {root}{link}" for link in links]
    script.append(f'exec chroot {root} "$@"')
    return ["unshare", "--mount", "sh", "-ec", "; ".join(script), "sh"]


def test_without_a_shell_the_server_says_so_at_start(root_without_shell, key_file):
    result = run([*root_without_shell, *program("server"), "-k", key_file, "echo", "echo"])
    assert result.code == 1, result
    assert result.lines == [
        "pyknock server: OPEN_CMD: cannot run '/bin/sh': No such file or directory;"
        " --no-shell runs the commands without it"
    ]


def test_without_a_shell_the_server_works_with_no_shell(server, root_without_shell):
    ours = server("--no-shell", prefix=root_without_shell, on_open=f"{PYKNOCK[-1]} version")
    if len(PYKNOCK) == 1:
        ours.knock()
        ours.output.wait_for(r"^pyknock \d")
    assert ours.stop() == 0


def test_without_a_shell_empty_commands_are_no_error(server, root_without_shell):
    ours = server("-v", prefix=root_without_shell, on_open="")
    ours.knock()
    ours.log.wait_for("accepted open")


# Check


def test_check_binds_but_serves_nothing(key_file):
    result = run([*program("server"), "--check", "-k", key_file, "-p60119", "true", "true"])
    assert (result.code, result.stdout, result.stderr) == (0, "configuration OK\n", "")


def test_check_is_good_beside_a_running_server(server, key_file):
    ours = server()
    result = run([*program("server"), "-n", "-k", key_file, f"-p{ours.port}", "true", "true"])
    assert (result.code, result.stdout, result.stderr) == (0, "configuration OK\n", "")


@pytest.mark.parametrize(
    "words, code, message",
    [
        (
            ["-k", "/no/such/key", "true", "true"],
            1,
            "key file (not shown, it may be the key itself): No such file",
        ),
        (
            ["--no-shell", "/no/such/program", "true"],
            1,
            "OPEN_CMD: cannot run '/no/such/program': No such file",
        ),
        (["-b", "203.0.113.7", "true", "true"], 1, "cannot bind to 203.0.113.7:"),
        (["--no-shell", "true", "a '"], 2, "CLOSE_CMD: "),
    ],
)
def test_check_finds_what_would_keep_the_server_from_starting(key_file, words, code, message):
    if "/no/such/key" not in words:
        words = ["-k", key_file, *words]
    result = run([*program("server"), "--check", *words])
    assert (result.code, result.stdout) == (code, "")
    assert result.lines[0].startswith(f"pyknock server: {message}")
