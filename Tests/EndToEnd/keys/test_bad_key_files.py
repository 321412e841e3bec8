"""Key files that are refused."""

import pytest
from support.datagrams import KEY
from support.programs import program, run

both_applets = pytest.mark.parametrize(
    "applet, operands", [("server", ["o", "c"]), ("client", ["open", "::1"])]
)
LATIN1 = "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs"
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
    "writable by the group": "others may write it; chmod 600 prevents that",
    "writable by all": "others may write it; chmod 600 prevents that",
}


def make_bad_key_file(fault, folder):
    path = folder / "bad key"
    contents = {
        "empty": b"", "empty line": b"\n" + KEY.encode(), "only CR LF": b"\r\n",
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


@both_applets
@pytest.mark.parametrize(
    "path, error",
    [("missing", "No such file or directory"), (__file__ + "/key", "Not a directory"),
     ("k" * 300, "File name too long"), ("", "No such file or directory")],
)  # fmt: skip
def test_a_missing_key_file_is_one_line_without_its_name(tmp_path, applet, operands, path, error):
    result = run([*program(applet), "-k", path, *operands], cwd=tmp_path)
    assert (result.code, result.stdout) == (1, "")
    words = result.stderr.replace("Filename", "File name")  # musl writes Filename.
    assert words == f"pyknock {applet}: key file (not shown, it may be the key itself): {error}\n"


def test_an_empty_standard_input_is_no_key():
    result = run([*program("server"), "-k-", "o", "c"])
    assert result.code == 1
    assert result.lines == ["pyknock server: key file '-': the key is empty"]
