"""Where the log goes, and in what form: the journal's priorities, /dev/log, JSON."""

import datetime
import json
import os
import re
import signal
import socket
from contextlib import closing

import pytest
from support.datagrams import CLOSE, KEY, packet
from support.programs import program, run
from support.waiting import until


def test_the_journal_is_told_how_urgent_a_line_is(server, journal, not_emulated):
    file, environment = journal
    ours = server(
        "-v", on_open="exit 3 # $ip", stderr=file, env=environment, wait=False, key="short key"
    )

    def lines():
        return open(file.name).read().splitlines()

    until(lambda: any("listening on" in line for line in lines()), "it listens")
    ours.knock("192.0.2.1")
    ours.knock("192.0.2.2", age=1000)
    until(lambda: any("exit status 3" in line for line in lines()), "the command has ended")
    until(lambda: any("refused" in line for line in lines()), "the other is refused")
    assert ours.stop() == 0
    urgency = {
        (int(found[1]), found[2])
        for line in lines()
        if (found := re.fullmatch(r"<(\d)>pyknock server: (the \w+|\w+)\b.*", line))
    }
    assert urgency == {
        (4, "warning"), (6, "version"), (6, "accepted"), (4, "command"), (4, "refused"),
        (6, "stopping"), (6, "stopped"), (7, "the executor"), (7, "the receiver"),
    }  # fmt: skip
    assert len(lines()) == 9 and all(line.startswith("<") for line in lines())


def test_errors_are_errors_to_the_journal(journal, tmp_path):
    file, environment = journal
    words = [*program("server"), "-k", "-", "-f", str(tmp_path / "none")]
    assert run(words, stderr=file, env=environment).code == 1
    assert open(file.name).read() == (
        f"<3>pyknock server: '{tmp_path}/none': No such file or directory\n"
    )


@pytest.mark.parametrize("stream", ["1:2", "", "x", ":", "18446744073709551616:1"])
def test_another_stream_is_not_the_journal(stream):
    result = run([*program("server"), "--nonsense"], env={**os.environ, "JOURNAL_STREAM": stream})
    assert result.lines[0].startswith("pyknock server: unknown option")


@pytest.fixture
def devices(namespace, tmp_path):
    """A /dev without a log, in the namespace of the test."""
    folder = tmp_path / "dev"
    folder.mkdir()
    (folder / "fd").symlink_to("/proc/self/fd")
    devices = ("null", "zero", "full", "random", "urandom")
    for name in devices:
        (folder / name).touch()
        namespace.run(f"mount --bind /dev/{name} {folder / name}")
    namespace.run(f"mount --rbind {folder} /dev")
    yield folder
    namespace.run("umount --recursive --lazy /dev")
    for name in devices:
        namespace.run(f"umount --lazy {folder / name}")


class SystemLog:
    """A socket on which a system log receives lines, and the lines that have come."""

    def __init__(self, path, kind=socket.SOCK_DGRAM):
        self.path, self.kind, self.connections = path, kind, []
        self.listener = socket.socket(socket.AF_UNIX, kind)
        self.listener.bind(str(path))
        self.listener.settimeout(20)
        if kind == socket.SOCK_STREAM:
            self.listener.listen()
        self.rest = b""

    def receive(self):
        """The next line. Datagrams have no end, and a line of a stream ends in a zero byte."""
        if self.kind == socket.SOCK_DGRAM:
            return self.listener.recv(2000).decode()
        if not self.connections:
            self.connections.append(self.listener.accept()[0])
            self.connections[0].settimeout(20)
        while b"\0" not in self.rest:
            received = self.connections[0].recv(2000)
            assert received, "the connection has ended"
            self.rest += received
        line, _, self.rest = self.rest.partition(b"\0")
        return line.decode()

    def wait_for(self, text):
        """The lines up to the first with this text."""
        lines = [self.receive()]
        while text not in lines[-1]:
            lines.append(self.receive())
        return lines

    def close(self):
        self.path.unlink(missing_ok=True)
        for each in (self.listener, *self.connections):
            each.close()


