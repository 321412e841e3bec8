"""The commands of doc/SYSTEMD.md and doc/TEAM.md, run as a new user runs them."""

import os
import re
import shutil
import textwrap
import time

import machine
import packed
from packed import DEBIAN, ROOT, VERSION, run

DOCUMENT = ROOT / "doc/SYSTEMD.md"


def test_the_commands_for_systemd_take_minutes_to_the_first_knock(tmp_path, capsys):
    debian = DEBIAN[os.uname().machine][0]
    run("packaging/debian/build", os.uname().machine)
    deb = f"pyknock_{VERSION}_{debian}.deb"
    text = DOCUMENT.read_text()
    blocks = re.findall("^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    install, load, stop, _ = (block.replace("sudo ", "") for block in blocks if "# On the client\n" not in block)
    # The first user has the name of the page about a team.
    team = (ROOT / "doc/TEAM.md").read_text().replace("alice", "bob")
    blocks = [textwrap.dedent(block) for block in re.findall("^ *```sh\n(.*?)^ *```", team, re.MULTILINE | re.DOTALL)]
    add, _, look, status, remove, *_ = blocks
    install = install.replace(f"pyknock_{VERSION}_amd64.deb", deb)
    install = install.replace("apt install", "apt-get --quiet=2 --yes install")
    [include] = re.findall("`(include .*?)`", text)
    with machine.Machine() as booted:
        shutil.copy(ROOT / "dist" / deb, booted.path("/root"))
        start = time.monotonic()
        booted.run("sh", "-exc", f"cd /root\n{install}", env={"DEBIAN_FRONTEND": "noninteractive"})
        key = tmp_path / "key"
        key.write_bytes(booted.path("/etc/pyknock/keys/alice").read_bytes())
        key.chmod(0o600)

        booted.run("sh", "-exc", load)
        assert booted.run("systemctl", "is-active", "undo-knock.timer") == "active\n"
        knock = [packed.program(os.uname().machine), "client", "-k", key, "open", machine.MACHINE]
        element = ["nft", "get", "element", "inet", "pyknock", "knock4", "{", machine.OUTSIDE, "}"]

        def is_open():
            return booted.run(*element, check=False).returncode == 0

        booted.outside(*knock)
        machine.until(is_open, "the knock is in the set")
        booted.run("sh", "-exc", stop)
        seconds = time.monotonic() - start
        assert booted.run("systemctl", "is-active", "undo-knock.timer", check=False).stdout == "inactive\n"

        # A second person comes, and goes. Both have the same address.
        booted.run("sh", "-exc", add)
        copy = tmp_path / "bob.key"
        copy.write_bytes(booted.path("/etc/pyknock/keys/bob").read_bytes())
        copy.chmod(0o600)
        mark = booted.mark()
        booted.outside(*(copy if word == key else word for word in knock))
        booted.wait_for("pyknock.service", " accepted open .* by bob ", mark)
        assert len(re.findall(" accepted open .* by bob ", booted.run("sh", "-exc", look))) == 1
        shown = booted.run("sh", "-exc", status)
        assert re.findall(rf"^{machine.OUTSIDE} +(\w+) ", shown, re.MULTILINE)[-2:] == ["alice", "bob"]
        booted.run("sh", "-exc", remove)
        assert not booted.path("/etc/pyknock/keys/bob").exists()
        booted.wait_for("pyknock.service", ": reloaded users and commands, users: 1$", mark)
        shown = booted.run("sh", "-exc", status)
        assert set(re.findall(rf"^{machine.OUTSIDE} +(\w+) ", shown, re.MULTILINE)) == {"alice"}
        assert is_open()

        # nftables loads the rules again, as at boot, and the server finds them.
        with booted.path("/etc/nftables.conf").open("a") as rules:
            rules.write(include + "\n")
        booted.run("systemctl", "enable", "nftables")
        booted.run("systemctl", "restart", "nftables")
        assert not is_open()
        booted.outside(*knock)
        machine.until(is_open, "the knock after that is in the set")

        # Without the package, nftables still loads the other rules of the administrator.
        told = booted.run("apt-get", "--quiet=2", "--yes", "purge", "pyknock")
        assert "its firewall rules stay, and nobody can knock any more" in told
        booted.run("systemctl", "restart", "nftables")
        assert "pyknock" not in booted.run("nft", "list", "ruleset")
    with capsys.disabled():
        print(f"\nsystemd as doc/SYSTEMD.md has it, from the file to the first knock: {seconds:.1f} s")
    assert seconds < 300
