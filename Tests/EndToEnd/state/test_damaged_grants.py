"""A journal of grants that is damaged or foreign."""

import os
import struct
import time

import pytest
from support.datagrams import CLOSE
from support.state import GRANT, HEADER, checksum, grant, patch

MORE = (
    "pyknock status: warning: a part of the journal of grants is damaged, or of an older version: "
    "more may be open\n"
)

BAD_RECORDS = {
    "noise": b"\x5a" * GRANT,
    "a multicast address": grant(0xE0000001, 1e9, 1e9, 1e9),
    "a family": grant(0xC0000201, 1e9, 1e9, 1e9, family=5),
    "a start before 1970": grant(0xC0000201, -1e-6, 1e9, 1e9),
    "a time too far away": grant(0xC0000201, 1e9, 1e10 + 1, 1e10 + 1),
    "an end before its start": grant(0xC0000201, 1e9, 1e9, 1e9 - 1),
    "an end too far away": grant(0xC0000201, 1e9, 1e9, 1e9 + 367 * 86400),
}


@pytest.mark.parametrize("bad", BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_what_is_damaged_is_said_and_the_rest_is_closed(journal, bad):
    now = time.time()
    journal.make_records(bad, grant(0xC0000207, now - 10, now - 10, now - 5))
    assert journal.open(stderr=MORE) == ["192.0.2.7"]
    ours = journal.start("-q", wait=False)
    ours.log.wait_for(
        "^pyknock server: warning: a part of the journal of grants is damaged, or of an older version "
        r"\(1 records\), and what it stands for may stay open; 1 grant is open, 1 of them overdue$"
    )
    journal.wait_for("close 192.0.2.7")
    ours.stop()
    # The server has written a new file.
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
    left = journal.open(stderr=MORE)
    ours = journal.start()
    ours.log.wait_for("warning: a part of the journal of grants is damaged")
    journal.wait_for(*(f"close {address}" for address in left))
    size = (journal.path / "grants").stat().st_size
    assert size == HEADER + 4097 * GRANT
    assert sorted(file.name for file in journal.path.iterdir()) == ["grants", "replay", "users"]


@pytest.mark.parametrize("version, size", [(1, 64), (2, 64)])
def test_a_journal_of_an_older_version_is_replaced(journal, version, size):
    """A package upgrade restarts the server, and perhaps nobody can log in before it runs."""
    journal.path.mkdir(mode=0o700)
    header = struct.pack("<8sQQ", b"pyknockG", version, 4096)
    header += struct.pack("<Q", checksum(*struct.unpack("<3Q", header)))
    record = struct.pack("<QQQ", 4, 0, 0xC0000201).ljust(size, b"\1")
    old = header.ljust(HEADER, b"\0") + record
    (journal.path / "grants").write_bytes(old.ljust(HEADER + 4097 * size, b"\0"))
    assert journal.open(stderr=MORE) == []
    ours = journal.start()
    ours.log.wait_for(
        "^pyknock server: warning: a part of the journal of grants is damaged, or of an older version "
        r"\(2 records\), and what it stands for may stay open; 0 grants are open, 0 of them overdue$"
    )
    # Anyone with the key can close it.
    ours.knock("192.0.2.1", CLOSE)
    journal.wait_for("close 192.0.2.1")
    ours.stop()
    ours = journal.start()
    assert not ours.log.matching("older version")
