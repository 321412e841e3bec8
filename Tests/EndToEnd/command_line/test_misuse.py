"""Mistakes in the command line, and the exact message about each."""

import pytest
from support.datagrams import KEY
from support.programs import PYKNOCK, program, run

USAGE = {
    "server": [
        "usage: pyknock server [OPTION]... (-k FILE | -f FILE | PSK) [OPEN_CMD CLOSE_CMD]",
        "       pyknock server [OPTION]... --keys DIR [OPEN_CMD CLOSE_CMD]",
        "       pyknock server --example nft|ipset|docker [--hide PORT,...] [-p PORT]",
    ],
    "client": [
        "usage: pyknock client [OPTION]... (open | close | check) HOST [-k FILE | PSK]",
        "       pyknock client [OPTION]... open HOST [-k FILE] -- COMMAND...",
        "       pyknock client [OPTION]... connect HOST PORT",
        "       pyknock client list",
        "       pyknock client import [NAME]",
    ],
    "keygen": [
        "usage: pyknock keygen [--version2] [-o FILE]",
        "       pyknock keygen --keys DIR [--host HOST[:PORT] [--line]] NAME",
    ],
    "status": [
        "usage: pyknock status [-f FILE] [--users] [--json]",
        "       pyknock status [--keys DIR] [--state DIR] [--nft SETS | --ipset SETS]",
        "                      [--users] [--json]",
    ],
}
UNKNOWN = "unknown option (not shown, it may be the key; put -- before a key that begins with '-')"
HIDDEN = "the value (not shown, it may be the key)"
PORT = f"-p/--port: {HIDDEN} is not a port number from 1 to 65535"
DRIFT = f"-t/--time-drift: {HIDDEN} is not a number of seconds over 0, such as 60 or 2.5"
JOBS = f"--jobs: {HIDDEN} is not a number from 1 to 64"
TIMEOUT = (
    f"--command-timeout: {HIDDEN} is not a duration such as 90, 15m, 2h or 1d, at most 366 days"
)
SERVER_OPERANDS = (
    "write -k FILE or PSK, and --nft, --ipset or 'OPEN_CMD' 'CLOSE_CMD', each in single quotes;"
    " operands given: {}"
)
SERVER_COMMANDS = (
    "add --nft, --ipset or 'OPEN_CMD' 'CLOSE_CMD', each in single quotes; operands given: {}"
)
OPEN_OPERANDS = "write open HOST, and -k FILE for the key, -- before COMMAND; operands given: {}"
COMMAND = "COMMAND: {} is not open, close, check, connect, list or import"
LATIN1 = "PSK: the key is not UTF-8 text of characters up to U+00FF, which version 1 needs"

