"""The server closes what it opened: in time, once, and after a crash or a restart."""

import signal
import time

import pytest
from support.datagrams import CLOSE
from support.processes import children_of
from support.programs import program
from support.state import grant
from support.waiting import until


@pytest.mark.slow
def test_what_was_opened_is_closed_after_its_time(journal):
    ours = journal.start()
    start = time.monotonic()
    ours.knock("192.0.2.1")
    ours.knock("2001:db8::1")
    journal.wait_for("open 192.0.2.1", "open 2001:db8::1", "close 192.0.2.1", "close 2001:db8::1")
    assert time.monotonic() - start > 0.99
    ours.log.wait_for("^pyknock server: expired: close 2001:db8::1$")
    ours.wait_for_counters(open=0, succeeded=4)
    assert journal.open() == []


@pytest.mark.slow
def test_a_second_knock_begins_the_time_anew_and_it_is_closed_once(journal):
    ours = journal.start(seconds=3)
    ours.knock("192.0.2.1")
    time.sleep(1.2)
    ours.knock("192.0.2.1", age=0.1)
    second = time.monotonic()
    ours.wait_for_counters(accepted=2, repeated=1)
    journal.wait_for("open 192.0.2.1", "close 192.0.2.1")
    assert time.monotonic() - second > 2.8
    ours.wait_for_counters(open=0)


@pytest.mark.slow
def test_the_clock_that_counts_sleep_may_be_far_ahead_of_the_other(journal, not_emulated):
    """As on a machine that has slept for a day. A time namespace stands in for that."""
    slept = ["unshare", "--time", "--boottime=86400", "--fork"]
    command = f"{journal.command}; test $cmd = close || sleep 2"
    ours = journal.start("--command-timeout=1", on_open=command, applet=[*slept, *program("server")])
    [ours.pid] = children_of(ours.pid)
    start = time.monotonic()
    ours.knock("192.0.2.1")
    ours.log.wait_for("command timed out")
    assert time.monotonic() - start > 0.99
    journal.wait_for("open 192.0.2.1", "close 192.0.2.1")
    assert time.monotonic() - start < 5
    ours.wait_for_counters(succeeded=1, timed_out=1, open=0)
    assert ours.stop() == 0


@pytest.mark.slow
def test_a_close_cancels(journal):
    ours = journal.start()
    ours.knock("192.0.2.1")
    ours.knock("192.0.2.1", CLOSE)
    ours.wait_for_counters(open=0, succeeded=2)
    ours.knock("192.0.2.2")
    lines = ["open 192.0.2.1", "close 192.0.2.1", "open 192.0.2.2", "close 192.0.2.2"]
    journal.wait_for(*lines)
    assert not ours.log.matching("expired: close 192.0.2.1")


def test_it_is_in_the_journal_before_the_command_runs(journal):
    shown = " ".join([*program("status"), "--state", str(journal.path), "--json"])
    ours = journal.start(seconds=60, on_open=shown)
    ours.knock("192.0.2.1")
    ours.output.wait_for('"address": "192.0.2.1"')


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_later_server_closes_what_is_overdue_and_then_the_rest(journal, number):
    ours = journal.start(seconds=1)
    ours.knock("192.0.2.1")
    journal.wait_for("open 192.0.2.1")
    ours.signal(number)
    ours.exit_code()
    # The new time applies to new grants only.
    ours = journal.start(seconds=3)
    ours.log.wait_for("^pyknock server: 1 grant is open, 0 of them overdue$")
    ours.knock("192.0.2.2")
    journal.wait_for("open 192.0.2.1", "open 192.0.2.2", "close 192.0.2.1")
    # The record is removed when the command has ended.
    ours.wait_for_counters(open=1)
    ours.signal(number)
    ours.exit_code()
    [ends] = [record[5] for record in journal.records() if record[6]]
    until(lambda: time.time() * 1e6 > ends, "the grant expires")
    ours = journal.start(seconds=3)
    ours.log.wait_for("^pyknock server: 1 grant is open, 1 of them overdue$")
    journal.wait_for("open 192.0.2.1", "open 192.0.2.2", "close 192.0.2.1", "close 192.0.2.2")


@pytest.mark.slow
def test_without_the_option_what_is_left_is_closed_all_the_same(journal, server):
    ours = journal.start(seconds=1)
    ours.knock("192.0.2.1")
    ours.knock("192.0.2.2")
    journal.wait_for("open 192.0.2.1", "open 192.0.2.2")
    ours.stop()
    ours = server(f"--state={journal.path}", on_open=journal.command)
    # Without --close-after, this knock opens until it is closed.
    ours.knock("192.0.2.2")
    journal.wait_for("open 192.0.2.1", "open 192.0.2.2", "open 192.0.2.2", "close 192.0.2.1")
    ours.wait_for_counters(open=0)


@pytest.mark.slow
def test_many_grants_end_in_their_order(journal):
    ours = journal.start("--jobs=1", "--no-shell", on_open="true", on_close="true")
    addresses = [f"198.51.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    for address in addresses:
        ours.knock(address)
    ours.wait_for_counters(accepted=1000)
    ours.log.wait_for("expired: ", 1000)
    closed = [match[1] for match in ours.log.matching(r"expired: close (\S+)")]
    assert closed == addresses
    ours.wait_for_counters(open=0, running=0, succeeded=2000)


@pytest.mark.slow
def test_a_close_from_before_the_open_says_nothing_of_it(journal, tmp_path):
    opened = f"{tmp_path}/opened.$ip"
    ours = journal.start(
        seconds=600, on_open=f"touch {opened}", on_close=f"sleep 0.3; test ! -e {opened}"
    )
    for number, command in enumerate((CLOSE, 1, CLOSE)):
        ours.knock("192.0.2.1", command, age=number / 10)
    ours.log.wait_for("not closed: close 192.0.2.1, trying again in a minute")
    assert journal.open() == ["192.0.2.1"]


def test_without_a_way_to_close_it_stays_listed(journal, server):
    ours = journal.start(seconds=600)
    ours.knock("192.0.2.1")
    journal.wait_for("open 192.0.2.1")
    ours.stop()
    [record] = [record for record in journal.records() if record[6]]
    past = time.time() - 60
    journal.make_records(grant(record[2], past, past, past + 1))
    ours = server(f"--state={journal.path}", on_open="true", on_close="")
    ours.log.wait_for("^pyknock server: not closed: close 192.0.2.1, trying again in a minute$")
    assert journal.open() == ["192.0.2.1"]


def test_after_the_clock_went_back_all_is_closed(journal):
    now = time.time()
    journal.make_records(grant(0xC0000201, now + 100, now + 100, now + 160), grant(0xC0000202, now, now, now + 900, 2))
    ours = journal.start()
    ours.log.wait_for("2 grants are open, 1 of them overdue")
    journal.wait_for("close 192.0.2.1")
    # The record is removed when the command has ended.
    until(lambda: journal.open() == ["192.0.2.2"], "the other is open")
