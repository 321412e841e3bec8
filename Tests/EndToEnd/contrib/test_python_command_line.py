"""contrib/pyknock.py: its command line, compared with that of `pyknock client`, and what messages show."""

import os
import re

import pytest
from support.datagrams import KEY
from support.programs import options_in_help, program, run
from support.version2 import KEY2

# They start very many programs.
pytestmark = pytest.mark.slow

USAGE = [
    "usage: pyknock.py [OPTION]... (open | close | check) HOST [-k FILE | PSK]",
    "       pyknock.py list",
]
# Options of `pyknock client` that are not here.
ELSEWHERE = {"--repeat", "--interval", "--wait-port", "--wait", "--close"}


def options_of(text):
    lines = re.findall(r"^  (?:(-\w), |    )(--[\w-]+)(?: ([A-Z][^ ]*))?", text, re.MULTILINE)
    return {name: value or None for line in lines for name, value in ((line[0], line[2]), (line[1], line[2])) if name}


def test_the_options_are_those_of_the_other_client(client):
    help = client.run("--help")
    assert (help.code, help.stderr) == (0, "")
    assert all(len(line) <= 80 for line in help.stdout.splitlines())
    ours, theirs = options_of(help.stdout), options_in_help("client")
    assert ours == {name: value for name, value in theirs.items() if name not in ELSEWHERE}
    assert set(theirs) > ELSEWHERE
    for name in ELSEWHERE:
        message = client.run("open", "host", name).lines[0]
        assert message == f"pyknock.py: unknown option '{name}'; it is one of pyknock client"


# Command lines, and what both clients print of them with -n, in the same words.
FORMS = [
    "open 127.0.0.1", "-n open 127.0.0.1 -p7", "open -p=7 127.0.0.1", "open --port 7 [::1]", "open --port=7 ::1",
    "close 127.0.0.1 -S 192.0.2.7", "open ::1 -S192.0.2.7", "open 127.0.0.1,::1", "open 127.0.0.1 -4v", "open ::1 -6",
    "open 127.0.0.1 -S observed", "open ::1 -S observed", "open 127.0.0.1 -s 127.0.0.5", "open ::ffff:127.0.0.1",
    "open 127.0.0.1 -S ::ffff:192.0.2.7", "-- open 127.0.0.1", "open 127.0.0.1 -p 0_7", "open 127.0.0.1 -S=2001:DB8::7",
    "open -c 127.0.0.1", "-c x,127.0.0.1 open ::1",
    "open -c 127.0.0.1,::1", "open 127.0.0.1 -5", "open 127.0.0.1 -46", "open 127.0.0.1 --port -5",
    # Mistakes.
    "", "open", "opne x", "OPEN x", "list x", "open 127.0.0.1 x", "close 127.0.0.1 x y", "open a,,b",
    "open 127.0.0.1 -p0", "open 127.0.0.1 -p65536", "open 127.0.0.1 -p x", "open me@box", "open box:22",
    "open ssh://box", "open [::1",
    "open 127.0.0.1 --port", "open 127.0.0.1 --ipv4=1", "open 127.0.0.1 -S ff02::1", "open 127.0.0.1 -S 0.0.0.0",
    "open 127.0.0.1 -S 255.255.255.255", "open 127.0.0.1 -S 010.0.0.1", "open 127.0.0.1 -S fe80::1%lo",
    "open 127.0.0.1 -S box", "open 127.0.0.1 -s box", "open 127.0.0.1 -s ::1", "open 127.0.0.1 -6", "open 127.0.0.1 -x",
    "open 127.0.0.1 -S auto", "open 127.0.0.1 --stun a", "open 127.0.0.1 -S auto --stun a:0", "open 127.0.0.1 -X",
    "check 127.0.0.1", "check", "check x y", "open 127.0.0.1 --ttl 5", "open 127.0.0.1 --answer", "open x --ttl 1w",
    f"open {','.join(['127.0.0.1'] * 17)}", "open 127.0.0.1 -S ::ffff:010.0.0.1", "open 127.0.0.1 -S 224.0.0.1",
    "open 127.0.0.1 -S auto --stun a --stun b --stun c --stun d --stun e",
    "open 127.0.0.1 -s 203.0.113.7", "open --wurst", "open 127.0.0.1 --port -v",
    "open nobody.invalid -s box", "open nobody.invalid -S box -s box",
    "open 127.1 -s 127.1", "open 0177.0.0.1", "open 127.0.0.1 -p \u0662\u0662", "open 127.0.0.1 -\u0662",
    "open 127.0.0.1 -S 1.2.3.\u0664", "open fe80::1", f"open 127.0.0.1 --ttl {22 * '0'}1",
    f"open 127.0.0.1 -p {5000 * '7'}", f"open 127.0.0.1 --ttl {5000 * '7'}",
]  # fmt: skip
# What the first operand may be.
WORDS = {
    "check or list": "check, connect, list or import",
    "check HOST, or list": "check HOST, connect HOST PORT, list, or import",
}


