"""`client import`: a line of keygen becomes a section of client.conf."""

import contextlib
import fcntl
import os
import resource
import signal
import stat

import pytest
from support.processes import NOBODY
from support.programs import TIMEOUT, program, run
from support.terminals import TerminalProcess
from support.version2 import KEY2, OTHER_KEY2

LINE = f"pyknock2:alice@box.example.org:7#{KEY2}\n"
SECTION = f"# The key of alice\nHost {{}}\n    HostName box.example.org\n    Port 7\n    Key {KEY2}\n"
PROMPT = b"line of keygen --line (not shown): "


class Home:
    def __init__(self, path):
        self.path = path
        self.folder = path / ".config/pyknock"
        self.file = self.folder / "client.conf"
        path.mkdir()

    def write(self, text, mode=0o600):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text)
        self.file.chmod(mode)

    def environment(self, more=None):
        environment = {**os.environ, "HOME": str(self.path)}
        environment.pop("XDG_CONFIG_HOME", None)
        return environment | (more or {})

    def run(self, *words, line=LINE, environment=None, **more):
        words = [*program("client"), "import", *words]
        return run(words, stdin=line.encode(), env=self.environment(environment), **more)

    def fails(self, message, *words, **more):
        result = self.run(*words, **more)
        assert (result.code, result.stdout, result.lines) == (1, "", [f"pyknock client: {message}"])


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_the_first_server(home, umask):
    # With 777, the folders must be there already.
    if umask == 0o777:
        home.folder.mkdir(parents=True)
    result = home.run(umask=umask)
    assert (result.code, result.stdout, result.stderr) == (0, "", "")
    assert home.file.read_text() == SECTION.format("box.example.org")
    assert stat.S_IMODE(home.file.stat().st_mode) == 0o600
    assert [path.name for path in home.folder.iterdir()] == ["client.conf"]
    if umask != 0o777:
        assert {stat.S_IMODE(path.stat().st_mode) for path in (home.folder, home.folder.parent)} == {0o700}


def test_it_can_be_used(home):
    assert home.run("box", line=LINE.replace("box.example.org", "127.0.0.1")).code == 0
    result = run([*program("client"), "open", "box", "-n"], env=home.environment())
    assert (result.code, result.stdout, result.stderr) == (0, "open 127.0.0.1 to 127.0.0.1:7\n", "")


def test_what_keygen_prints_can_be_read(home, tmp_path):
    """By import, and as a section pasted by hand. Both are the same."""
    keys = tmp_path / "keys"
    keys.mkdir()
    for host, name in (("[2001:db8::1]:7", "2001:db8::1"), ("192.0.2.1", "192.0.2.1"), ("Box_1.net", "Box_1.net")):
        home.file.unlink(missing_ok=True)
        words = [*program("keygen"), "--keys", keys, "--host", host, "a@b"]
        line = run([*words, "--line"]).stdout
        key = (keys / "a@b").read_text().strip()
        assert home.run(line=line.strip()).code == 0
        (keys / "a@b").unlink()
        section = run(words).stdout
        assert home.file.read_text() == section.replace((keys / "a@b").read_text().strip(), key)
        assert run([*program("client"), "list"], env=home.environment()).stdout == f"{name}\n"
        (keys / "a@b").unlink()


@pytest.mark.parametrize(
    ("old", "separator"),
    [
        ("Host other\n    Port 9\n", "\n"),
        ("# My servers\n\nHost other\nPort 9", "\n"),
        # These lines are for all hosts, and must not become lines of the new one.
        ("Port 9\nHost other\nSign observed\n", "\nHost *\n"),
        ("# all\nport 9\n", "\nHost *\n"),
        (f"Host other\nKey {OTHER_KEY2}\n", "\n"),
        ("", ""),
    ],
)
def test_it_goes_before_the_others(home, old, separator):
    home.write(old)
    result = home.run("home")
    assert (result.code, result.stderr) == (0, "")
    assert home.file.read_text() == SECTION.format("home") + separator + old
    # Another one goes before it.
    assert home.run("work").code == 0
    assert home.file.read_text() == SECTION.format("work") + "\n" + SECTION.format("home") + separator + old


@pytest.mark.parametrize("hosts", ["home", "other home", "a,home", "!home *"])
def test_a_name_that_is_there_is_refused(home, hosts):
    home.write(f"Host x\nHost {hosts}\n")
    message = f"'{home.file}' has a Host with this name; write another: pyknock client import NAME"
    if hosts.startswith("!"):
        assert home.run("home").code == 0
        return
    home.fails(message, "home")
    assert home.file.read_text() == f"Host x\nHost {hosts}\n"
    assert home.run("home2").code == 0
    assert home.run().code == 0
    home.fails(message)


