"""The commands of doc/TEAM.md, run as they stand.

The program and its server are real, and so is nft. systemctl, journalctl and ssh are stubs for one machine. The
directories of a system stand in the folder of the test.
"""

import os
import re
import shlex
import signal
import textwrap

import pytest
from support.firewall import only_nft
from support.programs import PYKNOCK, ROOT, program, run
from support.waiting import until

STUBS = {
    # There is no /etc/pyknock/server.conf.
    "pyknock": f"""
        if [ "$1" = status ]; then set -- "$@" -f etc/server.conf; fi
        exec {shlex.join(PYKNOCK)} "$@"
    """,
    "systemctl": f"""
        [ "$2" = pyknock ]
        case $1 in
          reload)
            awaited='reloaded'; before=$(grep -c "$awaited" log || :)
            pyknock server -n -f etc/server.conf || code=$?
            kill -HUP "$(cat pid)" ;;
          restart)
            awaited=' listening on '; before=$(grep -c "$awaited" log || :)
            if [ -e pid ]; then kill "$(cat pid)"; tail --sleep-interval=0.01 --pid="$(cat pid)" -f /dev/null; fi
            setsid {shlex.join(PYKNOCK)} server -f etc/server.conf 2>>log </dev/null >&2 & echo $! >pid ;;
        esac
        until [ "$(grep -c "$awaited" log)" -gt "$before" ]; do kill -0 "$(cat pid)"; done
        exit ${{code:-0}}
    """,
    "journalctl": '[ "$1 $2 $3" = "-u pyknock --grep" ]; grep -E "$4" log',
    "ssh": '[ "$1" = root@server.example.org ]; shift; exec sh -ec "$*"',
}
DOCUMENT = (ROOT / "doc/TEAM.md").read_text()