@pytest.fixture(params=[socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["datagrams", "stream"])
def kind_of_log(request):
    return request.param


@pytest.fixture
def system_log(devices, kind_of_log):
    """/dev/log, in the namespace of the test."""
    with closing(SystemLog(devices / "log", kind_of_log)) as system_log:
        yield system_log


def test_syslog_takes_the_log_in_the_place_of_stderr(server, namespace, system_log, not_emulated):
    ours = server("--syslog", "-v", network=namespace, wait=False, on_open="echo $ip >&2")
    tag = r"pyknock-server\[(\d+)\]: "
    lines = system_log.wait_for("listening on")
    ours.knock("192.0.2.1")
    lines += system_log.wait_for("command ended")
    ours.knock("192.0.2.1", CLOSE, age=1000)
    lines += system_log.wait_for("refused close")
    ours.stop()
    lines += system_log.wait_for("stopped")
    # The lines of the receiver have the process number of the executor, too.
    assert {int(re.match(rf"<\d+>{tag}", line)[1]) for line in lines} == {ours.pid}
    said = {re.match(rf"<(\d+)>{tag}(\w+)", line).group(1, 3) for line in lines}
    assert {("30", "version"), ("30", "accepted"), ("28", "refused"), ("31", "command")} <= said
    assert not any("\n" in line for line in lines)
    # Commands still write to the standard error.
    assert ours.log.wait_for_end() == ["192.0.2.1"]


@pytest.mark.parametrize("other", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["datagrams", "stream"])
def test_a_system_log_that_restarts_gets_each_line(
    server, namespace, devices, system_log, other, not_emulated
):
    ours = server("--syslog", network=namespace, wait=False)
    system_log.wait_for("listening")
    system_log.close()
    ours.knock("192.0.2.7")
    ours.output.wait_for("^open 192.0.2.7")
    ours.signal(signal.SIGUSR1)  # Both processes have had something to say meanwhile.
    with closing(SystemLog(devices / "log", other)) as new:
        assert "accepted open 192.0.2.7 from" in new.receive()
        assert "counters: accepted=1 " in new.receive()
        ours.knock("192.0.2.8")
        assert "accepted open 192.0.2.8 from" in new.receive()


def test_a_system_log_that_takes_nothing_keeps_nobody_waiting(
    server, namespace, system_log, not_emulated
):
    ours = server("--syslog", "-vv", network=namespace, wait=False, on_open="echo $ip")
    system_log.wait_for("listening")
    for start in range(0, 1600, 200):
        ours.send(*(packet(f"10.0.{start // 200}.{host}") for host in range(200)))
        ours.output.wait_for("^10", start + 200)
    lines = system_log.wait_for("log lines dropped: ")
    accepted = [line for line in lines if "accepted open 10" in line]
    assert "accepted open 10.0.0.0 " in accepted[0] and len(accepted) > 100
    assert ours.stop() == 0


def test_mistakes_go_to_who_has_made_them(namespace, devices):
    with closing(SystemLog(devices / "log")) as system_log:
        words = [*namespace.prefix, *program("server"), "--syslog", "--no-shell", KEY, "'", "x"]
        result = run(words)
        assert (result.code, result.lines[1]) == (2, "pyknock server: OPEN_CMD: the quote ' is not closed")
        system_log.listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            system_log.receive()


NO_LOG = "pyknock server: warning: --syslog: /dev/log: No such file or directory; trying again"


def test_a_system_log_that_starts_late_gets_each_line(
    server, namespace, devices, kind_of_log, not_emulated
):
    ours = server("--syslog", network=namespace, wait=False)
    ours.log.wait_for(f"^{NO_LOG}$")
    ours.wait_until_ready()
    ours.knock("192.0.2.7")
    ours.output.wait_for("^open 192.0.2.7")
    with closing(SystemLog(devices / "log", kind_of_log)) as system_log:
        assert "listening on" in system_log.receive()
        assert "accepted open 192.0.2.7 from" in system_log.receive()


def test_what_the_system_log_never_took_is_on_stderr_at_the_end(server, namespace, devices):
    ours = server("--syslog", network=namespace, wait=False)
    ours.log.wait_for(f"^{NO_LOG}$")
    ours.wait_until_ready()
    ours.knock()
    ours.output.wait_for("^open")
    assert ours.stop() == 0
    tag = f"<30>pyknock-server[{ours.pid}]: "
    lines = ours.log.wait_for_end()
    assert lines[0] == NO_LOG and "listening on" in lines[1] and "accepted" in lines[2]
    assert lines[3:] == [f"{tag}stopping on SIGTERM", f"{tag}stopped"]


def test_json_has_what_a_line_is_about(server):
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    ours = server("--log-format=json", "-v", on_open="exit 1")
    ours.knock("192.0.2.1")
    ours.knock("2001:db8::1", CLOSE, age=100)
    ours.send(packet("192.0.2.1")[:-1] + b"x")
    ours.log.wait_for("exit status 1")
    ours.log.wait_for("refused")
    ours.stop()
    objects = [json.loads(line) for line in ours.log.wait_for_end()]
    after = datetime.datetime.now(datetime.UTC)
    for item in objects:
        assert list(item)[:2] == ["time", "level"] and list(item)[-1] == "message"
        assert before <= datetime.datetime.fromisoformat(item["time"].replace("Z", "+00:00")) <= after
    [accepted] = [item for item in objects if item["message"].startswith("accepted")]
    assert (accepted["level"], accepted["command"], accepted["address"]) == ("info", "open", "192.0.2.1")
    assert re.fullmatch(r"127\.0\.0\.1:\d+", accepted["source"])
    assert accepted["message"] == f"accepted open 192.0.2.1 from {accepted['source']}"
    [refused] = [item for item in objects if item["message"].startswith("refused")]
    assert (refused["level"], refused["command"], refused["address"]) == ("warning", "close", "2001:db8::1")
    [ended] = [item for item in objects if item["message"].startswith("command ended")]
    assert (ended["command"], ended["address"], "source" in ended) == ("open", "192.0.2.1", False)
    assert objects[-1]["message"] == "stopped"


def test_json_is_whole_whatever_is_in_it(server, tmp_path, key_file):
    path = tmp_path / 'k"\\\x01\x7fé\n'
    key_file.rename(path)
    path.chmod(0o604)
    ours = server("--log-format=json", "-k", str(path), words=["exit", "exit"])
    ours.stop()
    [warning] = [json.loads(line) for line in ours.log.wait_for_end() if "others" in line]
    assert warning["message"] == (
        f"warning: key file '{tmp_path}/k\"\\x5c\\x01\\x7f\\xc3\\xa9\\x0a':"
        " others may read it; chmod 600 prevents that"
    )


def test_a_long_line_of_json_is_cut_but_whole(server, tmp_path):
    ours = server("--log-format=json", "--nft", "inet/t/" + 40 * "n", words=[KEY], wait=False)
    ours.exit_code()
    for line in ours.log.wait_for_end():
        assert len(line) < 1024 and json.loads(line)["message"]


def test_commands_do_not_see_what_is_for_the_service(server):
    ours_alone = {
        "NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_PID": "1",
        "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x",
    }  # fmt: skip
    ours = server(on_open="env", env={**os.environ, **ours_alone, "LISTENING": "yes"})
    ours.log.wait_for("^pyknock server: NOTIFY_SOCKET '/nowhere': No such file or directory$")
    ours.knock()
    ours.output.wait_for("^PYKNOCK_CMD=open$")
    ours.wait_for_counters(succeeded=1)
    ours.stop()
    names = {line.partition("=")[0] for line in ours.output.wait_for_end()}
    assert names & set(ours_alone) == set() and "LISTENING" in names


def test_the_signal_for_the_counters_does_not_depend_on_the_form(server):
    ours = server("--log-format=json")
    ours.signal(signal.SIGUSR1)
    ours.log.wait_for(r'"message":"counters: accepted=0 ')
