"""Key files that are refused."""

import pytest
from support.datagrams import KEY
from support.programs import program, run
from support.version2 import VECTORS

both_applets = pytest.mark.parametrize(
    "applet, operands", [("server", ["o", "c"]), ("client", ["open", "::1"])]
)
LATIN1 = "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs"
SECOND_LINE = (
    "the file has more than one line; it must hold only the key"
    " (of a file of --keys, copy only its first line)"
)
KEY_FILE_ERRORS = {
    "directory": "Is a directory",
    "empty": "the key is empty",
    "empty line": "the key is empty",
    "only CR LF": "the key is empty",
    "NUL": "the key has a NUL byte in it",
    "4097 bytes": "the key is longer than 4096 bytes",
    "4097 characters": "the key is longer than 4096 bytes",
    "invalid UTF-8": LATIN1,
    "cut UTF-8": LATIN1,
    "overlong UTF-8": LATIN1,
    "above U+00FF": LATIN1,
    "second line": SECOND_LINE,
    "second line behind blanks": SECOND_LINE,
    "NUL in the second line": SECOND_LINE,
    "long end": SECOND_LINE,
    "blank before": "there is a blank before or after the key; remove it",
    "blank behind": "there is a blank before or after the key; remove it",
    "no-break space": "there is a blank before or after the key; remove it",
    "quotes": "there is a quote before or after the key; remove it",
    "typographic quotes": "there is a quote before or after the key; remove it",
    "name": "there is a name before the key; leave only the key",
    "byte-order mark": "it begins with a byte-order mark; save it as UTF-8 without one",
    "UTF-16": "it begins with a byte-order mark; save it as UTF-8 without one",
    "writable by the group": "others may write it; chmod 600 prevents that",
    "writable by all": "others may write it; chmod 600 prevents that",
}


def make_bad_key_file(fault, folder):
    path = folder / "bad key"
    contents = {
        "empty": b"", "empty line": b"\n\n", "only CR LF": b"\r\n",
        "second line": KEY.encode() + b"\nanother\n", "second line behind blanks": b"key\r\n\r\n \t\nx",
        "NUL in the second line": b"key\n\0", "long end": b"key\n" + b"\n" * 10_000,
        "blank before": b" key\n", "blank behind": b"key\t\n", "no-break space": "key\u00a0\n".encode(),
        "quotes": b'"key"\n', "typographic quotes": "\u201ckey\u201d\n".encode(), "name": b"PSK=key\n",
        "byte-order mark": b"\xef\xbb\xbfkey\n", "UTF-16": "key\n".encode("utf-16"),
        "NUL": b"a long enough\0key\n", "4097 bytes": b"k" * 4097,
        "4097 characters": "é".encode() * 4097 + b"\r\n", "invalid UTF-8": b"\xff" * 20,
        "cut UTF-8": b"k" * 20 + b"\xc3", "overlong UTF-8": b"k" * 20 + b"\xc1\x81",
        "above U+00FF": ("k" * 20 + "Ā").encode(),
    }  # fmt: skip
    if fault == "directory":
        path.mkdir()
    else:
        path.write_bytes(contents.get(fault, KEY.encode()))
        path.chmod({"writable by the group": 0o620, "writable by all": 0o602}.get(fault, 0o600))
    return path


@both_applets
@pytest.mark.parametrize("fault, message", KEY_FILE_ERRORS.items(), ids=KEY_FILE_ERRORS.keys())
def test_a_key_file_error_is_one_line(tmp_path, applet, operands, fault, message):
    path = make_bad_key_file(fault, tmp_path)
    result = run([*program(applet), "-k", path, *operands])
    assert (result.code, result.stdout) == (1, ""), result
    assert result.lines == [f"pyknock {applet}: key file '{path}': {message}"]


# The first lines of files that are no keys, and what they are said to be.
KNOWN_LINES = {
    "-----BEGIN OPENSSH PRIVATE KEY-----": "a PEM or PGP file",
    "-----BEGIN CERTIFICATE-----": "a PEM or PGP file",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----": "a PEM or PGP file",
    "---- BEGIN SSH2 PUBLIC KEY ----": "a PEM or PGP file",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me@box": "an SSH public key",
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ me@box": "an SSH public key",
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYA": "an SSH public key",
    "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNh": "an SSH public key",
    "box.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ": "an SSH public key",
    "PuTTY-User-Key-File-2: ssh-rsa": "a PuTTY key",
    "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX": "an age key or file",
    "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p": "an age key or file",
    "# created: 2026-11-26T02:00:00Z": "a comment or a script",
    "#!/bin/sh": "a comment or a script",
    "; a comment": "a comment or a script",
    "// a comment": "a comment or a script",
    "untrusted comment: minisign public key 5F1C9E2D": "a minisign file",
    '<?xml version="1.0" encoding="UTF-8"?>': "XML, HTML or YAML",
    "<!DOCTYPE html>": "XML, HTML or YAML",
    '{"key": "a long enough key"}': "JSON",
    "table inet filter {": "a set of firewall rules",
    "flush ruleset": "a set of firewall rules",
    "*filter": "a set of firewall rules",
    "[Interface]": "an INI section or a JSON array",
}


