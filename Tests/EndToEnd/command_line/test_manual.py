"""The manual, the help and the parser know the same options, and the manual knows the log."""

import re

import pytest
from support.manual import PAGE_OF, PAGES, section, shown
from support.programs import APPLETS, PYKNOCK, ROOT, options_in_help, program, run

COMMON = {"-h", "--help", "-V", "--version"}


@pytest.mark.parametrize("applet", APPLETS)
def test_the_help_has_options(applet):
    options = options_in_help(applet)
    assert set(options) > COMMON
    known = {"keygen": ("--output", "FILE"), "status": ("--state", "DIR")}
    name, value = known.get(applet, ("--port", "PORT"))
    assert options[name] == value


@pytest.mark.parametrize("applet", APPLETS)
def test_the_parser_knows_each_option_of_the_help(applet):
    assert "unknown option" in run([*program(applet), "--nonsense"]).stderr
    for option, value in options_in_help(applet).items():
        result = run([*program(applet), option, *(["/nowhere/x"] if value else [])])
        assert "unknown option" not in result.stderr, option


def items(applet):
    """The options in the manual: the names, the value, and the text of each. A group is a str."""
    for part in re.split(r"^(?=\.It |\.Ss )", section(PAGE_OF[applet], "OPTIONS"), flags=re.M)[1:]:
        head, _, text = part.partition("\n")
        if head.startswith(".Ss "):
            yield head[4:]
        else:
            names, _, value = re.sub(r" (?:Ar|Cm) ", " = ", head, count=1).partition(" = ")
            value = re.sub(r" (?:Ns )?Op Ar (\S+)", r"[\1]", value).replace(" | ", "|")
            yield ["-" + name for name in re.findall(r"Fl ([^ ,]+)", names)], value or None, text


@pytest.mark.parametrize("applet", APPLETS)
def test_the_manual_has_the_options_of_the_help_in_its_order(applet):
    in_manual = [item for item in items(applet) if not isinstance(item, str)]
    options = {name: value for names, value, _ in in_manual for name in names}
    assert list(options.items()) == list(options_in_help(applet).items())


@pytest.mark.parametrize("applet", ["server", "client", "status"])
def test_the_manual_has_the_groups_of_the_help(applet):
    groups = re.findall(r"^([A-Z].*):$", run([*program(applet), "-h"]).stdout, re.M)
    assert [item for item in items(applet) if isinstance(item, str)] == groups[:-1]


@pytest.mark.parametrize("applet", ["server", "client"])
def test_the_manual_has_the_defaults_of_the_help(applet):
    help_text = run([*program(applet), "-h"]).stdout
    in_help = dict(re.findall(r"(--[\w-]+)(?:(?!\n +-).)*?\(default: (\w+)\)", help_text, re.S))
    assert in_help["--port"] == "60120"
    in_manual = {}
    for names, _, text in (item for item in items(applet) if not isinstance(item, str)):
        if found := re.search(r"^The default is (\w+)", text, re.M):
            in_manual[names[-1]] = found[1]
    # The help has no room for that of --ttl.
    in_manual.pop("--ttl", None)
    assert in_manual == in_help


def test_the_manual_has_each_keyword(tmp_path):
    (tmp_path / "pyknock").mkdir()
    (tmp_path / "pyknock/client.conf").write_text("Nonsense 1\n")
    words = ["env", f"XDG_CONFIG_HOME={tmp_path}", *program("client"), "open", "home"]
    _, _, known = run(words).stderr.strip().partition("unknown keyword; keywords are ")
    assert "KeyFile" in known
    assert re.findall(r"^\.It Cm (\w+)", PAGES["pyknock.conf.5"], re.M) == known.split(", ")


def test_the_manual_says_which_options_are_no_keywords(tmp_path):
    """server.conf takes the other long options; see test_server_conf."""
    (tmp_path / "server.conf").write_text("port 1\nnonsense 1\n")
    words = [*program("server"), "-f", str(tmp_path / "server.conf")]
    known = run(words).stderr.strip().partition("'nonsense' is not ")[2].split(", ")
    long = {option.removeprefix("--") for option in options_in_help("server") if option.startswith("--")}
    [excluded] = re.findall(r"^\.Pq Ic (.*) \.$", PAGES["pyknock.conf.5"], re.M)
    assert long - set(known) == {*excluded.split(" , "), "config"}


def pieces(literal):
    """The text of a Swift literal between its interpolations."""
    literal = re.sub(r"\\\n\s*", "", literal)
    found, depth = [""], 0
    for place, letter in enumerate(literal):
        if letter == "(" and (depth or literal[place - 1] == "\\"):
            depth += 1
        elif letter == ")" and depth:
            depth -= 1
            if depth == 0:
                found.append("")
        elif not depth and letter != "\\":
            found[-1] += letter
    return [" ".join(piece.split()) for piece in found]


def test_the_manual_explains_each_line_of_the_servers_log():
    """Of each line, it has the longest text that is always the same."""
    text = shown("pyknock-server.8") + shown("pyknock-users.5")
    folders = [ROOT / "Sources/Programs" / name for name in ("Key", "Log", "Server")]
    sources = [path for folder in folders for path in folder.rglob("*.swift")]
    lines = [
        max(pieces(first or second), key=len)
        for path in sources
        for first, second in re.findall(
            r'\b(?:log\.)?(?:error|warning|info|debug|trace|answer)\(\s*(?:"""\n(.*?)"""|"((?:[^"\\]|\\.)*)")',
            path.read_text(),
            re.S,
        )
    ]
    refusals = re.findall(r'case \.\w+: "(.+)"', (ROOT / "Sources/KnockProtocol/Refusal.swift").read_text())
    reasons = [reason for reason in refusals if " " in reason]
    assert len(lines) > 50 and len(reasons) == 25
    missing = [line for line in [*lines, *reasons] if line.strip(": ;,.") not in text]
    assert missing == []


def test_the_manual_has_the_line_about_an_unknown_command():
    line = run([*PYKNOCK, "serve"]).lines[0].removeprefix("pyknock: ")
    assert f'.It Sy "{line}"\n' in PAGES["pyknock.1"]


def test_the_manual_is_clean():
    # Other manuals need not be installed.
    result = run(["mandoc", "-T", "lint", *(str(ROOT / "man" / name) for name in PAGES)])
    lines = [line for line in result.stdout.splitlines() if "referenced manual not found" not in line]
    assert lines == []