MISUSES = [
    ("server", [], SERVER_OPERANDS.format(0)),
    ("server", [KEY, "o"], SERVER_OPERANDS.format(2)),
    ("server", [KEY, "o", "c", "x", "y"], SERVER_OPERANDS.format(5)),
    ("server", ["-k", "f", "o"], SERVER_COMMANDS.format(1)),
    ("server", ["-k", "f", KEY, "o", "c"], SERVER_COMMANDS.format(3)),
    ("server", ["--prot", "o"], "unknown option '--prot'; you may mean --port"),
    ("server", ["-z"], "unknown option '-z'"),
    ("server", ["--nonsense"], UNKNOWN),
    ("server", ["-m"], "unknown option '-m'; you may mean --metrics"),
    ("server", ["--close=" + "k" * 43], "unknown option '--close'; it is one of pyknock client"),
    ("server", ["--prot=" + "k" * 43], "unknown option '--prot'; you may mean --port"),
    ("server", ["-S" + "k" * 43], UNKNOWN),
    ("server", ["-qz"], UNKNOWN),
    ("server", ["-p"], "-p/--port needs a value: PORT"),
    ("server", ["--bind-address"], "-b/--bind-address needs a value: ADDR"),
    ("server", ["-t", "-q"], "-t/--time-drift needs a value: DRIFT"),
    ("server", ["-k"], "-k/--key-file needs a value: FILE"),
    ("server", ["--jobs"], "--jobs needs a value: N"),
    ("server", ["--command-timeout"], "--command-timeout needs a value: DURATION"),
    ("server", ["--quiet=1"], "-q/--quiet takes no value"),
    ("server", ["--no-shell=yes"], "--no-shell takes no value"),
    ("server", ["-p", "0"], PORT),
    ("server", ["--po=65536"], PORT),
    ("server", ["-t", "nan"], DRIFT),
    ("server", ["-t0"], DRIFT),
    ("server", ["--jobs", "0"], JOBS),
    ("server", ["--jobs", "65"], JOBS),
    ("server", ["--jobs", "all"], JOBS),
    ("server", ["--command-timeout", "0"], TIMEOUT),
    ("server", ["--command-timeout", "1w"], TIMEOUT),
    ("server", ["--command-timeout", "367d"], TIMEOUT),
    ("server", ["--command-timeout", "-5"], TIMEOUT),
    ("server", ["-p", "0", "-t", "x", "-z"], PORT),
    ("server", ["-p", "0", "-k", "f"], PORT.replace(HIDDEN, "'0'")),
    ("server", ["-k", "f", "-t", "2 s"], DRIFT.replace(HIDDEN, "'2 s'")),
    ("server", ["", "o", "c"], "PSK: the key is empty"),
    ("server", ["Ā" * 20, "o", "c"], LATIN1),
    ("server", [b"\xff" * 20, "o", "c"], LATIN1),
    ("server", ["k" * 4097, "o", "c"], "PSK: the key is longer than 4096 bytes"),
    (
        "server", ["--nft", "inet/t/s"],
        "no key: write -k FILE or --keys DIR, or the same in the file of -f; operands given: 0",
    ),
    ("server", ["--nft", "inet/t/s", KEY, "o"], SERVER_OPERANDS.format(2)),
    ("client", [], "write open HOST, close HOST, check HOST, connect HOST PORT, list, or import; operands given: 0"),
    ("client", ["open"], OPEN_OPERANDS.format(1)),
    ("client", ["close"], "write close HOST, and -k FILE for the key; operands given: 1"),
    ("client", ["connect", "home"], "write connect HOST PORT; operands given: 2"),
    ("client", ["list", "home"], "write list alone; operands given: 2"),
    ("client", ["home"], COMMAND.format("'home'")),
    ("client", ["home", "open", KEY, "x"], COMMAND.format("'home'")),
    ("client", ["Home"], COMMAND.format(HIDDEN)),
    ("client", ["k" * 16], COMMAND.format(HIDDEN)),
    ("client", [""], COMMAND.format(HIDDEN)),
    (
        "client",
        ["open", "127.0.0.1"],
        "no key: give PSK, -k FILE, or a Key or KeyFile for '127.0.0.1' in client.conf",
    ),
    ("client", ["open", "127.0.0.1", KEY, "x"], OPEN_OPERANDS.format(4)),
    ("client", ["-k", "f", "open"], OPEN_OPERANDS.format(1)),
    ("client", ["-z"], "unknown option '-z'"),
    ("client", ["--state"], "unknown option '--state'; it is one of pyknock server"),
    ("client", ["-p", "x"], PORT),
    ("client", ["-S"], "-S/--sign-address needs a value: ADDR"),
    ("client", ["--ipv4=1"], "-4/--ipv4 takes no value"),
    ("client", ["knock", "::1", "-k", "-"], COMMAND.format("'knock'")),
    ("client", ["o\n\x1b'", "::1", "-k-"], COMMAND.format(r"'o\x0a\x1b\x27'")),
    ("client", ["knock", "::1", KEY], COMMAND.format("'knock'")),
    ("client", ["Knock", "::1", KEY], COMMAND.format(HIDDEN)),
    ("client", ["open", "127.0.0.1", ""], "PSK: the key is empty"),
    ("client", ["open", "127.0.0.1", "Ā" * 20], LATIN1),
    ("keygen", ["x"], "write -o FILE, or --keys DIR and one NAME; operands given: 1"),
    ("status", ["x"], "write only options; operands given: 1"),
    ("status", ["--state"], "--state needs a value: DIR"),
    ("status", ["--list"], "unknown option '--list'"),
    ("status", ["--user"], "unknown option '--user'; it is one of pyknock server"),
    ("keygen", ["-o"], "-o/--output needs a value: FILE"),
    ("keygen", ["-z"], "unknown option '-z'"),
    ("keygen", ["--out", "f"], "unknown option '--out'; you may mean --output"),
    ("keygen", ["--nonsense"], "unknown option '--nonsense'"),
]


