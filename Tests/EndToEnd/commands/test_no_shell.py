"""--no-shell: words are split once, and no shell runs them."""

import pytest
from support.datagrams import CLOSE
from support.programs import program, run

WORDS = [
    ("echo '  a  b  ' c", ["  a  b  ", "c"]),
    (r"echo a\ b\\ \'", ["a b\\", "'"]),
    (r'''echo "a \" \\ \n \$ 'b'" 'c "d" \'"e"''', ["a \" \\ \\n $ 'b'", 'c "d" \\e']),
    ("  echo\ta\n b  ", ["a", "b"]),
    ("echo '' \"\"", ["", ""]),
    ("echo x$ip-y ${cmd}z '$af' \"$ip\"", ["x2001:db8::1-y", "openz", "inet6", "2001:db8::1"]),
    ("echo $HOME $(date) * | > ; & # ~", ["$HOME", "$(date)", "*", "|", ">", ";", "&", "#", "~"]),
    ("echo '$'ip $$ip", ["2001:db8::1", "$ip"]),
]


@pytest.mark.parametrize("command, words", WORDS)
def test_no_shell_splits_words_once_and_then_substitutes(server, command, words):
    command = command.replace("echo", r"printf '<%s>\n'", 1)
    ours = server("--no-shell", on_open=command)
    ours.knock("2001:db8::1")
    ours.wait_for_counters(succeeded=1)
    ours.stop()
    assert ours.output.wait_for_end() == [f"<{word}>" for word in words]


@pytest.mark.parametrize("options", [[], ["-n"]], ids=["start", "check"])
@pytest.mark.parametrize(
    "commands, name, shown, error",
    [
        (["no-such-program $ip", ""], "OPEN_CMD", "no-such-program", "No such file or directory"),
        (["true", "/no/such/program $ip"], "CLOSE_CMD", "/no/such/program", "No such file or directory"),
        ([__file__, "true"], "OPEN_CMD", __file__, "Permission denied"),
        (["/tmp $ip", ""], "OPEN_CMD", "/tmp", "Permission denied"),
        (["'' $ip", ""], "OPEN_CMD", "", "No such file or directory"),
        (["'/x\ny'", ""], "OPEN_CMD", r"/x\x0ay", "No such file or directory"),
    ],
    ids=["name", "path", "file", "directory", "empty", "line"],
)
def test_what_is_no_program_ends_the_server_at_start(key_file, options, commands, name, shown, error):
    result = run([*program("server"), *options, "-k", key_file, "--no-shell", *commands])
    assert (result.code, result.stdout) == (1, "")
    assert result.lines == [f"pyknock server: {name}: cannot run '{shown}': {error}"]


def test_the_program_is_not_shown_where_it_may_be_the_key():
    result = run([*program("server"), "--no-shell", "a long enough word", "true", "/no/such"])
    assert result.code == 1
    assert result.lines[-1] == (
        "pyknock server: CLOSE_CMD: cannot run the value (not shown, it may be the key):"
        " No such file or directory"
    )


def test_a_program_that_is_known_only_at_the_knock_is_logged_there(server):
    ours = server("-q", "--no-shell", on_open="no-$af $ip", on_close="echo $cmd", wait=False)
    ours.wait_until_ready()
    ours.knock()
    ours.log.wait_for(
        r"^pyknock server: command not started: open 192\.0\.2\.1: No such file or directory$"
    )
    ours.knock(command=CLOSE)
    ours.output.wait_for("close")
    assert ours.counters()["not-started"] == 1
