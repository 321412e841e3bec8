"""How urgent the lines of client and keygen are."""

import os

import pytest
from support.networks import HOST
from support.programs import PYKNOCK, run

ERROR, WARNING, DEBUG = 3, 4, 7


def lines(journal, words, prefix=(), **options):
    """What a program writes to the journal: the priority of each line (sd-daemon(3)), and its text."""
    file, environment = journal
    run([*prefix, *PYKNOCK, *words], stderr=file, env={**environment, **options.pop("env", {})}, **options)
    with open(file.name) as written:
        return [(int(line[1]), line[3:].rstrip("\n")) for line in written]


@pytest.mark.parametrize(
    "words, text",
    [
        (["nonsense"], "pyknock: "),
        (["client", "--nonsense"], "pyknock client: unknown option"),
        (["client", "open", "-n", "127.0.0.1", "-k", "/none"], "pyknock client: "),
        (["client", "open", "127.0.0.1", "-s", "x"], "pyknock client: source address: "),
        (["client", "open", "127.0.0.1", "-S", "x"], "pyknock client: signed address: "),
        (["client", "open", "127.0.0.1", "-S", "0.0.0.0"], "pyknock client: signed address: "),
        (["client", "open", "127.0.0.1", "-s", "::1"], "pyknock client: '127.0.0.1' has no address"),
        (["client", "open", "127.0.0.1", "-s", "192.0.2.9"], "pyknock client: cannot knock on 127.0.0.1:"),
        (["client", "open", "missing.invalid"], "pyknock client: cannot resolve 'missing.invalid': "),
        (["client", "open", "127.0.0.1", "-S", "auto", "--stun=127.0.0.1:1"], "pyknock client: STUN server "),
        (["client", "connect", "127.0.0.1", "1", "--wait=1"], "pyknock client: port 1 of '127.0.0.1' "),
        (["client", "open", "127.0.0.1", "-p9", "--", "/none"], "pyknock client: cannot run '/none': "),
        (["keygen", "--nonsense"], "pyknock keygen: unknown option"),
        (["keygen", "-o", "/none/key"], "pyknock keygen: cannot make '/none/key': "),
    ],
)
def test_errors_are_errors(journal, key_file, words, text):
    if words[0] == "client" and "-k" not in words:
        words = [*words[:2], "-k", key_file, *words[2:]]
    found = lines(journal, words)
    assert found and {level for level, _ in found} == {ERROR}
    assert found[0][1].startswith(text)


def test_a_mistake_in_the_configuration_is_an_error(journal, tmp_path):
    (tmp_path / "pyknock").mkdir()
    (tmp_path / "pyknock" / "client.conf").write_text("Nonsense x\n")
    found = lines(journal, ["client", "open", "127.0.0.1"], env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert [level for level, _ in found] == [ERROR]


def test_a_connection_that_breaks_is_an_error(journal, key_file, service):
    service.serve(lambda connection: connection.sendall(b"x"))
    words = ["client", "connect", "127.0.0.1", str(service.port), f"-p{HOST.free_port()}", "-k", key_file]
    with open("/dev/full", "wb") as full:
        found = lines(journal, words, stdout=full)
    assert [level for level, _ in found] == [ERROR]
    assert found[0][1].startswith("pyknock client: the connection broke: ")


def test_a_warning_about_nat_is_a_warning(journal, network, key_file):
    words = ["client", "open", "203.0.113.1", "-n", "-k", key_file]
    [(level, text)] = lines(journal, words, prefix=network.prefix)
    assert level == WARNING and "is a private address" in text


def test_a_warning_about_the_key_is_a_warning(journal, key_file):
    key_file.chmod(0o644)
    [(level, text)] = lines(journal, ["client", "open", "127.0.0.1", "-n", "-k", key_file])
    assert level == WARNING and "warning: " in text


def test_a_warning_of_keygen_is_a_warning(journal, tmp_path):
    with open(tmp_path / "output", "wb") as output:
        os.chmod(tmp_path / "output", 0o644)
        [(level, text)] = lines(journal, ["keygen"], stdout=output)
    assert level == WARNING and "warning: " in text


def test_what_is_sent_is_for_debugging(journal, key_file):
    words = ["client", "open", "127.0.0.1", f"-p{HOST.free_port()}", "-v", "-k", key_file]
    assert [level for level, _ in lines(journal, words)] == [DEBUG]
