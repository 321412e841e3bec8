"""The server after the machine was suspended to memory."""

import json
import re
from random import Random

from support.firewall import nft_elements
from support.grant_model import Model, networks


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


def test_sets_journal_and_list_are_those_of_a_model(machine, start, knock):
    """Random knocks, ends, sleep, and restarts by TERM or KILL with other times and prefixes.

    `Tests/EndToEnd/firewall/test_grants_of_prefixes.py` does the same without sleep, but with sets that are removed.
    """
    seed = 38
    random, model, steps = Random(seed), Model(), []
    sets = {4: "knock4", 6: "knock6"}
    for family, name in sets.items():
        machine.run(
            f"nft 'table inet pyknock {{ set {name} {{ type ipv{family}_addr; flags timeout, interval; }}; }}'"
        )
    hosts = [f"192.0.2.{number}" for number in range(1, 12, 3)]
    hosts += [f"2001:db8::{number}" for number in range(1, 12, 3)]
    shorter = seconds = knocks = None

    def clock():
        return float(machine.run("bash -c 'echo $EPOCHREALTIME'"))

    def restart():
        nonlocal shorter, seconds, knocks
        if knocks is not None:
            machine.stop(random.choice(["KILL", "TERM"]))
        shorter, knocks = random.choice([0, 2, 4]), 0
        ttl, after = random.choice([(20, None), (3600, 16), (None, 20), (3600, None)])
        seconds = min(ttl or 3600, after or 3600)
        options = ["--state=/run/state", "--nft=inet/pyknock/knock4,knock6"]
        options += [f"--grant-prefix4={32 - shorter}", f"--grant-prefix6={128 - shorter}"] if shorter else []
        options += [f"--ttl={ttl}"] if ttl else []
        options += [f"--close-after={after}"] if after else []
        steps.append(f"restart {' '.join(options)}")
        start("-v", *options)

    def change(command, address):
        nonlocal knocks
        steps.append(f"{command} {address}")
        family = 6 if ":" in address else 4
        end = clock() + seconds
        knock(address, command)
        knocks += 1
        machine.until_counted(f"accepted={knocks} ", "queued=0 ")
        if command == "open":
            model.open(None, address, sets[family], (32 if family == 4 else 128) - shorter, end)
        else:
            model.close(None, address)

    def check():
        look = "bash -c 'echo $EPOCHREALTIME'; "
        look += "".join(f"nft -j list set inet pyknock {name}; " for name in sets.values())
        look += "pyknock status --state=/run/state --json"
        while True:
            now, *held, items = machine.run(look).split("\n", 1 + len(sets))
            if not model.is_near_an_end(float(now), 2):
                break
        model.expire(float(now))
        text = f"seed {seed}: {steps}: {model.grants}, but {items}"
        assert model.is_listed(json.loads(items)["open"]), text
        for name, listing in zip(sets.values(), held, strict=True):
            assert networks(nft_elements(listing)) == model.held(name), text

    restart()
    for _ in range(12):
        choice = random.random()
        if choice < 0.15:
            restart()
        elif choice < 0.35:
            # The long sleep ends what is open now, if that does not last an hour.
            change("open", random.choice(hosts))
            length = random.choice([4, 20])
            steps.append(f"sleep {length}")
            machine.sleep(length)
            # What has ended is closed at once.
            machine.run("sleep 1")
        else:
            change(random.choice(["open", "open", "close"]), random.choice(hosts))
        check()
    for address in sorted({grant[1] for grant in model.grants}):
        change("close", address)
    check()
    assert model.grants == {}
