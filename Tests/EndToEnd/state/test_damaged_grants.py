"""A journal of grants that is damaged or foreign."""

import os
import struct
import time

import pytest
from support.datagrams import KEY
from support.programs import program, run
from support.state import GRANT, HEADER, grant, patch

BAD_RECORDS = {
    "noise": b"\x5a" * GRANT,
    "a multicast address": grant(0xE0000001, 1e9, 1e9, 1e9),
    "a family": grant(0xC0000201, 1e9, 1e9, 1e9, family=5),
    "no number": grant(0xC0000201, 1e9, 1e9, float("nan")),
    "an end before its start": grant(0xC0000201, 1e9, 1e9, 1e9 - 1),
    "an end too far away": grant(0xC0000201, 1e9, 1e9, 1e9 + 367 * 86400),
}


@pytest.mark.parametrize("bad", BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_what_is_damaged_is_said_and_the_rest_is_closed(journal, bad):
    now = time.time()
    journal.make_records(bad, grant(0xC0000207, now - 10, now - 10, now - 5))
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
    "a part": lambda path: os.truncate(path, HEADER + 2 * GRANT),
    "half of a record": lambda path: os.truncate(path, HEADER + GRANT + 32),
    "all but the header": lambda path: os.truncate(path, HEADER),
    "all": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_made_anew_from_what_is_left(journal, damage):
    now = time.time()
    journal.make_records(grant(0xC0000201, now - 10, now - 10, now - 5))
    damage(journal.path / "grants")
    left = journal.open()
    ours = journal.start()
    ours.log.wait_for("warning: a part of the journal of grants is damaged")
    journal.wait_for(*(f"close {address}" for address in left))
    size = (journal.path / "grants").stat().st_size
    assert size == HEADER + 4097 * GRANT
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