# What musl says, and glibc, of the same error.
MUSL = {
    "Name does not resolve": "Address family for hostname not supported",
    "Address not available": "Cannot assign requested address",
}


@pytest.mark.parametrize("words", FORMS, ids=lambda words: words[:60])
@pytest.mark.parametrize("with_key", [True, False], ids=["key file", "no key"])
def test_both_clients_take_the_same_command_lines(client, key_file, words, with_key):
    words = ["-n", *(["-k", str(key_file)] if with_key else []), *words.split()]
    ours, theirs = client.run(*words), run([*program("client"), *words], env=client.environment())
    assert (ours.code, ours.stdout) == (theirs.code, theirs.stdout)
    ours, theirs = ours.stderr.replace("pyknock.py: ", ""), theirs.stderr.replace("pyknock client: ", "")
    if "usage:" in theirs:
        ours, theirs = ours.partition("usage:")[0], theirs.partition("usage:")[0]
    theirs = theirs.replace(", -- before COMMAND", "")
    for own, other in MUSL.items():
        theirs = theirs.replace(own, other)
    for own, other in WORDS.items():
        ours = ours.replace(own, other)
    assert ours == theirs


def test_the_usage_follows_a_mistake(client):
    result = client.run("open")
    assert (result.code, result.stdout) == (2, "")
    assert result.lines == ["pyknock.py: write open HOST, and -k FILE for the key; operands given: 1", *USAGE]


@pytest.mark.parametrize("key", [KEY2, KEY2[:-1], "PK2." + KEY2[4:], f"'{KEY2}'", "S3cret-K3y_of_version_1"])
@pytest.mark.parametrize(
    "words",
    [["KEY"], ["open", "KEY"], ["open", "KEY", "127.0.0.1"], ["open", "127.0.0.1", "KEY", "KEY"], ["-pKEY", "open"],
     ["-KEY"], ["--KEY"], ["open", "h", "--KEY=x"], ["open", "h", "x", "-SKEY"], ["open", "h", "x", "-s", "KEY"],
     ["open", "127.0.0.1", "-kKEY"], ["open", "127.0.0.1", "-k", "KEY", "-S", "KEY"], ["-cKEY", "open"],
     ["-k", "/nowhere", "KEY", "h"], ["-k", "/nowhere", "open", "KEY"], ["open", "h", "x", "--ttl", "KEY"],
     ["open", "127.0.0.1", "KEY", "--stun=KEY"], ["open", "127.0.0.1", "-n", "KEY"],
     ["open", "h", "KEY", "--repeat=KEY"]],
    ids=" ".join,
)  # fmt: skip
def test_no_message_has_a_key(client, key, words):
    shown = "/nowhere" in words or any(word.startswith("-c") for word in words)
    if shown and "pk2" not in key.lower():
        pytest.skip("with -k and -c, no other argument is taken for a key of version 1")
    result = client.run(*[word.replace("KEY", key) for word in words])
    output = result.stdout + result.stderr
    assert key not in output and key.strip("'")[5:] not in output
    assert "Traceback" not in output and result.code in (0, 1, 2, 3, 4, 5)


