"""A machine on which the commands of documents run as they stand.

The program and its server are real, and so is nft. systemctl, journalctl and ssh are stubs for one machine. The
directories of a system stand in the folder of the test.
"""

import os
import re
import shlex
import signal

import pytest
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

        def copy_key(self, user, name):
            """Gives the client the first line of a user's file."""
            self.home.mkdir(parents=True, exist_ok=True)
            (self.home / name).write_text((self.keys / user).read_text().splitlines()[0] + "\n")
            (self.home / name).chmod(0o600)

        def knock(self, *words, key="home.key"):
            """Knocks, and returns the line of the log about it."""
            before = len(self.lines)
            key = [f"-k{self.home / key}"] if key else []
            self.run(shlex.join([*program("client"), *words, *key]))
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
