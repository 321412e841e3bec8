"""The examples of the manual and of the help, run as they stand.

The program and its server are real, and so are nft, ipset and iptables. Only ssh, scp and pip are stubs: ssh runs its
ProxyCommand. The directories of a system stand in the folder of the test.
"""

import contextlib
import itertools
import os
import re
import shlex
import socket
import struct
import subprocess
import threading

import pytest
from support.firewall import NFT, only_nft
from support.manual import PAGES, literal_blocks, section
from support.programs import APPLETS, PYKNOCK, program, run

STUBS = {
    # A server goes to the background once it listens. The one before it ends first.
    "pyknock": f"""
        case " $*" in " server "*) ;; *) exec {shlex.join(PYKNOCK)} "$@" ;; esac
        case " $* " in *" --example "* | *" -n "*) exec {shlex.join(PYKNOCK)} "$@" ;; esac
        if [ -e pid ]; then kill "$(cat pid)"; tail --sleep-interval=0.01 --pid="$(cat pid)" -f /dev/null; fi
        : >log
        {shlex.join(PYKNOCK)} "$@" 2>log & echo $! >pid
        until grep -q ' listening on ' log; do kill -0 $!; done
    """,
    "ssh": """
        [ "$1" = -o ] || exit 0
        exec sh -ec "$(echo "${2#ProxyCommand }" | sed "s/%h/$3/; s/%p/22/")" </dev/null
    """,
    "scp": 'grep -qE "^(pk2[.])?[A-Za-z0-9_-]{43,70}$" "$2"; [ "$2" = knock.key ] || cp "$2" knock.key',
    "systemctl": '[ "$*" = "reload pyknock" ]',
    "pip": '[ "$*" = "install pyknock==0.4.3" ]',
}
PUBLIC = "198.51.100.7"
CONFIGURATIONS = literal_blocks(section("pyknock.conf.5", "EXAMPLES"))


def blocks(page):
    """The commands of a page, and of the help if it is None."""
    if page:
        found = literal_blocks(PAGES[page])
        return [text for text in found if not re.match("keys |key-file |Host |commands |open for |good: ", text)]
    texts = [run([*program(applet), "-h"]).stdout.partition("\nExamples:\n")[2] for applet in APPLETS]
    return [text.partition("\n\n")[0] + "\n" for text in texts]


def test_each_page_has_examples():
    counts = {page: len(blocks(page)) for page in PAGES}
    assert min(counts.values()) >= 1
    assert [text.count("\n  pyknock") + text.count("\n  ssh") + 1 for text in blocks(None)] == [2, 2, 2, 2]


def serve_port(listener):
    """Ends each connection at once."""
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()


def serve_stun(server):
    """Tells everybody the public address: RFC 8489."""
    while (question := server.recvfrom(2048))[0]:
        request, client = question
        hidden = bytes(a ^ b for a, b in zip(socket.inet_aton(PUBLIC), request[4:8], strict=True))
        answer = struct.pack(">HHxBH", 0x20, 8, 1, 7) + hidden
        server.sendto(struct.pack(">HH", 0x0101, len(answer)) + request[4:20] + answer, client)


@pytest.fixture
def scene(firewall, tmp_path):
    """Runs commands on a machine that is server.example.org and has rules, keys and configurations."""
    firewall.hosts.write_text("127.0.0.1 localhost server.example.org stun.example.net\n")
    firewall.load_example()
    places = {"/etc/pyknock": tmp_path / "etc", "/var/lib/pyknock": tmp_path / "state"}

    def placed(text):
        for place, folder in places.items():
            text = text.replace(place, str(folder))
        return text

    home = tmp_path / ".config/pyknock"
    for folder in (tmp_path / "bin", tmp_path / "etc/keys", home):
        folder.mkdir(parents=True)
    for name, text in STUBS.items():
        stub = tmp_path / "bin" / name
        stub.write_text(f"#!/bin/sh -e\n{text}")
        stub.chmod(0o755)
    run([*program("keygen"), "-o", home / "home.key"])
    (tmp_path / "etc/server.conf").write_text(placed(CONFIGURATIONS[0]))
    (home / "client.conf").write_text(CONFIGURATIONS[2])

    def execute(text, last=None):
        environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}
        environment.pop("XDG_CONFIG_HOME", None)
        # The first process of a namespace. All others end with it.
        words = [*firewall.prefix, "unshare", "--pid", "--fork", "--kill-child", "bash", "-ec"]
        wait = f"until grep -q ' accepted {last} ' log; do :; done" if last else ""
        script = f"cd {tmp_path}\n{placed(text)}{wait}"
        result = run([*words, script], env=environment, stderr=subprocess.STDOUT)
        return result.code, result.stdout

    with firewall.socket(kind=socket.SOCK_STREAM) as listener, firewall.socket() as stun:
        listener.bind(("127.0.0.1", 22))
        listener.listen()
        stun.bind(("127.0.0.1", 3478))
        threads = [
            threading.Thread(target=serve_port, args=[listener]),
            threading.Thread(target=serve_stun, args=[stun]),
        ]
        for thread in threads:
            thread.start()
        yield execute
        for end in (listener, stun):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def accepted(tmp_path):
    """The knocks in the log. Of several that are the same there is one: a slow machine knocks again."""
    found = re.findall(r"accepted (\w+ \S+) (?:by alice )?from", (tmp_path / "log").read_text())
    return [knock for knock, _ in itertools.groupby(found)]