KEY_FILES = {
    b"": "the key is empty",
    b"\n": "the key is empty",
    b"\xef\xbb\xbf" + KEY2.encode(): "it begins with a byte-order mark; save it as UTF-8 without one",
    KEY2.encode("utf-16"): "it begins with a byte-order mark; save it as UTF-8 without one",
    b" " + KEY2.encode(): "there is a blank before or after the key; remove it",
    KEY2.encode() + b" ": "there is a blank before or after the key; remove it",
    KEY2.encode() + b"x": "a key of version 2 has 74 characters, and this one has more or fewer",
    b'"' + KEY2.encode() + b'"': "there is a quote before or after the key; remove it",
    b"key = " + KEY2.encode(): "there is a name before the key; leave only the key",
    b"a key " + KEY2.encode(): "a key that contains 'pk2.' is of version 2, and begins with it",
    KEY2.encode().upper(): "a key of version 2 begins with 'pk2.' in small letters",
    KEY2.encode()[:-1] + b"h": "the last character of the key is wrong",
    KEY2.encode()[:8] + b"B" + KEY2.encode()[9:]: "the key is mistyped: its check value is wrong",
    KEY2.encode() + b"\nmore": "the file has more than one line; it must hold only the key"
    " (of a file of --keys, copy only its first line)",
    b"'a key of version 1'": "there is a quote before or after the key; remove it",
    b"\ta key of version 1": "there is a blank before or after the key; remove it",
    "\u20ac".encode(): "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs",
    b"\xff" * 20: "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs",
    KEY2.encode("utf-16-le"): "the key has a NUL byte in it",
    b"x" * 4097: "the key is longer than 4096 bytes",
    b"x" * 100_000: "the key is longer than 4096 bytes",
}


@pytest.mark.parametrize("content", KEY_FILES, ids=range(len(KEY_FILES)))
def test_bad_key_files(client, tmp_path, content):
    path = tmp_path / "bad"
    path.write_bytes(content)
    path.chmod(0o600)
    result = client.run("open", "127.0.0.1", "-k", str(path))
    assert (result.code, result.lines) == (1, [f"pyknock.py: key file '{path}': {KEY_FILES[content]}"])
    if b"\nmore" not in content:
        result = client.run("open", "127.0.0.1", "-k-", stdin=content)
        assert (result.code, result.lines) == (1, [f"pyknock.py: standard input: {KEY_FILES[content]}"])


