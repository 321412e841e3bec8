"""The two processes of the server: what each may do, tried by one that has been taken over."""

import errno
import os
import re
import signal
from pathlib import Path

import pytest
from support.datagrams import KEY, packet
from support.programs import EMULATED, program, run
from support.waiting import until

NOBODY = 65534
SECCOMP_KILLS = f"pyknock server: the receiver ended: signal {signal.SIGSYS.value}"


@pytest.fixture
def taken_over(server, intruder):
    """A server whose receiver makes an attempt once a datagram has come."""

    def start(attempt, *options, **more):
        environment = {**os.environ, "LD_PRELOAD": str(intruder), "INTRUDER_ATTEMPT": attempt}
        environment |= more.pop("environment", {})
        ours = server(*options, env=environment, **more)
        ours.knock()
        return ours

    return start


def status(process):
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def capabilities(process):
    return [int(status(process)[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")]


# What the receiver has


@pytest.mark.usefixtures("not_emulated")
def test_the_receiver_has_no_right_and_three_open_files(server):
    ours = server("-v")
    ours.log.wait_for(
        r"^pyknock server: the receiver has no capabilities, no files \(Landlock\), "
        r"few system calls \(seccomp\)$"
    )
    receiver = ours.receiver
    assert capabilities(receiver) == [0, 0, 0, 0, 0]
    shown = status(receiver)
    assert (shown["NoNewPrivs"], shown["Seccomp"]) == ("1", "2")
    links = [os.readlink(link) for link in Path(f"/proc/{receiver}/fd").iterdir()]
    kinds = sorted(link.partition(":")[0] for link in set(links))
    assert kinds == ["pipe", "socket", "socket"]  # The log, several times, and two others.
    limits = Path(f"/proc/{receiver}/limits").read_text()
    for name, limit in [("processes", 0), ("open files", 2), ("core file size", 0)]:
        assert re.search(rf"^Max {name} +{limit} +{limit} ", limits, re.MULTILINE)


@pytest.mark.usefixtures("not_emulated")
@pytest.mark.parametrize("user, ids", [("nobody", (65534, 65534)), ("77", (77, 77)), ("77:78", (77, 78))])
def test_with_commands_only_the_receiver_becomes_the_user(server, tmp_path, user, ids):
    tmp_path.chmod(0o755)
    ours = server("--user", user, f"--chroot={tmp_path}", on_open="id -u; pwd")
    shown = status(ours.receiver)
    assert shown["Uid"].split() == [str(ids[0])] * 4
    assert shown["Gid"].split() == [str(ids[1])] * 4
    assert shown["Groups"].split() == []
    assert os.readlink(f"/proc/{ours.receiver}/root") == str(tmp_path)
    assert capabilities(ours.receiver)[1:3] == [0, 0]
    # The executor is as it was, for the command.
    assert capabilities(ours.pid) == capabilities("self")
    ours.knock()
    ours.output.wait_for("^0$")
    ours.output.wait_for(f"^{os.getcwd()}$")


@pytest.mark.usefixtures("not_emulated")
def test_without_commands_and_sets_the_executor_has_no_right_either(server):
    ours = server("-v", "--user=nobody", words=None, on_open="")
    ours.log.wait_for("^pyknock server: the executor has no capability$")
    for process in (ours.pid, ours.receiver):
        assert capabilities(process) == [0, 0, 0, 0, 0]
        assert status(process)["Uid"].split() == [str(NOBODY)] * 4
        assert status(process)["NoNewPrivs"] == "1"


@pytest.mark.usefixtures("not_emulated")
def test_without_the_sandbox_a_warning_and_all_rights(server):
    ours = server("--no-sandbox", "-v")
    ours.log.wait_for("^pyknock server: warning: no sandbox$")
    assert not ours.log.matching("receiver|executor")
    assert capabilities(ours.receiver) == capabilities("self")
    shown = status(ours.receiver)
    assert (shown["NoNewPrivs"], shown["Seccomp"]) == ("0", "0")
    ours.knock()
    ours.output.wait_for("open 192.0.2.1")


# Who has taken over the receiver


ATTEMPTS = [
    "open", "socket", "connect", "fork", "exec", "ptrace", "kill", "map", "answer", "x32"
]  # fmt: skip


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_attempt_ends_the_server(taken_over, attempt):
    ours = taken_over(attempt, f"--user={NOBODY}")
    assert ours.exit_code() == 1
    assert ours.log.wait_for_end()[-2:] == [SECCOMP_KILLS, "pyknock server: stopped"]
    assert not ours.log.matching("intruder")


@pytest.mark.parametrize("attempt", ["open", "socket", "connect", "map", "answer"])
def test_without_the_sandbox_the_attempt_succeeds(taken_over, attempt):
    taken_over(attempt, "--no-sandbox").log.wait_for(rf"^intruder: {attempt}: \d+$")


REFUSALS = {
    "open": errno.EMFILE,
    "socket": errno.EMFILE,
    "fork": errno.EAGAIN,
    "exec": errno.EACCES,
    "ptrace": errno.EPERM,
    "kill": errno.EPERM,
}


@pytest.mark.parametrize("attempt", REFUSALS)
def test_without_seccomp_the_rest_still_holds(taken_over, attempt):
    ours = taken_over(attempt, "-v", f"--user={NOBODY}", environment={"INTRUDER_NO_SECCOMP": "1"})
    ours.log.wait_for(r"no files \(Landlock\), no seccomp \(Invalid argument\)$")
    ours.log.wait_for(f"^intruder: {attempt}: -{REFUSALS[attempt]}$")
    ours.output.wait_for("open 192.0.2.1")


def test_a_knock_that_it_makes_up_is_one_that_a_client_could_send(taken_over):
    ours = taken_over("lie: knock")
    ours.output.wait_for("^open 192.0.2.77 inet$")
    ours.output.wait_for("^open 192.0.2.1 inet$")


LIES = ["short", "long", "command", "length", "rest", "multicast"]


@pytest.mark.parametrize("lie", LIES)
def test_what_no_sound_receiver_sends_ends_the_server(taken_over, lie):
    ours = taken_over(f"lie: {lie}")
    assert ours.exit_code() == 1
    lines = ours.log.wait_for_end()
    assert "pyknock server: the receiver sent what it must not: ending it" in lines
    assert lines[-2:] == ["pyknock server: the receiver ended: signal 9", "pyknock server: stopped"]
    assert ours.output.wait_for_end() == []


CALLS = {
    "recvmmsg", "recvmmsg_time64", "getsockopt", "sendto", "write", "poll", "ppoll", "ppoll_time64",
    "clock_gettime", "clock_gettime64", "exit_group",
}  # fmt: skip


@pytest.mark.skipif(not EMULATED, reason="elsewhere the filter itself is in force")
def test_the_receiver_needs_no_call_but_those_of_the_filter(server):
    """An emulator has no seccomp, but it tells of each call."""
    ours = server(env={**os.environ, "QEMU_STRACE": "1"}, on_open="")
    # From here on only the receiver runs, behind its filter.
    ours.signal(signal.SIGSTOP)
    until(lambda: status(ours.pid)["State"].startswith("T"), "the executor is stopped")
    start = len(ours.log.lines)
    ours.knock()
    ours.knock(age=99)
    ours.send(b"x", packet(key="another key"))
    ours.log.wait_for("unauthenticated datagrams")
    lines = "\n".join(ours.log.lines[start:])
    calls = re.findall(rf"^{ours.receiver} (\w+)\(", lines, re.MULTILINE)
    assert {"recvmmsg", "sendto", "write"} <= set(calls) <= CALLS


def test_a_receiver_that_hangs_up_ends_the_server(taken_over):
    """To the executor, an empty message is the end."""
    ours = taken_over("lie: empty")
    assert ours.exit_code() == 1
    assert ours.log.wait_for_end()[-2:] == [
        "pyknock server: the receiver ended: signal 9", "pyknock server: stopped"
    ]  # fmt: skip


@pytest.mark.usefixtures("not_emulated")
def test_the_receiver_has_the_replay_memory_and_not_the_journal(server, tmp_path):
    ours = server(f"--state={tmp_path}/state", "--close-after=1h")
    maps = Path(f"/proc/{ours.receiver}/maps").read_text()
    assert f"{tmp_path}/state/replay" in maps
    assert f"{tmp_path}/state/grants" not in maps
    assert f"{tmp_path}/state/grants" in Path(f"/proc/{ours.pid}/maps").read_text()


# Both halves together


def test_when_the_receiver_ends_the_server_ends_and_commands_may_finish(server):
    ours = server(on_open="echo begin; sleep 0.3; echo end")
    receiver = ours.receiver
    ours.knock()
    ours.output.wait_for("begin")
    os.kill(receiver, signal.SIGKILL)
    assert ours.exit_code() == 1
    assert ours.output.wait_for_end() == ["begin", "end"]
    assert ours.log.wait_for_end()[-2:] == [
        "pyknock server: the receiver ended: signal 9",
        "pyknock server: stopped",
    ]


def test_while_the_executor_is_busy_the_receiver_waits_and_loses_nothing(server):
    """With more knocks than the connection between the two holds."""
    ours = server("--no-shell", on_open="true")
    ours.signal(signal.SIGSTOP)
    for start in range(0, 800, 200):
        hosts = range(start, start + 200)
        ours.send(*(packet(f"10.0.{host // 200}.{host % 200}") for host in hosts))
    until(lambda: len(ours.log.matching("accepted")) > 200, "the first are accepted")
    ours.signal(signal.SIGCONT)
    ours.wait_for_counters(accepted=800, succeeded=800)


def test_when_the_executor_is_killed_the_receiver_ends(server):
    ours = server()
    receiver = ours.receiver
    ours.signal(signal.SIGKILL)

    def has_ended():
        try:
            return status(receiver)["State"].startswith("Z")
        except FileNotFoundError:
            return True

    until(has_ended, "the receiver has ended")


def test_signals_to_the_whole_group_stop_it_in_order(server):
    """As a terminal sends them, or a supervisor that knows nothing of the two."""
    ours = server()
    os.killpg(ours.pid, signal.SIGINT)
    assert ours.exit_code() == 0
    assert ours.log.wait_for_end()[-2:] == [
        "pyknock server: stopping on SIGINT",
        "pyknock server: stopped",
    ]


def test_after_a_kill_it_starts_again_at_once_on_the_same_port_and_state(server, tmp_path):
    ours = server(f"--state={tmp_path}/state")
    port = f"-p{ours.port}"
    old = ours.knock()
    ours.output.wait_for("open")
    for _ in range(10):
        ours.signal(signal.SIGKILL)
        ours.exit_code()
        ours = server(port, f"--state={tmp_path}/state", port=ours.port)
    ours.send(old)
    ours.wait_for_counters(replayed=1, accepted=0)


# Mistakes


@pytest.mark.parametrize("user", ["", "nosuchuser", "-1", "77:", ":77", "77:x", "4294967295", "7 8:9"])
def test_a_user_that_is_none_is_misuse(user):
    result = run([*program("server"), "-k", "-", f"--user={user}", "", ""], stdin=KEY.encode())
    assert result.code == 2
    assert result.lines[0] == (
        f"pyknock server: --user: '{user}' is not a user of this system, UID, or UID:GID"
    )


@pytest.mark.usefixtures("not_emulated")
def test_users_are_those_of_etc_passwd(server, namespace, tmp_path):
    users = tmp_path / "passwd"
    users.write_text(
        "root:x:0:0:root:/root:/bin/sh\n\n:x:5:5\nshort:x:6\nword:x:six:6::\nnone:x:4294967295:6::\n"
        "alice:x:1234:4321:,,,:/home/alice:/bin/sh\nalice:x:1:1::\n77:x:78:79::\nlast:x:8:9"
    )
    namespace.run(f"mount --bind {users} /etc/passwd")
    try:
        for user, ids in {"alice": "1234:4321", "77": "78:79", "last": "8:9", "78": "78:78"}.items():
            ours = server("--user", user, on_open="", network=namespace)
            shown = status(ours.receiver)
            assert ":".join(shown[name].split()[0] for name in ("Uid", "Gid")) == ids
        for user in ("", "short", "word", "none", "alic", "alice:x", "alice:4321"):
            words = [*namespace.prefix, *program("server"), "-k", "-", f"--user={user}", "", ""]
            assert run(words, stdin=KEY.encode()).code == 2
        # It may be long, and is whoever's the system has made it.
        users.write_text(100_000 * "#\n" + users.read_text())
        users.chmod(0o664)
        os.chown(users, NOBODY, NOBODY)
        server("--user=alice", on_open="", network=namespace)
    finally:
        namespace.run("umount /etc/passwd")


def test_a_root_directory_that_is_none_or_not_of_root_alone(tmp_path):
    (tmp_path / "file").touch()
    tmp_path.chmod(0o777)
    places = {
        "/nonexistent": "No such file or directory",
        tmp_path / "file": "Not a directory",
        tmp_path: "Permission denied (it must belong to root, and only root may write in it)",
    }
    for options in ([], ["-n"]):
        for place, why in places.items():
            words = [*program("server"), "-k", "-", f"--chroot={place}", *options, "", ""]
            result = run(words, stdin=KEY.encode())
            assert result.code == 1
            assert result.lines[-1] == f"pyknock server: --chroot: '{place}': {why}"


def test_who_is_not_root_cannot_become_another_user():
    words = [
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *(*program("server"), "-p60118", "-k", "-", "--user=77", "", ""),
    ]
    for options in ([], ["-n"]):
        result = run([*words, *options], stdin=KEY.encode())
        assert result.code == 1
        assert result.lines[-1] == "pyknock server: --user: Operation not permitted"
