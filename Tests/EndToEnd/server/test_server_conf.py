"""server.conf: what it may say, what is wrong in it, and what a hangup reads anew."""

import os
import re
import signal

import pytest
from support.datagrams import KEY, packet
from support.firewall import NFT
from support.programs import program, run

SETTINGS = [
    "bind-address", "port", "time-drift", "key-file", "allow-observed-source", "nft", "ipset", "ttl",
    "grant-prefix4", "grant-prefix6", "open-command", "close-command", "no-shell", "jobs",
    "command-timeout", "close-after", "close-on-exit", "state", "replay-capacity", "grant-capacity",
    "metrics", "syslog", "log-format", "user", "chroot", "no-sandbox", "quiet", "verbose",
]  # fmt: skip
COMMANDS = "open-command echo $cmd $ip\nclose-command echo $cmd $ip\n"
OTHER_KEY = "another key that is long enough"


@pytest.fixture
def conf(tmp_path, key_file):
    """server.conf, which names the key file."""

    class Conf:
        path = tmp_path / "server.conf"

        def write(self, text, key=f"key-file {key_file}\n"):
            self.path.write_text(key + text)
            self.path.chmod(0o600)

        def check(self, *more):
            return run([*program("server"), "-n", "-f", str(self.path), *more])

        def fails(self, *more):
            """The line that says what is wrong."""
            result = self.check(*more)
            assert (result.code, result.stdout) == (1, "")
            [line] = result.lines
            return line.removeprefix("pyknock server: ")

    return Conf()


@pytest.fixture
def started(server, conf):
    """Starts a server by its configuration file."""

    def start(*options, text=COMMANDS, **more):
        conf.write(text)
        return server(*options, "-f", str(conf.path), words=[], **more)

    return start


def test_a_file_is_enough(started):
    ours = started()
    ours.knock("192.0.2.7")
    ours.output.wait_for(r"^open 192\.0\.2\.7$")
    assert ours.stop() == 0


def test_comments_quotes_blanks_and_case_are_as_in_client_conf(server, conf):
    conf.write(
        '# at home\r\n\n  Port = "0x"\n'.replace("0x", "45123")
        + "\tOPEN-COMMAND \"echo  'two  blanks' $ip\"\nno-shell no\nno-shell\tyes\n"
    )
    ours = server("-f", str(conf.path), words=[], port=45123)
    ours.knock()
    ours.output.wait_for(r"^two  blanks 192\.0\.2\.1$")


def test_the_command_line_wins_wherever_it_stands(conf):
    conf.write(COMMANDS + "port 0\nnft inet/pyknock/none\n")
    assert conf.fails() == f"{conf.path}:4: -p/--port: '0' is not a port number from 1 to 65535"
    conf.write(COMMANDS + "port 1\nbind-address 192.0.2.77\nlog-format xml\n")
    result = run([*program("server"), "-p", "45124", "-n", "-b127.0.0.1", "--log-format=text", "-f", str(conf.path)])
    assert (result.code, result.stdout, result.stderr) == (0, "configuration OK\n", "")
    assert conf.check("--log-format=text", "-b", "127.0.0.1", "-p", "45124").code == 0


def test_operands_win_over_the_commands_of_the_file(started):
    ours = started("echo operand $ip", "")
    ours.knock()
    ours.output.wait_for(r"^operand 192\.0\.2\.1$")


def test_commands_as_options(server, key_file):
    ours = server("-k", str(key_file), "--open-command=echo an option", words=[])
    ours.knock()
    ours.output.wait_for("^an option$")


