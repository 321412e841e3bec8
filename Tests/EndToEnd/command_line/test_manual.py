"""The manual, the help and the parser know the same options."""

import re

import pytest
from support.programs import APPLETS, ROOT, options_in_help, program, run

COMMON = {"-h", "--help", "-V", "--version"}


@pytest.mark.parametrize("applet", APPLETS)
def test_the_help_has_options(applet):
    options = options_in_help(applet)
    assert set(options) > COMMON
    assert options["--output"] == "FILE" if applet == "keygen" else options["--port"] == "PORT"


@pytest.mark.parametrize("applet", APPLETS)
def test_the_parser_knows_each_option_of_the_help(applet):
    assert "unknown option" in run([*program(applet), "--nonsense"]).stderr
    for option, value in options_in_help(applet).items():
        result = run([*program(applet), option, *(["/nowhere/x"] if value else [])])
        assert "unknown option" not in result.stderr, option


@pytest.mark.parametrize("applet", APPLETS)
def test_the_manual_has_each_option_of_the_help(applet):
    text = (ROOT / "man/pyknock.1").read_text()
    options = {}
    for section in (f"Of {'' if applet == 'keygen' else 'the '}{applet}", "Of all"):
        part = re.search(rf"^\.Ss {section}\n(.*?)^\.(?:Ss|Sh) ", text, re.M | re.S)[1]
        for item in re.findall(r"^\.It (Fl .*)$", part, re.M):
            names, _, value = item.partition(" Ar ")
            value = value or item.partition(" Cm ")[2]
            for name in re.findall(r"Fl (\S+)", names):
                options["-" + name] = bool(value)
    assert options == {name: bool(value) for name, value in options_in_help(applet).items()}


def test_the_manual_has_each_keyword(tmp_path):
    (tmp_path / "pyknock").mkdir()
    (tmp_path / "pyknock/client.conf").write_text("Nonsense 1\n")
    words = ["env", f"XDG_CONFIG_HOME={tmp_path}", *program("client"), "open", "home"]
    _, _, known = run(words).stderr.strip().partition("'Nonsense' is not ")
    assert "KeyFile" in known
    text = (ROOT / "man/pyknock.conf.5").read_text()
    assert re.findall(r"^\.It Cm (\w+)", text, re.M) == known.split(", ")


def test_the_manual_says_which_options_are_no_keywords(tmp_path):
    """server.conf takes the other long options; see test_server_conf."""
    text = (ROOT / "man/pyknock.conf.5").read_text()
    (tmp_path / "server.conf").write_text("port 1\nnonsense 1\n")
    words = [*program("server"), "-f", str(tmp_path / "server.conf")]
    known = run(words).stderr.strip().partition("'nonsense' is not ")[2].split(", ")
    long = {option.removeprefix("--") for option in options_in_help("server") if option.startswith("--")}
    [excluded] = re.findall(r"^\.Pq Ic (.*)$", text, re.M)
    assert long - set(known) == {*excluded.split(" , "), "config"}


def test_the_manual_is_clean():
    # Other manuals need not be installed.
    result = run(["mandoc", "-T", "lint", *map(str, sorted((ROOT / "man").iterdir()))])
    lines = [line for line in result.stdout.splitlines() if "referenced manual not found" not in line]
    assert lines == []