# The first lines of other files, and lines that are nearly such.
FIRST_LINES = [
    "-----BEGIN OPENSSH PRIVATE KEY-----", "---- BEGIN SSH2 PUBLIC KEY ----", "----", "== ed25519v1-secret: type0 ==",
    "SSH PRIVATE KEY FILE FORMAT 1.1", "PuTTY-User-Key-File-3: ssh-ed25519",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@box", "ssh-ed25519", "ssh-x_Y-z", "my ssh-agent", "my ssh- x",
    "ecdsa-sha2-nistp256 AAAAE2VjZHNh", "sk-ssh-ed25519@openssh.com AAAA", "box,192.0.2.1 ssh-rsa AAAA", "Ssh-rsa AAAA",
    "no-pty\tssh-rsa AAAA", "a,rsa-sha2-256 b", "webauthn-sk-ecdsa-sha2-nistp256@openssh.com A", "not-ssh-rsa AAAA",
    "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZ", "AGE-PLUGIN-YUBIKEY-1", "age-encryption.org/v1", "age-encryptionXorg/v1",
    "age1" + 55 * "q", "age1" + 54 * "q", "age1" + 54 * "q" + "Q", "age1" + 58 * "q" + "=", "age1" + 58 * "q" + " x",
    "untrusted comment: minisign public key", "trusted comment: x", "mistrusted comment: x",
    "# created: 2026-11-26T02:00:00Z", "#", ";x", "// x", "/ x", "/* x", "-- x", "--x", "-k a long enough key",
    "<?xml?>", "---", "%YAML 1.2", "{", "[Interface]", "[", "]",
    "table inet filter {", "table ip6 filter", "table ip", "table arp x", "table bridge x", "table netdev x",
    "table salt", "table inet", "add table x", "add rule x", "add chain x", "add set x", "add element x", "add map x",
    "delete table x", "destroy table x", "delete chain x", "flush ruleset", "flush table x", "flush chain x",
    "flush set x", "flush x", 'include "x', "include x", "*filter", "*nat", "*mangle", "*raw", "*security",
    "\ufeffkey", " key", "key ", "\tkey", "key\t", "\vkey", "key\v", "\fkey", "key\f", "key\r\r", "\rkey", "\xa0key",
    "key\xa0", "key\x85", "\x85key", "key\x1c", "\x1ckey", "key\u2003", "\u2003key", "a key", '"key', 'key"', "'key",
    "key'", "`key", "key`", "it's so", "\u201ckey", "\u201dkey", "\u201ekey", "\u2018key", "\u2019key", "\u201akey",
    "\xabkey", "\xbbkey", "key\xbb", "key\u201d",
    "key=abc", "KEY: abc", "key", "key=", "key==", "key:", "key =a", "key  ==a", "key\t=a", "export X=abc", "exports",
    "PrivateKey = abc=", "PYKNOCK_PSK=a", "passphrase:a", "a-secret=b", "monkeykey=", "q1w2=e3r4", "my key=a", "=key",
    "\u212aey=a", "pa\u017f\u017f=a", "3q2+7w==", "key=\xfc", "key=\u20ac", "key\0=a", "# \0", "a\0b", "cl\xe9 \xff",
    "\u20ac", KEY2, f" {KEY2}", f"{KEY2} ", f'"{KEY2}"', f"key={KEY2}", f"# {KEY2}", f"ssh-rsa {KEY2}",
]  # fmt: skip
FIRST_BYTES = [
    b"\xff\xfek\0", b"\xfe\xff\0k", b"\xff", b"# \xff", b"key=\xff", b"key\xe2\xc2\xa0", b"key\xc2", b"k\xc1\x81",
    4096 * b"k", 4097 * b"k", 4096 * b"\xc3\xa4", 5000 * b"\xc3\xa4", 2000 * b"key", 9000 * b"x",
]  # fmt: skip


def test_both_clients_refuse_the_same_lines(client, tmp_path):
    """Sixteen of them in each run."""
    contents = [*(line.encode() for line in FIRST_LINES), *FIRST_BYTES]
    contents += [line + b"\nanother line\n" for line in contents]
    contents += [b"a key" + end for end in (b"\n", b"\r\n \n", b"\n" + 8000 * b" ", b"\n" + 9000 * b" ")]
    names = [f"h{number}" for number in range(1, len(contents) + 1)]
    sections = []
    for name, content in zip(names, contents, strict=True):
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(0o600)
        sections.append(f"Host {name}\nPort {name[1:]}\nKeyFile {path}\nHost *\nHostName 127.0.0.1\n")
    client.write("".join(sections))
    refused = 0
    for start in range(0, len(names), 16):
        words = ["open", "-n", ",".join(names[start : start + 16])]
        ours, theirs = client.run(*words), run([*program("client"), *words], env=client.environment())
        shown = re.sub("pyknock.py: (KeyFile)?(?: for '.*?')?", r"pyknock client: \1", ours.stderr)
        assert (ours.code, ours.stdout, shown) == (theirs.code, theirs.stdout, theirs.stderr)
        refused += shown.count("KeyFile")
    assert len(contents) / 2 < refused < len(contents)


def test_the_permissions_of_a_key_file(client, key2_file):
    os.chmod(key2_file, 0o644)
    result = client.run("open", "127.0.0.1", "-n", "-k", key2_file)
    assert (result.code, result.lines) == (
        0, [f"pyknock.py: warning: key file '{key2_file}': others may read it; chmod 600 prevents that"]
    )  # fmt: skip
    os.chmod(key2_file, 0o620)
    result = client.run("open", "127.0.0.1", "-n", "-k", key2_file)
    assert (result.code, result.lines) == (
        1, [f"pyknock.py: key file '{key2_file}': others may write it; chmod 600 prevents that"]
    )  # fmt: skip


