"""What was opened is closed: in time, once, and whatever becomes of the server."""

import json
import os
import re
import signal
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from support.datagrams import CLOSE, KEY, packet
from support.programs import program, run
from support.state import HEADER, Journal, checksum, patch
from support.waiting import until

# Bytes of a record.
RECORD = 64


def test_what_was_opened_is_closed_after_its_time(journal):
    ours = journal.start()
    start = time.monotonic()
    ours.knock("192.0.2.1")
    ours.knock("2001:db8::1")
    journal.wait_for("open 192.0.2.1", "open 2001:db8::1", "close 192.0.2.1", "close 2001:db8::1")
    assert time.monotonic() - start > 0.99
    ours.log.wait_for("^pyknock server: time is over: close 2001:db8::1$")
    ours.wait_for_counters(open=0, succeeded=4)
    assert journal.open() == []


def test_a_second_knock_begins_the_time_anew_and_it_is_closed_once(journal):
    ours = journal.start(seconds=2)
    ours.knock("192.0.2.1")
    time.sleep(1.2)
    ours.knock("192.0.2.1", age=0.1)
    second = time.monotonic()
    ours.wait_for_counters(accepted=2, repeated=1)
    journal.wait_for("open 192.0.2.1", "close 192.0.2.1")
    assert time.monotonic() - second > 1.8
    ours.wait_for_counters(open=0)


def test_a_close_cancels(journal):
    ours = journal.start()
    ours.knock("192.0.2.1")
    ours.knock("192.0.2.1", CLOSE)
    ours.wait_for_counters(open=0, succeeded=2)
    ours.knock("192.0.2.2")
    lines = ["open 192.0.2.1", "close 192.0.2.1", "open 192.0.2.2", "close 192.0.2.2"]
    journal.wait_for(*lines)
    assert not ours.log.matching("time is over: close 192.0.2.1")


def test_it_is_in_the_journal_before_the_command_runs(journal):
    shown = " ".join([*program("server"), "--state", str(journal.path), "--list", "--json"])
    ours = journal.start(seconds=60, on_open=shown)
    ours.knock("192.0.2.1")
    ours.output.wait_for('"address": "192.0.2.1"')


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_later_server_closes_what_is_overdue_and_then_the_rest(journal, number):
    ours = journal.start(seconds=1)
    ours.knock("192.0.2.1")
    journal.wait_for("open 192.0.2.1")
    ours.signal(number)
    ours.exit_code()
    # With another time for those to come.
    ours = journal.start(seconds=3)
    ours.log.wait_for("^pyknock server: 1 grant is open, 0 of them overdue$")
    ours.knock("192.0.2.2")
    journal.wait_for("open 192.0.2.1", "open 192.0.2.2", "close 192.0.2.1")
    # Its record goes when its command has ended.
    ours.wait_for_counters(open=1)
    ours.signal(number)
    ours.exit_code()
    [ends] = [record[5] for record in journal.records() if record[6]]
    until(lambda: time.time() > ends, "its time is over")
    ours = journal.start(seconds=3)
    ours.log.wait_for("^pyknock server: 1 grant is open, 1 of them overdue$")
    journal.wait_for("open 192.0.2.1", "open 192.0.2.2", "close 192.0.2.1", "close 192.0.2.2")


def test_without_the_option_what_is_left_is_closed_all_the_same(journal, server):
    ours = journal.start(seconds=1)
    ours.knock("192.0.2.1")
    ours.knock("192.0.2.2")
    journal.wait_for("open 192.0.2.1", "open 192.0.2.2")
    ours.stop()
    ours = server(f"--state={journal.path}", on_open=journal.command)
    # Whoever asks now is let in for good, as the new command line says.
    ours.knock("192.0.2.2")
    journal.wait_for("open 192.0.2.1", "open 192.0.2.2", "open 192.0.2.2", "close 192.0.2.1")
    ours.wait_for_counters(open=0)


