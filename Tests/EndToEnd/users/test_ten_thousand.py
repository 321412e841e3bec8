"""As many users as a server can have."""

import os
import signal

import pytest
from support.requests import key_text, request
from support.users import many_users

COUNT = 10_000
# The server needs about a third of it on one core. The clock would count what else the machine does.
CPU_SECONDS = 1.0


def cpu_seconds(*processes):
    ticks = 0
    for process in processes:
        fields = open(f"/proc/{process}/stat").read().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def users(tmp_path):
    return many_users(tmp_path / "keys", COUNT)


@pytest.mark.slow
@pytest.mark.usefixtures("not_emulated")
def test_the_start_and_a_hangup_take_less_than_a_second(server, users, tmp_path):
    ours = server(users.option, f"--state={tmp_path / 'state'}", words=["echo $ip $PYKNOCK_USER", "true $ip"])
    both = (ours.pid, ours.receiver)
    assert cpu_seconds(*both) < CPU_SECONDS
    for name in "user0", f"user{COUNT - 1}":
        ours.send(request(key_text(name)))
        ours.output.wait_for(f"^192.0.2.1 {name}$")

    def reload(count):
        before = cpu_seconds(*both)
        ours.signal(signal.SIGHUP)
        ours.log.wait_for(r"reloaded users and commands, users: \d+$", count)
        assert cpu_seconds(*both) - before < CPU_SECONDS

    reload(1)
    # Half of them under other names, with other keys.
    for number in range(0, COUNT, 2):
        users.remove(f"user{number}")
        users.set(f"new{number}", key=key_text(f"new{number}"))
    reload(2)
    ours.send(request(key_text("user0")), request(key_text("new0"), "192.0.2.2"))
    ours.output.wait_for("^192.0.2.2 new0$")
    ours.wait_for_counters(unknown_key=1, accepted=3)
    users.set("more", key=key_text("more"))
    ours.signal(signal.SIGHUP)
    ours.log.wait_for(f"'{users.path}/more':1: there are more than 10000 users$")
    ours.send(request(key_text("new0"), "192.0.2.3"))
    ours.output.wait_for("^192.0.2.3 new0$")
