"""Users who open the same address by commands: the first opens it, and the last closes it."""

import signal

import pytest
from support.datagrams import CLOSE
from support.users import Team, UserFiles


@pytest.fixture
def team(server, tmp_path):
    return Team(server, tmp_path)


def knock(ours, user, address="192.0.2.1", command=1, **fields):
    ours.knock(address, command, key=UserFiles.key(user), **fields)


def test_the_first_opens_and_the_last_closes(team):
    ours = team.start(seconds=600)
    knock(ours, "alice")
    ours.wait_for_counters(succeeded=1)
    knock(ours, "bob")
    ours.log.wait_for("^pyknock server: open already: open 192.0.2.1 by bob$")
    knock(ours, "alice", command=CLOSE)
    ours.wait_for_counters(accepted=3, open=1, running=0, queued=0)
    assert team.lines() == ["open 192.0.2.1 alice"]
    # She has nothing there any more.
    knock(ours, "alice", command=CLOSE, age=0.1)
    knock(ours, "alice", "192.0.2.2", CLOSE)
    ours.log.wait_for("^pyknock server: nothing to close: close 192.0.2.2 by alice$")
    knock(ours, "bob", command=CLOSE)
    team.wait_for("open 192.0.2.1 alice", "close 192.0.2.1 bob")
    ours.wait_for_counters(open=0)


def test_each_end_is_that_of_its_user(team):
    team.users.set("bob", "ttl 1s")
    ours = team.start(seconds=2)
    knock(ours, "bob")
    knock(ours, "alice")
    ours.log.wait_for("^pyknock server: expired: close 192.0.2.1 by bob$")
    ours.wait_for_counters(open=1, running=0, queued=0)
    ours.log.wait_for("^pyknock server: expired: close 192.0.2.1 by alice$")
    team.wait_for("open 192.0.2.1 bob", "close 192.0.2.1 alice")


def test_an_open_that_failed_runs_for_those_who_relied_on_it(team, tmp_path):
    """The first attempt waits until both have knocked, and fails. The second is for bob."""
    go = tmp_path / "go"
    command = f"{team.command}; until [ -e {go} ]; do sleep 0.05; done; [ $PYKNOCK_USER = bob ]"
    ours = team.start(seconds=600, on_open=command)
    knock(ours, "alice")
    ours.wait_for_counters(running=1)
    knock(ours, "bob")
    ours.log.wait_for("open already: open 192.0.2.1 by bob")
    go.touch()
    ours.wait_for_counters(failed=1, succeeded=1, running=0)
    assert team.lines() == ["open 192.0.2.1 alice", "open 192.0.2.1 bob"]


@pytest.mark.parametrize("restarts", [False, True], ids=["hup", "restart"])
def test_what_a_removed_user_has_opened_is_closed(team, restarts):
    ours = team.start(seconds=600)
    for address in ("192.0.2.1", "192.0.2.2"):
        knock(ours, "alice", address)
        ours.log.wait_for(f"accepted open {address}")
    knock(ours, "bob", "192.0.2.2")
    ours.wait_for_counters(open=3, succeeded=2)
    team.users.remove("alice")
    if restarts:
        ours.signal(signal.SIGKILL)
        ours.exit_code()
        ours = team.start(seconds=600)
    else:
        ours.signal(signal.SIGHUP)
    for address in ("192.0.2.1", "192.0.2.2"):
        ours.log.wait_for(f"^pyknock server: revoked: close {address} by alice$")
    ours.wait_for_counters(open=1, queued=0, running=0)
    opens = [f"open 192.0.2.{number} alice" for number in (1, 2)]
    assert team.lines() == [*opens, "close 192.0.2.1 alice"]
    assert team.open() == ["192.0.2.2"]
    knock(ours, "bob", "192.0.2.2", CLOSE)
    team.wait_for(*opens, "close 192.0.2.1 alice", "close 192.0.2.2 bob")


def test_another_key_is_another_user(team):
    ours = team.start(seconds=600)
    knock(ours, "alice")
    knock(ours, "bob", "192.0.2.2")
    ours.wait_for_counters(open=2)
    team.users.set("alice", key="another key of alice, long enough")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("^pyknock server: revoked: close 192.0.2.1 by alice$")
    ours.wait_for_counters(open=1)


def test_commands_that_wait_for_a_removed_user_do_not_run(team, tmp_path):
    go = tmp_path / "go"
    command = f"{team.command}; until [ -e {go} ]; do sleep 0.05; done"
    ours = team.start("--jobs=1", seconds=600, on_open=command)
    knock(ours, "bob", "192.0.2.9")
    ours.wait_for_counters(running=1)
    knock(ours, "alice")
    knock(ours, "bob", "192.0.2.3")
    ours.wait_for_counters(queued=2)
    team.users.remove("alice")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("^pyknock server: command not run, the user is gone: open 192.0.2.1 by alice$")
    go.touch()
    ours.wait_for_counters(open=2, queued=0, running=0)
    assert "open 192.0.2.1 alice" not in team.lines()


def test_what_lasts_too_long_is_shortened_and_what_is_not_allowed_is_closed(team):
    ours = team.start(seconds=600)
    knock(ours, "alice", "192.0.2.1")
    knock(ours, "bob", "192.0.2.2")
    knock(ours, "bob", "198.51.100.2")
    ours.wait_for_counters(open=3, succeeded=3)
    team.users.set("alice", "ttl 100s")
    team.users.set("bob", "addresses 192.0.2.0/24")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for(r"^pyknock server: shortened: open 192.0.2.1 by alice, (99|100)\.\d+ s left$")
    ours.log.wait_for("^pyknock server: revoked: close 198.51.100.2 by bob$")
    ours.wait_for_counters(open=2)
    lasts = {low: (ends - asked) / 1e6 for what, _, low, _, asked, ends, _ in team.records() if what}
    assert lasts == {0xC0000201: 100, 0xC0000202: 600}
    # Nothing changes if nothing has changed.
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("reloaded users", 2)
    ours.wait_for_counters(open=2)
    assert len(ours.log.matching("shortened|revoked")) == 2


def test_each_may_have_a_quarter_of_the_journal(team):
    ours = team.start("--grant-capacity=16", seconds=600)
    for number in range(1, 6):
        knock(ours, "alice", f"192.0.2.{number}")
    ours.log.wait_for(
        "^pyknock server: not opened: open 192.0.2.5 by alice: the user has 4 grants, "
        "all that one may have: a quarter of --grant-capacity$"
    )
    knock(ours, "bob", "192.0.2.5")
    # What she has may last longer.
    knock(ours, "alice", "192.0.2.4", age=0.1)
    ours.wait_for_counters(accepted=7, open=5, not_opened=1)


def test_each_may_have_a_quarter_of_the_queue(team, tmp_path):
    go = tmp_path / "go"
    command = f"until [ -e {go} ]; do sleep 0.05; done; {team.command}"
    ours = team.start("--jobs=1", "--grant-capacity=4096", seconds=600, on_open=command)
    for number in range(258):
        knock(ours, "alice", f"198.51.{number // 250}.{number % 250 + 1}")
        if number % 16 == 0:
            ours.wait_for_counters(accepted=number + 1)
    ours.log.wait_for(
        "^pyknock server: not run: open 198.51.1.8 by alice: 256 commands of the user wait, "
        "all that one may have: a quarter of the queue$"
    )
    knock(ours, "bob", "192.0.2.5")
    ours.wait_for_counters(accepted=259, running=1, queued=257)
    ours.signal(signal.SIGKILL)
    go.touch()
