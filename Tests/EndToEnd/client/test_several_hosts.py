"""One call of the client knocks on several hosts: HOST,HOST."""

import os
import socket

import pytest
from support.datagrams import CLOSE, KEY, OPEN, signed
from support.networks import listener
from support.processes import Process
from support.programs import TIMEOUT, program, run
from support.servers import client


@pytest.fixture
def receivers():
    """Two sockets with the same port and different addresses."""
    with (
        listener(address="127.0.0.1") as first,
        listener(address="127.0.0.2", port=first.getsockname()[1]) as second,
    ):
        yield first, second


@pytest.fixture
def port(receivers):
    return f"-p{receivers[0].getsockname()[1]}"


BOTH = "127.0.0.1,127.0.0.2"


def test_all_are_knocked_on(receivers, port):
    for words in ([KEY], ["-k", "-"]):
        result = run([*program("client"), "open", BOTH, port, *words], stdin=KEY.encode())
        assert result.code == 0
        assert [line for line in result.lines if "shows in ps" not in line] == []
        for receiver in receivers:
            datagram = receiver.recv(100)
            assert datagram == signed(datagram[32:]) and datagram[32] == OPEN


def test_each_has_its_section_and_key(receivers, tmp_path, port):
    text = ""
    keys = ["the key of the first one", "the key of the second one"]
    for number, key in enumerate(keys, 1):
        (tmp_path / f"key{number}").write_text(key)
        (tmp_path / f"key{number}").chmod(0o600)
        text += f"Host gate{number}\nHostName 127.0.0.{number}\nKeyFile {tmp_path}/key{number}\n"
    (tmp_path / "pyknock").mkdir()
    (tmp_path / "pyknock" / "client.conf").write_text(text)
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    for words in (["open", "gate1,gate2"], ["open", "-c", "gate1,gate2"]):
        assert run([*program("client"), *words, port], env=environment).code == 0
        for receiver, key in zip(receivers, keys, strict=True):
            datagram = receiver.recv(100)
            assert datagram == signed(datagram[32:], key)
    # With -c NAME, HOST is only the address to knock on.
    assert run([*program("client"), "open", "-c", "gate2", BOTH, port], env=environment).code == 0
    for receiver in receivers:
        datagram = receiver.recv(100)
        assert datagram == signed(datagram[32:], keys[1])


def test_one_that_cannot_be_knocked_on_keeps_the_others_from_nothing(receivers, port, tmp_path):
    words = ["open", "127.0.0.1,missing.invalid,127.0.0.2", port, "--close", "-k", "-"]
    result = client(*words, "--", "touch", tmp_path / "ran", key=None, stdin=KEY.encode())
    [line] = result.lines
    assert result.code == 3 and line.startswith("pyknock client: cannot resolve 'missing.invalid': ")
    for receiver in receivers:
        assert [receiver.recv(100)[32] for _ in range(2)] == [OPEN, CLOSE]
    # The command needs all hosts, so that it does not run.
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_the_command_waits_for_the_port_of_each(receivers, port):
    with socket.create_server(("127.0.0.1", 0)) as first, socket.socket() as second:
        service = first.getsockname()[1]
        second.bind(("127.0.0.2", service))
        words = [*program("client"), "open", BOTH, port, "-k", "-", f"--wait-port={service}"]
        process = Process([*words, f"--wait={TIMEOUT}", "--", "echo", "there"], stdin=KEY.encode())
        for _ in range(2):  # The second knock shows that the client waits.
            receivers[1].recv(100)
        assert process.output.lines == []
        second.listen()
        assert process.exit_code() == 0
        assert process.output.wait_for_end() == ["there"]


@pytest.mark.parametrize("hosts", [",", "a,", ",a", "a,,b", ",".join("abcdefghijklmnopq")])
def test_what_is_no_list(hosts, key_file):
    result = client("open", hosts, "-k", key_file, key=None)
    assert (result.code, result.lines[0]) == (
        2, f"pyknock client: HOST: '{hosts}' is not one host, or up to 16 with commas between them"
    )  # fmt: skip


def test_as_many_as_may_be(receivers, port):
    result = client("open", ",".join(["127.0.0.1", "127.0.0.2"] * 8), port, "-v")
    assert (result.code, len(result.lines)) == (0, 16)


def test_connect_takes_one(key_file):
    result = client("connect", "a,b", "22", "-k", key_file, key=None)
    assert (result.code, result.lines[0]) == (2, "pyknock client: HOST: 'a,b' is not one host, for connect")


def test_two_names_of_one_server_run_the_command_once(server):
    """The client sends two different datagrams, because they may be for two servers."""
    ours = server()
    assert client("open", BOTH.replace("127.0.0.2", "localhost"), "-4", f"-p{ours.port}").code == 0
    ours.wait_for_counters(accepted=2, repeated=1, succeeded=1)
