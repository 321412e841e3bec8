"""The order of commands, and how many run at the same time."""

import os

import pytest
from support.datagrams import CLOSE, packet


class Gates:
    """A FIFO for each address. The command for an address waits until it is released."""

    def __init__(self, folder):
        self.command = f"echo start $cmd $ip; read line < {folder}/$ip; echo end $cmd $ip"
        self.folder = folder
        self.fifos = {}

    def make(self, count):
        for address in (f"192.0.2.{number}" for number in range(1, count + 1)):
            os.mkfifo(self.folder / address)
            self.fifos[address] = os.open(self.folder / address, os.O_RDWR)
        return list(self.fifos)

    def release(self, *addresses):
        for address in addresses:
            os.write(self.fifos[address], b"go on\n")


@pytest.fixture
def gates(tmp_path):
    gates = Gates(tmp_path)
    yield gates
    for fifo in gates.fifos.values():
        os.close(fifo)


@pytest.mark.slow
def test_knocks_that_come_while_a_command_sleeps_are_all_run_and_none_is_stale(server):
    command = "echo start $ip; case $ip in *.1) sleep 2;; esac; echo end $ip"
    ours = server("-t", "1.5", on_open=command)
    ours.knock("192.0.2.1")
    ours.output.wait_for("start")
    for number in range(2, 7):
        ours.knock(f"192.0.2.{number}")
    ours.wait_for_counters(accepted=6, running=1, queued=5)
    ours.output.wait_for("end", 6)
    assert ours.output.lines == [
        f"{what} 192.0.2.{number}" for number in range(1, 7) for what in ("start", "end")
    ]


def test_one_command_runs_at_a_time_and_the_loop_goes_on(server, gates):
    addresses = gates.make(3)
    ours = server(on_open=gates.command)
    for address in addresses:
        ours.knock(address)
    ours.output.wait_for("start")
    ours.send(b"rubbish")
    ours.wait_for_counters(kernel_dropped=1, accepted=3, running=1, queued=2)
    assert len(ours.output.lines) == 1
    for address in addresses:
        gates.release(address)
    ours.output.wait_for("end", 3)
    assert ours.output.lines == [
        f"{what} open {ip}" for ip in addresses for what in ("start", "end")
    ]


def test_jobs_run_at_the_same_time_but_one_address_keeps_its_order(server, gates):
    addresses = gates.make(4)
    ours = server("--jobs", "4", on_open=gates.command)
    ours.knock(addresses[0])
    ours.knock(addresses[0], command=CLOSE)
    ours.knock(addresses[0])
    for address in addresses[1:]:
        ours.knock(address)
    # A command runs for each address. Two more knocks wait for the first address.
    ours.output.wait_for("start open", 4)
    ours.wait_for_counters(accepted=6, running=4, queued=2)
    assert sorted(ours.output.lines) == [f"start open {address}" for address in addresses]
    gates.release(*addresses[1:])
    ours.output.wait_for("end", 3)
    ours.wait_for_counters(running=1, queued=2)
    for count in range(3):
        ours.output.wait_for(rf"start \w+ {addresses[0]}", count + 1)
        gates.release(addresses[0])
    ours.output.wait_for("end", 6)
    first = [line for line in ours.output.lines if line.endswith(addresses[0])]
    assert first == [
        f"{what} {command} {addresses[0]}"
        for command in ("open", "close", "open") for what in ("start", "end")
    ]  # fmt: skip


def test_jobs_are_no_more_than_asked_for(server, gates):
    addresses = gates.make(4)
    ours = server("--jobs=2", on_open=gates.command)
    for address in addresses:
        ours.knock(address)
    ours.output.wait_for("start", 2)
    ours.wait_for_counters(accepted=4, running=2, queued=2)
    gates.release(addresses[1])
    ours.output.wait_for("start", 3)
    assert ours.counters()["running"] == 2
    gates.release(*addresses[:1], *addresses[2:])
    ours.output.wait_for("end", 4)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_close_that_is_due_comes_before_the_opens_that_wait(server, gates, tmp_path, jobs):
    addresses = gates.make(2 + 2 * jobs)
    due, last = addresses[:2]
    ours = server(
        f"--state={tmp_path}/state", "--close-after=1", f"--jobs={jobs}",
        on_open=gates.command, on_close="echo $cmd $ip",
    )  # fmt: skip
    ours.knock(due)
    gates.release(due)
    ours.output.wait_for("end")
    for address in [*addresses[2:], last]:
        ours.knock(address)
    ours.wait_for_counters(accepted=2 + 2 * jobs, running=jobs, queued=1 + jobs)
    ours.log.wait_for(f"expired: close {due}")
    # Commands hang in all places. When the first one ends, the close runs.
    gates.release(addresses[2])
    ours.output.wait_for("start", 2 + jobs)
    lines = ours.output.lines
    assert lines.index(f"close {due}") < lines.index(f"start open {addresses[2 + jobs]}")
    # The grants of those that wait are over by now. For each address the open still comes first.
    ours.log.wait_for("expired: ", len(addresses))
    gates.release(*addresses[3:], last)
    ours.wait_for_counters(succeeded=2 * len(addresses), queued=0, running=0)
    ours.output.wait_for("", 3 * len(addresses))
    for address in addresses:
        assert [line for line in ours.output.lines if line.endswith(address)] == [
            f"start open {address}", f"end open {address}", f"close {address}"
        ]  # fmt: skip


@pytest.mark.slow
def test_a_full_queue_refuses_the_newest_and_says_so(server, gates):
    first, last = gates.make(2)
    ours = server("-q", on_open=gates.command, on_close="echo $ip", wait=False)
    ours.wait_until_ready()
    ours.knock(first)
    ours.output.wait_for("start")
    addresses = [f"10.0.{number // 256}.{number % 256}" for number in range(1024)]
    # The buffer of a socket holds a burst of this size.
    for start in range(0, 1024, 256):
        ours.send(*[packet(address, CLOSE) for address in addresses[start : start + 256]])
        ours.wait_for_counters(accepted=start + 257, queued=start + 256, running=1)
    ours.knock(last)
    ours.log.wait_for(r"refused open 192\.0\.2\.2 from .*: command queue full, clock skew \S+ s$")
    assert ours.wait_for_counters(queue_full=1)["accepted"] == 1025
    gates.release(first)
    ours.wait_for_counters(succeeded=1025, queued=0, running=0)
    ours.output.wait_for("", 2 + 1024)
    assert ours.output.lines[2:] == addresses


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 4])
def test_500_knocks_at_once_are_all_run(server, jobs):
    ours = server(f"--jobs={jobs}")
    addresses = [f"198.51.{number // 250}.{number % 250 + 1}" for number in range(500)]
    datagrams = [packet(address) for address in addresses]
    ours.send(*datagrams)
    ours.output.wait_for("open", 500)
    lines = [f"open {address} inet" for address in addresses]
    if jobs == 1:
        assert ours.output.lines == lines
    assert sorted(ours.output.lines) == sorted(lines)
    ours.wait_for_counters(accepted=500, succeeded=500)
