"""client.conf of contrib/pyknock.py: the grammar and the places of `pyknock client`, and keys in the file."""

import os
import random

import pyknock
import pytest
from support.datagrams import KEY
from support.programs import program, run
from support.version2 import KEY2

# They start very many programs.
pytestmark = pytest.mark.slow

KEYWORDS = "Host, HostName, Port, Key, KeyFile, Sign, Stun, Family, WaitPort, Ttl, Answer"


def both(client, *words, **more):
    """The results of this client and of the other."""
    environment = more.pop("environment", None)
    theirs = run([*program("client"), *words], env=client.environment(environment), **more)
    return client.run(*words, environment=environment, **more), theirs


LINES = [
    "HostName 127.0.0.2", "HostName [::ffff:127.0.0.2]", "hostname 127.0.0.2", "Port 7", "PORT=7", 'Port = "7"',
    "Sign 2001:db8::5", "Sign observed", "Stun nobody.test:1", "Family any", "Family inet",
    "WaitPort 22", "Ttl 5m", "Answer yes", "answer no",
    "Port 7 # a comment", "HostName 127.0.0.2\t#a comment", 'Sign "192.0.2.5" # a "comment"', "Port  =\t 7\r",
    "\tPort 7",
    "Sign ::ffff:192.0.2.7", "Host other\nPort 1", "Host 127.*\nPort 1", "#Port", "", " \t\r", "=7 8", "Stun [::1]:5",
    "Stun stun:a:1", "Stun x: 1", "Stun [fe80::1%lo]:33", f"Port {70 * '0'}7", f"Ttl {5000 * '0'}90", "Port 0_7",
    "Port +7", "Host !127.0.0.1 *\nPort 1", "Host a,127.0.0.?\nPort 1",
    # Mistakes.
    "Ttl 0", "Ttl 1w", "Answer maybe",
    "Colour 7", "Port", "Port =", 'HostName "x', 'HostName ""', "Host\0Name x", "Port 0", "Port x", "WaitPort 65536",
    "KeyFile key", "Sign box", "Sign Auto", "Sign 010.0.0.1", "Sign 0x7f.1", "Sign fe80::1%lo", "HostName me@box",
    "HostName box:22", "HostName ssh://box", "Stun stuns:a:1", "Stun a:0", "Stun [::1", "Family ipv4", '"Port" 7',
    'Port "7" 8', 'Port "7"#', "Port 7#", "Sign '192.0.2.7", "Sign 'x #", 'Port 7 "#', "Stun [::1]x", "Stun ::1:5",
    "Stun stun:", "Stun 127.1", "Stun []:1", "Stun x:", "Stun 1:2:3", "Stun fe80::1%nope", "Port \u0662\u0662",
    "Port \x1c22", "Port 22_", f"Port {5000 * '7'}", "Ttl \u0663", "Ttl 1_0", f"Ttl {5000 * '9'}d",
    "Stun", "Sign observed observed", "Port 7\0",
    # Keys.
    f"Key {KEY2}", f'Key "{KEY2}"', f"key={KEY2} # alice", f"Key {KEY}", "Key short", "Key two words", 'Key "a #b"',
    "Key =x", "Key " + 4096 * "k", "Key " + 4097 * "k", "Key \u00fc", "Key \u20ac", "Key \ufeffx", "Key 'x'",
    f"Key {KEY2}x", f"Key {KEY2[:-1]}", f"Key {KEY2.upper()}", f"Key x{KEY2}", f"Key {KEY2} x", "Key pk2.",
    "Key aPK2.b",
    f"Key {KEY2[:-8]}{KEY2[-7:]}A", f"Key {KEY2[:40]}!{KEY2[41:]}", f'Key " {KEY2}"', f"Key {KEY2[:-1]}=", "Key",
    f"Host other\nKey {KEY2[:-1]}",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:60])
def test_both_clients_read_a_line_alike(client, key_file, line):
    client.write(f"Host 127.0.0.1\nKeyFile {key_file}\n{line}\n")
    ours, theirs = both(client, "open", "127.0.0.1", "-n")
    assert (ours.code, ours.stdout) == (theirs.code, theirs.stdout)
    assert bool(ours.stderr) == bool(theirs.stderr)
    if ours.stderr:
        [message] = ours.lines
        where = f"'{client.configuration}':{3 + line.count(chr(10))}: "
        assert message.startswith(f"pyknock.py: {where}") and where in theirs.stderr


