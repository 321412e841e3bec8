"""The key is in no message, and neither in ps nor in the memory of a running server."""

import hashlib
import os
import signal
from pathlib import Path

import pytest
from support.datagrams import KEY
from support.processes import memory_of, messages_to, stat_of
from support.programs import PYKNOCK, program, run
from support.version2 import KEY2, OTHER_KEY2
from support.waiting import until

# M stands for the key. It is in a wrong place, or in the right place beside another mistake.
MARKER = "Q9ZxMarkerKey4Jt7"
LEAKS = [
    "server M",
    "server M o",
    "server M o c x",
    "server --prot 7001 M o c",
    "server --port M o c",
    "server -p M o c",
    "server -p M ipset add x",
    "server -t M o c",
    "server -b M o c",
    "server --bind M o c",
    "server --port=M o c",
    "server --jobs M o c",
    "server --command-timeout=M o c",
    "server --psk M o c",
    "server --psk=M o c",
    "server --key=M o c",
    "server -k M o c",
    "server -kM o c",
    "server --key-file M o c",
    "server --key-file=M o c",
    "server -k - M o c",
    "server -M o c",
    "server --M o c",
    "server --=M o c",
    "server --p=M o c",
    "server -pM o c",
    "server -tM o c",
    "server -bM o c",
    "server -qM o c",
    "server -hM o",
    "server -M ipset add x",
    "server --M ipset add x",
    "server --quiet=M o c",
    "server o c M -b x",
    "server --no-shell o c M -b x",
    "server --no-shell o c /M",
    "server --no-shell o c 'M",
    "server MĀ o c",
    "server -b 127.0.0.999 M o c",
    "server --state /dev/null/x M o c",
    "client open ::1 --prot 7001 M",
    "client open ::1 -p M",
    "client open ::1 -pM",
    "client open ::1 -p M x",
    "client -p open ::1 M",
    "client open ::1 -M",
    "client open ::1 --M",
    "client open ::1 --M x",
    "client open ::1 -SM",
    "client open ::1 -S M",
    "client open ::1 --sign-address=M",
    "client open ::1 --s=M",
    "client open ::1 --=M",
    "client open ::1 -k M",
    "client open ::1 -kM",
    "client open ::1 --key-file=M",
    "client open ::1 M -k -",
    "client open ::1 M x",
    "client open ::1 MĀ",
    "client open ::1 M -S x",
    "client open ::1 M -s x",
    "client open ::1 M -s 127.0.0.1",
    "client open M server.invalid",
    "client M",
    "keygen M",
    "M o c",
    "-k M o c",
]


@pytest.mark.parametrize("line", LEAKS)
def test_no_message_has_the_key_in_it(line):
    result = run([*PYKNOCK, *line.replace("M", MARKER).split(" ")], stdin=MARKER.encode())
    assert MARKER not in result.stdout + result.stderr
    assert result.code in (0, 1, 2, 3, 4, 5), result


@pytest.mark.slow
def test_no_message_has_the_key_in_it_when_the_port_is_taken(server):
    taken = server()
    result = run([*program("server"), f"-p{taken.port}", MARKER, "o", "c"])
    assert result.code == 1
    assert MARKER not in result.stdout + result.stderr


def test_no_line_of_a_working_pair_has_the_key_in_it(server):
    ours = server("-vv", words=[MARKER, "echo open", "false"], key=MARKER)
    sent = run([*program("client"), "-v", f"-p{ours.port}", "open", "::1", MARKER])
    assert sent.code == 0
    ours.knock("192.0.2.2", command=2)
    ours.send(ours.knock("192.0.2.3", age=500), b"rubbish")
    ours.wait_for_counters(succeeded=1, failed=1, stale=2, kernel_dropped=1)
    assert ours.stop() == 0
    text = sent.stdout + sent.stderr + "\n".join(ours.log.wait_for_end() + ours.output.lines)
    assert MARKER not in text


