"""What each of the two processes may do."""

import errno
import os
import re
import signal
from pathlib import Path

import pytest
from support.datagrams import packet
from support.processes import NOBODY, capabilities_of, install_filter, links_of, status_of
from support.programs import EMULATED, PYKNOCK, ROOT, program, run


@pytest.mark.usefixtures("not_emulated")
def test_the_receiver_has_no_right_and_three_open_files(server):
    ours = server("-v")
    ours.log.wait_for(
        r"^pyknock server: the receiver has no capabilities, no files \(Landlock\), "
        r"few system calls \(seccomp\)$"
    )
    receiver = ours.receiver
    assert capabilities_of(receiver) == [0, 0, 0, 0, 0]
    shown = status_of(receiver)
    assert (shown["NoNewPrivs"], shown["Seccomp"]) == ("1", "2")
    kinds = sorted(link.partition(":")[0] for link in set(links_of(receiver)))
    assert kinds == ["pipe", "socket", "socket"]  # The pipe of the log has several descriptors.
    limits = Path(f"/proc/{receiver}/limits").read_text()
    for name, limit in [("processes", 0), ("open files", 2), ("core file size", 0)]:
        assert re.search(rf"^Max {name} +{limit} +{limit} ", limits, re.MULTILINE)


def kinds_of_sockets(process):
    links = set(links_of(process))
    tables = {name: Path(f"/proc/{process}/net/{name}").read_text() for name in ("udp", "udp6", "unix")}
    numbers = [link[8:-1] for link in links if link.startswith("socket:")]
    return sorted(name for number in numbers for name, text in tables.items() if f" {number} " in text)


@pytest.mark.usefixtures("not_emulated")
def test_only_the_receiver_has_the_socket_for_datagrams(server):
    ours = server()
    # The receiver knows how many datagrams the kernel dropped. It tells that at once, also if it has slept.
    ours.send(b"x", b"xx")
    assert ours.counters()["kernel-dropped"] == 2
    assert kinds_of_sockets(ours.pid) == []
    assert kinds_of_sockets(ours.receiver) == ["udp6"]


@pytest.mark.other_users
@pytest.mark.usefixtures("not_emulated")
@pytest.mark.parametrize("user, ids", [("nobody", (65534, 65534)), ("77", (77, 77)), ("77:78", (77, 78))])
def test_with_commands_only_the_receiver_becomes_the_user(server, tmp_path, user, ids):
    tmp_path.chmod(0o755)
    ours = server("--user", user, f"--chroot={tmp_path}", on_open="id -u; pwd")
    shown = status_of(ours.receiver)
    assert shown["Uid"].split() == [str(ids[0])] * 4
    assert shown["Gid"].split() == [str(ids[1])] * 4
    assert shown["Groups"].split() == []
    assert os.readlink(f"/proc/{ours.receiver}/root") == str(tmp_path)
    assert capabilities_of(ours.receiver)[1:3] == [0, 0]
    # The executor keeps its privileges, because the command may need them.
    assert capabilities_of(ours.pid) == capabilities_of("self")
    ours.knock()
    ours.output.wait_for("^0$")
    ours.output.wait_for(f"^{os.getcwd()}$")


@pytest.mark.other_users
@pytest.mark.usefixtures("not_emulated")
def test_without_commands_and_sets_the_executor_has_no_right_either(server):
    ours = server("-v", "--user=nobody", words=None, on_open="")
    ours.log.wait_for("^pyknock server: the executor has no capability$")
    for process in (ours.pid, ours.receiver):
        assert capabilities_of(process) == [0, 0, 0, 0, 0]
        assert status_of(process)["Uid"].split() == [str(NOBODY)] * 4
        assert status_of(process)["NoNewPrivs"] == "1"


@pytest.mark.usefixtures("not_emulated")
def test_without_the_sandbox_a_warning_and_all_rights(server):
    ours = server("--no-sandbox", "-v")
    ours.log.wait_for("^pyknock server: warning: no sandbox$")
    assert not ours.log.matching("receiver|executor")
    assert capabilities_of(ours.receiver) == capabilities_of("self")
    shown = status_of(ours.receiver)
    assert (shown["NoNewPrivs"], shown["Seccomp"]) == ("0", "0")
    ours.knock()
    ours.output.wait_for("open 192.0.2.1")


