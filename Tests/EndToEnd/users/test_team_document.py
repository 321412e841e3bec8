"""The commands of doc/TEAM.md, run as they stand."""

import re

from support.documents import Document
from support.firewall import only_nft

DOCUMENT = Document("doc/TEAM.md")


@only_nft
def test_a_person_is_added_limited_and_removed(machine, firewall):
    machine.configure("keys /etc/pyknock/keys", "state /var/lib/pyknock")
    machine.run("systemctl restart pyknock")

    add, take, look = DOCUMENT.blocks("Add a person")
    line, *_ = machine.run(add.replace("server.example.org", "127.0.0.1")).stdout.splitlines()
    machine.run(f"printf %s {line!r} | {take}")
    machine.copy_key("alice", "home.key")
    assert machine.knock("open", "home", key=None) == "accepted open 127.0.0.1 by alice from 127.0.0.1: "
    assert machine.run(look).stdout.count("\n") == 1
    machine.run(add.replace("alice", "bob"))
    machine.copy_key("bob", "bob.key")
    firewall.expect(["127.0.0.1"])

    [limits] = DOCUMENT.blocks("Limit them")
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

    [status] = DOCUMENT.blocks("See who is in")
    shown = machine.run(status).stdout
    assert re.search(r"^192\.0\.2\.7 +alice ", shown, re.MULTILINE)
    assert re.search(r"^alice .* commands open, ttl 1800, ", shown, re.MULTILINE)

    # A mistake in another file makes the reload fail, and keeps nobody in.
    (machine.keys / "carol").write_text("")
    [remove] = DOCUMENT.blocks("Remove them")
    assert machine.run(remove, check=False).code == 1
    assert set(firewall.elements()) == {"127.0.0.1"}
    assert machine.lines[-2:] == [
        "pyknock server: revoked: close 192.0.2.7 by alice",
        "pyknock server: not all reloaded, see the errors before this line, users: 1",
    ]
    refused = machine.knock("open", "127.0.0.1", "-S192.0.2.7")
    assert refused.startswith("unauthenticated datagrams: 1 with an unknown key or a bad MAC")


@only_nft
def test_a_shared_key_is_left_behind(machine, firewall, tmp_path):
    machine.configure("key-file /etc/pyknock/key")
    machine.home.mkdir(parents=True)
    machine.run("pyknock keygen -o /etc/pyknock/key")
    (machine.home / "old.key").write_bytes((tmp_path / "etc/key").read_bytes())
    (machine.home / "old.key").chmod(0o600)
    machine.run("systemctl restart pyknock")
    assert machine.knock("open", "127.0.0.1", key="old.key").startswith("accepted open 127.0.0.1 from ")

    move, use, remove = DOCUMENT.blocks("From one shared key to a key each")
    machine.run(move)
    machine.configure("keys /etc/pyknock/keys", "state /var/lib/pyknock")
    machine.run("systemctl restart pyknock")
    assert machine.knock("open", "127.0.0.1", key="old.key").startswith("accepted open 127.0.0.1 by shared ")

    add, _, _ = DOCUMENT.blocks("Add a person")
    machine.run(add)
    machine.copy_key("alice", "home.key")
    assert machine.knock("open", "127.0.0.1").startswith("accepted open 127.0.0.1 by alice ")
    shown = machine.run(use).stdout
    assert re.findall(r"accepted open \S+ by (\w+)", shown) == ["shared"]
    machine.run(remove)
    refused = machine.knock("open", "127.0.0.1", key="old.key")
    assert refused.startswith("unauthenticated datagrams: 0 with an unknown key or a bad MAC, 1 of wrong length")
    assert machine.knock("open", "127.0.0.1").startswith("accepted open 127.0.0.1 by alice ")
    firewall.expect(["127.0.0.1"])
