"""What is run for a knock: how, in what order, and what is said about its end."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from support.datagrams import CLOSE, packet
from support.programs import program, run
from support.waiting import until

# The template, and what the shell then prints for open 192.0.2.1 with HOME=/home/knock.
TEMPLATES = [
    ("echo $ip $af $cmd", "192.0.2.1 inet open"),
    ("echo ${ip}/${af}-${cmd}x", "192.0.2.1/inet-openx"),
    ("echo '$ip' \"$af\"", "192.0.2.1 inet"),
    ("echo $HOME ${HOME}", "/home/knock /home/knock"),
    ("echo $(echo nested $ip) `echo old`", "nested 192.0.2.1 old"),
    ("echo $((1 + 2))", "3"),
    ("echo $$HOME $${HOME}", "/home/knock /home/knock"),
    ("ip=mine; echo $$ip $ip", "mine 192.0.2.1"),
    ("ipx=a IP=b; echo $ipx $IP ${ip}x", "a b 192.0.2.1x"),
    ("set -- one two; echo $1 $# ${2}", "one 2 two"),
    ("echo 'US$' $", "US$ $"),
    ("ip_=a; echo $ip_ $ip-", "a 192.0.2.1-"),
    ("echo a; echo b | tr b c && echo d #$ip", "a c d"),
    ('echo "$PYKNOCK_IP $PYKNOCK_AF $PYKNOCK_CMD"', "192.0.2.1 inet open"),
]


@pytest.mark.parametrize("template, printed", TEMPLATES)
def test_a_template_is_substituted_and_run_by_the_shell(server, template, printed):
    ours = server("-v", on_open=template, env={**os.environ, "HOME": "/home/knock"})
    ours.knock()
    ours.log.wait_for(r"^pyknock server: command ended: open 192\.0\.2\.1: exit status 0$")
    ours.stop()
    assert " ".join(ours.output.wait_for_end()) == printed


@pytest.mark.parametrize("shell", [["--no-shell"], []])
def test_the_environment_has_the_knock_and_what_the_server_has(server, shell):
    inherited = {"PYKNOCK_IP": "evil", "PYKNOCK_AF": "evil", "PYKNOCK_CMD": "evil", "KEPT": "kept"}
    ours = server("-v", *shell, on_open="env", env={**os.environ, **inherited, "PYKNOCK_IPX": "x"})
    ours.knock("2001:db8::1")
    ours.knock("192.0.2.1", command=CLOSE)
    ours.log.wait_for("command ended", 2)
    ours.stop()
    lines = ours.output.wait_for_end()
    assert sorted(line for line in lines if re.match("PYKNOCK_(IP|AF|CMD)|KEPT=", line)) == [
        "KEPT=kept", "KEPT=kept", "PYKNOCK_AF=inet", "PYKNOCK_AF=inet6", "PYKNOCK_CMD=close",
        "PYKNOCK_CMD=open", "PYKNOCK_IP=192.0.2.1", "PYKNOCK_IP=2001:db8::1", "PYKNOCK_IPX=x",
        "PYKNOCK_IPX=x",
    ]  # fmt: skip


def descriptors_of_command(ours):
    """What /proc/self/fd has for a command, without the folder itself."""
    ours.knock()
    ours.wait_for_counters(succeeded=1)
    ours.stop()
    links = [line.split(" ")[-3::2] for line in ours.output.wait_for_end() if "->" in line]
    return {number: target for number, target in links if not target.endswith("/fd")}


def test_a_command_has_no_descriptor_but_the_standard_ones(server):
    links = descriptors_of_command(server("--no-shell", on_open="ls -l /proc/self/fd"))
    assert set(links) == {"0", "1", "2"}
    assert links["0"] == "/dev/null"


def test_a_command_has_no_descriptor_that_the_server_inherited(server, tmp_path):
    """With `-k /dev/fd/N` a command could otherwise read the key."""
    with open(tmp_path / "key", "w+") as key:
        key.write("a key that is long enough\n")
        key.flush()
        words = ["-k", f"/dev/fd/{key.fileno()}", "ls -l /proc/self/fd", ""]
        options = {"words": words, "pass_fds": [key.fileno()], "key": "a key that is long enough"}
        os.fchmod(key.fileno(), 0o600)
        links = descriptors_of_command(server("--no-shell", **options))
    assert set(links) == {"0", "1", "2"}


def test_a_command_leads_a_process_group_of_its_own(server):
    ours = server(
        on_open="read pid comm state parent group rest < /proc/$$$$/stat; echo $$$$ $group"
    )
    ours.knock()
    process, group = ours.output.wait_for(r"^(\d+) (\d+)$").groups()
    assert process == group != str(os.getpgid(ours.pid))


def test_a_command_has_the_signals_that_the_server_was_started_with(server):
    # Python leaves PIPE ignored: the server's children should not see that.
    ours = server("--no-shell", on_open="grep Sig /proc/self/status", restore_signals=False)
    ours.knock()
    blocked = int(ours.output.wait_for(r"^SigBlk:\s+(\w+)")[1], 16)
    ignored = int(ours.output.wait_for(r"^SigIgn:\s+(\w+)")[1], 16)
    assert blocked == 0
    for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        assert not ignored >> number - 1 & 1


# Without the shell

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


def test_a_program_with_a_path_that_is_missing_ends_the_server_at_start(key_file):
    result = run([*program("server"), "-k", key_file, "--no-shell", "true", "/no/such/program $ip"])
    assert result.code == 1
    assert result.lines == [
        "pyknock server: CLOSE_CMD: cannot run '/no/such/program': No such file or directory"
    ]


def test_a_program_that_may_not_be_run_ends_the_server_at_start(key_file):
    result = run([*program("server"), "-k", key_file, "--no-shell", f"{key_file} $ip", "true"])
    assert result.code == 1
    assert result.lines == [f"pyknock server: OPEN_CMD: cannot run '{key_file}': Permission denied"]


@pytest.mark.parametrize(
    "command, shown, error",
    [
        ("no-such-program $ip", "no-such-program", "No such file or directory"),
        ("/tmp $ip", "/tmp", "Permission denied"),
        ("'' $ip", "", "No such file or directory"),
        ("'/x\ny'", r"/x\x0ay", "No such file or directory"),
    ],
)
def test_what_is_no_program_ends_the_server_at_start(key_file, command, shown, error):
    result = run([*program("server"), "-n", "-k", key_file, "--no-shell", command, ""])
    assert (result.code, result.stdout) == (1, "")
    assert result.lines == [f"pyknock server: OPEN_CMD: cannot run '{shown}': {error}"]


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


@pytest.mark.parametrize("shell", [[], ["--no-shell"]])
def test_an_empty_command_does_nothing(server, shell):
    ours = server("-v", *shell, on_open="", on_close="echo closed")
    ours.knock()
    ours.log.wait_for(r"^pyknock server: the command is empty: open 192\.0\.2\.1$")
    ours.knock(command=CLOSE)
    ours.output.wait_for("closed")
    ours.wait_for_counters(accepted=2, succeeded=1, failed=0, not_started=0, running=0)


# How commands end


@pytest.mark.parametrize(
    "command, end", [("exit 3", "exit status 3"), ("kill -9 $$$$", "signal 9")]
)
def test_a_command_that_fails_is_logged_with_its_knock(server, command, end):
    ours = server("-q", on_open=command, wait=False)
    ours.wait_until_ready()
    ours.knock("2001:db8::7")
    ours.log.wait_for(f"^pyknock server: command ended: open 2001:db8::7: {end}$")
    assert ours.wait_for_counters(failed=1)["succeeded"] == 0


def is_alive(process):
    return Path(f"/proc/{process}").exists()


def test_a_command_that_takes_too_long_gets_term(server):
    ours = server("--command-timeout", "1", on_open="sleep 600", on_close="echo next")
    start = time.monotonic()
    ours.knock()
    ours.knock(command=CLOSE)
    ours.log.wait_for(r"^pyknock server: command timed out, sent TERM: open 192\.0\.2\.1$")
    assert time.monotonic() - start >= 1
    ours.log.wait_for(r"^pyknock server: command ended: open 192\.0\.2\.1: signal 15$")
    ours.output.wait_for("next")
    ours.wait_for_counters(timed_out=1, succeeded=1, failed=0)


def test_a_command_that_ignores_term_gets_kill(server):
    # Its child gets TERM with it, and takes that as a request.
    child = "(trap 'echo child got TERM; exit' TERM; echo ready; sleep 600 & wait)"
    ours = server(
        "--command-timeout", "1", on_open=f"{child} & trap '' TERM; wait; sleep 600; sleep 600"
    )
    ours.knock()
    ours.output.wait_for("child got TERM")
    ours.log.wait_for(r"^pyknock server: command goes on after TERM, sent KILL: open 192\.0\.2\.1$")
    ours.log.wait_for(r"^pyknock server: command ended: open 192\.0\.2\.1: signal 9$")
    assert ours.counters()["timed-out"] == 1


def test_what_a_command_started_ends_with_it(server):
    # The first obeys TERM and the second does not, while the shell itself ends on TERM.
    command = "sleep 600 & echo $!; (trap '' TERM; sleep 600; sleep 600) & echo $!; wait"
    ours = server("--command-timeout", "1", on_open=command)
    ours.knock()
    ours.output.wait_for(r"^\d+$", 2)
    children = list(ours.output.lines)
    assert all(map(is_alive, children))
    ours.log.wait_for("command ended: open .*: signal 15")
    until(lambda: not any(map(is_alive, children)), "the children end")


def test_a_background_process_outlives_a_command_that_ends_in_time(server):
    ours = server("-v", on_open="sleep 600 > /dev/null 2>&1 & echo $!")
    ours.knock()
    ours.log.wait_for("command ended: open .*: exit status 0")
    assert is_alive(ours.output.wait_for(r"\d+")[0])


# Queue and order


class Gates:
    """FIFOs, one for each address, at which commands wait until they are released."""

    def __init__(self, folder):
        self.command = f"echo start $cmd $ip; read line < {folder}/$ip; echo end $cmd $ip"
        self.folder = folder
        self.fifos = {}

    def make(self, count):
        for address in (f"192.0.2.{number}" for number in range(1, count + 1)):
            os.mkfifo(self.folder / address)
            self.fifos[address] = os.open(self.folder / address, os.O_RDWR)
        return list(self.fifos)

    def release(self, *addresses):
        for address in addresses:
            os.write(self.fifos[address], b"go on\n")


@pytest.fixture
def gates(tmp_path):
    gates = Gates(tmp_path)
    yield gates
    for fifo in gates.fifos.values():
        os.close(fifo)


def test_knocks_that_come_while_a_command_sleeps_are_all_run_and_none_is_stale(server):
    command = "echo start $ip; case $ip in *.1) sleep 2;; esac; echo end $ip"
    ours = server("-t", "1.5", on_open=command)
    ours.knock("192.0.2.1")
    ours.output.wait_for("start")
    for number in range(2, 7):
        ours.knock(f"192.0.2.{number}")
    ours.wait_for_counters(accepted=6, running=1, queued=5)
    ours.output.wait_for("end", 6)
    assert ours.output.lines == [
        f"{what} 192.0.2.{number}" for number in range(1, 7) for what in ("start", "end")
    ]


def test_one_command_runs_at_a_time_and_the_loop_goes_on(server, gates):
    addresses = gates.make(3)
    ours = server(on_open=gates.command)
    for address in addresses:
        ours.knock(address)
    ours.output.wait_for("start")
    ours.send(b"rubbish")
    seen = ours.wait_for_counters(kernel_dropped=1, accepted=3)
    assert (seen["running"], seen["queued"]) == (1, 2)
    assert len(ours.output.lines) == 1
    for address in addresses:
        gates.release(address)
    ours.output.wait_for("end", 3)
    assert ours.output.lines == [
        f"{what} open {ip}" for ip in addresses for what in ("start", "end")
    ]


def test_jobs_run_at_the_same_time_but_one_address_keeps_its_order(server, gates):
    addresses = gates.make(4)
    ours = server("--jobs", "4", on_open=gates.command)
    ours.knock(addresses[0])
    ours.knock(addresses[0], command=CLOSE)
    ours.knock(addresses[0])
    for address in addresses[1:]:
        ours.knock(address)
    # All four addresses run, and behind the first its two other knocks wait.
    ours.output.wait_for("start open", 4)
    seen = ours.wait_for_counters(accepted=6)
    assert (seen["running"], seen["queued"]) == (4, 2)
    assert sorted(ours.output.lines) == [f"start open {address}" for address in addresses]
    gates.release(*addresses[1:])
    ours.output.wait_for("end", 3)
    seen = ours.wait_for_counters(running=1)
    assert seen["queued"] == 2
    for count in range(3):
        ours.output.wait_for(rf"start \w+ {addresses[0]}", count + 1)
        gates.release(addresses[0])
    ours.output.wait_for("end", 6)
    first = [line for line in ours.output.lines if line.endswith(addresses[0])]
    assert first == [
        f"{what} {command} {addresses[0]}"
        for command in ("open", "close", "open") for what in ("start", "end")
    ]  # fmt: skip


def test_jobs_are_no_more_than_asked_for(server, gates):
    addresses = gates.make(4)
    ours = server("--jobs=2", on_open=gates.command)
    for address in addresses:
        ours.knock(address)
    ours.output.wait_for("start", 2)
    seen = ours.wait_for_counters(accepted=4)
    assert (seen["running"], seen["queued"]) == (2, 2)
    gates.release(addresses[1])
    ours.output.wait_for("start", 3)
    assert ours.counters()["running"] == 2
    gates.release(*addresses[:1], *addresses[2:])
    ours.output.wait_for("end", 4)


def test_a_full_queue_refuses_the_newest_and_says_so(server, gates):
    first, last = gates.make(2)
    ours = server("-q", on_open=gates.command, on_close="echo $ip", wait=False)
    ours.wait_until_ready()
    ours.knock(first)
    ours.output.wait_for("start")
    addresses = [f"10.0.{number // 256}.{number % 256}" for number in range(1024)]
    # No more at once than the buffer of a socket holds.
    for start in range(0, 1024, 256):
        ours.send(*[packet(address, CLOSE) for address in addresses[start : start + 256]])
        ours.wait_for_counters(accepted=start + 257, queued=start + 256, running=1)
    ours.knock(last)
    ours.log.wait_for(r"refused open 192\.0\.2\.2 from .*: command queue full, clock skew \S+ s$")
    assert ours.wait_for_counters(queue_full=1)["accepted"] == 1025
    gates.release(first)
    ours.wait_for_counters(succeeded=1025, queued=0, running=0)
    ours.output.wait_for("", 2 + 1024)
    assert ours.output.lines[2:] == addresses


@pytest.mark.parametrize("jobs", [1, 4])
def test_500_knocks_at_once_are_all_run(server, jobs):
    ours = server(f"--jobs={jobs}")
    addresses = [f"198.51.{number // 250}.{number % 250 + 1}" for number in range(500)]
    datagrams = [packet(address) for address in addresses]
    ours.send(*datagrams)
    ours.output.wait_for("open", 500)
    lines = [f"open {address} inet" for address in addresses]
    if jobs == 1:
        assert ours.output.lines == lines
    assert sorted(ours.output.lines) == sorted(lines)
    ours.wait_for_counters(accepted=500, succeeded=500)
