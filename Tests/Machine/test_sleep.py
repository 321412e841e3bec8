"""The server after the machine was suspended to memory."""

import re


def is_open(machine, address="192.0.2.7"):
    return address in machine.run("nft list set inet filter v4")


def test_a_grant_that_ended_during_sleep_is_closed_at_once(machine, start, knock):
    start("--nft=inet/filter/v4", "--close-after=8", "--state=/run/state")
    knock()
    machine.until("grep 'accepted open 192.0.2.7' /run/log")
    assert is_open(machine)
    machine.sleep(9)
    machine.run("sleep 1")
    assert not is_open(machine)
    assert machine.log[-1] == "pyknock server: expired: close 192.0.2.7"


def test_sleep_does_not_end_a_grant_that_lasts_longer(machine, start, knock):
    start("--nft=inet/filter/v4", "--close-after=60", "--state=/run/state")
    knock()
    machine.until("grep 'accepted open 192.0.2.7' /run/log")
    machine.sleep(5)
    machine.run("sleep 1")
    assert is_open(machine)
    assert re.search("accepted open 192.0.2.7", machine.log[-1])


def test_sleep_is_no_running_time_of_a_command(machine, start, knock):
    start("--command-timeout=6", "'echo $ip begins; sleep 3; echo $ip ends'", "''")
    knock()
    machine.until("grep '192.0.2.7 begins' /run/out")
    machine.sleep(8)
    # The server looks at its deadlines now.
    knock("192.0.2.8")
    machine.until("grep '192.0.2.8 ends' /run/out")
    assert machine.run("cat /run/out").splitlines() == [
        "192.0.2.7 begins", "192.0.2.7 ends", "192.0.2.8 begins", "192.0.2.8 ends",
    ]  # fmt: skip
    assert [line for line in machine.log if "command" in line] == []


def test_a_replay_after_sleep_is_refused_and_a_new_knock_is_accepted(machine, start, send):
    start("--nft=inet/filter/v4", "--state=/run/state", "-v")
    stamp = machine.clock()
    send("192.0.2.7", stamp)
    machine.until("grep 'accepted open 192.0.2.7' /run/log")
    machine.sleep(5)
    send("192.0.2.7", stamp)
    machine.until_counted("replayed=1")
    send("192.0.2.8", machine.clock())
    machine.until("grep 'accepted open 192.0.2.8' /run/log")
