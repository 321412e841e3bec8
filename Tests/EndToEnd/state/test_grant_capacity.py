"""--grant-capacity."""

from support.datagrams import CLOSE, KEY
from support.programs import program, run


def test_what_cannot_be_closed_again_is_not_opened(journal):
    ours = journal.start("--grant-capacity=16", seconds=600)
    for number in range(18):
        ours.knock(f"192.0.2.{number}")
    ours.log.wait_for(
        "^pyknock server: not opened: open 192.0.2.17: "
        "16 grants are open, all that --grant-capacity allows$"
    )
    ours.wait_for_counters(open=16, not_opened=2, accepted=18)
    # A knock for an open address needs no room.
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
