"""server.conf: what it may say, and what the server says about mistakes in it."""

import os

import pytest
from support.configuration import COMMANDS
from support.datagrams import KEY
from support.firewall import NFT
from support.programs import program, run

SETTINGS = [
    "key-file", "keys", "bind-address", "port", "time-drift", "allow-observed-source", "no-version1", "answer", "nft",
    "ipset", "ttl", "grant-prefix4", "grant-prefix6", "open-command", "close-command", "no-shell", "jobs",
    "command-timeout", "state", "close-after", "close-on-exit", "replay-capacity", "grant-capacity",
    "syslog", "log-format", "metrics", "quiet", "verbose", "user", "chroot", "no-sandbox",
]  # fmt: skip


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


@pytest.mark.parametrize(
    "line, text",
    [
        ("echo open $ip # with a comment", "open 192.0.2.1"),
        ("echo open $ip\t#", "open 192.0.2.1"),
        ('"echo open $ip" # in "quotes"', "open 192.0.2.1"),
        ("echo '$ip # is' quoted # it's not", "192.0.2.1 # is quoted"),
        ('"echo $ip \'# is\' quoted"', "192.0.2.1 # is quoted"),
        ("echo $ip#is no comment", "192.0.2.1#is no comment"),
        ("echo $ip \\# is escaped", "192.0.2.1 # is escaped"),
    ],
)
@pytest.mark.parametrize("no_shell", ["yes", "no"])
def test_a_comment_behind_a_command_is_not_a_part_of_it(server, conf, line, text, no_shell):
    conf.write(f"open-command {line}\nno-shell {no_shell} # or not\nport 45123 # for the test\n")
    ours = server("-f", str(conf.path), words=[], port=45123)
    ours.knock()
    assert ours.output.wait_for(".*")[0] == text


def test_a_comment_behind_a_path_is_not_a_part_of_it(conf, tmp_path):
    conf.write(COMMANDS + f"state {tmp_path}/state # a comment\nmetrics {tmp_path}/metrics # another\n")
    (tmp_path / "state").mkdir(mode=0o700)
    result = run([*program("status"), "-f", str(conf.path)])
    assert (result.code, result.stderr) == (3, "")
    conf.write(COMMANDS + f"state {tmp_path}/it's # a comment\n")
    assert conf.fails() == f"'{conf.path}':4: a quote that is not closed"
    conf.write(COMMANDS + "state # a comment\n")
    assert conf.fails() == f"'{conf.path}':4: a keyword without a value"


def test_the_command_line_wins_wherever_it_stands(conf):
    conf.write(COMMANDS + "port 0\nnft inet/pyknock/none\n")
    assert conf.fails() == f"'{conf.path}':4: -p/--port: '0' is not a port number from 1 to 65535"
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
    known = conf.fails().removeprefix(f"'{conf.path}':2: 'list' is not ")
    assert known.split(", ") == SETTINGS
    for name in SETTINGS:
        conf.write(f"{name.upper()} \x01\n")
        assert " is not key-file" not in conf.check().stderr, name


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
    assert conf.fails() == f"'{conf.path}':3: {complaint}"


SECRET = "S3CRET-in-the-wrong-place"


@pytest.mark.parametrize(
    "words",
    [
        ["-f", SECRET, "echo", "echo"],
        ["-f", "CONF", "-p", SECRET],
        ["-f", "CONF", "--jobs", SECRET, "x", "x"],
        ["-f", SECRET + 5000 * "x"],
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
    assert conf.fails() == (
        f"'{conf.path}':1: no keyword with a value (not shown, it may be the key);"
        " to read a key, write -k FILE"
    )
    conf.write("port 1\n" + key + " x\n", key="")
    assert f"'{key.split()[0]}'" in conf.fails()


def test_options_that_do_not_fit_together_are_misuse(conf):
    conf.write(COMMANDS + "ttl 1h\n")
    result = conf.check()
    assert (result.code, result.lines[0]) == (2, "pyknock server: --ttl needs --nft or --ipset")


def test_without_a_key_the_key_is_missing(conf):
    conf.write(COMMANDS, key="")
    result = conf.check()
    assert result.code == 2
    assert result.lines[0] == (
        "pyknock server: no key: write -k FILE or --keys DIR, or the same in the file of -f; operands given: 0"
    )
    assert conf.check(KEY).code == 0


@pytest.mark.parametrize(
    "mode, owner",
    [(0o620, 0), (0o602, 0), pytest.param(0o600, 12345, marks=pytest.mark.other_users)],
    ids=["group", "others", "owner"],
)
def test_a_file_that_others_may_have_written_is_refused(conf, mode, owner):
    conf.write(COMMANDS)
    os.chown(conf.path, owner, 0)
    conf.path.chmod(mode)
    assert conf.fails() == (
        f"'{conf.path}': Permission denied"
        " (it must belong to this user or root, and only its owner may write to it)"
    )


def test_a_file_that_is_none(conf, tmp_path):
    # If FILE is forgotten, the key stands in its place.
    hidden = "configuration file (not shown, it may be the key): No such file or directory"
    conf.path = "server.conf"
    assert conf.fails() == hidden
    assert conf.fails("-k", "/nowhere") == f"'{conf.path}': No such file or directory"
    conf.path = tmp_path / "missing"
    assert conf.fails() == f"'{conf.path}': No such file or directory"
    conf.path = tmp_path
    assert conf.fails() == f"'{tmp_path}': Invalid argument (it is no regular file)"
    conf.path = tmp_path / "big"
    conf.write("#" + 65536 * "x")
    assert conf.fails() == f"'{conf.path}': File too large"
