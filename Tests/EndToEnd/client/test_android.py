"""Client and keygen under a filter of system calls as Android has it for apps."""

import os
import subprocess
from pathlib import Path

import pytest
from support.datagrams import CLOSE, OPEN
from support.networks import HOST, listener
from support.programs import EMULATED, PYKNOCK, run
from support.version2 import KEY2, ServerKey

SOURCE = Path(__file__).parents[1] / "support/android.c"


@pytest.fixture(scope="session")
def android(tmp_path_factory):
    """Runs the program under the filter."""
    if EMULATED:
        pytest.skip("an emulator has no filter of system calls")
    file = Path(PYKNOCK[0]).read_bytes()
    if file[4] == 1:  # elf(5), EI_CLASS
        pytest.skip("the filter has the numbers of 64-bit systems")
    if b"libswiftCore" in file:
        pytest.skip("the library of Swift makes other calls, and is not in the program as it is shipped")
    launcher = tmp_path_factory.mktemp("android") / "android"
    subprocess.run(["clang", "-Wall", "-Werror", "-o", launcher, SOURCE], check=True)
    return lambda *words, **options: run([launcher, PYKNOCK[0], *words], **options)


def test_the_filter_traps(android):
    """The server needs a call that Android does not allow: close_range(2)."""
    result = android("server", "-n", "a key that is long enough", "true", "true")
    assert (result.code, result.stdout) == (-31, "")


STARTS = [["--version"], ["--help"], ["client", "--help"], ["client", "list"], ["keygen"]]


@pytest.mark.parametrize("words", STARTS, ids=" ".join)
def test_they_start(android, words, tmp_path):
    result = android(*words, env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)})
    assert (result.code, result.stderr) == (0, "")


def test_keygen_makes_a_file(android, tmp_path):
    assert android("keygen", "-o", tmp_path / "key").code == 0


def test_names_and_numbers_are_knocked_on(android, key_file):
    with listener() as receiver:
        words = ["open", "localhost,127.0.0.1", "-4", f"-p{receiver.getsockname()[1]}", "-k", key_file]
        result = android("client", *words, "--repeat=2", "--close", "--", "true")
        assert (result.code, result.stderr) == (0, "")
        assert [receiver.recv(100)[32] for _ in range(8)] == 4 * [OPEN] + 4 * [CLOSE]
        assert android("client", *words, "--", "true").code == 0


def test_a_connection_is_passed_on(android, key_file, service):
    service.serve(lambda connection: connection.sendall(connection.recv(100)[::-1]))
    words = ["connect", "127.0.0.1", str(service.port), f"-p{HOST.free_port()}", "-k", key_file]
    result = android("client", *words, stdin=b"abc")
    assert (result.code, result.stdout, result.stderr) == (0, "cba", "")


def test_a_public_address_is_looked_for(android, key_file):
    words = ["-S", "auto", f"--stun=localhost:{HOST.free_port()}", "-k", key_file]
    assert android("client", "open", "127.0.0.1", *words).code == 5


def test_a_server_is_imported_and_answers(android, responder, tmp_path):
    def answer(requests):
        return [ServerKey(KEY2).answer(requests[-1].tag, "127.0.0.1", 0, 60, requests[-1].time)]

    server = responder(answer)
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("XDG_CONFIG_HOME", None)
    line = f"pyknock2:alice@127.0.0.1:{server.port}#{KEY2}\n"
    result = android("client", "import", "home", stdin=line.encode(), env=environment)
    assert (result.code, result.stderr) == (0, "")
    result = android("client", "check", "home", env=environment)
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout.startswith("good: would open for 127.0.0.1 until ")