@pytest.mark.skipif(not EMULATED, reason="elsewhere the filter itself is in force")
def test_the_receiver_needs_no_call_but_those_of_the_filter(server, key_file, tmp_path):
    """An emulator has no seccomp, but it can log each call.

    It writes them to a file, which gets the number 1, since that is free. The receiver makes 0 and 1 the queue of the
    log when it is confined. So what it calls from then on is in the log, and what the executor calls is in the file.
    """
    env = {**os.environ, "QEMU_STRACE": "1", "QEMU_LOG_FILENAME": f"{tmp_path}/calls"}
    words = ["-k", key_file, "true", "true"]
    ours = server(words=words, env=env, stdout=None, preexec_fn=lambda: os.close(1))
    receiver = ours.receiver

    def kind(descriptor):
        link = os.readlink(f"/proc/{receiver}/fd/{descriptor}")
        if link.startswith("pipe:"):
            return "log"
        number = link.removeprefix("socket:[").removesuffix("]")
        return "socket" if f" {number} " in Path(f"/proc/{receiver}/net/udp6").read_text() else "channel"

    # 0 and 1 are the log, too, but the filter lets write pass to 2 alone.
    kinds = {number: kind(number) for number in os.listdir(f"/proc/{receiver}/fd") if int(number) > 1}
    ours.knock()
    ours.knock(age=99)
    ours.send(b"x", packet(key="another key"))
    ours.log.wait_for("unauthenticated datagrams")
    ours.signal(signal.SIGHUP)
    ours.log.wait_for("reloaded")
    ours.wait_for_counters(accepted=1, stale=1, bad_mac=1)
    assert ours.stop() == 0

    lines = "\n".join(ours.log.wait_for_end())
    calls = set(re.findall(rf"^{receiver} (\w+)\((\w*)", lines, re.MULTILINE))
    source = (ROOT / "Sources/CSystem/Sandbox.c").read_text()
    allowed = dict(re.findall(r"{SYS_(\w+), (\w+)}", source))
    assert [call for call in calls if allowed.get(call[0]) not in ("ANY", kinds.get(call[1]))] == []
    assert {"recvmmsg", "getsockopt", "sendto", "recvfrom", "write", "exit_group"} <= {name for name, _ in calls}


@pytest.mark.usefixtures("not_emulated")
def test_the_receiver_has_no_file_of_the_state_directory(server, tmp_path):
    ours = server(f"--state={tmp_path}/state", "--close-after=1h")
    assert f"{tmp_path}/state/" not in Path(f"/proc/{ours.receiver}/maps").read_text()
    files = links_of(ours.pid)
    assert {f"{tmp_path}/state/replay", f"{tmp_path}/state/grants"} <= set(files)


def like_linux_4_2():
    """Takes the calls for sockets away that i386 got with Linux 4.3: 359 to 373."""
    load, equal, at_least, greater, give, allow = 0x20, 0x15, 0x35, 0x25, 0x06, 0x7FFF0000
    install_filter([
        (load, 0, 0, 4), (equal, 0, 4, 0x40000003),
        (load, 0, 0, 0), (at_least, 0, 2, 359), (greater, 1, 0, 373),
        (give, 0, 0, 0x00050000 | errno.ENOSYS),
        (give, 0, 0, allow),
    ])  # fmt: skip


def test_on_i686_an_old_kernel_is_refused(server, key_file):
    with open(PYKNOCK[-1], "rb") as file:
        EM_386 = 3
        if EMULATED or int.from_bytes(file.read(20)[18:], "little") != EM_386:
            pytest.skip("needs the program for i686, and a kernel that runs it")
    words = ["-k", key_file, "true", "true"]
    result = run([*program("server"), *words], preexec_fn=like_linux_4_2)
    assert (result.code, result.lines) == (
        1,
        ["pyknock server: the sandbox needs Linux 4.3 or later; --no-sandbox starts without it"],
    )
    ours = server("--no-sandbox", preexec_fn=like_linux_4_2)
    ours.knock()
    ours.output.wait_for("^open")
