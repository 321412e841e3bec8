"""The command that runs for a knock: its words, and what it inherits."""

import os
import re
import signal

import pytest
from support.datagrams import CLOSE

# A template, and what the shell prints for open 192.0.2.1 with HOME=/home/knock.
TEMPLATES = [
    ("echo $ip $af $cmd", "192.0.2.1 inet open"),
    ("echo ${ip}/${af}-${cmd}x", "192.0.2.1/inet-openx"),
    ("echo '$ip' \"$af\"", "192.0.2.1 inet"),
    ("echo $HOME ${HOME}", "/home/knock /home/knock"),
    ("echo $(echo nested $ip) `echo old`", "nested 192.0.2.1 old"),
    ("echo $((1 + 2))", "3"),
    ("echo $$HOME $${HOME}", "/home/knock /home/knock"),
    ("ip=mine; echo $$ip $ip", "mine 192.0.2.1"),
    ("ipx=a IP=b; echo $ipx $IP ${ip}x", "a b 192.0.2.1x"),
    ("set -- one two; echo $1 $# ${2}", "one 2 two"),
    ("echo 'US$' $", "US$ $"),
    ("ip_=a; echo $ip_ $ip-", "a 192.0.2.1-"),
    ("echo a; echo b | tr b c && echo d #$ip", "a c d"),
    ('echo "$PYKNOCK_IP $PYKNOCK_AF $PYKNOCK_CMD"', "192.0.2.1 inet open"),
]


@pytest.mark.parametrize("template, printed", TEMPLATES)
def test_a_template_is_substituted_and_run_by_the_shell(server, template, printed):
    ours = server("-v", on_open=template, env={**os.environ, "HOME": "/home/knock"})
    ours.knock()
    ours.log.wait_for(r"^pyknock server: command ended: open 192\.0\.2\.1: exit status 0$")
    ours.stop()
    assert " ".join(ours.output.wait_for_end()) == printed


@pytest.mark.parametrize("shell", [["--no-shell"], []])
def test_the_environment_has_the_knock_and_what_the_server_has(server, shell):
    inherited = {"PYKNOCK_IP": "evil", "PYKNOCK_AF": "evil", "PYKNOCK_CMD": "evil", "KEPT": "kept"}
    ours = server("-v", *shell, on_open="env", env={**os.environ, **inherited, "PYKNOCK_IPX": "x"})
    ours.knock("2001:db8::1")
    ours.knock("192.0.2.1", command=CLOSE)
    ours.log.wait_for("command ended", 2)
    ours.stop()
    lines = ours.output.wait_for_end()
    assert sorted(line for line in lines if re.match("PYKNOCK_(IP|AF|CMD)|KEPT=", line)) == [
        "KEPT=kept", "KEPT=kept", "PYKNOCK_AF=inet", "PYKNOCK_AF=inet6", "PYKNOCK_CMD=close",
        "PYKNOCK_CMD=open", "PYKNOCK_IP=192.0.2.1", "PYKNOCK_IP=2001:db8::1", "PYKNOCK_IPX=x",
        "PYKNOCK_IPX=x",
    ]  # fmt: skip


def descriptors_of_command(ours):
    """The descriptors of a command of `ls -l /proc/self/fd`, and what they refer to."""
    ours.knock()
    ours.wait_for_counters(succeeded=1)
    ours.stop()
    links = [line.split(" ")[-3::2] for line in ours.output.wait_for_end() if "->" in line]
    return {number: target for number, target in links if not target.endswith("/fd")}


def test_a_command_has_no_descriptor_but_the_standard_ones(server):
    links = descriptors_of_command(server("--no-shell", on_open="ls -l /proc/self/fd"))
    assert set(links) == {"0", "1", "2"}
    assert links["0"] == "/dev/null"


def test_a_command_has_no_descriptor_that_the_server_inherited(server, tmp_path):
    """Otherwise a command could read the key after `-k /dev/fd/N`."""
    with open(tmp_path / "key", "w+") as key:
        key.write("a key that is long enough\n")
        key.flush()
        words = ["-k", f"/dev/fd/{key.fileno()}", "ls -l /proc/self/fd", ""]
        options = {"words": words, "pass_fds": [key.fileno()], "key": "a key that is long enough"}
        os.fchmod(key.fileno(), 0o600)
        links = descriptors_of_command(server("--no-shell", **options))
    assert set(links) == {"0", "1", "2"}


def test_a_command_leads_a_process_group_of_its_own(server):
    ours = server(
        on_open="read pid comm state parent group rest < /proc/$$$$/stat; echo $$$$ $group"
    )
    ours.knock()
    process, group = ours.output.wait_for(r"^(\d+) (\d+)$").groups()
    assert process == group != str(os.getpgid(ours.pid))


def test_a_command_has_the_signals_that_the_server_was_started_with(server):
    # Python ignores SIGPIPE and the server inherits this. Its commands must not.
    ours = server("--no-shell", on_open="grep Sig /proc/self/status", restore_signals=False)
    ours.knock()
    blocked = int(ours.output.wait_for(r"^SigBlk:\s+(\w+)")[1], 16)
    ignored = int(ours.output.wait_for(r"^SigIgn:\s+(\w+)")[1], 16)
    assert blocked == 0
    for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        assert not ignored >> number - 1 & 1


@pytest.mark.parametrize("shell", [[], ["--no-shell"]])
def test_an_empty_command_does_nothing(server, shell):
    ours = server("-v", *shell, on_open="", on_close="echo closed")
    ours.knock()
    ours.log.wait_for(r"^pyknock server: the command is empty: open 192\.0\.2\.1$")
    ours.knock(command=CLOSE)
    ours.output.wait_for("closed")
    ours.wait_for_counters(accepted=2, succeeded=1, failed=0, not_started=0, running=0)