SERVER = f"pyknock server -k knock.key --nft {NFT} --ttl 1h\n"


@only_nft
def test_examples_of_the_page_about_the_program(scene, tmp_path):
    code, output = scene("".join(blocks("pyknock.1")), last="open 127.0.0.1")
    assert code == 0, output
    assert accepted(tmp_path) == ["open 127.0.0.1"]


@pytest.mark.slow
@only_nft
def test_examples_of_the_page_about_the_server(scene, tmp_path):
    run([*program("keygen"), "--keys", tmp_path / "etc/keys", "alice"])
    code, output = scene("".join(blocks("pyknock-server.8")))
    assert code == 0, output
    lines = output.splitlines()
    assert "configuration OK, users: 1" in lines
    assert lines[-1].split() == ["ADDRESS", "USER", "SINCE", "EXPIRES", "OURS", "IN"]


@pytest.mark.slow
@only_nft
def test_examples_of_the_page_about_the_client(scene, tmp_path):
    (tmp_path / ".config/pyknock/home.key").rename(tmp_path / "knock.key")
    (tmp_path / ".config/pyknock/home.key").symlink_to(tmp_path / "knock.key")
    code, output = scene(SERVER + "".join(blocks("pyknock-client.1")), last="close 127.0.0.1")
    assert code == 0, output
    assert output.splitlines()[-1] == "open 127.0.0.1 to 127.0.0.1:60120"
    assert accepted(tmp_path) == ["open 127.0.0.1", f"open {PUBLIC}", "open 127.0.0.1", "close 127.0.0.1"]


@only_nft
def test_examples_of_the_page_about_keys(scene, tmp_path):
    code, output = scene("".join(blocks("pyknock-keygen.1")))
    assert (code, output.splitlines()[:2]) == (0, ["# The key of bob", "Host server.example.org"])
    assert (tmp_path / "knock.key").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (tmp_path / "etc/keys").iterdir()) == ["alice", "bob"]


@only_nft
def test_examples_of_the_page_about_the_status(scene, tmp_path):
    run([*program("keygen"), "--keys", tmp_path / "etc/keys", "alice"])
    server = "pyknock server -f /etc/pyknock/server.conf\n"
    code, output = scene(server + "".join(blocks("pyknock-status.8")))
    assert (code, output.splitlines()[0][:17]) == (0, "server: runs sinc"), output


@only_nft
def test_examples_of_the_page_about_users(scene, firewall, tmp_path):
    command, limits = literal_blocks(PAGES["pyknock-users.5"])[::-1]
    assert scene(command) == (0, "configuration OK, users: 1\n")
    alice = tmp_path / "etc/keys/alice"
    with alice.open("a") as file:
        file.write(limits)
    alice.chmod(0o600)
    assert scene(command.splitlines()[1]) == (0, "configuration OK, users: 1\n")


@only_nft
def test_examples_of_the_page_about_configurations(scene, firewall, tmp_path):
    run([*program("keygen"), "-o", tmp_path / "etc/key"])
    run([*program("keygen"), "--keys", tmp_path / "etc/keys", "alice"])
    check = "".join(blocks("pyknock.conf.5"))
    assert scene(check) == (0, "configuration OK, users: 1\n")
    (tmp_path / "etc/server.conf").write_text(CONFIGURATIONS[1].replace("/etc/pyknock", f"{tmp_path}/etc"))
    assert scene(check) == (0, "configuration OK\n")
    shown = "pyknock client list; pyknock client open home -n\n"
    assert scene(shown) == (0, "home\nopen 127.0.0.1 to 127.0.0.1:60120\n")


def test_the_ssh_config_of_the_manual(tmp_path):
    [text] = [text for text in literal_blocks(PAGES["pyknock-client.1"]) if "HostName" in text]
    (tmp_path / "config").write_text(text)
    shown = run(["ssh", "-G", "-F", tmp_path / "config", "home"]).stdout
    assert "\nproxycommand pyknock client connect -c home %h %p\n" in shown
    assert "\nhostname server.example.org\n" in shown


@only_nft
def test_examples_of_the_help(scene, tmp_path):
    server, client, keygen, _ = blocks(None)
    (tmp_path / ".config/pyknock/home.key").unlink()
    (tmp_path / ".config/pyknock/home.key").symlink_to(tmp_path / "knock.key")
    code, output = scene(keygen + server + client, last="open 127.0.0.1")
    assert code == 0, output
    assert output.startswith("# The key of alice\n") and "\n#!/usr/sbin/nft -f\n" in output
    assert accepted(tmp_path) == [f"open {PUBLIC}", "open 127.0.0.1"]
