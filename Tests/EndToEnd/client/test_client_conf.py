"""client.conf: names for hosts and their keys."""

import contextlib
import hmac
import os
import socket

import pytest
from support.datagrams import CLOSE, KEY, OPEN
from support.networks import listener
from support.programs import program, run
from support.version2 import KEY2, OTHER_KEY2

KEYWORDS = "Host, HostName, Port, Key, KeyFile, Sign, Stun, Family, WaitPort, Ttl, Answer"


@pytest.fixture
def home(tmp_path, key_file):
    """A home directory with a client.conf, and the client that uses it."""

    class Home:
        path = tmp_path / "home" / ".config" / "pyknock" / "client.conf"

        def write(self, text, mode=0o600):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(text.encode("utf-8", "surrogateescape"))
            self.path.chmod(mode)

        def run(self, *arguments, **more):
            environment = {**os.environ, "HOME": str(tmp_path / "home")}
            environment.pop("XDG_CONFIG_HOME", None)
            environment |= more.pop("environment", {})
            return run([*program("client"), *arguments], env=environment, **more)

        def fails(self, *arguments):
            result = self.run(*arguments)
            assert (result.code, result.stdout) == (1, "")
            [line] = result.lines
            return line

    (tmp_path / "home").mkdir()
    return Home()


def test_a_name_is_enough(home, key_file):
    with listener() as receiver:
        port = receiver.getsockname()[1]
        home.write(
            f"# at home\nHost box\n\tHostName 127.0.0.1\n\tPort {port}\n"
            f"  KeyFile = {key_file}\n  Sign 192.0.2.7\n"
        )
        for arguments in (["open", "box"], ["-c", "box", "open"], ["open", "-c", "box", "127.0.0.1"]):
            result = home.run(*arguments)
            assert (result.code, result.stderr) == (0, "")
            datagram = receiver.recv(100)
            assert datagram[32] == OPEN and datagram[45:] == bytes([192, 0, 2, 7])
        assert home.run("close", "box").code == 0
        assert receiver.recv(100)[32] == CLOSE


def test_n_prints_what_would_be_sent_and_sends_nothing(home, key_file):
    with listener() as receiver:
        port = receiver.getsockname()[1]
        home.write(f"Host box\nHostName localhost\nPort {port}\nKeyFile {key_file}\nFamily inet\n")
        result = home.run("open", "box", "-n")
        assert (result.code, result.stderr) == (0, "")
        assert result.stdout == f"open 127.0.0.1 to 127.0.0.1:{port}\n"
        result = home.run("close", "box", "-n", "-S", "2001:db8::1", "-p7")
        assert result.stdout == "close 2001:db8::1 to 127.0.0.1:7\n"
        receiver.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)


VALUES = {
    "HostName 127.0.0.2": "open 127.0.0.1 to 127.0.0.2:60120",
    "HostName [::ffff:127.0.0.2]": "open 127.0.0.1 to 127.0.0.2:60120",
    "hostname 127.0.0.2": "open 127.0.0.1 to 127.0.0.2:60120",
    "Port 7": "open 127.0.0.1 to 127.0.0.1:7",
    "PORT=7": "open 127.0.0.1 to 127.0.0.1:7",
    'Port = "7"': "open 127.0.0.1 to 127.0.0.1:7",
    "Sign 2001:db8::5": "open 2001:db8::5 to 127.0.0.1:60120",
    "Sign observed": "open 0.0.0.0 to 127.0.0.1:60120",
    "Stun nobody.test:1": "open 127.0.0.1 to 127.0.0.1:60120",
    "Family any": "open 127.0.0.1 to 127.0.0.1:60120",
    "WaitPort 22": "open 127.0.0.1 to 127.0.0.1:60120",
    "Port 7 # a comment": "open 127.0.0.1 to 127.0.0.1:7",
    "HostName 127.0.0.2\t#a comment": "open 127.0.0.1 to 127.0.0.2:60120",
    'Sign "192.0.2.5" # a "comment"': "open 192.0.2.5 to 127.0.0.1:60120",
}


@pytest.mark.parametrize("line", VALUES)
def test_what_each_keyword_does(home, key_file, line):
    home.write(f"Host 127.0.0.1\n{line}\nKeyFile {key_file}\n")
    assert home.run("open", "127.0.0.1", "-n").stdout == VALUES[line] + "\n"


