"""Processes of the server's own user, such as its commands, get nothing out of it."""

import errno
import os
from pathlib import Path

import pytest
from support.processes import NOBODY, Process, as_nobody
from support.programs import TIMEOUT

pytestmark = [pytest.mark.other_users, pytest.mark.usefixtures("not_emulated")]
THIEF = (Path(__file__).parents[1] / "support/thief.py").read_text()
PYTHON = "/usr/bin/python3"


def outcomes(lines):
    """What became of the attempts, by process."""
    found = {}
    for line in lines:
        process, attempt = line.split(" ", 1)
        name, outcome = attempt.rsplit(": ", 1)
        found.setdefault(int(process), {})[name] = outcome
    return found


def assert_all_refused(found, *processes):
    refused = {str(errno.EPERM), str(errno.EACCES)}
    assert set(found) == set(processes)
    for attempts in found.values():
        assert {name: outcome for name, outcome in attempts.items() if outcome not in refused} == {}


def of_a_command(server, *options):
    """Runs the server as an ordinary user, and the thief as its command."""
    ours = server(
        *options,
        prefix=as_nobody(),
        on_open=f'{PYTHON} -c "$THIEF" parent',
        env={**os.environ, "THIEF": THIEF},
    )
    ours.knock()
    ours.output.wait_for("^end$")
    return ours, outcomes(ours.output.lines[:-1])


def of_another_process(ours):
    words = [*as_nobody(), PYTHON, "-c", THIEF, str(ours.pid), str(ours.receiver)]
    thief = Process(words)
    assert thief.popen.wait(TIMEOUT) == 0
    return outcomes(thief.output.wait_for_end()[:-1])


def test_a_command_of_the_same_user(server):
    ours, found = of_a_command(server)
    assert_all_refused(found, ours.pid, ours.receiver)
    ours.knock("192.0.2.9")
    ours.output.wait_for("^end$", 2)


@pytest.mark.parametrize("on_open", ["true", ""])
def test_another_process_of_the_user_that_the_server_becomes(server, on_open):
    ours = server(f"--user={NOBODY}", on_open=on_open)
    assert_all_refused(of_another_process(ours), ours.pid, ours.receiver)


def test_without_the_sandbox_it_gets_all(server):
    """So the attempts above are good ones."""
    _, found = of_a_command(server, "--no-sandbox")
    for attempts in found.values():
        assert attempts["fd"] == attempts["environ"] == "done"