FORM = "standard input: this is no line of pyknock keygen --line; copy all of it"
PLACE = "standard input: no HOST:PORT or [ADDRESS]:PORT between @ and #"
USER = (
    "standard input: the name before @ is not a name of at most 32 characters from a-z 0-9 _ @ - . that begins with"
    " a letter or digit"
)
WRONG = {
    "": FORM, "\n": FORM, f"{KEY2}\n": FORM, f"pyknock2:{KEY2}\n": FORM, f" {LINE}": FORM, LINE.upper(): FORM,
    LINE.replace("pyknock2", "pyknock3"): FORM, 5000 * "x": FORM, LINE.replace("#", " "): FORM,
    LINE.replace("alice", ""): USER, LINE.replace("alice", "Alice"): USER, LINE.replace("alice@", ""): USER,
    LINE.replace("alice", 33 * "a"): USER, LINE.replace("alice", "a\0b"): USER,
    LINE.replace(":7", ""): PLACE, LINE.replace(":7", ":0"): PLACE, LINE.replace(":7", ":65536"): PLACE,
    LINE.replace("box", "b ox"): PLACE, LINE.replace("box", "b*x"): PLACE, LINE.replace("box", "b\x1bx"): PLACE,
    LINE.replace("box.example.org", "2001:db8::1"): PLACE, LINE.replace("box.example.org", "[::]"): PLACE,
    LINE.replace("box.example.org", ""): PLACE, LINE.replace("box", "b\nx"): FORM,
    LINE.replace("#", "#x"): "standard input: the key of version 2 has something before pk2.; remove that",
    LINE.replace("#", "##"): "standard input: the key of version 2 has something before pk2.; remove that",
    LINE.replace("#pk2.", "#PK2."): "standard input: the key of version 2 begins with pk2. in capitals, so the case of"
    " its letters is lost",
    LINE[:-2] + "\n": "standard input: the key of version 2 has another length than 74 characters; copy the whole key"
    " again",
    LINE[:-1] + " \n": "standard input: the key of version 2 has another length than 74 characters; copy the whole key"
    " again",
    LINE[:-9] + "!" + LINE[-8:]: "standard input: the key of version 2 has a character other than letters, digits, -"
    " and _; copy it again",
    LINE[:-9] + LINE[-8:-1] + "A\n": "standard input: the key of version 2 is not what keygen has printed: a character"
    " is wrong; copy it again",
}  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
@pytest.mark.parametrize("words", [[], ["home"]], ids=["alone", "name"])
def test_a_wrong_line_changes_nothing(home, line, words):
    home.fails(WRONG[line], *words, line=line)
    assert list(home.path.iterdir()) == []


@pytest.mark.parametrize("end", ["", "\r\n", "\nmore\n"])
def test_ends_of_the_line(home, end):
    assert home.run(line=LINE[:-1] + end).code == 0
    assert home.file.read_text() == SECTION.format("box.example.org")


@pytest.mark.parametrize("name", ["", "a b", "a,b", "*", "b?x", "!x", "#x", "-x", '"x"', LINE.strip(), KEY2, "z\u00fc"])
def test_other_names_are_refused(home, name):
    result = run([*program("client"), "import", "--", name], stdin=LINE.encode(), env=home.environment())
    assert (result.code, result.stdout) == (2, "")
    assert result.lines[0] == (
        "pyknock client: NAME: the value (not shown, it may be the key) is not a name of letters, digits, - _ and ."
        " (the line is read from standard input)"
    )
    assert list(home.path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o644])
def test_a_file_that_others_can_read_is_refused(home, mode):
    home.write("Host other\n", mode)
    home.fails(f"others can read '{home.file}'; first run: chmod 600 '{home.file}'")
    assert home.file.read_text() == "Host other\n"


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_symbolic_link_is_refused(home, target):
    """It may lead into a collection of settings that others get, too."""
    home.folder.mkdir(parents=True)
    (home.folder / "there").write_text("Host other\n")
    home.file.symlink_to(target)
    home.fails(f"'{home.file}' is a symbolic link, which would be replaced; add the section by hand")
    assert (home.folder / "there").read_text() == "Host other\n"
    assert home.file.is_symlink()


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_or_folder_that_others_may_write_is_refused(home, mode):
    home.write("Host other\n", mode)
    home.fails(f"'{home.file}': Permission denied")
    home.file.chmod(0o600)
    home.folder.chmod(0o777)
    home.fails(f"'{home.folder}': Permission denied")
    home.folder.chmod(0o755)
    assert home.run().code == 0


