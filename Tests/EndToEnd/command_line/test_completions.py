"""The completions know the options of the help."""

import re
import subprocess

import pytest
from support.programs import APPLETS, ROOT, options_in_help


def lines_of(words, **options):
    return subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=20, cwd=ROOT, **options
    ).stdout.splitlines()


@pytest.mark.parametrize("prefix", ["pyknock ", "pyknock-"])
@pytest.mark.parametrize("applet", APPLETS)
def test_completion_of_bash(applet, prefix):
    script = """
        source completions/pyknock.bash
        COMP_WORDS=($0 -) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _pyknock "${COMP_WORDS[0]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    assert sorted(lines_of(["bash", "-euc", script, prefix + applet])) == sorted(options_in_help(applet))


@pytest.mark.parametrize("prefix", ["pyknock ", "pyknock-"])
@pytest.mark.parametrize("applet", APPLETS)
def test_completion_of_fish(applet, prefix):
    script = f"source completions/pyknock.fish; complete -C '{prefix}{applet} -'; complete -C '{prefix}{applet} --'"
    lines = lines_of(["fish", "--no-config", "-c", script])
    assert {line.split("\t")[0] for line in lines} == set(options_in_help(applet))


@pytest.mark.parametrize("prefix", ["pyknock ", "pyknock-"])
@pytest.mark.parametrize("applet", APPLETS)
def test_completion_of_zsh(applet, prefix):
    # Prints what the completion passes to _arguments of zsh, one specification in each line.
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
    assert options == set(options_in_help(applet))


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
        (["pyknock", "se"], ["server"]),
        (["pyknock", "client", "o"], ["open"]),
        (["pyknock", "client", "-v", "open", "ho"], ["home"]),
        (["pyknock", "client", "-c", ""], ["home"]),
        (["pyknock-client", "c"], ["close", "check", "connect"]),
        (["pyknock", "server", "--example", "n"], ["nft"]),
    ]:
        assert lines_of(["bash", "-euc", bash, "bash", *words], env=environment) == expected
        line = " ".join(words)
        fish = f"source completions/pyknock.fish; complete -C '{line}'"
        lines = lines_of(["fish", "--no-config", "-c", fish], env=environment)
        assert [found.split("\t")[0] for found in lines] == sorted(expected), line
