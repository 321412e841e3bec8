"""The server as process 1 of a container."""

import os
import signal
from pathlib import Path

import pytest
from support.processes import children_of, links_of
from support.waiting import until

AS_PROCESS_1 = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def test_process_1_reaps_orphans_and_stops_on_term(server, gate):
    command = f"(read line < {gate.path}; echo orphan) & echo command"
    ours = server(prefix=AS_PROCESS_1, on_open=command)
    [ours.pid] = children_of(ours.pid)
    assert Path(f"/proc/{ours.pid}/status").read_text().split("NSpid:")[1].split()[1] == "1"
    ours.knock()
    ours.wait_for_counters(succeeded=1)
    assert len(children_of(ours.pid)) == 2  # The other one is the receiver.
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


def test_process_1_is_stopped_from_inside(server):
    ours = server(prefix=AS_PROCESS_1, on_open="kill -TERM 1")
    ours.knock()
    assert ours.exit_code() == 0
    ours.log.wait_for("stopping on SIGTERM")