@pytest.mark.parametrize("key", [KEY, "é" * 40, "k" * 200])
def test_a_key_operand_is_gone_from_ps_once_the_server_listens(not_emulated, server, key):
    ours = server(words=[key, "echo open", "echo close"])
    shown = Path(f"/proc/{ours.pid}/cmdline").read_bytes()
    assert shown == b"\0".join(
        [*map(os.fsencode, program("server")), f"-p{ours.port}".encode(), bytes(len(key.encode())),
         b"echo open", b"echo close", b""]
    )  # fmt: skip


@pytest.mark.parametrize("source", ["operand", "file", "stdin"])
def test_the_key_is_nowhere_in_the_memory_of_a_running_server(not_emulated, server, key_file, source):
    operand = {"operand": [KEY], "file": ["-k", key_file], "stdin": ["-k", "-"]}[source]
    ours = server(words=[*operand, "echo open", "echo seen"], stdin=KEY.encode() + b"\n")
    ours.knock()
    ours.output.wait_for("open")
    assert b"echo seen" in memory_of(ours.pid)
    assert traces(KEY, memory_of(ours.pid)) == traces(KEY, memory_of(ours.receiver)) == []


def test_no_key_of_client_conf_is_in_the_memory_of_a_client_that_waits(not_emulated, tmp_path, process):
    """Neither the one that it uses nor that of another host."""
    folder = tmp_path / "pyknock"
    folder.mkdir()
    (folder / "client.conf").write_text(
        f"Host other\nKey {OTHER_KEY2}\nHost *\nPort 9\nKey {KEY}\nKey {KEY2}\nHostName 127.0.0.1\n"
    )
    (folder / "client.conf").chmod(0o600)
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    words = [*program("client"), "-v", "open", "box", "--wait-port", "9", "--wait", "20"]
    ours = process(words, env=environment)
    ours.log.wait_for("sent open 127.0.0.1 to 127.0.0.1:9")
    memory = memory_of(ours.pid)
    assert b"HostName" in memory
    assert traces(KEY, memory) == traces(KEY2, memory) == traces(OTHER_KEY2, memory) == []
    assert KEY2[10:60].encode() not in memory and OTHER_KEY2[10:60].encode() not in memory


def traces(key, memory):
    """Which forms of a key are in a memory: as it is, and padded for HMAC (RFC 2104)."""
    key = key.encode("latin-1")
    if len(key) > 64:
        key = hashlib.sha256(key).digest()
    forms = {pad: bytes(byte ^ pad for byte in key) for pad in (0, 0x36, 0x5C)}
    # The start may have been overwritten.
    return [hex(pad) for pad, form in forms.items() if form in memory or form[8:] in memory]


# Without names, pytest would put the keys themselves into the environment.
@pytest.mark.parametrize("key", [KEY, "k" * 31 + "q" * 33, "k" * 32 + "q" * 70], ids=["36", "64", "102"])
def test_no_form_of_the_key_is_in_memory_after_a_start_and_a_hangup(not_emulated, server, key_file, key):
    key_file.write_text(key)
    ours = server(words=["-k", key_file, "echo open", "true"], key=key)
    for count, now in enumerate([key, key[::-1]], 1):
        ours.knock(f"192.0.2.{count}", key=now)
        ours.output.wait_for("open", count)
        for process in (ours.pid, ours.receiver):
            assert traces(key, memory_of(process)) == traces(key[::-1], memory_of(process)) == []
        key_file.write_text(key[::-1])
        ours.signal(signal.SIGHUP)
        ours.log.wait_for("^pyknock server: reloaded", count)


def test_no_form_of_the_key_is_in_the_message_to_the_receiver(not_emulated, server, key_file):
    ours = server(words=["-k", key_file, "true", "true"])
    os.kill(ours.receiver, signal.SIGSTOP)
    until(lambda: stat_of(ours.receiver)[0] == "T", "the receiver stands still")
    key_file.write_text(KEY[::-1])
    ours.signal(signal.SIGHUP)
    messages = messages_to(ours.receiver, 3)
    assert [message[0] for message in messages] == [5, 3, 6]
    for message in messages:
        assert traces(KEY, message) == traces(KEY[::-1], message) == []
