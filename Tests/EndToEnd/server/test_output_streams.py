"""Standard output and error that are closed, full, or read by nobody."""

import contextlib
import fcntl
import os
import re
import resource
import socket
import termios
from contextlib import closing

import pytest
from support.datagrams import KEY, packet
from support.processes import as_nobody
from support.programs import PYKNOCK, run
from support.waiting import until


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
    # The server opened /dev/null, so that no socket took the number of a standard descriptor.
    for number in closed:
        assert os.readlink(f"/proc/{ours.pid}/fd/{number}") == "/dev/null"
    assert ours.stop() == 0


def test_a_server_whose_standard_error_has_no_reader_works(server, tmp_path):
    ours_end, theirs = os.pipe()
    os.close(ours_end)
    # A key operand causes a warning, which is the first line that the server writes.
    words = [KEY, f"echo $ip >> {tmp_path}/log", "true"]
    ours = server("-vv", words=words, wait=False, stderr=theirs)
    check_that_it_runs_commands(ours, tmp_path)
    assert ours.stop() == 0
    os.close(theirs)


class Stalled:
    """A standard error that takes nothing until `read` is called. Its size is as small as it can be."""

    def __init__(self, kind, folder):
        self.is_terminal = kind == "terminal"
        if kind == "pipe":
            self.reader, self.writer = os.pipe()
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 8192)
        elif kind == "fifo":
            os.mkfifo(folder / "fifo")
            self.reader = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
            self.writer = os.open(folder / "fifo", os.O_WRONLY)
        elif self.is_terminal:
            self.reader, self.writer = os.openpty()
        else:
            ends = socket.socketpair(socket.AF_UNIX, getattr(socket, kind))
            ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            self.reader, self.writer = (end.detach() for end in ends)
        os.set_blocking(self.reader, False)
        self.text = b""

    def fill(self):
        if self.is_terminal:  # As Control-S does.
            termios.tcflow(self.writer, termios.TCOOFF)
            return
        os.set_blocking(self.writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writer, b"0")
        os.set_blocking(self.writer, True)

    def read(self):
        """Takes what is there. Returns all lines so far."""
        if self.is_terminal:
            termios.tcflow(self.writer, termios.TCOON)
        with contextlib.suppress(BlockingIOError):
            while received := os.read(self.reader, 65536):
                self.text += received
        return self.text.decode().lstrip("0").splitlines()

    def close(self):
        os.close(self.reader)
        os.close(self.writer)


KINDS = ["pipe", "fifo", "terminal", "SOCK_STREAM", "SOCK_DGRAM", "SOCK_SEQPACKET"]


@pytest.fixture
def stalled(request, tmp_path):
    with closing(Stalled(request.param, tmp_path)) as stalled:
        yield stalled


@pytest.fixture(
    params=[pytest.param(False, id="own"), pytest.param(True, id="other", marks=pytest.mark.other_users)]
)
def user(request):
    """The words that start the server as another user, who may not open our pipes and terminals again."""
    return as_nobody() if request.param else []


def start_stalled(server, stalled, user):
    words = ["--no-shell", KEY, "echo $ip", ""]
    ours = server("-vv", words=words, wait=False, stderr=stalled.writer, prefix=user)
    until(lambda: any("listening on" in line for line in stalled.read()), "it listens")
    stalled.fill()
    return ours


def knock_often(ours, count):
    for start in range(0, count, 100):
        ours.send(*(packet(f"10.0.{start // 100}.{host}") for host in range(100)))
        ours.output.wait_for("^10", start + 100)


@pytest.mark.parametrize("stalled", KINDS, indirect=True)
def test_a_reader_that_stalls_keeps_neither_process_waiting(server, stalled, user):
    ours = start_stalled(server, stalled, user)
    knock_often(ours, 300)
    assert ours.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("stalled", KINDS, indirect=True)
def test_lines_that_found_no_room_are_counted(server, stalled, user):
    ours = start_stalled(server, stalled, user)
    knock_often(ours, 700)  # Three lines each.
    until(lambda: "log lines dropped" in "".join(stalled.read()), "the count")
    assert ours.stop() == 0
    lines = stalled.read()
    [count] = [int(line.rpartition(" ")[2]) for line in lines if "lines dropped" in line]
    kept = [line for line in lines if re.search(r"open 10\.", line)]
    assert len(kept) + count == 3 * 700
    assert len(kept) > 500
    # The first were kept, in order.
    accepted = [re.search(r"accepted open (\S+)", line)[1] for line in lines if "accepted" in line]
    assert accepted[:100] == [f"10.0.0.{host}" for host in range(100)]
    assert lines[-1] == "pyknock server: stopped"


@pytest.mark.parametrize("proc", [{}, {"INTRUDER_NO_PROC": "1"}], ids=["opened again", "shared"])
@pytest.mark.parametrize("stalled", ["pipe", "SOCK_STREAM"], indirect=True)
def test_somebody_else_may_take_the_room_before_the_line_is_written(server, stalled, proc, intruder):
    environment = {**os.environ, **proc, "INTRUDER_FILLS": "1", "LD_PRELOAD": str(intruder)}
    words = ["--no-shell", KEY, "echo $ip", ""]
    ours = server(words=words, wait=False, stderr=stalled.writer, env=environment)
    for number in range(1, 4):
        ours.wait_until_ready()
        stalled.read()
        ours.knock(f"192.0.2.{number}")
        ours.output.wait_for(f"^192.0.2.{number}$")
    stalled.read()
    assert ours.stop() == 0


def test_a_log_file_at_its_limit_does_not_end_the_server(server, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))

    words = [KEY, f"echo $ip > {tmp_path}/$ip", ""]
    with open(tmp_path / "log", "w") as log:
        ours = server("-vv", words=words, wait=False, stderr=log, preexec_fn=limit)
    ours.wait_until_ready()
    for number in range(1, 31):
        ours.knock(f"10.0.0.{number}")
    until((tmp_path / "10.0.0.30").exists, "the last command runs")
    assert (tmp_path / "log").stat().st_size == 1024
    # Now there is room for what has waited.
    resource.prlimit(ours.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    until(lambda: "accepted open 10.0.0.30" in (tmp_path / "log").read_text(), "the last line")
    assert ours.stop() == 0
    accepted = re.findall("server: accepted open (\\S+)", (tmp_path / "log").read_text())
    assert accepted == [f"10.0.0.{number}" for number in range(1, 31)]


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
