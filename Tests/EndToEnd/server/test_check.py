"""--check."""

import pytest
from support.programs import program, run


def test_check_binds_but_serves_nothing(key_file):
    result = run([*program("server"), "--check", "-k", key_file, "-p60119", "true", "true"])
    assert (result.code, result.stdout, result.stderr) == (0, "configuration OK\n", "")


def test_check_is_good_beside_a_running_server(server, key_file):
    ours = server()
    result = run([*program("server"), "-n", "-k", key_file, f"-p{ours.port}", "true", "true"])
    assert (result.code, result.stdout, result.stderr) == (0, "configuration OK\n", "")


@pytest.mark.parametrize(
    "words, code, message",
    [
        (
            ["-k", "/no/such/key", "true", "true"],
            1,
            "key file '/no/such/key': No such file",
        ),
        (["-b", "ff02::1", "true", "true"], 1, "cannot bind to [ff02::1]:"),
        (["--no-shell", "true", "a '"], 2, "CLOSE_CMD: "),
    ],
)
def test_check_finds_what_would_keep_the_server_from_starting(key_file, words, code, message):
    if "/no/such/key" not in words:
        words = ["-k", key_file, *words]
    result = run([*program("server"), "--check", *words])
    assert (result.code, result.stdout) == (code, "")
    assert result.lines[0].startswith(f"pyknock server: {message}")
