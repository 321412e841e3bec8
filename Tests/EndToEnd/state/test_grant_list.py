"""--list: the open grants as a table and as JSON."""

import json
import time
from datetime import UTC, datetime, timedelta

from support.programs import program, run
from support.state import grant


def test_the_list_as_a_table_and_as_json(journal):
    # No server has made the directory yet.
    missing = run([*program("server"), "--state", journal.path, "--list"])
    assert missing.code == 1
    assert missing.stderr == (
        f"pyknock server: --state: '{journal.path}': No such file or directory\n"
    )
    ours = journal.start(seconds=3600)
    head = "ADDRESS" + 34 * " " + "SINCE                 ENDS                  OPEN\n"
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
        assert list(item) == ["address", "since", "ends", "command"]
        assert item["command"] is True
        since, ends = (datetime.fromisoformat(item[name]) for name in ("since", "ends"))
        assert ends - since == timedelta(hours=1)
        assert before <= since.timestamp() <= time.time()
    assert journal.list() == head + "".join(
        f"{item['address']:39}  {item['since']}  {item['ends']}  command\n" for item in listed
    )


def test_times_are_those_of_the_calendar(journal):
    times = [0, 951782399, 951782400, 1709164800, 4102444800]
    journal.make_records(*(grant(0xC0000201 + n, t, t, t + 86400, n + 1) for n, t in enumerate(times)))
    listed = json.loads(journal.list("--json"))
    for item, seconds in zip(listed, times, strict=True):
        for name, value in [("since", seconds), ("ends", seconds + 86400)]:
            expected = datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            assert item[name] == expected
