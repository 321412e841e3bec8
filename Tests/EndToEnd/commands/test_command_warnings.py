"""What the server says about commands that are most likely a mistake. They are taken as they are."""

import pytest
from support.configuration import COMMANDS, ServerConf
from support.programs import program, run

NO_IP = (
    "pyknock server: warning: {} has no $ip: put the command in single quotes ('),"
    ' because in double quotes (") the shell replaces $ip'
)
SYNTAX = (
    "pyknock server: warning: {} has {}, which only a shell understands: put it in single quotes (')"
    " inside the command, or leave out --no-shell"
)


@pytest.fixture
def check(key_file):
    def check(*words):
        result = run([*program("server"), "-n", "-p60119", "-k", key_file, *words])
        assert (result.code, result.stdout) == (0, "configuration OK\n")
        return result.lines

    return check


@pytest.fixture
def conf(tmp_path, key_file):
    return ServerConf(tmp_path / "server.conf", key_file)


def test_double_quotes_lose_the_address(key_file):
    script = '"$@" "iptables -I INPUT -s $ip -j ACCEPT" "iptables -D INPUT -s ${ip}/32 -j ACCEPT"'
    words = [*program("server"), "-n", "-p60119", "-k", key_file]
    result = run(["sh", "-c", script, "sh", *words])
    assert (result.code, result.stdout) == (0, "configuration OK\n")
    assert result.lines == [NO_IP.format("OPEN_CMD"), NO_IP.format("CLOSE_CMD")]


@pytest.mark.parametrize("command", ["echo open", "echo $IP", "echo $ipx", "echo $$ip", "echo $af $cmd", "echo "])
def test_a_command_without_the_address_warns(check, command):
    assert check(command, "") == [NO_IP.format("OPEN_CMD")]
    assert check("", command) == [NO_IP.format("CLOSE_CMD")]
    assert check("", f"--close-command={command}", "true $ip") == []
    assert check(f"--open-command={command}") == [NO_IP.format("OPEN_CMD")]


@pytest.mark.parametrize(
    "command", ["", "true", "/bin/true", "echo $ip", "echo ${ip}/32", "echo $PYKNOCK_IP", "sh -c 'x \"$PYKNOCK_IP\"'"]
)
def test_a_command_that_may_know_the_address_gets_no_warning(check, command):
    assert check(command, command) == []


def test_a_command_of_a_file_cannot_have_lost_its_address_to_a_shell(conf):
    conf.write("open-command echo open\nclose-command echo $ip\n")
    result = conf.check()
    assert (result.code, result.lines) == (
        0, ["pyknock server: warning: OPEN_CMD has no $ip, so it is the same for each address"]
    )  # fmt: skip


SHELL_COMMANDS = {
    "echo $ip | cat": "|", "echo $ip && true": "&", "echo $ip; true": ";", "echo $ip > /dev/null": ">",
    "echo $ip $HOME": "$", "echo $ip $(date)": "$", "echo $ip `date`": "`", "echo $ip *": "*",
    'echo $ip "$HOME"': "$", "echo $ip ~/x": "~", "echo $ip # x": "#", "echo $ip < /dev/null": "<",
}  # fmt: skip


@pytest.mark.parametrize("command, syntax", SHELL_COMMANDS.items())
def test_shell_syntax_without_a_shell_warns(check, command, syntax):
    assert check("--no-shell", command, "") == [SYNTAX.format("OPEN_CMD", syntax)]
    assert check("--no-shell", "", command) == [SYNTAX.format("CLOSE_CMD", syntax)]
    assert check(command, command) == []


@pytest.mark.parametrize(
    "command",
    ["echo $ip '| & ; < > $HOME `x` * ~ #'", 'echo "{ $ip } | ;"', r"echo $ip \;", "echo { ${ip} } a#b"],
)
def test_quoted_syntax_gets_no_warning(check, command):
    assert check("--no-shell", command, command) == []


def test_a_reload_warns_again(server, conf):
    conf.write(COMMANDS + "port 45123\n")
    ours = server("-f", str(conf.path), words=[], port=45123)
    assert not ours.log.matching("warning")
    conf.write("open-command echo open\nport 45123\n")
    ours.signal(1)
    ours.log.wait_for("warning: OPEN_CMD has no [$]ip, so it is the same for each address$")
