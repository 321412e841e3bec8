"""Whether the server runs, and since when."""

import os
import re
import signal
import time
from datetime import datetime

import pytest
from support.processes import NOBODY, as_nobody
from support.programs import program, run
from support.state import Journal


def first_line(path, prefix=()):
    result = run([*prefix, *program("status"), "--state", path])
    return result.code, result.stdout.partition("\n")[0], result.lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_server_runs_until_it_ends(journal, number, not_emulated):
    before = time.time()
    ours = journal.start()
    code, line, errors = first_line(journal.path)
    assert (code, errors) == (0, [])
    since = re.fullmatch(rf"server: runs since (\S+), process {ours.pid}", line)[1]
    # The kernel counts in hundredths of a second from the boot.
    assert before - 2 < datetime.fromisoformat(since).timestamp() < time.time() + 1
    ours.signal(number)
    ours.exit_code()
    assert first_line(journal.path) == (3, "server: does not run", [])


def test_it_is_seen_from_another_pid_namespace(journal, not_emulated):
    ours = journal.start()
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    assert first_line(journal.path, apart) == (0, "server: runs", [])
    ours.stop()
    assert first_line(journal.path, apart) == (3, "server: does not run", [])


@pytest.mark.other_users
def test_the_state_may_belong_to_the_servers_user(server, public, not_emulated):
    journal = Journal(server, public)
    journal.path.mkdir(mode=0o700)
    os.chown(journal.path, NOBODY, NOBODY)
    ours = journal.start(prefix=as_nobody())
    ours.knock("192.0.2.1")
    ours.wait_for_counters(open=1)
    for prefix in ((), as_nobody()):
        code, line, errors = first_line(journal.path, prefix)
        assert (code, errors) == (0, [])
        assert line.startswith("server: runs since ")
        assert journal.open() == ["192.0.2.1"]


@pytest.mark.other_users
@pytest.mark.parametrize("what", ["directory", "file", "owner", "reader"])
def test_what_others_can_write_is_not_believed(server, public, what, not_emulated):
    journal = Journal(server, public)
    journal.start().stop()
    prefix = ()
    if what == "directory":
        journal.path.chmod(0o770)
    elif what == "file":
        (journal.path / "grants").chmod(0o620)
    elif what == "owner":
        os.chown(journal.path / "grants", NOBODY, NOBODY)
    else:
        prefix = as_nobody()
    code, line, errors = first_line(journal.path, prefix)
    assert code == 1
    assert errors == [
        f"pyknock status: --state: '{journal.path}': Permission denied "
        "(run this as root, or as the server's user; only its owner may write to it)"
    ]
    # The lock was read before the journal.
    assert line == ("server: does not run" if what in ("file", "owner") else "server: not known whether it runs")