def test_which_value_counts(home, key_file):
    home.write(
        f"Port 1\nHost a b\nPort 2\nHost b\nPort 3\nSign 192.0.2.1\nHost *\nKeyFile {key_file}\n"
        "HostName 127.0.0.1\n"
    )
    # Lines before the first Host apply to all hosts. After that, the first matching section counts.
    assert home.run("open", "b", "-n").stdout == "open 192.0.2.1 to 127.0.0.1:1\n"
    assert home.run("open", "a", "-n").stdout == "open 127.0.0.1 to 127.0.0.1:1\n"
    home.write(home.path.read_text().removeprefix("Port 1\n"))
    assert home.run("open", "b", "-n").stdout == "open 192.0.2.1 to 127.0.0.1:2\n"
    # Options win over the file.
    assert home.run("open", "b", "-n", "-p9", "-S", "192.0.2.9").stdout == (
        "open 192.0.2.9 to 127.0.0.1:9\n"
    )
    assert home.run("open", "c", "-n").stdout == "open 127.0.0.1 to 127.0.0.1:60120\n"


@pytest.mark.parametrize(
    "patterns, matches",
    [
        ("127.0.0.?", True), ("127.*", True), ("*.0.1 # a comment", True), ("box 127.0.0.1", True),
        ("box,127.*", True), ("127.0.0.??", False), ("*.example.org", False), ("", False),
        ("* !127.0.0.1", False), ("!127.* *", False), ("!box *", True), ("!box", False),
        ("box # 127.0.0.1", False),
    ],
)  # fmt: skip
def test_patterns_are_as_in_ssh_config(home, key_file, patterns, matches):
    home.write(f"Host {patterns or 'box'}\nPort 7\nHost *\nPort 8\nKeyFile {key_file}\n")
    port = 7 if matches else 8
    assert home.run("open", "127.0.0.1", "-n").stdout == f"open 127.0.0.1 to 127.0.0.1:{port}\n"


def test_the_file_of_the_user_counts_before_that_of_the_system(home, key_file, namespace):
    """The client has a private /etc."""
    home.write("Host box\nPort 1\n")
    folder = home.path.parent.parent / "etc"
    folder.mkdir()
    (folder / "client.conf").write_text(f"Host box other\nPort 2\nHostName ::1\nKeyFile {key_file}\n")
    script = (
        "mount -t tmpfs none /etc; mkdir /etc/pyknock; mount --bind $0 /etc/pyknock; exec \"$@\""
    )

    def described(name):
        words = [*program("client"), "open", name, "-n"]
        environment = {**os.environ, "XDG_CONFIG_HOME": str(home.path.parent.parent)}
        result = run(["unshare", "-m", "sh", "-ec", script, folder, *words], env=environment)
        assert result.code == 0, result
        return result.stdout

    assert described("box") == "open ::1 to [::1]:1\n"
    assert described("other") == "open ::1 to [::1]:2\n"


def test_a_key_in_the_home_directory(home, key_file):
    (home.path.parents[2] / "my.key").write_text(KEY)
    (home.path.parents[2] / "my.key").chmod(0o600)
    home.write("Host 127.0.0.1\nKeyFile ~/my.key\n")
    assert home.run("open", "127.0.0.1", "-n").code == 0


def test_xdg_config_home(home, key_file):
    home.write(f"Host 127.0.0.1\nPort 5\nKeyFile {key_file}\n")
    environment = {"XDG_CONFIG_HOME": str(home.path.parents[1]), "HOME": "/nonexistent"}
    result = home.run("open", "127.0.0.1", "-n", environment=environment)
    assert result.stdout == "open 127.0.0.1 to 127.0.0.1:5\n"


def test_a_relative_xdg_config_home_does_not_count(home, key_file):
    home.write(f"Host 127.0.0.1\nPort 5\nKeyFile {key_file}\n")
    folder = home.path.parents[1]
    other = folder.parent / "other/pyknock"
    other.mkdir(parents=True)
    (other / "client.conf").write_text("nonsense\n")
    for variable in ("other", "./other", ""):
        result = home.run("open", "127.0.0.1", "-n", cwd=folder.parent, environment={"XDG_CONFIG_HOME": variable})
        assert result.stdout == "open 127.0.0.1 to 127.0.0.1:5\n", result


@pytest.mark.parametrize("variables", [{}, {"HOME": ""}, {"HOME": "home"}, {"XDG_CONFIG_HOME": ".config"}])
def test_without_a_home_there_is_no_file_of_the_user(tmp_path, variables, namespace):
    (tmp_path / "home/.config/pyknock").mkdir(parents=True)
    for folder in (tmp_path / "home/.config", tmp_path / ".config", tmp_path):
        (folder / "pyknock").mkdir(parents=True, exist_ok=True)
        (folder / "pyknock/client.conf").write_text("nonsense\n")
    # The root directory has such a file, too.
    script = 'mount --rbind "$0" /mnt; cd "$0"; exec "$@"'
    words = ["unshare", "-m", "sh", "-ec", script, tmp_path, *program("client"), "list"]
    path = {"PATH": os.environ["PATH"]}
    result = run(words, cwd=tmp_path, env=path | variables)
    assert (result.code, result.stdout, result.stderr) == (0, "", "")