def blocks(heading):
    """The blocks of code in a part of the document, each with its language."""
    [part] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```", part, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, text in found]


@pytest.fixture
def machine(firewall, tmp_path):
    """A machine with the settings of the packages, whose server runs once it is restarted."""
    firewall.load_example()
    places = {"/etc/pyknock": "etc", "/var/lib/pyknock": "state"}

    def placed(text):
        for place, folder in places.items():
            text = text.replace(place, f"{tmp_path}/{folder}")
        return text

    for folder in ("bin", "etc/keys"):
        (tmp_path / folder).mkdir(parents=True)
    for name, text in STUBS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh -e\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "log").touch()
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    environment.pop("XDG_CONFIG_HOME", None)

    class Machine:
        home = tmp_path / ".config/pyknock"
        keys = tmp_path / "etc/keys"

        def configure(self, *settings):
            lines = (ROOT / "packaging/systemd/server.conf").read_text().splitlines()
            lines = [line for line in lines if not re.match("keys |state ", line)]
            (tmp_path / "etc/server.conf").write_text(placed("\n".join([*settings, *lines])) + "\n")

        def run(self, text, check=True):
            words = [*firewall.prefix, "sh", "-ec", f"cd {tmp_path}\n{placed(text)}"]
            result = run(words, env=environment)
            assert not check or (result.code, result.stderr) == (0, ""), result
            return result

        def knock(self, *words, key="home.key"):
            """Knocks, and returns the line of the log about it."""
            before = len(self.lines)
            self.run(shlex.join([*program("client"), *words, f"-k{self.home / key}"]))
            # Datagrams that are not authentic are only counted.
            found = []
            until(lambda: found.extend(self.lines[before:]) or found, "a line about the knock")
            return re.sub(r":\d+: |:\d+$", ": ", found[0]).removeprefix("pyknock server: ")

        @property
        def lines(self):
            return (tmp_path / "log").read_text().splitlines()

    machine = Machine()
    yield machine
    if (tmp_path / "pid").exists():
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@only_nft
def test_a_person_is_added_limited_and_removed(machine, firewall):
    machine.configure("keys /etc/pyknock/keys", "state /var/lib/pyknock")
    machine.run("systemctl restart pyknock")

    add, copy, look = blocks("Add a person")
    machine.run(add)
    machine.run(copy)
    assert machine.knock("open", "127.0.0.1") == "accepted open 127.0.0.1 by alice from 127.0.0.1: "
    assert machine.run(look).stdout.count("\n") == 1
    for text in (add, copy):
        machine.run(text.replace("alice", "bob").replace("home.key", "bob.key"))
    firewall.expect(["127.0.0.1"])

    [limits] = blocks("Limit them")
    with (machine.keys / "alice").open("a") as file:
        file.write(limits)
    machine.run("systemctl reload pyknock")
    firewall.expect([])
    refused = machine.knock("open", "127.0.0.1")
    assert refused.startswith("refused open 127.0.0.1 by alice from 127.0.0.1: not among the user's addresses")
    assert machine.knock("open", "127.0.0.1", "-S192.0.2.7").startswith("accepted open 192.0.2.7 by alice ")
    assert machine.knock("open", "127.0.0.1", key="bob.key").startswith("accepted open 127.0.0.1 by bob ")
    firewall.expect(["127.0.0.1", "192.0.2.7"])
    assert 1700 < firewall.elements()["192.0.2.7"] <= 1800
    assert "not among the user's commands" in machine.knock("close", "127.0.0.1", "-S192.0.2.7")

    # With a mistake, the reload fails, and she keeps her limits.
    good = (machine.keys / "alice").read_text()
    (machine.keys / "alice").write_text(good.replace("ttl 30m", "ttl long"))
    assert machine.run("systemctl reload pyknock", check=False).code == 1
    firewall.expect(["127.0.0.1", "192.0.2.7"])
    (machine.keys / "alice").write_text(good)

    [status] = blocks("See who is in")
    shown = machine.run(status).stdout
    assert re.search(r"^192\.0\.2\.7 +alice ", shown, re.MULTILINE)
    assert re.search(r"^alice .* commands open, ttl 1800, ", shown, re.MULTILINE)

    # A mistake in another file makes the reload fail, and keeps nobody in.
    (machine.keys / "carol").write_text("")
    [remove] = blocks("Remove them")
    assert machine.run(remove, check=False).code == 1
    assert set(firewall.elements()) == {"127.0.0.1"}
    assert machine.lines[-2:] == [
        "pyknock server: revoked: close 192.0.2.7 by alice",
        "pyknock server: not all reloaded, see the errors before this line, users: 1",
    ]
    assert machine.knock("open", "127.0.0.1", "-S192.0.2.7").startswith("unauthenticated datagrams: 1 with a bad MAC")


@only_nft
def test_a_shared_key_is_left_behind(machine, firewall, tmp_path):
    machine.configure("key-file /etc/pyknock/key")
    machine.home.mkdir(parents=True)
    machine.run("pyknock keygen -o /etc/pyknock/key")
    (machine.home / "old.key").write_bytes((tmp_path / "etc/key").read_bytes())
    (machine.home / "old.key").chmod(0o600)
    machine.run("systemctl restart pyknock")
    assert machine.knock("open", "127.0.0.1", key="old.key").startswith("accepted open 127.0.0.1 from ")

    move, use, remove = blocks("From one shared key to a key each")
    machine.run(move)
    machine.configure("keys /etc/pyknock/keys", "state /var/lib/pyknock")
    machine.run("systemctl restart pyknock")
    assert machine.knock("open", "127.0.0.1", key="old.key").startswith("accepted open 127.0.0.1 by shared ")

    add, copy, _ = blocks("Add a person")
    machine.run(add)
    machine.run(copy)
    assert machine.knock("open", "127.0.0.1").startswith("accepted open 127.0.0.1 by alice ")
    shown = machine.run(use).stdout
    assert re.findall(r"accepted open \S+ by (\w+)", shown) == ["shared"]
    machine.run(remove)
    assert machine.knock("open", "127.0.0.1", key="old.key").startswith("unauthenticated datagrams: 1 ")
    assert machine.knock("open", "127.0.0.1").startswith("accepted open 127.0.0.1 by alice ")
    firewall.expect(["127.0.0.1"])
