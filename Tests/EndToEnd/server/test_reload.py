"""A hangup: key and commands are read again."""

import os
import re
import signal

import pytest
from support.configuration import COMMANDS
from support.datagrams import KEY, packet
from support.programs import program, run

OTHER_KEY = "another key that is long enough"


def reload(ours, count=1):
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("^pyknock server: (reloaded key and commands|not reloaded, going on as before)$", count)


def test_a_hangup_reads_key_and_commands_anew(started, conf, key_file):
    ours = started()
    ours.knock("192.0.2.1")
    ours.output.wait_for(r"^open 192\.0\.2\.1$")
    conf.write("open-command echo new $ip\n")
    key_file.write_text(OTHER_KEY)
    reload(ours)
    ours.knock("192.0.2.2")  # This knock has the old key.
    ours.knock("192.0.2.3", key=OTHER_KEY)
    ours.output.wait_for(r"^new 192\.0\.2\.3$")
    # There is no close command any more.
    ours.knock("192.0.2.4", 2, key=OTHER_KEY)
    counters = ours.wait_for_counters(accepted=3, queued=0, running=0)
    assert (counters["bad-mac"], counters["succeeded"]) == (1, 2)
    assert ours.stop() == 0
    assert ours.output.wait_for_end() == ["open 192.0.2.1", "new 192.0.2.3"]
    assert not ours.log.matching("not reloaded")


def test_a_reload_forgets_no_knock_and_no_grant(server, conf, tmp_path):
    state = tmp_path / "state"
    conf.write(COMMANDS)
    ours = server("-f", str(conf.path), "--state", str(state), "--close-after=1h", words=[])
    datagram = ours.knock("192.0.2.1")
    ours.output.wait_for("^open")
    for number in range(1, 5):
        reload(ours, number)
    ours.send(datagram)
    counters = ours.wait_for_counters(replayed=1)
    assert (counters["open"], counters["accepted"]) == (1, 1)
    listed = run([*program("status"), "--state", str(state)]).stdout
    assert "192.0.2.1" in listed


def test_many_reloads_take_no_memory(started, conf, not_emulated):
    ours = started()

    def size():
        status = open(f"/proc/{ours.pid}/status").read()
        maps = len(open(f"/proc/{ours.pid}/maps").readlines())
        return int(re.search(r"VmSize:\s+(\d+)", status)[1]), maps

    for number in range(1, 5):
        reload(ours, number)
    before = size()
    for number in range(5, 60):
        if number == 30:
            conf.write(COMMANDS + "jobs nonsense\n")
        reload(ours, number)
    assert size() == before
    assert len(ours.log.matching("not reloaded")) == 30
    ours.knock()
    ours.output.wait_for("^open")


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("jobs x\n", "'{conf}':2: --jobs: 'x' is not a number from 1 to 64"),
        ("no-shell yes\n" + "open-command /bin/sh '\n", "OPEN_CMD: the quote ' is not closed"),
        ("key-file /nowhere/key\n", "key file '/nowhere/key': No such file or directory"),
    ],
)
def test_a_broken_file_keeps_the_old_one_running(server, conf, text, complaint):
    conf.write(COMMANDS + "no-shell yes\n")
    ours = server("-f", str(conf.path), words=[])
    conf.write(text)
    reload(ours)
    ours.log.wait_for("^pyknock server: " + re.escape(complaint.format(conf=conf.path)) + "$")
    ours.log.wait_for("not reloaded")
    ours.knock()
    ours.output.wait_for(r"^open 192\.0\.2\.1$")


@pytest.mark.parametrize(
    "key, complaint",
    [
        ("", "the key is empty"),
        ("a\0b", "the key has a NUL byte in it"),
        (5000 * "x", "the key is longer than 4096 bytes"),
        ("euro €", "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs"),
    ],
)
def test_a_bad_key_keeps_the_old_one(server, key_file, key, complaint):
    ours = server("-k", str(key_file), words=["echo $ip", ""])
    key_file.write_text(key)
    reload(ours)
    ours.log.wait_for(re.escape(f"pyknock server: key file '{key_file}': {complaint}"))
    ours.knock()
    ours.output.wait_for(r"^192\.0\.2\.1$")


@pytest.mark.slow
def test_a_pipe_does_not_hold_a_reload_up(server, key_file):
    ours = server("-k", str(key_file), words=["echo $ip", ""])
    key_file.unlink()
    os.mkfifo(key_file)
    ours.signal(signal.SIGHUP)
    with open(os.open(key_file, os.O_WRONLY), "w"):
        ours.log.wait_for("no line came within 1 seconds")
        ours.log.wait_for("not reloaded")
    ours.knock()
    ours.output.wait_for(r"^192\.0\.2\.1$")


def test_what_closes_must_stay(server, conf, tmp_path):
    conf.write(COMMANDS)
    ours = server(
        "-f", str(conf.path), "--state", str(tmp_path / "state"), "--close-after=1h", words=[]
    )
    conf.write("open-command echo new\n")
    reload(ours)
    ours.log.wait_for("^pyknock server: there is no close-command any more, and no set$")
    ours.log.wait_for("not reloaded")


def test_something_must_be_left_to_do(started, conf):
    ours = started()
    conf.write("")
    reload(ours)
    ours.log.wait_for("^pyknock server: there is no command any more, and no set$")
    ours.log.wait_for("not reloaded")
    ours.knock()
    ours.output.wait_for("^open")


def test_what_only_a_start_can_change_is_told(started, conf):
    ours = started(text=COMMANDS + "jobs 2\n")
    conf.write(COMMANDS + "jobs 3\n")
    reload(ours)
    ours.log.wait_for(
        "^pyknock server: warning: other changes in the configuration file take effect when the server restarts$"
    )
    ours.log.wait_for("reloaded key")
    conf.write(COMMANDS.replace("echo", "echo x") + "jobs 2\n")
    reload(ours, 2)
    assert len(ours.log.matching("take effect when the server restarts")) == 1


def test_sets_alone_take_a_new_key_but_no_commands(start, firewall, conf, key_file, kind):
    firewall.load_example()
    name, _, value = firewall.sets.removeprefix("--").partition("=")
    conf.write(f"{name} {value}\n")
    ours = start("-f", str(conf.path), sets="-q", words=[], wait=False)
    ours.wait_until_ready()
    key_file.write_text(OTHER_KEY)
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("reloaded key and commands")
    ours.send(packet("192.0.2.9", key=OTHER_KEY))
    ours.wait_for_counters(set_changed=1)
    assert "192.0.2.9" in firewall.elements()
    conf.write(f"{name} {value}\n{COMMANDS}")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for(
        "^pyknock server: commands need a restart: the server has dropped the privileges that they may need$"
    )
    ours.log.wait_for("not reloaded")


def test_without_a_key_file_a_hangup_stops_the_server(server):
    for words in (["-k", "-", "exit", ""], [KEY, "exit", ""]):
        ours = server(words=words, stdin=KEY.encode())
        ours.signal(signal.SIGHUP)
        assert ours.exit_code() == 0
        ours.log.wait_for("^pyknock server: stopping on SIGHUP$")
