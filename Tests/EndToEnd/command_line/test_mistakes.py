"""Mistakes that new users make, and the exact message about each: what is wrong, and what to write instead."""

import pytest
from support.programs import PYKNOCK, run

KEY = "q3NJk8e7Vb5Xw2LmPz0RtYcHsGdAf6UiOo9BnQxW4Es"
COMMANDS = "commands are server, client, keygen, status, help, version"
SETS = "FAMILY/TABLE/SET4[,SET6] with family inet, ip, ip6, bridge or netdev"
DURATION = "a duration such as 90, 15m, 2h or 1d, at most 366 days"
KEYWORDS = "Host, HostName, Port, Key, KeyFile, Sign, Stun, Family, WaitPort, Ttl, Answer"
PORT = "a port number from 1 to 65535"
WORK = "--nft, --ipset or 'OPEN_CMD' 'CLOSE_CMD', each in single quotes"
OPEN = "write open HOST, and -k FILE for the key, -- before COMMAND"
NO_FILE = "No such file or directory"

# The command line, and the first line that it prints. The working directory has a file `key` with the key in it.
MISTAKES = [
    # The command.
    ("", f"no command given; {COMMANDS}"),
    ("serve -k key", f"unknown command 'serve'; {COMMANDS}"),
    ("open home", f"write pyknock client open home; {COMMANDS}"),
    ("-k key open home", f"write the command before its options; {COMMANDS}"),
    ("client home", "COMMAND: 'home' is not open, close, check, connect, list or import"),
    ("client home open -k key", "COMMAND: 'home' is not open, close, check, connect, list or import"),
    ("client knock home -k key", "COMMAND: 'knock' is not open, close, check, connect, list or import"),
    # The operands.
    ("server", f"write -k FILE or PSK, and {WORK}; operands given: 0"),
    ("server key", f"write -k FILE or PSK, and {WORK}; operands given: 1"),
    ("server -k key", f"add {WORK}; operands given: 0"),
    (["server", "-k", "key", "open.sh $ip"], f"add {WORK}; operands given: 1"),
    (
        "server --nft inet/filter/knock4",
        "no key: write -k FILE or --keys DIR, or the same in the file of -f; operands given: 0",
    ),
    ("client -n", "write open HOST, close HOST, check HOST, connect HOST PORT, list, or import; operands given: 0"),
    ("client open -k key", f"{OPEN}; operands given: 1"),
    ("client open 127.0.0.1 -k key ssh home", f"{OPEN}; operands given: 4"),
    (f"client open 127.0.0.1 {KEY} {KEY}", f"{OPEN}; operands given: 4"),
    ("client open home", "no key: give PSK, -k FILE, or a Key or KeyFile for 'home' in client.conf"),
    ("client connect 127.0.0.1:22", "write connect HOST PORT; operands given: 2"),
    ("client close 127.0.0.1 -k key -- ssh home", "COMMAND: 'close' is not open, the only one that runs a command"),
    ("keygen key", "write -o FILE, or --keys DIR and one NAME; operands given: 1"),
    # The host.
    (
        "client open http://home -k key",
        "HOST: 'http://home' is not a host alone: write its name or address, and no URL or path",
    ),
    (
        "client open home:60120 -k key",
        "HOST: 'home:60120' is not a host alone:"
        " leave out brackets, and the port, which -p or Port in client.conf names",
    ),
    ("client open me@home -k key", "HOST: 'me@home' is not a host alone: leave out the user and the @"),
    ("client open home, -k key", "HOST: 'home,' is not one host, or up to 16 with commas between them"),
    # The key.
    (f"client open 127.0.0.1 -k {KEY}", f"key file (not shown, it may be the key itself): {NO_FILE}"),
    (["client", "open", "127.0.0.1", "-k", ""], f"key file (not shown, it may be the key itself): {NO_FILE}"),
    ("client open 127.0.0.1 -k ./nokey", f"key file './nokey': {NO_FILE}"),
    ("client open 127.0.0.1 -k", "-k/--key-file needs a value: FILE"),
    (
        "server -f key",
        "'key':1: no keyword with a value (not shown, it may be the key); to read a key, write -k FILE",
    ),
    # Options.
    ("server -k key --prot 22", "unknown option '--prot'; you may mean --port"),
    ("server -k key --port22", "unknown option '--port22'; you may mean --port"),
    ("server -k key -port 22", "unknown option '-port'; you may mean --port"),
    (f"server --key={KEY} echo echo", "unknown option '--key'; you may mean --keys"),
    ("server -k key -S auto", "unknown option '-S'; it is one of pyknock client"),
    ("client open 127.0.0.1 --nft inet/filter/knock4", "unknown option '--nft'; it is one of pyknock server"),
    ("keygen -k key", "unknown option '-k'; it is one of pyknock server"),
    ("keygen -output key", "unknown option '-output'; you may mean --output"),
    # Values.
    ("server -k key -p60120/udp", f"-p/--port: '60120/udp' is not {PORT}"),
    ("server -k key --nft knock4", f"--nft: 'knock4' is not {SETS}"),
    ("server -k key --nft filter/knock4", f"--nft: 'filter/knock4' is not {SETS}"),
    ("server -k key --nft inet/filter/knock4 --ttl 1hour", f"--ttl: '1hour' is not {DURATION}"),
    ("server -k key -t 1m echo echo", "-t/--time-drift: '1m' is not a number of seconds over 0, such as 60 or 2.5"),
    ("client open 127.0.0.1 -k key --wait-port ssh", f"--wait-port: 'ssh' is not {PORT}"),
    ("client open 127.0.0.1 -k key -s eth0", "source address: 'eth0' is not a numeric IPv4 or IPv6 address"),
    (
        "client open 127.0.0.1 -k key -S home",
        "signed address: 'home' is not auto, observed, an IPv4 address such as 192.0.2.1, or an IPv6 address",
    ),
    # Options that need others.
    ("client open 127.0.0.1 -k key -S auto", "-S/--sign-address: auto needs --stun, or Stun in client.conf"),
    ("client open 127.0.0.1 -k key --close", "--close needs a COMMAND after --"),
    ("server -k key --ttl 1h echo echo", "--ttl needs --nft or --ipset"),
    ("server -k key --close-after 1h echo echo", "--close-after needs --state"),
    ("server -k key --nft inet/filter/knock4 --ipset knock4", "--ipset: only one of --nft and --ipset can be given"),
    ("server -k key --state key echo echo", "--state: 'key': Not a directory"),
]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working directory with a key, whose user has no client.conf."""
    (tmp_path / "key").write_text(KEY + "\n")
    (tmp_path / "key").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def first_line(words):
    """What a command line that must fail says first. The usage may follow, and nothing else."""
    result = run([*PYKNOCK, *words])
    assert result.code != 0 and result.stdout == "" and KEY not in result.stderr, result
    first, *usage = result.lines
    assert not usage or result.code == 2 and usage[0].startswith("usage: pyknock "), result
    return first


@pytest.mark.parametrize("line, message", MISTAKES)
def test_a_mistake_gets_an_answer(work, line, message):
    words = line.split() if isinstance(line, str) else line
    applet = words[0] if words and words[0] in ("server", "client", "keygen") else ""
    assert first_line(words) == " ".join(["pyknock", applet]).strip() + f": {message}"


def test_a_program_without_arguments_tells_what_it_needs(work):
    (work / "pyknock-server").symlink_to(PYKNOCK[-1])
    result = run([*PYKNOCK[:-1], "./pyknock-server"])
    assert result.lines[0] == f"pyknock server: write -k FILE or PSK, and {WORK}; operands given: 0"


# A line of a configuration file, and what is said about it.
LINES = {
    "server": [
        ("prot 22", "unknown keyword 'prot'; you may mean port"),
        ("port: 22", "unknown keyword 'port:'; you may mean port"),
        ("--port 22", "unknown keyword '--port'; you may mean port"),
        ("KeyFile key", "unknown keyword 'KeyFile'; you may mean key-file"),
        ("close_after 1h", "unknown keyword 'close_after'; you may mean close-after"),
        ("no-shell true", "--no-shell: 'true' is not yes or no"),
        ("nft knock4", f"--nft: 'knock4' is not {SETS}"),
    ],
    "client": [
        ("key-file /key", "unknown keyword; you may mean KeyFile"),
        ("Hosts home", "unknown keyword; you may mean Host"),
        ("nft inet/filter/knock4", f"unknown keyword; keywords are {KEYWORDS}"),
        ("KeyFile knock.key", "KeyFile: the value is not a path that begins with / or ~/"),
        ("Port ssh", f"Port: the value is not {PORT}"),
    ],
}


@pytest.mark.parametrize("line, message", LINES["server"])
def test_a_mistake_in_server_conf_gets_an_answer(work, line, message):
    file = work / "server.conf"
    file.write_text(f"port 60120\n{line}\n")
    file.chmod(0o600)
    assert first_line(["server", "-f", "server.conf"]) == f"pyknock server: 'server.conf':2: {message}"


@pytest.mark.parametrize("line, message", LINES["client"])
def test_a_mistake_in_client_conf_gets_an_answer(work, line, message):
    file = work / "pyknock" / "client.conf"
    file.parent.mkdir()
    file.write_text(f"Host home\n{line}\n")
    assert first_line(["client", "open", "home"]) == f"pyknock client: '{file}':2: {message}"
