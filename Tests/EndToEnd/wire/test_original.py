"""This program and the Python original talk to each other, as clients and as servers."""

import os

import pytest
from support.programs import ORIGINAL, PYKNOCK, program, run
from support.servers import client

LOCALE = {**os.environ, "LC_ALL": "C.UTF-8"}

KEYS = {
    "ascii": "correct horse battery staple",
    "latin-1": "clé d'été à Çôté",
    "64 bytes": "k" * 64,
    "65 bytes": "k" * 65,
    "200 bytes latin-1": "é" * 200,
}

both_families = pytest.mark.parametrize(
    "host, family", [("127.0.0.1", "inet"), ("::1", "inet6")], ids=["ipv4", "ipv6"]
)
all_keys = pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())


def original_client(*arguments):
    result = run([ORIGINAL / "pyknock-client", *arguments], env=LOCALE)
    assert result.code == 0, result


def our_client(*arguments, key):
    result = client(*arguments, key=key)
    assert (result.code, result.lines) == (0, []), result


@pytest.mark.slow
@both_families
@all_keys
def test_original_client_opens_and_closes_on_our_server(server, key, host, family):
    ours = server(key=key)
    original_client("-p", str(ours.port), "open", host, key)
    original_client("close", host, key, f"--port={ours.port}")
    ours.output.wait_for("^close")
    assert ours.output.lines == [f"open {host} {family}", f"close {host} {family}"]


@both_families
@all_keys
def test_our_client_opens_and_closes_on_the_original_server(original_server, key, host, family):
    original = original_server(key=key)
    our_client("-p", str(original.port), "open", host, key=key)
    our_client("close", host, f"--port={original.port}", key=key)
    original.output.wait_for("^close")
    assert original.output.lines == [f"open {host} {family}", f"close {host} {family}"]


@pytest.mark.parametrize("signed, family", [("192.0.2.7", "inet"), ("2001:db8::7", "inet6")])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_signed_address_means_the_same_to_both(server, original_server, host, signed, family):
    ours, original = server(), original_server()
    original_client("open", host, ours.key, "-S", signed, "-p", str(ours.port))
    our_client("open", host, "-S", signed, "-p", str(original.port), key=original.key)
    ours.output.wait_for("open")
    original.output.wait_for("open")
    assert ours.output.lines == original.output.lines == [f"open {signed} {family}"]


def test_a_source_address_means_the_same_to_both(server, original_server):
    ours, original = server(), original_server()
    original_client("open", "127.0.0.1", ours.key, "-s127.0.0.5", "-p", str(ours.port))
    our_client("open", "127.0.0.1", "-s127.0.0.5", "-p", str(original.port), key=original.key)
    ours.output.wait_for("open")
    original.output.wait_for("open")
    assert ours.output.lines == original.output.lines == ["open 127.0.0.5 inet"]
    ours.log.wait_for(r"accepted open 127\.0\.0\.5 from 127\.0\.0\.5:\d+$")


@both_families
def test_both_servers_bind_to_an_address(server, original_server, host, family):
    ours, original = server("-b", host), original_server("-b", host)
    original_client("open", host, ours.key, "-p", str(ours.port))
    our_client("open", host, "-p", str(original.port), key=original.key)
    ours.output.wait_for("open")
    original.output.wait_for("open")
    assert ours.output.lines == original.output.lines == [f"open {host} {family}"]


def test_a_fraction_as_drift_holds_for_the_original_client(server):
    wide, narrow = server("-t", "9.5"), server("-t", "0.0000001")
    original_client("open", "127.0.0.1", wide.key, "-p", str(wide.port))
    original_client("open", "127.0.0.1", narrow.key, "-p", str(narrow.port))
    wide.log.wait_for("accepted open 127.0.0.1")
    narrow.log.wait_for("refused open 127.0.0.1 .*: time stamp outside the allowed drift")


def test_keys_of_keygen_work_with_the_original(server, original_server):
    key = run(program("keygen")).stdout.strip()
    ours, original = server(key=key), original_server(key=key)
    original_client("open", "127.0.0.1", key, "-p", str(ours.port))
    our_client("open", "127.0.0.1", "-p", str(original.port), key=key)
    ours.output.wait_for("open")
    original.output.wait_for("open")


def test_both_names_of_the_original_are_commands_with_a_key_operand(server, tmp_path):
    for name in ("pyknock-server", "pyknock-client", "pyknock-keygen"):
        (tmp_path / name).symlink_to(PYKNOCK[-1])
    start = [*PYKNOCK[:-1], tmp_path / "pyknock-server"]
    key = KEYS["latin-1"]
    ours = server(applet=start, words=[key, "echo $cmd", "echo $cmd"], env=LOCALE)
    arguments = ["close", "127.0.0.1", key, "-p", str(ours.port)]
    assert run([*PYKNOCK[:-1], tmp_path / "pyknock-client", *arguments]).code == 0
    ours.output.wait_for("^close$")
    assert len(run([*PYKNOCK[:-1], tmp_path / "pyknock-keygen"]).stdout) == 44
