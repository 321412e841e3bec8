"""The manual, the completions, the help and the parser know the same options."""

import re
import subprocess

import pytest
from support.programs import ROOT, program, run

APPLETS = ["server", "client", "keygen"]
COMMON = {"-h", "--help", "-V", "--version"}


def helped(applet):
    """The options in the help, each with what it takes, or None."""
    options = {}
    for line in run([*program(applet), "--help"]).stdout.splitlines():
        if found := re.match(r"  (?:(-\w), |    )(--[\w-]+)(?: ([^ ]+))?(?:$| {2,})", line):
            for name in filter(None, found.groups()[:2]):
                options[name] = found[3]
    return options


def lines_of(words, **options):
    return subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=20, cwd=ROOT, **options
    ).stdout.splitlines()


@pytest.mark.parametrize("applet", APPLETS)
def test_the_help_has_options(applet):
    options = helped(applet)
    assert COMMON < set(options)
    assert options["--output"] == "FILE" if applet == "keygen" else options["--port"] == "PORT"


@pytest.mark.parametrize("applet", APPLETS)
def test_the_parser_knows_each_option_of_the_help(applet):
    assert "unknown option" in run([*program(applet), "--nonsense"]).stderr
    for option, value in helped(applet).items():
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
    assert options == {name: bool(value) for name, value in helped(applet).items()}


def test_the_manual_has_each_keyword(tmp_path):
    (tmp_path / "pyknock").mkdir()
    (tmp_path / "pyknock/client.conf").write_text("Nonsense 1\n")
    words = ["env", f"XDG_CONFIG_HOME={tmp_path}", *program("client"), "open", "home"]
    _, _, known = run(words).stderr.strip().partition("'Nonsense' is not ")
    assert "KeyFile" in known
    text = (ROOT / "man/pyknock.conf.5").read_text()
    assert re.findall(r"^\.It Cm (\w+)", text, re.M) == re.split(", | or ", known)


def test_the_manual_says_which_options_are_no_keywords(tmp_path):
    """server.conf takes the long options; see test_server_conf."""
    text = (ROOT / "man/pyknock.conf.5").read_text()
    (tmp_path / "server.conf").write_text("port 1\nnonsense 1\n")
    words = [*program("server"), "-f", str(tmp_path / "server.conf")]
    known = run(words).stderr.strip().partition("'nonsense' is not ")[2].split(", ")
    long = {option.removeprefix("--") for option in helped("server") if option.startswith("--")}
    [excluded] = re.findall(r"^\.Pq Ic (.*)$", text, re.M)
    assert long - set(known) == {*excluded.split(" , "), "config"}


def test_the_manual_is_clean():
    # Whether other manuals are there says nothing of this one.
    result = run(["mandoc", "-T", "lint", *map(str, sorted((ROOT / "man").iterdir()))])
    lines = [line for line in result.stdout.splitlines() if "referenced manual not found" not in line]
    assert lines == []


@pytest.mark.parametrize("prefix", ["pyknock ", "pyknock-"])
@pytest.mark.parametrize("applet", APPLETS)
def test_completion_of_bash(applet, prefix):
    script = """
        source completions/pyknock.bash
        COMP_WORDS=($0 -) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _pyknock "${COMP_WORDS[0]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    assert sorted(lines_of(["bash", "-euc", script, prefix + applet])) == sorted(helped(applet))


@pytest.mark.parametrize("prefix", ["pyknock ", "pyknock-"])
@pytest.mark.parametrize("applet", APPLETS)
def test_completion_of_fish(applet, prefix):
    script = f"source completions/pyknock.fish; complete -C '{prefix}{applet} -'; complete -C '{prefix}{applet} --'"
    lines = lines_of(["fish", "--no-config", "-c", script])
    assert {line.split("\t")[0] for line in lines} == set(helped(applet))


@pytest.mark.parametrize("prefix", ["pyknock ", "pyknock-"])
@pytest.mark.parametrize("applet", APPLETS)
def test_completion_of_zsh(applet, prefix):
    # What it gives to zsh's own function, one specification a line.
    script = """
        _arguments() { shift; print -l -- "$@" }
        words=(${=1} -) service=$words[1] CURRENT=$#words
        complete() { source completions/_pyknock }
        complete
    """
    options = set()
    for line in lines_of(["zsh", "-fc", script, "zsh", prefix + applet]):
        if found := re.match(r"(?:\([^)]*\))?\*?(-[\w-]+)\[", line):
            options.add(found[1])
    assert options == set(helped(applet))


def test_completion_of_verbs_and_names(tmp_path):
    (tmp_path / "pyknock").write_text('#!/bin/sh\n[ "$*" = "client list" ] && echo home\n')
    (tmp_path / "pyknock").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    bash = """
        source completions/pyknock.bash
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _pyknock "$1"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    for words, expected in [
        (["pyknock", "s"], ["server"]),
        (["pyknock", "client", "o"], ["open"]),
        (["pyknock", "client", "-v", "open", "ho"], ["home"]),
        (["pyknock", "client", "-c", ""], ["home"]),
        (["pyknock-client", "c"], ["close", "connect"]),
        (["pyknock", "server", "--example", "n"], ["nft"]),
    ]:
        assert lines_of(["bash", "-euc", bash, "bash", *words], env=environment) == expected
        line = " ".join(words)
        fish = f"source completions/pyknock.fish; complete -C '{line}'"
        lines = lines_of(["fish", "--no-config", "-c", fish], env=environment)
        assert [found.split("\t")[0] for found in lines] == expected, line
