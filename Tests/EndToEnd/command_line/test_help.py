"""Help and version."""

import re

import pytest
from support.programs import PYKNOCK, program, run

HELP = [["{0}", "--help"], ["{0}", "-h"], ["help", "{0}"], ["--help", "{0}"], ["-h", "{0}"]]


@pytest.mark.parametrize("applet", ["server", "client", "keygen"])
@pytest.mark.parametrize("line", HELP, ids=" ".join)
def test_help_goes_to_stdout(applet, line):
    result = run([*PYKNOCK, *(word.format(applet) for word in line)])
    assert (result.code, result.stderr) == (0, ""), result
    assert result.stdout == run([*PYKNOCK, "help", applet]).stdout
    assert result.stdout.startswith(f"usage: pyknock {applet} [")
    assert "\n  -h, --help " in result.stdout and result.stdout.endswith("\n")


@pytest.mark.parametrize("words", [["--he"], ["psk", "-h", "o", "c"], ["-p", "7001", "--help"]])
def test_help_is_found_among_other_arguments(words):
    result = run([*program("server"), *words])
    assert (result.code, result.stderr) == (0, ""), result
    assert result.stdout.startswith("usage: pyknock server ")


@pytest.mark.parametrize("word", ["help", "-h", "--help"])
def test_help_lists_every_command(word):
    result = run([*PYKNOCK, word])
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: pyknock (server | client | keygen | help [COMMAND]")
    for name in ("server", "client", "keygen"):
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["version"],
        ["-V"],
        ["--version"],
        ["server", "-V"],
        ["client", "--version"],
        ["keygen", "-V"],
    ],
    ids=" ".join,
)
def test_version_goes_to_stdout(words):
    result = run([*PYKNOCK, *words])
    assert (result.code, result.stderr) == (0, "")
    assert re.fullmatch(r"pyknock \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize("words", [["help"], ["help", "server"], ["version"]], ids=" ".join)
def test_a_full_disk_behind_stdout_is_an_error(words):
    with open("/dev/full", "wb") as full:
        result = run([*PYKNOCK, *words], stdout=full)
    applet = f"pyknock {words[1]}" if words[1:] else "pyknock"
    assert result.code == 1
    assert result.lines == [f"{applet}: standard output: No space left on device"]