@pytest.mark.parametrize("applet, words, message", MISUSES)
def test_misuse_is_one_line_and_the_usage(applet, words, message):
    result = run([*program(applet), *words])
    assert (result.code, result.stdout) == (2, ""), result
    assert result.lines == [f"pyknock {applet}: {message}", *USAGE[applet]]


# The key is in a file, so that there is no warning about a key in the command line.
BAD_COMMANDS = [
    ("OPEN_CMD", ["echo 'a", "c"], "the quote ' is not closed"),
    ("OPEN_CMD", ['echo "a\\"', "c"], 'the quote " is not closed'),
    ("CLOSE_CMD", ["o", "echo \\"], "ends with a backslash that quotes nothing"),
]


@pytest.mark.parametrize("name, commands, message", BAD_COMMANDS)
def test_a_command_that_cannot_be_split_is_misuse(key_file, name, commands, message):
    result = run([*program("server"), "-k", key_file, "--no-shell", *commands])
    assert result.code == 2
    assert result.lines == [f"pyknock server: {name}: {message}", *USAGE["server"]]


def test_a_command_too_long_for_the_kernel_is_misuse(key_file):
    command = "echo " + "$ip" * 10_000
    result = run([*program("server"), "-k", key_file, "o", command])
    assert result.code == 2
    assert result.lines[0] == (
        "pyknock server: CLOSE_CMD: a word may become longer than 131071 bytes,"
        " the limit of the kernel"
    )


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "no command given"),
        (["serve"], "unknown command 'serve'"),
        (["k" * 16], "unknown command (not shown, it may be the key)"),
        (["open", "home"], "write pyknock client open home"),
        (["open", "home", KEY], "write pyknock client open home"),
        (["close", "gate-1.example.org"], "write pyknock client close gate-1.example.org"),
        (["open", "2001:db8::1"], "write pyknock client open 2001:db8::1"),
        (["open"], "write pyknock client open HOST"),
        (["open", "-k", "key"], "write pyknock client open HOST"),
        (["open", KEY], "write pyknock client open HOST"),
        (["open", "0123456789abcdef"], "write pyknock client open HOST"),
        (["open", "\x1b[2J"], "write pyknock client open HOST"),
        (["connect", "home", "22"], "write pyknock client connect home PORT"),
        (["list"], "write pyknock client list"),
        ([""], "unknown command (not shown, it may be the key)"),
        (["-p"], "write the command before its options"),
        (["-k" + KEY], "write the command before its options"),
        (["Server"], "unknown command (not shown, it may be the key)"),
        (["help", "knocking"], "no help on 'knocking'"),
        (["help", "\x1b[2J\n"], r"no help on '\x1b[2J\x0a'"),
    ],
)
def test_misuse_of_the_dispatcher_is_one_line_and_the_usage(words, message):
    result = run([*PYKNOCK, *words])
    assert (result.code, result.stdout) == (2, ""), result
    assert result.lines == [
        f"pyknock: {message}; commands are server, client, keygen, status, help, version",
        "usage: pyknock (server | client | keygen | status | help [COMMAND] | version)",
    ]