def test_an_unknown_name_gets_all_that_are_known(conf):
    conf.write("list yes\n")
    known = conf.fails().removeprefix(f"{conf.path}:2: 'list' is not ")
    assert known.split(", ") == SETTINGS
    for name in SETTINGS:
        conf.write(f"{name.upper()} \x01\n")
        assert " is not bind-address" not in conf.check().stderr, name


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("port", "a keyword without a value"),
        ('port "1', "a quote that is not closed"),
        ("port 1\0", "a NUL in the line"),
        ('open-command "echo" "a b"', "a quote inside quotes: leave out the outer ones"),
        ('open-command "/opt/my gate" $ip', "a quote inside quotes: leave out the outer ones"),
        ("metrics /run/", "--metrics: '/run/' is not a file"),
        ("jobs 65", "--jobs: '65' is not a number from 1 to 64"),
        ("no-shell maybe", "--no-shell: 'maybe' is not yes or no"),
        ("log-format xml", "--log-format: 'xml' is not text or json"),
        ("ttl \x1b[2J", r"--ttl: '\x1b[2J' is not a duration such as 90, 15m, 2h or 1d, at most 366 days"),
        ("n yes", "'n' is not " + ", ".join(SETTINGS)),
    ],
)
def test_what_is_wrong_is_told_with_its_line(conf, text, complaint):
    conf.write(f"# one\n{text}\n")
    assert conf.fails() == f"{conf.path}:3: {complaint}"


SECRET = "S3CRET-in-the-wrong-place"


@pytest.mark.parametrize(
    "words",
    [
        ["-f", SECRET, "echo", "echo"],
        ["-f", "CONF", "-p", SECRET],
        ["-f", "CONF", "--jobs", SECRET, "x", "x"],
        ["-f", SECRET + "/" + 5000 * "x"],
        ["-f", "CONF", SECRET],
        ["-f", "CONF", "--nft", SECRET, "key"],
    ],
)
def test_a_key_in_the_command_line_is_not_printed(conf, words):
    conf.write(COMMANDS + "bind-address x\n", key="")
    words = [str(conf.path) if word == "CONF" else word for word in words]
    result = run([*program("server"), *words])
    assert result.code in (1, 2)
    assert SECRET not in result.stderr


@pytest.mark.parametrize(
    "options, text, is_quiet",
    [(["-v"], "quiet yes\n", False), (["-q"], "verbose yes\nverbose yes\n", True)],
)
def test_how_much_is_logged_is_for_the_command_line_to_say(server, conf, options, text, is_quiet):
    conf.write(COMMANDS + text)
    ours = server(*options, "-f", str(conf.path), words=[], wait=False)
    ours.wait_until_ready()
    ours.knock()
    ours.output.wait_for("^open")
    ours.stop()
    assert bool(ours.log.wait_for_end()) != is_quiet


def test_a_set_of_the_command_line_takes_the_place_of_that_of_the_file(start, firewall, conf, kind):
    firewall.load_example()
    conf.write("ipset a,b\n" if kind == "nft" else f"nft {NFT}\n")
    ours = start("-f", str(conf.path), words=[])
    ours.knock("192.0.2.3")
    ours.wait_for_counters(set_changed=1)


@pytest.mark.parametrize("key", ["a passphrase of words", "secret"])
def test_a_key_in_the_place_of_the_file_is_not_printed(conf, key):
    conf.write(key + "\n", key="")
    line = conf.fails()
    assert line.startswith(f"{conf.path}:1: ")
    for word in key.split():
        assert word not in line.replace("is not", "") or word in ("a", "of")
    conf.write("port 1\n" + key + " x\n", key="")
    assert f":2: '{key.split()[0]}' is not" in conf.fails()


def test_options_that_do_not_fit_together_are_misuse(conf):
    conf.write(COMMANDS + "ttl 1h\n")
    result = conf.check()
    assert (result.code, result.lines[0]) == (2, "pyknock server: --ttl needs --nft or --ipset")


def test_without_a_key_the_key_is_missing(conf):
    conf.write(COMMANDS, key="")
    result = conf.check()
    assert result.code == 2
    assert result.lines[0] == (
        "pyknock server: operands: PSK OPEN_CMD CLOSE_CMD (1) needed, 0 given"
    )
    assert conf.check(KEY).code == 0


