"""What is open by the journal alone: as a table and as JSON."""

import json
import time
from datetime import UTC, datetime, timedelta

from support.programs import program, run
from support.state import grant

HEAD = "ADDRESS" + 34 * " " + "USER" + 14 * " " + "SINCE" + 17 * " " + "EXPIRES" + 15 * " " + "OURS  IN\n"


def test_grants_of_commands_as_a_table_and_as_json(journal):
    ours = journal.start(seconds=3600)
    words = [*program("status"), "--state", journal.path]
    _, _, table = run(words).stdout.partition("\n\n")
    assert table == HEAD
    assert journal.list() == []
    before = int(time.time())
    ours.knock("192.0.2.1")
    ours.knock("2001:db8:1111:2222:3333:4444:5555:6666")
    ours.wait_for_counters(open=2)
    listed = journal.list()
    assert [item["address"] for item in listed] == ["192.0.2.1", "2001:db8:1111:2222:3333:4444:5555:6666"]
    for item in listed:
        since, ends = (datetime.fromisoformat(item.pop(name)) for name in ("since", "ends"))
        assert item.pop("expires") == ends.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert ends - since == timedelta(hours=1)
        assert before <= since.timestamp() <= time.time()
        assert item.pop("address") == item.pop("range")
        assert item == {"user": None, "ours": True, "held": None, "set": None, "command": True}
    _, _, table = run(words).stdout.partition("\n\n")
    assert table == HEAD + "".join(
        f"{item['address']:40} {'-':17} {item['since']}  {item['expires']}  yes   command\n"
        for item in journal.list()
    )


def test_times_are_those_of_the_calendar(journal):
    times = [0, 951782399, 951782400, 1709164800, 4102444800]
    journal.make_records(*(grant(0xC0000201 + n, t, t, t + 86400, n + 1) for n, t in enumerate(times)))
    for item, seconds in zip(journal.list(), times, strict=True):
        for name, value in [("since", seconds), ("ends", seconds + 86400), ("expires", seconds + 86400)]:
            expected = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            assert item[name] == expected


def test_without_the_journal_nothing_is_claimed(journal, tmp_path):
    words = [*program("status"), "--state", journal.path]
    missing = run(words)
    assert missing.code == 1
    assert missing.lines == [f"pyknock status: --state: '{journal.path}': No such file or directory"]
    assert missing.stdout == "server: not known whether it runs\n\n" + HEAD
    assert json.loads(run([*words, "--json"]).stdout) == {
        "running": None, "process": None, "since": None, "open": []
    }  # fmt: skip