@both_applets
@pytest.mark.parametrize("source", ["file", "pipe"])
@pytest.mark.parametrize("line, kind", KNOWN_LINES.items())
def test_what_many_files_begin_with_is_no_key(tmp_path, applet, operands, source, line, kind):
    path = tmp_path / "no key"
    path.write_text(line + "\n")
    path.chmod(0o600)
    path = path if source == "file" else "-"
    result = run([*program(applet), "-k", path, *operands], stdin=line.encode() + b"\n")
    assert (result.code, result.stdout) == (1, "")
    assert result.lines == [
        f"pyknock {applet}: key file '{path}': its first line is that of {kind}, not a key;"
        " pyknock keygen -o FILE makes one"
    ]


@both_applets
@pytest.mark.parametrize("path", ["missing", "k" * 300, ""])
def test_a_missing_key_file_is_not_named_if_that_may_be_the_key(tmp_path, applet, operands, path):
    result = run([*program(applet), "-k", path, *operands], cwd=tmp_path)
    error = "File name too long" if len(path) > 255 else "No such file or directory"
    words = result.stderr.replace("Filename", "File name")  # musl writes Filename.
    assert (result.code, result.stdout) == (1, "")
    assert words == f"pyknock {applet}: key file (not shown, it may be the key itself): {error}\n"


@both_applets
@pytest.mark.parametrize(
    "path, error", [("./missing", "No such file or directory"), (__file__ + "/key", "Not a directory")]
)
def test_a_missing_key_file_is_named_if_it_has_a_slash(tmp_path, applet, operands, path, error):
    result = run([*program(applet), "-k", path, *operands], cwd=tmp_path)
    assert (result.code, result.lines) == (1, [f"pyknock {applet}: key file '{path}': {error}"])


def test_a_missing_key_file_is_named_if_a_configuration_file_names_it(tmp_path):
    conf = tmp_path / "server.conf"
    conf.write_text("key-file missing\nopen-command true\n")
    result = run([*program("server"), "-n", "-f", conf], cwd=tmp_path)
    assert (result.code, result.lines) == (
        1, ["pyknock server: key file 'missing': No such file or directory"]
    )  # fmt: skip


def test_no_file_is_named_that_client_conf_names(tmp_path):
    """A key may stand there by mistake."""
    (tmp_path / "pyknock").mkdir()
    (tmp_path / "pyknock/client.conf").write_text("Host box\nHostName ::1\nKeyFile /no/such/key\n")
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    result = run([*program("client"), "open", "box"], env=environment)
    assert (result.code, result.lines) == (
        1, ["pyknock client: KeyFile: No such file or directory"]
    )  # fmt: skip
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o644)
    (tmp_path / "pyknock/client.conf").write_text(f"Host box\nHostName ::1\nKeyFile {tmp_path}/key\n")
    result = run([*program("client"), "open", "-n", "box"], env=environment)
    assert (result.code, result.lines) == (
        0, ["pyknock client: warning: KeyFile: others may read it; chmod 600 prevents that"]
    )  # fmt: skip


def test_an_empty_standard_input_is_no_key():
    result = run([*program("server"), "-k-", "o", "c"])
    assert result.code == 1
    assert result.lines == ["pyknock server: key file '-': the key is empty"]


VERSION2 = "the key of version 2 "
NOT_WHOLE = VERSION2 + "is not what keygen has printed: a character is wrong; copy it again"
BEFORE = VERSION2 + "has something before pk2.; remove that"
# What the vectors call a fault, and the message for an operand and for a file.
TEXT_FAULTS = {
    "length": [VERSION2 + "has another length than 74 characters; copy the whole key again"] * 2,
    "last bits": [NOT_WHOLE] * 2,
    "check": [NOT_WHOLE] * 2,
    "alphabet": [VERSION2 + "has a character other than letters, digits, - and _; copy it again"] * 2,
    "case": [VERSION2 + "begins with pk2. in capitals, so the case of its letters is lost"] * 2,
    "blank": [BEFORE, KEY_FILE_ERRORS["blank before"]],
    "byte-order mark": [BEFORE, KEY_FILE_ERRORS["byte-order mark"]],
    "quotes": [BEFORE, KEY_FILE_ERRORS["quotes"]],
    "not a key of version 2": [BEFORE] * 2,
}


@pytest.mark.parametrize("text", VECTORS["key_texts"], ids=lambda text: text["result"])
def test_a_malformed_key_of_version_2_never_becomes_one_of_version_1(tmp_path, text):
    path = tmp_path / "key"
    path.write_text(text["text"])
    path.chmod(0o600)
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    path.rename(keys / "alice")
    for key, state in ([text["text"]], []), (["-k", keys / "alice"], []), ([f"--keys={keys}"], ["--state=/nowhere"]):
        result = run([*program("server"), "-n", *state, *key, "true $ip", "true $ip"])
        if text["result"] == "ok":
            assert (result.code, result.lines[1:]) == (0, [])
            continue
        assert (result.code, result.stdout) == (2 if key[0] == text["text"] else 1, "")
        in_operand, in_file = TEXT_FAULTS[text["result"]]
        faults = {
            text["text"]: in_operand, "-k": f"key file '{keys}/alice': {in_file}",
            f"--keys={keys}": f"'{keys}/alice':1: {in_file}",
        }  # fmt: skip
        shown = [line.removeprefix("pyknock server: ").removeprefix("PSK: ") for line in result.lines]
        assert shown[0] == faults[key[0]]