def test_both_clients_read_random_lines_alike(client, monkeypatch):
    """In this process, which is faster. `list` prints the words of Host."""
    source = random.Random(1)
    monkeypatch.setenv("HOME", str(client.home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    printed = []
    monkeypatch.setattr(pyknock, "output", printed.append)
    outcomes = set()
    for _ in range(400):
        value = "".join(source.choices("ab#\"'\\= \t\r,!*?\0", [8, 8, 4, 3, 3, 3, 1, 6, 2, 1, 3, 1, 1, 1, 0.05], k=12))
        client.write(f"Host{value[:1].strip('ab')} {value}\n")
        theirs = run([*program("client"), "list"], env=client.environment())
        printed.clear()
        code = pyknock.main(["list"])
        assert (code, "".join(f"{word}\n" for word in printed)) == (theirs.code, theirs.stdout), repr(value)
        outcomes.add(code)
    assert outcomes == {0, 1}


def test_patterns(client, key_file):
    for patterns in (
        "127.0.0.?", "127.*", "*.0.1", "box 127.0.0.1", "box,127.*", "127.0.0.??", "*.example.org", "* !127.0.0.1",
        "!127.* *", "!box *", "!box", "**.1", "!!127.0.0.1 *", "!", "[1]27.0.0.1", "127.0.0.1.", "1*7*0*1", "?*?",
    ):  # fmt: skip
        client.write(f"Host {patterns}\nPort 7\nHost *\nPort 8\nKeyFile {key_file}\n")
        ours, theirs = both(client, "open", "127.0.0.1", "-n")
        assert ours.stdout == theirs.stdout != "", patterns


def test_which_value_counts(client, key_file, tmp_path):
    client.write(
        f"Port 1\nHost a b\nPort 2\nHost b\nPort 3\nSign 192.0.2.1\nHost *\nKeyFile {key_file}\nHostName 127.0.0.1\n"
    )
    for words in ["a"], ["b"], ["b", "-p9", "-S", "192.0.2.9"], ["c"], ["-c", "b", "::1"], ["-c", "b"], ["a,b"]:
        ours, theirs = both(client, "open", *words, "-n")
        assert (ours.code, ours.stdout) == (theirs.code, theirs.stdout) and theirs.code == 0


def test_the_places(client, key_file, tmp_path):
    text = f"Host 127.0.0.1\nPort 5\nKeyFile {key_file}\n"
    client.write(text)
    other = tmp_path / "other"
    (other / "pyknock").mkdir(parents=True)
    (other / "pyknock/client.conf").write_text(text.replace("Port 5", "Port 6"))
    for variables, port in (
        ({}, 5), ({"XDG_CONFIG_HOME": str(other)}, 6), ({"XDG_CONFIG_HOME": "other"}, 5), ({"XDG_CONFIG_HOME": ""}, 5),
        ({"HOME": "home"}, None), ({"HOME": ""}, None),
    ):  # fmt: skip
        ours, theirs = both(client, "open", "127.0.0.1", "-n", environment=variables, cwd=tmp_path)
        expected = f"open 127.0.0.1 to 127.0.0.1:{port}\n" if port else ""
        assert ours.stdout == theirs.stdout == expected
        assert ours.code == theirs.code == (0 if port else 2)


def in_private_etc(folder, words):
    """The words that run a program with an /etc/pyknock of its own."""
    script = 'mount -t tmpfs none /etc; mkdir /etc/pyknock; mount --bind $0 /etc/pyknock; exec "$@"'
    return ["unshare", "-m", "sh", "-ec", script, str(folder), *words]


def test_the_file_of_the_system_counts_after_that_of_the_user(client, key_file, tmp_path):
    client.write("Host box\nPort 1\n")
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "client.conf").write_text(f"Host box other\nPort 2\nHostName ::1\nKeyFile {key_file}\n")
    for name, port in ("box", 1), ("other", 2):
        result = run(in_private_etc(folder, client.words("open", name, "-n")), env=client.environment())
        assert result.stdout == f"open ::1 to [::1]:{port}\n"


def test_no_key_in_the_file_of_the_system(client, tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    path = folder / "client.conf"
    path.write_text(f"Host box\nKey {KEY2}\n")
    path.chmod(0o600)
    for variables in {}, {"XDG_CONFIG_HOME": "/etc"}:
        words = in_private_etc(folder, client.words("open", "127.0.0.1"))
        result = run(words, env=client.environment(variables))
        assert (result.code, result.lines) == (1, [
            "pyknock.py: '/etc/pyknock/client.conf':2: Key: not in /etc/pyknock/client.conf; use KeyFile, or the"
            " client.conf of each user"
        ])  # fmt: skip


@pytest.mark.parametrize("key", [KEY2, KEY], ids=["version 2", "version 1"])
def test_a_file_with_a_key_is_for_its_owner_only(client, key):
    for mode in 0o640, 0o604, 0o610:
        client.write(f"Host other\nPort 7\nKey {key}\n", mode)
        result = client.run("open", "127.0.0.1", "-n")
        assert (result.code, result.lines) == (1, [
            f"pyknock.py: '{client.configuration}':3: Key: others than the owner may read the file; chmod 600 prevents"
            " that"
        ])  # fmt: skip
    for mode in 0o600, 0o400:
        client.write(f"Host *\nKey {key}\n", mode)
        result = client.run("open", "127.0.0.1", "-n")
        assert (result.code, result.stdout, result.stderr) == (0, "open 127.0.0.1 to 127.0.0.1:60120\n", "")


def test_both_clients_refuse_a_file_with_a_key_for_others(client):
    for mode in 0o600, 0o640, 0o604, 0o610, 0o400:
        for text in f"Host *\nKey {KEY2}\n", f"Host other\nKey {KEY}\nHost *\nKey {KEY}\n":
            client.write(text, mode)
            ours, theirs = both(client, "open", "127.0.0.1", "-n")
            assert (ours.code, ours.stdout) == (theirs.code, theirs.stdout), (oct(mode), text)
            assert [line.split(": ", 1)[1] for line in ours.lines] == [line.split(": ", 1)[1] for line in theirs.lines]


def test_of_key_and_key_file_the_first_counts(client, tmp_path):
    client.write(f"Host *\nKeyFile {tmp_path}/none\nKey {KEY2}\n")
    assert client.run("open", "127.0.0.1", "-n").lines == [
        "pyknock.py: KeyFile for '127.0.0.1': No such file or directory"
    ]
    client.write(f"Host *\nKey {KEY2}\nKeyFile {tmp_path}/none\n")
    assert client.run("open", "127.0.0.1", "-n").code == 0


def test_a_key_file_in_the_home_directory(client):
    (client.home / "my.key").write_text(KEY2)
    (client.home / "my.key").chmod(0o600)
    for path in "~/my.key", "~//my.key":
        client.write(f"Host 127.0.0.1\nKeyFile {path}\n")
        assert client.run("open", "127.0.0.1", "-n").code == 0


def test_a_file_that_others_may_write_or_own(client, key_file):
    permission = (
        f"pyknock.py: '{client.configuration}': Permission denied "
        "(it must belong to this user or root, and only its owner may write to it)"
    )
    client.write(f"Host *\nKeyFile {key_file}\n", 0o622)
    assert client.run("list").lines == [permission]
    client.write(f"Host *\nKeyFile {key_file}\n")
    change = "import os; os.geteuid = lambda: 12345\nstatus = os.fstat\n"
    change += "os.fstat = lambda number: type('S', (), {'st_uid': 777, 'st_mode': status(number).st_mode})"
    assert client.run("list", change=change).lines == [permission]
    client.configuration.unlink()
    client.configuration.mkdir()
    assert client.run("list").lines[0].startswith(f"pyknock.py: '{client.configuration}': ")
    client.configuration.rmdir()
    os.mkfifo(client.configuration)
    result = client.run("list")
    assert (result.code, result.lines) == (
        1, [f"pyknock.py: '{client.configuration}': Invalid argument (it is no regular file)"]
    )  # fmt: skip


def test_a_file_that_is_too_long(client):
    client.write("#" * 65_537)
    assert client.run("list").lines == [f"pyknock.py: '{client.configuration}': File too large"]
    client.write("#" * 65_536)
    assert client.run("list").code == 0


VALUES = {
    "Ttl": "the value is not a duration such as 90, 15m, 2h or 1d, at most 366 days",
    "Answer": "the value is not yes or no",
    "Port": "the value is not a port number from 1 to 65535",
    "WaitPort": "the value is not a port number from 1 to 65535",
    "Family": "the value is not inet, inet6 or any",
    "Sign": "the value is not auto, observed, an IPv4 address such as 192.0.2.1, or an IPv6 address",
    "KeyFile": "the value is not a path that begins with / or ~/",
}


@pytest.mark.parametrize("keyword", VALUES)
def test_what_a_value_must_be(client, keyword):
    client.write(f"Host *\n{keyword.upper()} secret\n")
    result = client.run("open", "127.0.0.1")
    assert (result.code, result.lines) == (1, [f"pyknock.py: '{client.configuration}':2: {keyword}: {VALUES[keyword]}"])


def test_a_host_name_that_cannot_be_resolved(client):
    client.write(f"Host box\nHostName box.invalid\nKey {KEY2}\n")
    result = client.run("open", "box")
    assert (result.code, len(result.lines)) == (3, 1)
    assert result.lines[0].startswith("pyknock.py: cannot resolve the HostName for 'box': ")


def test_an_unknown_keyword(client):
    client.write("Host *\nsecret 7\n")
    assert client.run("open", "127.0.0.1").lines == [
        f"pyknock.py: '{client.configuration}':2: unknown keyword; keywords are {KEYWORDS}"
    ]


def test_a_file_of_a_windows_editor(client):
    for start, encoding in (b"", "utf-8-sig"), (b"", "utf-16"):
        client.write(start + "Host *\r\nPort 7\r\n".encode(encoding))
        assert client.run("list").lines == [
            f"pyknock.py: '{client.configuration}':1: a byte-order mark; save the file as UTF-8 without one"
        ]
    client.write(f"Host box\r\nHostName 127.0.0.1\r\nKey {KEY2}\r\nAnswer no\r\n")
    assert client.run("open", "box", "-n").stdout == "open 127.0.0.1 to 127.0.0.1:60120\n"


SECRET = "Zm9vYmFy7Qx"
HOSTILE = [
    "{}", "{} 7", "Port {}", "Port {} # {}", "Key{}", "Key pk2.{}", "Key = PK2.{}", 'Key "pk2.{}"', 'Key " pk2.{}"',
    "Key pk2.{} x", 'Key "{}', 'Key "{}" {}', "Key x pk2. {}", "KeyFile {}", "KeyFile /{}", "KeyFile ~/{}",
    "KeyFile /nowhere/{}\0", "HostName {}@box", "HostName {}:22", "HostName /{}", "HostName {}.invalid", "HostName {}",
    "Sign {}", "Stun {}:x", "Sign auto\nStun {}.invalid", "Family {}", "WaitPort {}", "Ttl {}", "Answer {}", "{}=",
    "Host {}\0", "'{}", "Hostname '{} #", "HostName {0}{0}{0}{0}{0}{0}{0}", "Key {} \u20ac", "Key pk2.{} \u20ac",
    "KeyFile /dev/null/{}", f"Key {KEY2}{{}}", f"Key {KEY2[:40]}{{}}{KEY2[51:]}", "Key pk2.{}\nKey {}", "\udcff{} 7",
    "HostName a..{}", "HostName {}\x1b[31m", "Key \udcff{}",
]  # fmt: skip


@pytest.mark.parametrize("line", HOSTILE)
def test_no_message_has_more_of_a_line_than_a_keyword(client, line):
    line = line.replace("{}", SECRET).replace("{0}", SECRET).replace("{{}}", SECRET)
    key = "" if line.startswith("Key") else f"Key {KEY2}\n"
    client.write(f"Host *\n{line}\n{key}".encode("utf-8", "surrogateescape"))
    result = client.run("open", "127.0.0.1", "-v", change="pyknock.STUN_MOMENTS = ()")
    output = result.stdout + result.stderr
    assert SECRET not in output and SECRET.lower() not in output.lower() and KEY2[4:20] not in output
    assert result.code in (1, 3, 5), result
    assert "Traceback" not in output
    assert output.isascii() and "\x1b" not in output