def test_warnings_about_a_key(client):
    result = client.run("open", "127.0.0.1", "-n", "short/key")
    assert result.code == 0
    assert [line.removeprefix("pyknock.py: warning: ") for line in result.lines] == [
        "a key in the command line shows in ps and the history; use -k FILE",
        "PSK looks like the name of a file, but is itself the key; to read FILE, write -k FILE",
        "the key is shorter than 16 bytes and may be guessed; pyknock keygen makes a good one",
    ]
    assert len(client.run("open", "127.0.0.1", "-n", KEY).lines) == 1


def test_ttl_needs_open(client, key2_file):
    for words in ["close", "127.0.0.1"], ["check", "127.0.0.1,127.0.0.2", "-k", "/nowhere"]:
        result = client.run("-k", key2_file, *words, "--ttl", "1h")
        assert (result.code, result.lines) == (2, ["pyknock.py: --ttl needs open", *USAGE])
    for value in ("", "0", "1w", "367d", "-1", "1.5h", "99999999d"):
        result = client.run("open", "127.0.0.1", f"--ttl={value}", "-k", key2_file)
        assert (result.code, result.lines[0]) == (
            2, f"pyknock.py: --ttl: '{value}' is not a duration such as 90, 15m, 2h or 1d, at most 366 days"
        )  # fmt: skip


def test_a_host_that_is_no_name(client, key2_file):
    for host in ("*", "x" * 64 + ".test", "a..b", "\udc80.test"):
        result = client.run("open", host, "-k", key2_file)
        assert (result.code, len(result.lines)) == (3, 1)
        assert result.lines[0].startswith("pyknock.py: cannot resolve '")


def test_what_was_printed_is_not_lost_in_silence(client, key2_file):
    for words in ["--help"], ["-V"], ["open", "127.0.0.1", "-n", "-k", key2_file]:
        with open("/dev/full", "wb") as full:
            result = client.run(*words, stdout=full)
        assert (result.code, result.lines) == (1, ["pyknock.py: standard output: No space left on device"])


def test_a_reader_that_has_gone(client):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        result = client.run("--help", stdout=pipe)
    assert (result.code, result.lines) == (1, ["pyknock.py: standard output: Broken pipe"])


def test_addresses_that_cannot_be_reached(client, key2_file, namespace):
    namespace.hosts.write_text("192.0.2.1 dead.test half.test\n127.0.0.1 half.test\n")
    result = client.run("open", "dead.test", "--answer", "-k", key2_file, network=namespace)
    assert (result.code, result.lines) == (
        1, ["pyknock.py: cannot knock on 192.0.2.1:60120: Network is unreachable"]
    )  # fmt: skip
    result = client.run("open", "half.test", "-k", key2_file, network=namespace)
    assert (result.code, result.stderr) == (0, "")


def test_behind_nat_the_public_address_is_missing(client, key2_file, namespace):
    for command in (
        "ip address replace 10.0.0.1/8 dev lo", "ip route replace 203.0.113.0/24 dev lo src 10.0.0.1",
        "ip address replace 2001:db8:1::9 dev lo nodad", "ip -6 route replace 64:ff9b::/32 dev lo src 2001:db8:1::9",
    ):  # fmt: skip
        namespace.run(command)
    warnings = {
        "203.0.113.1": "10.0.0.1 is a private address, 203.0.113.1 a public one: behind NAT, name the public address"
        " with -S",
        "64:ff9b::1": "64:ff9b::1 is reached through NAT64, and 2001:db8:1::9 is not what the server sees: name the"
        " public IPv4 address with -S",
    }
    for host, text in warnings.items():
        arguments = ["open", host, "-p9", "-k", key2_file]
        result = client.run(*arguments, network=namespace)
        assert (result.code, result.lines) == (0, [f"pyknock.py: warning: {text}"])
        for sign in "observed", "198.51.100.7":
            assert client.run(*arguments, "-S", sign, network=namespace).lines == []


def test_what_runs_the_client_is_started_again_once_it_has_died(client):
    """It is a part of the tests."""
    client.forker.popen.kill()
    with pytest.raises(AssertionError, match=r"\('--version',\): the forker has died: $"):
        client.run("--version")
    assert client.run("--version").code == 0