@pytest.mark.parametrize(
    "mode, owner", [(0o620, 0), (0o602, 0), (0o600, 12345)], ids=["group", "others", "owner"]
)
def test_a_file_that_others_may_have_written_is_refused(conf, mode, owner):
    conf.write(COMMANDS)
    os.chown(conf.path, owner, 0)
    conf.path.chmod(mode)
    assert conf.fails() == (
        f"'{conf.path}': Permission denied"
        " (it must belong to us or root, and only its owner may write to it)"
    )


def test_a_file_that_is_none(conf, tmp_path):
    # Who forgets FILE gives the key in its place.
    hidden = "configuration file (not shown, it may be the key): No such file or directory"
    assert conf.fails() == hidden
    assert conf.fails("-k", "/nowhere") == f"'{conf.path}': No such file or directory"
    conf.path = tmp_path
    assert conf.fails() == f"'{tmp_path}': Invalid argument"
    conf.path = tmp_path / "big"
    conf.write("#" + 65536 * "x")
    assert conf.fails() == f"'{conf.path}': File too large"


def test_the_state_of_a_configuration_file_is_listed(conf, tmp_path):
    conf.write(f"state {tmp_path}\n")
    result = run([*program("server"), "-f", str(conf.path), "--list", "--json"])
    assert (result.code, result.stdout, result.stderr) == (0, "[]\n", "")


# Reload


def reload(ours, count=1):
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("^pyknock server: (reloaded key and commands|not reloaded, going on as before)$", count)


def test_a_hangup_reads_key_and_commands_anew(started, conf, key_file):
    ours = started()
    ours.knock("192.0.2.1")
    ours.output.wait_for(r"^open 192\.0\.2\.1$")
    conf.write("open-command echo new $ip\n")
    key_file.write_text(OTHER_KEY)
    reload(ours)
    ours.knock("192.0.2.2")  # with the old key
    ours.knock("192.0.2.3", key=OTHER_KEY)
    ours.output.wait_for(r"^new 192\.0\.2\.3$")
    # The close command is gone.
    ours.knock("192.0.2.4", 2, key=OTHER_KEY)
    counters = ours.wait_for_counters(accepted=3, queued=0, running=0)
    assert (counters["bad-mac"], counters["succeeded"]) == (1, 2)
    assert ours.stop() == 0
    assert ours.output.wait_for_end() == ["open 192.0.2.1", "new 192.0.2.3"]
    assert not ours.log.matching("not reloaded")


def test_a_reload_forgets_no_knock_and_no_grant(server, conf, tmp_path):
    state = tmp_path / "state"
    conf.write(COMMANDS)
    ours = server("-f", str(conf.path), "--state", str(state), "--close-after=1h", words=[])
    datagram = ours.knock("192.0.2.1")
    ours.output.wait_for("^open")
    for number in range(1, 5):
        reload(ours, number)
    ours.send(datagram)
    counters = ours.wait_for_counters(replayed=1)
    assert (counters["open"], counters["accepted"]) == (1, 1)
    listed = run([*program("server"), "--state", str(state), "--list"]).stdout
    assert "192.0.2.1" in listed


def test_many_reloads_take_no_memory(started, conf, not_emulated):
    ours = started()

    def size():
        status = open(f"/proc/{ours.pid}/status").read()
        maps = len(open(f"/proc/{ours.pid}/maps").readlines())
        return int(re.search(r"VmSize:\s+(\d+)", status)[1]), maps

    for number in range(1, 5):
        reload(ours, number)
    before = size()
    for number in range(5, 60):
        if number == 30:
            conf.write(COMMANDS + "jobs nonsense\n")
        reload(ours, number)
    assert size() == before
    assert len(ours.log.matching("not reloaded")) == 30
    ours.knock()
    ours.output.wait_for("^open")


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("jobs x\n", "{conf}:2: --jobs: 'x' is not a number from 1 to 64"),
        ("no-shell yes\n" + "open-command /bin/sh '\n", "OPEN_CMD: the quote ' is not closed"),
        ("key-file /nowhere/key\n", "key file (not shown, it may be the key itself): No such file or directory"),
    ],
)
def test_a_broken_file_keeps_the_old_one_running(server, conf, text, complaint):
    conf.write(COMMANDS + "no-shell yes\n")
    ours = server("-f", str(conf.path), words=[])
    conf.write(text)
    reload(ours)
    ours.log.wait_for("^pyknock server: " + re.escape(complaint.format(conf=conf.path)) + "$")
    ours.log.wait_for("not reloaded")
    ours.knock()
    ours.output.wait_for(r"^open 192\.0\.2\.1$")


