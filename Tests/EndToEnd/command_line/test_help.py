"""Help and version."""

import re

import pytest
from support.programs import APPLETS, PYKNOCK, options_in_help, program, run

HELP = [["{0}", "--help"], ["{0}", "-h"], ["help", "{0}"], ["--help", "{0}"], ["-h", "{0}"]]


@pytest.mark.parametrize("applet", APPLETS)
@pytest.mark.parametrize("line", HELP, ids=" ".join)
def test_help_goes_to_stdout(applet, line):
    result = run([*PYKNOCK, *(word.format(applet) for word in line)])
    assert (result.code, result.stderr) == (0, ""), result
    assert result.stdout == run([*PYKNOCK, "help", applet]).stdout
    assert result.stdout.startswith(f"usage: pyknock {applet} [")
    assert "\n  -h, --help " in result.stdout and result.stdout.endswith("\n")


@pytest.mark.parametrize("applet", [*APPLETS, None])
def test_the_help_fits_a_terminal_and_names_the_manual(applet):
    text = run([*PYKNOCK, "help", *filter(None, [applet])]).stdout
    assert [line for line in text.splitlines() if len(line) > 80] == []
    section = 8 if applet in ("server", "status") else 1
    assert f"See {'-'.join(filter(None, ['pyknock', applet]))}({section})" in text.splitlines()[-1]


@pytest.mark.parametrize("applet", APPLETS)
def test_each_option_is_in_a_group(applet):
    _, *parts = run([*PYKNOCK, "help", applet]).stdout.split("\n\n")
    groups = [part for part in parts if re.match(r"[A-Z][\w, ]+:\n  ", part)]
    assert len(groups) == {"server": 8, "client": 7, "keygen": 2, "status": 3}[applet]
    assert groups[-1].startswith("Examples:\n")
    assert sum(len(re.findall("^  .*--", group, re.M)) for group in groups[:-1]) == len(
        [name for name in options_in_help(applet) if name.startswith("--")]
    )


@pytest.mark.parametrize("words", [["--he"], ["psk", "-h", "o", "c"], ["-p", "7001", "--help"]])
def test_help_is_found_among_other_arguments(words):
    result = run([*program("server"), *words])
    assert (result.code, result.stderr) == (0, ""), result
    assert result.stdout.startswith("usage: pyknock server ")


@pytest.mark.parametrize("word", ["help", "-h", "--help"])
def test_help_lists_every_command(word):
    result = run([*PYKNOCK, word])
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: pyknock (server | client | keygen | status | help [COMMAND]")
    for name in APPLETS:
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