def test_a_file_with_a_mistake_is_not_changed(home):
    home.write("Host other\nPort x\n")
    home.fails(f"'{home.file}':2: Port: the value is not a port number from 1 to 65535")
    assert home.file.read_text() == "Host other\nPort x\n"


def test_a_file_that_would_be_too_long(home):
    text = "#" * (65_536 - len(SECTION.format("home")) - 2) + "\n"
    home.write("#" + text)
    home.fails(f"'{home.file}': File too large", "home")
    home.write(text)
    assert home.run("home").code == 0
    assert run([*program("client"), "list"], env=home.environment()).stdout == "home\n"


def test_xdg_config_home(home, tmp_path):
    assert home.run(environment={"XDG_CONFIG_HOME": f"{tmp_path}/xdg"}).code == 0
    assert (tmp_path / "xdg/pyknock/client.conf").read_text() == SECTION.format("box.example.org")
    assert home.run(environment={"XDG_CONFIG_HOME": "xdg"}).code == 0
    assert home.file.exists()


def test_without_a_home(home):
    for value in "", "home":
        home.fails("neither XDG_CONFIG_HOME nor HOME is set to a directory", environment={"HOME": value})


def test_without_the_right_to_write(home):
    home.path.rmdir()
    home.fails(f"'{home.folder}': No such file or directory")


@pytest.mark.other_users
def test_root_does_not_change_the_file_of_another_user(home):
    """As with sudo, which may leave HOME as it was."""
    home.write("Host other\n")
    os.chown(home.file, NOBODY, NOBODY)
    home.fails(f"'{home.file}': Permission denied")
    assert home.file.read_text() == "Host other\n"


def test_on_a_full_disk_nothing_is_lost(home):
    def forbid_writing():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))

    # Python ignores SIGXFSZ, and the program inherits this, so that the write fails.
    home.write("Host other\n")
    home.fails(f"'{home.file}': File too large", preexec_fn=forbid_writing, restore_signals=False)
    assert home.file.read_text() == "Host other\n"
    assert [path.name for path in home.folder.iterdir()] == ["client.conf"]


@pytest.mark.usefixtures("not_emulated")
def test_when_only_the_folder_cannot_be_synchronized_the_section_is_there(home):
    home.write("Host other\n")
    strace = ["strace", "-qq", "-o/dev/null", "-einject=fsync:error=EIO:when=2"]
    result = run([*strace, *program("client"), "import"], stdin=LINE.encode(), env=home.environment())
    warning = f"pyknock client: warning: '{home.file}' has the section, but may lose it in a power cut: "
    # musl, and glibc.
    assert result.lines in ([warning + "I/O error"], [warning + "Input/output error"])
    assert result.code == 0
    assert home.file.read_text() == SECTION.format("box.example.org") + "\nHost other\n"


@pytest.mark.parametrize("call", ["fchmod", "write", "fsync", "renameat"])
def test_killed_at_any_moment_nothing_is_lost(home, killed, call):
    home.write("Host other\n")
    result = home.run(environment={"LD_PRELOAD": str(killed), "KILLED": call})
    assert result.code == -signal.SIGKILL
    assert home.file.read_text() == "Host other\n"
    assert sorted(path.name for path in home.folder.iterdir()) == ["client.conf", "client.conf.new"]
    assert stat.S_IMODE((home.folder / "client.conf.new").stat().st_mode) == 0o600
    assert home.run().code == 0
    assert home.file.read_text() == SECTION.format("box.example.org") + "\nHost other\n"
    assert [path.name for path in home.folder.iterdir()] == ["client.conf"]


def test_two_at_once_do_not_meet(home):
    home.write("Host other\n")
    folder = os.open(home.folder, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    home.fails(f"'{home.folder}': Resource temporarily unavailable")
    os.close(folder)
    assert home.run().code == 0


def test_the_line_is_not_shown_on_a_terminal(home):
    words = ["env", "-u", "XDG_CONFIG_HOME", f"HOME={home.path}", *program("client"), "import", "home"]
    with contextlib.closing(TerminalProcess(*words)) as ours:
        ours.wait_for(PROMPT)
        assert not ours.echoes()
        ours.type(LINE.encode())
        assert ours.popen.wait(TIMEOUT) == 0
        assert ours.echoes()
        assert KEY2.encode() not in ours.text
    assert home.file.read_text() == SECTION.format("home")


@pytest.mark.parametrize("words", [["import", "a", "b"], ["import", "-z"]])
def test_mistakes_in_the_command_line(home, words):
    result = run([*program("client"), *words], stdin=LINE.encode(), env=home.environment())
    assert result.code == 2
    assert list(home.path.iterdir()) == []
