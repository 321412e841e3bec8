"""The commands of doc/MOVING.md, run as they stand."""

import os
import re

import pytest
from support.documents import Document
from support.firewall import only_nft
from support.programs import run
from support.waiting import until

DOCUMENT = Document("doc/MOVING.md")


@pytest.fixture
def moving(machine, firewall):
    """A machine on which alice has a key of version 1, a limit, and something open."""
    machine.configure("keys /etc/pyknock/keys", "state /var/lib/pyknock")
    machine.run("pyknock keygen >/etc/pyknock/keys/alice 2>/dev/null; chmod 600 /etc/pyknock/keys/alice")
    machine.copy_key("alice", "home.key")
    with (machine.keys / "alice").open("a") as file:
        file.write("ttl 30m\n")
    machine.run("systemctl restart pyknock")
    assert machine.knock("open", "127.0.0.1") == "accepted open 127.0.0.1 by alice from 127.0.0.1: "
    return machine


def users(shown):
    """The table of `pyknock status --users`: the values of each user by the names of the columns."""
    table = shown.split("\n\n")[1].splitlines()
    starts = [found.start() for found in re.finditer(r"(?<!\S)\S(?:\S| (?=\S))*", table[0])]
    ends = [*starts[1:], None]
    rows = [[line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in table]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}


@only_nft
def test_a_person_moves_from_version_1_to_version_2(moving, firewall):
    [rules] = DOCUMENT.blocks("Prepare the server")
    assert "udp length 80 " in moving.run(rules).stdout
    moving.copy_key("alice", "old.key")
    make, replace, look = DOCUMENT.blocks("Move a person")
    moving.run(make)
    assert (moving.keys / "alice").read_text().startswith("pk2.")
    assert (moving.keys / "alice").read_text().splitlines()[1:] == ["ttl 30m"]
    # As the page says: what was open is closed, and either key opens again.
    firewall.expect([])
    [status, remove] = DOCUMENT.blocks("Remove the old key")
    before = users(moving.run("pyknock status --users").stdout)
    assert [(before[name]["VERSION"], before[name]["LAST KNOCK"]) for name in ("alice", "alice-v1")] == [
        ("2", "-"), ("1", "-")
    ]  # fmt: skip
    assert moving.knock("open", "127.0.0.1", key="old.key") == "accepted open 127.0.0.1 by alice-v1 from 127.0.0.1: "
    moving.run(replace.replace("open server.example.org", "open 127.0.0.1"))
    assert (moving.home / "home.key").read_text().startswith("pk2.")
    # The old key let her in to fetch the new one.
    assert set(firewall.elements()) == {"127.0.0.1"}
    assert not (moving.home / "home.new").exists()
    until(lambda: sum("open 127.0.0.1 by alice-v1 from" in line for line in moving.lines) == 2, "the second knock")
    assert moving.knock("open", "127.0.0.1") == "accepted open 127.0.0.1 by alice from 127.0.0.1: "
    assert 1700 < firewall.elements()["127.0.0.1"] <= 1800
    assert "accepted open 127.0.0.1 by alice from" in moving.run(look).stdout

    shown = moving.run(status).stdout
    assert "accepted open 127.0.0.1 by alice-v1 from" in shown
    assert users(shown)["alice-v1"]["LAST KNOCK"] != "-"
    moving.run(remove)
    assert set(firewall.elements()) == {"127.0.0.1"}
    refused = moving.knock("open", "127.0.0.1", key="old.key")
    # No key of version 1 is left, so nobody computes a MAC.
    assert refused.startswith("unauthenticated datagrams: 0 with an unknown key or a bad MAC, 1 of wrong length")

    # From then on, no key of version 1 counts.
    moving.run("pyknock keygen >/etc/pyknock/keys/old 2>/dev/null; chmod 600 /etc/pyknock/keys/old")
    moving.copy_key("old", "old.key")
    moving.configure("keys /etc/pyknock/keys", "state /var/lib/pyknock", "no-version1 yes")
    moving.run("systemctl restart pyknock")
    assert moving.knock("open", "127.0.0.1") == "accepted open 127.0.0.1 by alice from 127.0.0.1: "
    moving.run("pyknock client open 127.0.0.1 -k ~/.config/pyknock/old.key")
    assert moving.knock("close", "127.0.0.1") == "accepted close 127.0.0.1 by alice from 127.0.0.1: "
    assert not any(" by old " in line for line in moving.lines)


@pytest.mark.parametrize("fails, kept", [("false", "old\n"), ("echo new", "new\n")])
def test_a_copy_that_fails_keeps_the_old_key(tmp_path, fails, kept):
    folder = tmp_path / ".config/pyknock"
    folder.mkdir(parents=True)
    (folder / "home.key").write_text("old\n")
    _, replace, _ = DOCUMENT.blocks("Move a person")
    run(["sh", "-c", f"pyknock() {{ :; }}; ssh() {{ {fails}; }}\n{replace}"], env={**os.environ, "HOME": str(tmp_path)})
    assert (folder / "home.key").read_text() == kept


@only_nft
def test_a_key_is_sent_in_a_line(moving):
    make, take = DOCUMENT.blocks("Send a key")
    line = moving.run(make.replace("server.example.org", "127.0.0.1")).stdout
    assert re.fullmatch(r"pyknock2:bob@127\.0\.0\.1:60120#pk2\.[\w-]{70}\n", line)
    moving.run("systemctl reload pyknock")
    moving.run(f"printf %s {line.strip()!r} | {take}")
    assert (moving.home / "client.conf").stat().st_mode & 0o777 == 0o600
    before = len(moving.lines)
    moving.run("pyknock client open home")
    moving.run("until grep -q 'accepted open 127.0.0.1 by bob from' log; do :; done")
    assert len(moving.lines) > before


@only_nft
def test_rules_that_hide_some_ports_know_no_length(moving):
    moving.run("pyknock server --example nft --hide 22 >rules; nft -f rules")
    [rules] = DOCUMENT.blocks("Prepare the server")
    assert moving.run(rules).stdout == "nothing to do\n"