def test_a_close_that_did_not_run_before_the_stop_runs_at_the_next_start(journal, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    ours = journal.start(seconds=600, on_open=f"read line < {gate}; {journal.command}")
    ours.knock("192.0.2.1")
    ours.wait_for_counters(running=1)
    ours.knock("192.0.2.1", CLOSE)
    ours.wait_for_counters(queued=1)
    ours.signal(signal.SIGTERM)
    ours.log.wait_for("command not run, the server stops: close 192.0.2.1")
    gate.write_text("go on\n")
    ours.exit_code()
    journal.wait_for("open 192.0.2.1")
    journal.start(seconds=600).log.wait_for("1 grant is open, 1 of them overdue")
    journal.wait_for("open 192.0.2.1", "close 192.0.2.1")


def test_many_grants_end_in_their_order(journal):
    ours = journal.start("--jobs=1", "--no-shell", on_open="true", on_close="true")
    addresses = [f"198.51.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    for address in addresses:
        ours.knock(address)
    ours.wait_for_counters(accepted=1000)
    ours.log.wait_for("time is over", 1000)
    closed = [match[1] for match in ours.log.matching(r"time is over: close (\S+)")]
    assert closed == addresses
    ours.wait_for_counters(open=0, running=0, succeeded=2000)


def test_a_close_from_before_the_open_says_nothing_of_it(journal, tmp_path):
    opened = f"{tmp_path}/opened.$ip"
    ours = journal.start(
        seconds=600, on_open=f"touch {opened}", on_close=f"sleep 0.3; test ! -e {opened}"
    )
    for number, command in enumerate((CLOSE, 1, CLOSE)):
        ours.knock("192.0.2.1", command, age=number / 10)
    ours.log.wait_for("not closed: close 192.0.2.1, trying again in a minute")
    assert journal.open() == ["192.0.2.1"]


def test_without_a_way_to_close_the_server_does_not_start(journal):
    ours = journal.start(seconds=600)
    ours.knock("192.0.2.1")
    journal.wait_for("open 192.0.2.1")
    ours.stop()
    words = [*program("server"), "--state", journal.path, "-k", "-", "true", ""]
    result = run(words, stdin=KEY.encode())
    assert (result.code, result.lines[-1]) == (
        1,
        "pyknock server: --state: 1 addresses are still open, "
        "and there is no CLOSE_CMD and no set to close them",
    )
    assert journal.open() == ["192.0.2.1"]


# Stopping


def test_close_on_exit_closes_all_first(journal):
    ours = journal.start("--close-on-exit", seconds=600)
    for number in range(100):
        ours.knock(f"192.0.2.{number}")
    ours.wait_for_counters(succeeded=100, open=100)
    assert ours.stop() == 0
    expected = [f"192.0.2.{number}" for number in range(100)]
    assert sorted(journal.lines()[100:]) == sorted(f"close {address}" for address in expected)
    assert journal.open() == []


def test_what_waits_to_be_opened_when_it_stops_is_not_opened(journal, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    ours = journal.start(
        "--close-on-exit", seconds=600, on_open=f"read line < {gate}; {journal.command}",
        on_close=journal.command,
    )  # fmt: skip
    ours.knock("192.0.2.1")
    ours.knock("192.0.2.2")
    ours.wait_for_counters(running=1, queued=1)
    ours.signal(signal.SIGTERM)
    ours.log.wait_for("command not run, the server stops: open 192.0.2.2")
    gate.write_text("go on\n")
    assert ours.exit_code() == 0
    assert sorted(journal.lines()) == ["close 192.0.2.1", "close 192.0.2.2", "open 192.0.2.1"]


def test_a_second_signal_does_not_wait_and_nothing_is_forgotten(journal, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    ours = journal.start(
        "--close-on-exit", seconds=600, on_open="true", on_close=f"read line < {gate}"
    )
    for number in range(3):
        ours.knock(f"192.0.2.{number + 1}")
    ours.wait_for_counters(succeeded=3)
    ours.signal(signal.SIGTERM)
    ours.log.wait_for("time is over", 3)
    ours.signal(signal.SIGTERM)
    ours.log.wait_for("^pyknock server: 3 addresses are left open, for the next start to close$")
    ours.log.wait_for("command not run, the server stops: close", 2)
    gate.write_text("go on\n")
    assert ours.exit_code() == 0
    # The one that was running has closed.
    assert len(journal.open()) == 2
    journal.start().log.wait_for("2 grants are open, 2 of them overdue")


def test_a_close_that_fails_when_it_stops_is_left_for_the_next_start(journal):
    ours = journal.start("--close-on-exit", seconds=600, on_open="true", on_close="exit 3")
    ours.knock("192.0.2.1")
    ours.wait_for_counters(succeeded=1)
    assert ours.stop() == 0
    ours.log.wait_for("command ended: close 192.0.2.1: exit status 3")
    ours.log.wait_for("^pyknock server: not closed: close 192.0.2.1, trying again in a minute$")
    assert journal.open() == ["192.0.2.1"]
    journal.start(seconds=600)
    journal.wait_for("close 192.0.2.1")


# The list


def test_the_list_as_a_table_and_as_json(journal):
    assert journal.make  # No server yet, no directory.
    missing = run([*program("server"), "--state", journal.path, "--list"])
    assert missing.code == 1
    assert missing.stderr == (
        f"pyknock server: --state: '{journal.path}': No such file or directory\n"
    )
    ours = journal.start(seconds=3600)
    head = "ADDRESS" + 34 * " " + "SINCE                 ENDS\n"
    assert journal.list() == head
    assert journal.list("--json") == "[]\n"
    before = int(time.time())
    ours.knock("192.0.2.1")
    ours.knock("2001:db8:1111:2222:3333:4444:5555:6666")
    ours.wait_for_counters(open=2)
    listed = json.loads(journal.list("--json"))
    assert [item["address"] for item in listed] == [
        "192.0.2.1", "2001:db8:1111:2222:3333:4444:5555:6666"
    ]  # fmt: skip
    for item in listed:
        assert list(item) == ["address", "since", "ends"]
        since, ends = (datetime.fromisoformat(item[name]) for name in ("since", "ends"))
        assert ends - since == timedelta(hours=1)
        assert before <= since.timestamp() <= time.time()
    assert journal.list() == head + "".join(
        f"{item['address']:39}  {item['since']}  {item['ends']}\n" for item in listed
    )


def record(address, since, asked, ends, sequence=1, family=4):
    body = struct.pack("<QQQdddQ", family, 0, address, since, asked, ends, sequence)
    return body + struct.pack("<Q", checksum(*struct.unpack("<7Q", body)))


@pytest.fixture
def made(journal):
    """Makes a journal with records of the test's own."""
    journal.start().stop()

    def make(*records):
        path = journal.path / "grants"
        data = bytearray(path.read_bytes())
        data[HEADER:] = b"".join(records).ljust(len(data) - HEADER, b"\0")
        path.write_bytes(data)

    return make


def test_times_are_those_of_the_calendar(journal, made):
    times = [0, 951782399, 951782400, 1709164800, 4102444800]
    made(*(record(0xC0000201 + n, t, t, t + 86400, n + 1) for n, t in enumerate(times)))
    listed = json.loads(journal.list("--json"))
    for item, seconds in zip(listed, times, strict=True):
        for name, value in [("since", seconds), ("ends", seconds + 86400)]:
            expected = datetime.fromtimestamp(value, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            assert item[name] == expected


# What is found


def test_after_the_clock_went_back_all_is_closed(journal, made):
    now = time.time()
    made(record(0xC0000201, now + 100, now + 100, now + 160), record(0xC0000202, now, now, now + 900, 2))
    ours = journal.start()
    ours.log.wait_for("2 grants are open, 1 of them overdue")
    journal.wait_for("close 192.0.2.1")
    assert journal.open() == ["192.0.2.2"]


BAD_RECORDS = {
    "noise": b"\x5a" * RECORD,
    "a multicast address": record(0xE0000001, 1e9, 1e9, 1e9),
    "a family": record(0xC0000201, 1e9, 1e9, 1e9, family=5),
    "no number": record(0xC0000201, 1e9, 1e9, float("nan")),
    "an end before its start": record(0xC0000201, 1e9, 1e9, 1e9 - 1),
    "an end too far away": record(0xC0000201, 1e9, 1e9, 1e9 + 367 * 86400),
}


@pytest.mark.parametrize("bad", BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_what_is_damaged_is_said_and_the_rest_is_closed(journal, made, bad):
    now = time.time()
    made(bad, record(0xC0000207, now - 10, now - 10, now - 5))
    assert journal.open() == ["192.0.2.7"]
    ours = journal.start("-q", wait=False)
    ours.log.wait_for(
        r"^pyknock server: warning: a part of the journal of grants is damaged \(1 records\), and "
        "what it stands for may stay open; 1 grant is open, 1 of them overdue$"
    )
    journal.wait_for("close 192.0.2.7")
    ours.stop()
    # It was made anew.
    ours = journal.start()
    assert not ours.log.matching("damaged")


DAMAGES = {
    "the header": lambda path: patch(path, 16, b"\1"),
    "zeros in the header": lambda path: patch(path, 0, bytes(HEADER)),
    "a part": lambda path: os.truncate(path, HEADER + 2 * RECORD),
    "half of a record": lambda path: os.truncate(path, HEADER + RECORD + 32),
    "all but the header": lambda path: os.truncate(path, HEADER),
    "all": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_made_anew_from_what_is_left(journal, made, damage):
    now = time.time()
    made(record(0xC0000201, now - 10, now - 10, now - 5))
    damage(journal.path / "grants")
    left = journal.open()
    ours = journal.start()
    ours.log.wait_for("warning: a part of the journal of grants is damaged")
    journal.wait_for(*(f"close {address}" for address in left))
    size = (journal.path / "grants").stat().st_size
    assert size == HEADER + 4097 * RECORD
    assert sorted(file.name for file in journal.path.iterdir()) == ["grants", "replay"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"something else" * 1000, "'grants' in it is not a file of pyknock"),
        (
            struct.pack("<8sQ", b"pyknockG", 2).ljust(5000, b"\0"),
            "'grants' in it has format 2, made by a newer pyknock",
        ),
    ],
    ids=["foreign", "newer"],
)
def test_a_file_that_is_not_ours_is_left_alone(journal, content, reason):
    journal.path.mkdir(mode=0o700)
    (journal.path / "grants").write_bytes(content)
    for words in (["-k", "-", "", ""], ["-n", "-k", "-", "", ""], ["--list"]):
        words = [*program("server"), "--state", journal.path, *words]
        result = run(words, stdin=KEY.encode())
        assert result.code == 1
        assert result.lines[-1] == f"pyknock server: --state: '{journal.path}': {reason}"
    assert (journal.path / "grants").read_bytes() == content


# Room


def test_what_cannot_be_closed_again_is_not_opened(journal):
    ours = journal.start("--grant-capacity=16", seconds=600)
    for number in range(18):
        ours.knock(f"192.0.2.{number}")
    ours.log.wait_for(
        "^pyknock server: not opened: open 192.0.2.17: "
        "16 addresses are open, all that --grant-capacity allows$"
    )
    ours.wait_for_counters(open=16, not_opened=2, accepted=18)
    # Who is in may stay.
    ours.knock("192.0.2.3")
    ours.knock("192.0.2.4", CLOSE)
    ours.wait_for_counters(open=15, not_opened=2)
    ours.knock("192.0.2.17")
    ours.wait_for_counters(open=16, not_opened=2, succeeded=18, repeated=1)
    assert "192.0.2.17" in journal.open()


def test_the_capacity_can_be_changed_but_nothing_is_forgotten(journal):
    ours = journal.start("--grant-capacity=32", seconds=600)
    for number in range(20):
        ours.knock(f"192.0.2.{number}")
    ours.wait_for_counters(open=20)
    ours.stop()
    words = ["--close-after=9", "--grant-capacity=16", "-k", "-", "true", "true"]
    result = run([*program("server"), "--state", journal.path, *words], stdin=KEY.encode())
    assert result.code == 1
    assert result.lines[-1] == (
        f"pyknock server: --state: '{journal.path}': "
        "'grants' in it holds 20, more than --grant-capacity"
    )
    ours = journal.start("--grant-capacity=20", seconds=600)
    ours.log.wait_for("20 grants are open, 0 of them overdue")


# Mistakes


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--close-after=1h", "a", "b"], "--close-after needs --state"),
        (["--close-after=1h", "--state=x", "a", ""], "--close-after needs a CLOSE_CMD, --nft or --ipset"),
        (["--close-on-exit", "--state=x", "a", "b"], "--close-on-exit needs --close-after"),
        (["--list"], "--list needs --state"),
        (["--json", "--state=x", "a", "b"], "--json needs --list"),
        (
            ["--close-after=0", "--state=x", "a", "b"],
            "--close-after: '0' is not a duration such as 90, 15m, 2h or 1d, at most 366 days",
        ),
        (
            ["--grant-capacity=15", "--state=x", "a", "b"],
            "--grant-capacity: '15' is not a number from 16 to 1000000",
        ),
    ],
)
def test_options_that_do_not_fit_are_misuse(options, problem):
    result = run([*program("server"), "-k", "-", *options], stdin=KEY.encode())
    assert (result.code, result.lines[0]) == (2, f"pyknock server: {problem}")


# Whenever it is killed


SECONDS = 1


def life(number, make, intruder, folder):
    """A server that is killed at one of its calls, and one after it. Whether it was killed at all."""
    folder.mkdir()
    calls = folder / "calls"
    calls.write_bytes(bytes(4))
    journal = Journal(make, folder)
    environment = {**os.environ, "LD_PRELOAD": str(intruder)}
    environment |= {"INTRUDER_DIE_AT": str(number), "INTRUDER_FILE": str(calls)}
    ours = journal.start(seconds=SECONDS, env=environment, wait=False)
    sent = []

    def goes_on(pattern, file=None):
        until(
            lambda: ours.popen.poll() is not None
            or (re.search(pattern, journal.done.read_text()) if file else ours.log.matching(pattern)),
            f"{number}: {pattern}",
        )

    goes_on("listening on")
    for address, command, pattern in [
        ("192.0.2.1", 1, "open 192.0.2.1"),
        ("192.0.2.2", 1, "open 192.0.2.2"),
        ("192.0.2.2", CLOSE, "close 192.0.2.2"),
        ("192.0.2.3", 1, "open 192.0.2.3"),
    ]:
        sent.append(packet(address, command))
        ours.send(sent[-1])
        goes_on(pattern, file=True)
    goes_on("close 192.0.2.1", file=True)
    was_killed = ours.popen.poll() is not None
    ours.popen.kill()
    ours.exit_code()

    ours = journal.start(seconds=SECONDS)
    ours.send(*sent)

    def is_closed():
        lines = journal.lines()
        opened = {line.split()[1] for line in lines if line.startswith("open")}
        return all(f"close {ip}" in lines[lines.index(f"open {ip}") :] for ip in opened)

    # What was accepted but not begun before the kill is lost; what was begun ends.
    def is_over():
        counters = ours.counters()
        heard = counters["accepted"] + counters["replayed"] == len(sent)
        return heard and counters["open"] == 0 and is_closed()

    until(is_over, lambda: f"{number}: {journal.lines()} {ours.log.lines}")
    opens = [line for line in journal.lines() if line.startswith("open")]
    assert len(opens) == len(set(opens)), f"{number}: a replay: {journal.lines()}"
    return was_killed


def test_whenever_it_is_killed_no_replay_and_no_grant_without_an_end(server, intruder, tmp_path):
    with ThreadPoolExecutor(12) as pool:
        count = 1
        while True:
            numbers = range(count, count + 24)
            killed = list(
                pool.map(lambda n: life(n, server, intruder, tmp_path / str(n)), numbers)
            )
            count += 24
            if not all(killed):
                break
    assert count > 48