def test_a_home_that_is_too_long_is_an_error(home):
    long = "/" + "x" * 5000
    for variables in ({"HOME": long}, {"XDG_CONFIG_HOME": long}):
        result = home.run("list", environment=variables)
        assert (result.code, result.stdout) == (1, "")
        [line] = result.lines
        assert line.replace("Filename", "File name") == (  # musl writes Filename.
            f"pyknock client: '{long[:128]}...': File name too long"
        )
    for length in (3000, 4095, 4096):
        assert home.run("list", environment={"HOME": "/" + "x/" * (length // 2)}).code in (0, 1)


def test_a_key_in_a_home_that_is_not_known(home, key_file):
    home.write("Host 127.0.0.1\nKeyFile ~/my.key\nHost *\nKeyFile /nowhere\n")
    environment = {"XDG_CONFIG_HOME": str(home.path.parents[1]), "HOME": ""}
    result = home.run("open", "127.0.0.1", environment=environment)
    assert result.lines == [
        f"pyknock client: '{home.path}':2: KeyFile: the value is not known: HOME is not set to a directory"
    ]
    assert home.run("open", "::1", environment=environment).lines == [
        "pyknock client: KeyFile: No such file or directory"
    ]


def test_who_gives_a_psk_reads_no_file(home):
    home.write("nonsense\n")
    assert home.run("open", "127.0.0.1", KEY, "-n").code == 0


@pytest.mark.slow
def test_the_port_to_wait_for(home, key_file):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as service:
        port = service.getsockname()[1]
        home.write(f"Host 127.0.0.1\nKeyFile {key_file}\nWaitPort {port}\n")
        assert home.run("open", "127.0.0.1", "-p9").code == 0
    assert "did not open within 1 s" in home.fails("open", "127.0.0.1", "-p9", "--wait=1")


def test_a_command_with_a_name(home, key_file):
    home.write(f"Host box\nHostName 127.0.0.1\nPort 9\nKeyFile {key_file}\n")
    result = home.run("-c", "box", "open", "--", "sh", "-c", "echo in; exit 3")
    assert (result.code, result.stdout) == (3, "in\n")


def test_a_command_without_a_name(home, key_file):
    home.write(f"Host box\nHostName 127.0.0.1\nPort 9\nKeyFile {key_file}\n")
    result = home.run("open", "box", "--", "sh", "-c", "echo in; exit 3")
    assert (result.code, result.stdout, result.stderr) == (3, "in\n", "")
    result = home.run("open", "box", "-v", "--", "echo", "-v")
    assert (result.code, result.stdout) == (0, "-v\n")
    result = home.run("close", "box", "--", "echo", "-v")
    assert (result.code, result.stdout) == (2, "")
    # One word is the key, as in the original.
    result = home.run("open", "127.0.0.1", "--", "true")
    assert result.code == 0 and "a key in the command line shows" in result.lines[0]


def test_the_list(home):
    assert (home.run("list").code, home.run("list").stdout) == (0, "")
    home.write("Host box  other # more\nPort 1\nHost *\nHost third *.example.org b?x !third\n")
    assert home.run("list").stdout == "box\nother\nthird\n"


@pytest.mark.parametrize(
    "words",
    [["-S", KEY], ["-s", KEY], ["-S", "auto", "--stun=" + KEY.replace(" ", "")]],
    ids=["-S", "-s", "--stun"],
)
def test_a_key_in_the_wrong_place_is_not_shown_because_of_a_key_file(home, key_file, words):
    home.write(f"Host *\nKeyFile {key_file}\n")
    result = home.run("-n", "open", "127.0.0.1", *words)
    assert result.code in (4, 5) and result.stdout == ""
    assert KEY not in result.stderr and KEY.replace(" ", "") not in result.stderr


BAD = {
    "Colour 7": f"unknown keyword; keywords are {KEYWORDS}",
    "Prot 7": "unknown keyword; you may mean Port",
    "Port": "a keyword without a value",
    "Port =": "a keyword without a value",
    'HostName "x': "a quote that is not closed",
    'HostName ""': "a keyword without a value",
    "Host\0Name x": "a NUL in the line",
    "Port 0": "Port: the value is not a port number from 1 to 65535",
    "Port x": "Port: the value is not a port number from 1 to 65535",
    "WaitPort 65536": "WaitPort: the value is not a port number from 1 to 65535",
    "KeyFile key": "KeyFile: the value is not a path that begins with / or ~/",
    **{
        f"Sign {address}": "Sign: the value is not auto, observed, an IPv4 address such as 192.0.2.1,"
        " or an IPv6 address"
        for address in ("box", "Auto", "010.0.0.1", "198.51.1007", "0x7f.1", "fe80::1%lo")
    },
    "HostName me@box": "HostName: the value is not a host alone: leave out the user and the @",
    "HostName box:22": "HostName: the value is not a host alone:"
    " leave out brackets, and the port, which -p or Port in client.conf names",
    "HostName ssh://box": "HostName: the value is not a host alone: write its name or address,"
    " and no URL or path",
    "Stun stuns:a:1": "Stun: the value is not HOST, HOST:PORT or [ADDRESS]:PORT",
    "Stun a:0": "Stun: the value is not HOST, HOST:PORT or [ADDRESS]:PORT",
    "Stun [::1": "Stun: the value is not HOST, HOST:PORT or [ADDRESS]:PORT",
    "Family ipv4": "Family: the value is not inet, inet6 or any",
    f"Key {KEY2[:-1]}": "Key: the key of version 2 has another length than 74 characters; copy the whole key again",
    f"Key {KEY2.upper()}": "Key: the key of version 2 begins with pk2. in capitals, so the case of its letters is lost",
    f"Key x{KEY2}": "Key: the key of version 2 has something before pk2.; remove that",
    f"Key {KEY2[:-8]}{KEY2[-7:]}A": "Key: the key of version 2 is not what keygen has printed: a character is wrong;"
    " copy it again",
    "Key \u20ac": "Key: the key is not UTF-8 text of characters up to U+00FF, which version 1 needs",
    "Key " + 4097 * "k": "Key: the key is longer than 4096 bytes",
}


@pytest.mark.parametrize("line", BAD)
@pytest.mark.parametrize("arguments", [["open", "127.0.0.1"], ["list"]], ids=["open", "list"])
def test_a_bad_line_is_named(home, key_file, line, arguments):
    # The section with the mistake is for another host.
    home.write(f"Host 127.0.0.1\n\nKeyFile {key_file}\nHost other\n{line}\n")
    result = home.run(*arguments)
    assert (result.code, result.lines) == (1, [f"pyknock client: '{home.path}':5: {BAD[line]}"])


def test_a_file_that_others_may_write_is_not_used(home, key_file):
    home.write(f"Host 127.0.0.1\nKeyFile {key_file}\n")
    home.path.chmod(0o666)
    assert home.fails("open", "127.0.0.1") == (
        f"pyknock client: '{home.path}': Permission denied "
        "(it must belong to this user or root, and only its owner may write to it)"
    )


def test_a_file_that_is_too_long_or_none(home):
    home.write("#" * 65_537)
    assert home.fails("list") == f"pyknock client: '{home.path}': File too large"
    home.path.unlink()
    home.path.mkdir()
    assert home.fails("list").startswith(f"pyknock client: '{home.path}': ")


def test_no_end_of_the_last_line(home, key_file):
    home.write(f"Host 127.0.0.1\nKeyFile {key_file}")
    assert home.run("open", "127.0.0.1", "-n").code == 0
    home.write("#" * 65_528 + "\nPort 7")
    assert home.run("list").code == 0


@pytest.mark.parametrize("arguments", [["open"], ["connect", "box"], ["list", "x"], []])
def test_too_few_operands(home, arguments):
    assert home.run(*arguments).code == 2


@pytest.mark.parametrize("key", [KEY2, KEY], ids=["version 2", "version 1"])
def test_a_file_with_a_key_is_for_its_owner_only(home, key):
    for mode in 0o640, 0o604, 0o610, 0o601:
        # The key is that of another host.
        home.write(f"Host other\nPort 7\nKey {key}\n", mode)
        assert home.fails("open", "127.0.0.1", "-n") == (
            f"pyknock client: '{home.path}':3: Key: others than the owner may read the file; chmod 600 prevents that"
        )
    for mode in 0o600, 0o400:
        home.write(f"Host 127.0.0.1 ::1\nKey {key}\n", mode)
        result = home.run("open", "127.0.0.1,::1", "-n", "-4")
        assert "open 127.0.0.1 to 127.0.0.1:60120\n" in result.stdout


def test_a_key_in_the_file_signs(home):
    with listener() as receiver:
        home.write(f"Host 127.0.0.1\nPort {receiver.getsockname()[1]}\nKey {KEY}\n")
        assert home.run("open", "127.0.0.1").code == 0
        datagram = receiver.recv(100)
        assert datagram[:32] == hmac.digest(KEY.encode(), datagram[32:], "sha256")


@pytest.mark.parametrize("link", [False, True])
def test_no_key_in_the_file_of_the_system(home, namespace, link):
    """Whatever the name of the file is. The client has a private /etc."""
    home.write("#\n")
    folder = home.path.parents[2] / "etc"
    folder.mkdir()
    (folder / "client.conf").write_text(f"Host box\nKey {KEY2}\n")
    (folder / "client.conf").chmod(0o600)
    if link:
        home.path.unlink()
        home.path.symlink_to("/etc/pyknock/client.conf")
    script = 'mount -t tmpfs none /etc; mkdir /etc/pyknock; mount --bind $0 /etc/pyknock; exec "$@"'
    shown = home.path if link else "/etc/pyknock/client.conf"
    environment = {**os.environ, "HOME": str(home.path.parents[2])}
    environment.pop("XDG_CONFIG_HOME", None)
    words = ["unshare", "-m", "sh", "-ec", script, folder, *program("client"), "open", "127.0.0.1"]
    result = run(words, env=environment)
    assert (result.code, result.lines) == (1, [
        f"pyknock client: '{shown}':2: Key: not in /etc/pyknock/client.conf; use KeyFile, or the client.conf of each"
        " user"
    ])  # fmt: skip


def test_of_key_and_key_file_the_first_counts(home, tmp_path):
    home.write(f"Host *\nKeyFile {tmp_path}/none\nKey {KEY2}\n")
    assert home.fails("open", "127.0.0.1", "-n") == "pyknock client: KeyFile: No such file or directory"
    home.write(f"Host *\nKey {KEY2}\nKeyFile {tmp_path}/none\nKey {OTHER_KEY2}\n")
    assert home.run("open", "127.0.0.1", "-n").code == 0


def test_a_short_key_in_the_file_gets_a_warning(home):
    home.write("Host *\nKey short\n")
    assert home.run("open", "127.0.0.1", "-n").lines == [
        "pyknock client: warning: the key is shorter than 16 bytes and may be guessed; pyknock keygen makes a good one"
    ]


@pytest.mark.parametrize("path", ["/home/me/.config/pyknock/home.key", "~/.config/pyknock/home.key"])
def test_a_key_that_looks_like_a_path_gets_a_warning(home, path):
    home.write(f"Host *\nKey {path}\n")
    result = home.run("open", "127.0.0.1", "-n")
    assert (result.code, result.lines) == (0, [
        "pyknock client: warning: Key looks like the name of a file, but is itself the key; to read FILE, write KeyFile"
        " FILE"
    ])  # fmt: skip


SECRET = "Zm9vYmFy7Qx"
HOSTILE = [
    "{}", "{} 7", "Prot {}", "Port {}", "Port {} # {}", "Key{}", "Key pk2.{}", "Key = PK2.{}", 'Key "pk2.{}"',
    'Key " pk2.{}"', "Key pk2.{} x", 'Key "{}', 'Key "{}" {}', "Key x pk2. {}", "KeyFile {}", "KeyFile /pk2.{}",
    "HostName {}@box", "HostName {}:22", "HostName /{}", "HostName {}.invalid", "HostName pk2.{}", "Sign {}",
    "Stun {}:x", "Family {}", "WaitPort {}", "{}=", "Host {}\0", "'{}", "Hostname '{} #", "Key {} \u20ac",
    "KeyFile ~/pk2.{}", "\udcff{} 7", "Key \udcff{}", "KeyFile /{}", "KeyFile ~/{}", "KeyFile /dev/null/{}",
    "HostName {}", "HostName a..{}", "Sign auto\nStun {}.invalid",
]  # fmt: skip


@pytest.mark.parametrize("options", [[], ["-k"]], ids=str)
@pytest.mark.parametrize("line", HOSTILE)
def test_no_message_has_more_of_a_line_than_a_keyword(home, key2_file, line, options):
    options = [*options, key2_file] if options else []
    key = "" if line.startswith("Key") else f"Key {KEY2}\n"
    home.write(f"Host *\n{line}\n{key}".replace("{}", SECRET))
    result = home.run("open", "127.0.0.1", "-v", *options)
    # With a key of the command line, that of the file is not read.
    assert result.code in (1, 3, 5) or options and line.startswith("KeyFile"), result
    output = result.stdout + result.stderr
    assert SECRET not in output and SECRET.lower() not in output.lower() and KEY2[4:20] not in output
