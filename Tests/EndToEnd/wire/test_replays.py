"""Knocks that come twice, and the replay memory: with each version and without a state directory, and with both."""

import pytest
from support.datagrams import KEY, packet
from support.requests import key_text, request
from support.users import UserFiles

ALONE = {"version 1": KEY, "version 2": key_text("alone")}
# Each of them fills an eighth of the memory. The last finds it full.
TEAM = {f"user{number}": [UserFiles.key, key_text][number % 2](f"user{number}") for number in range(9)}


class Knocks:
    """The keys that a server knows, and how to start it."""

    def __init__(self, make, folder, kind):
        self.make = make
        if kind in ALONE:
            self.keys, self.options = [ALONE[kind]], ["-k", "-"]
        else:
            users = UserFiles(folder / "keys")
            self.keys, self.options = list(TEAM.values()), [users.option, f"--state={folder}/state"]
            for name, key in TEAM.items():
                users.set(name, key=key)
        # What the log says after the address.
        self.by = "" if kind in ALONE else r" by user\d"

    def start(self, *options, command="echo $cmd $ip", **more):
        words = [*self.options, command, command]
        return self.make(*options, words=words, stdin=self.keys[0].encode(), **more)

    def one(self, number, address="192.0.2.1", age=0):
        """A knock with the key of this number, if there is more than one."""
        key = self.keys[number % len(self.keys)]
        if key.startswith("pk2."):
            return request(key, address, age=age)
        return packet(address, age=age, key=key)


@pytest.fixture(params=[*ALONE, "both versions"])
def knocks(request, server, tmp_path):
    return Knocks(server, tmp_path, request.param)


def test_a_knock_is_acted_on_once(knocks):
    ours = knocks.start()
    datagrams = [knocks.one(number, f"192.0.2.{number}") for number in (1, 2)]
    ours.send(*datagrams)
    ours.send(*datagrams, host="::1")
    ours.wait_for_counters(accepted=2, replayed=2)
    ours.log.wait_for(
        rf"refused open 192\.0\.2\.[12]{knocks.by} from \[::1\]:\d+: replay of an accepted datagram, clock skew \S+ s$",
        2,
    )
    ours.output.wait_for("open", 2)
    assert len(ours.output.lines) == 2


def test_a_refused_knock_is_not_remembered(knocks):
    """Otherwise stale knocks could fill the replay memory."""
    ours = knocks.start()
    datagrams = [knocks.one(number, age=500) for number in (1, 2)]
    ours.send(*datagrams, *datagrams)
    ours.wait_for_counters(stale=4, replayed=0)


def test_a_burst_of_replays_does_not_fill_the_log(knocks):
    ours = knocks.start()
    datagrams = [knocks.one(number) for number in (1, 2)]
    ours.send(*datagrams * 250)
    ours.wait_for_counters(accepted=2, replayed=498)
    refused = len(ours.log.matching("refused open"))
    assert 50 <= refused <= 80
    # One line says how many others there were. The receiver counts before it writes lines.
    ours.log.wait_for("refusals not logged: ")
    assert len(ours.log.matching("refusals not logged: ")) == 1


def test_a_full_replay_memory_refuses_what_is_new(knocks):
    ours = knocks.start("-q", command="", wait=False)
    ours.wait_until_ready()
    datagrams = [knocks.one(number % 8, age=-number * 0.001) for number in range(4096)]
    for start in range(0, 4096, 512):
        ours.send(*datagrams[start : start + 512])
        ours.wait_for_counters(accepted=start + 512)
    ours.send(*datagrams[:2], knocks.one(8, "192.0.2.77"))
    ours.wait_for_counters(accepted=4096, replayed=2, replay_memory_full=1)
    ours.log.wait_for(
        rf"refused open 192\.0\.2\.77{knocks.by} from 127\.0\.0\.1:\d+: replay memory full, clock skew \S+ s$"
    )
    assert not ours.log.matching("replay of")