@pytest.mark.parametrize(
    "key, complaint",
    [
        ("", "the key is empty"),
        ("a\0b", "the key has a NUL byte in it"),
        (5000 * "x", "the key is longer than 4096 bytes"),
        ("euro €", "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs"),
    ],
)
def test_a_bad_key_keeps_the_old_one(server, key_file, key, complaint):
    ours = server("-k", str(key_file), words=["echo $ip", ""])
    key_file.write_text(key)
    reload(ours)
    ours.log.wait_for(re.escape(f"pyknock server: key file '{key_file}': {complaint}"))
    ours.knock()
    ours.output.wait_for(r"^192\.0\.2\.1$")


def test_a_pipe_does_not_hold_a_reload_up(server, key_file):
    ours = server("-k", str(key_file), words=["echo $ip", ""])
    key_file.unlink()
    os.mkfifo(key_file)
    ours.signal(signal.SIGHUP)
    with open(os.open(key_file, os.O_WRONLY), "w"):
        ours.log.wait_for("no line came within 1 seconds")
        ours.log.wait_for("not reloaded")
    ours.knock()
    ours.output.wait_for(r"^192\.0\.2\.1$")


def test_what_closes_must_stay(server, conf, tmp_path):
    conf.write(COMMANDS)
    ours = server(
        "-f", str(conf.path), "--state", str(tmp_path / "state"), "--close-after=1h", words=[]
    )
    conf.write("open-command echo new\n")
    reload(ours)
    ours.log.wait_for("^pyknock server: there is no close-command any more, and no set$")
    ours.log.wait_for("not reloaded")


def test_something_must_be_left_to_do(started, conf):
    ours = started()
    conf.write("")
    reload(ours)
    ours.log.wait_for("^pyknock server: there is no command any more, and no set$")
    ours.log.wait_for("not reloaded")
    ours.knock()
    ours.output.wait_for("^open")


def test_what_only_a_start_can_change_is_told(started, conf):
    ours = started(text=COMMANDS + "jobs 2\n")
    conf.write(COMMANDS + "jobs 3\n")
    reload(ours)
    ours.log.wait_for(
        "^pyknock server: warning: what else has changed in the configuration file counts from the next start$"
    )
    ours.log.wait_for("reloaded key")
    conf.write(COMMANDS.replace("echo", "echo x") + "jobs 2\n")
    reload(ours, 2)
    assert len(ours.log.matching("counts from the next start")) == 1


def test_sets_alone_take_a_new_key_but_no_commands(start, firewall, conf, key_file, kind):
    firewall.load_example()
    name, _, value = firewall.sets.removeprefix("--").partition("=")
    conf.write(f"{name} {value}\n")
    ours = start("-f", str(conf.path), sets="-q", words=[], wait=False)
    ours.wait_until_ready()
    key_file.write_text(OTHER_KEY)
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("reloaded key and commands")
    ours.send(packet("192.0.2.9", key=OTHER_KEY))
    ours.wait_for_counters(set_changed=1)
    assert "192.0.2.9" in firewall.elements()
    conf.write(f"{name} {value}\n{COMMANDS}")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for(
        "^pyknock server: commands need another start: the server has given up the rights that they may need$"
    )
    ours.log.wait_for("not reloaded")


def test_without_a_key_file_a_hangup_stops_the_server(server):
    for words in (["-k", "-", "exit", ""], [KEY, "exit", ""]):
        ours = server(words=words, stdin=KEY.encode())
        ours.signal(signal.SIGHUP)
        assert ours.exit_code() == 0
        ours.log.wait_for("^pyknock server: stopping on SIGHUP$")
