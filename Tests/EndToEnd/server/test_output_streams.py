"""Standard output and error that are closed, full, or read by nobody."""

import fcntl
import os
import resource

import pytest
from support.datagrams import KEY, packet
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
    # A key operand causes a warning, which is the first line that the server writes.
    words = [KEY, f"echo $ip >> {tmp_path}/log", "true"]
    ours = server("-vv", words=words, wait=False, stderr=theirs)
    check_that_it_runs_commands(ours, tmp_path)
    assert ours.stop() == 0
    os.close(theirs)
    if reader == "stalled":
        os.close(ours_end)


@pytest.mark.slow
def test_a_terminal_that_nobody_reads_stops_neither_the_server_nor_its_end(server, tmp_path):
    ours_end, theirs = os.openpty()
    log = tmp_path / "log"
    words = [KEY, f"echo $ip >> {log}", ""]
    ours = server("-vv", words=words, wait=False, stderr=theirs)
    ours.wait_until_ready()
    for first in range(0, 400, 100):  # These are far more lines than the terminal holds.
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
