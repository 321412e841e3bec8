"""contrib/knock.sh: what it sends with each shell and each program, what it refuses, and that nobody sees the key."""

import contextlib
import hashlib
import hmac
import ipaddress
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import textwrap
import time
from pathlib import Path

import pytest
from support.programs import EMULATED, ROOT, TIMEOUT, run
from support.terminals import TerminalProcess
from support.waiting import until

pytestmark = pytest.mark.skipif(EMULATED, reason="a shell runs it, not the program under test")

SCRIPT = ROOT / "contrib/knock.sh"
VECTORS = json.loads((ROOT / "Tests/Vectors/version2.json").read_text())
SHELLS = {"dash": ["dash"], "bash": ["bash"], "busybox": ["busybox", "sh"]}
USAGE = "usage: knock.sh open|close HOST -k FILE [-p PORT] [-S ADDR]"
OBSERVED = bytes(16)

slow_bash = pytest.param("bash", marks=pytest.mark.slow)
each_shell = pytest.mark.parametrize("shell", ["dash", slow_bash, "busybox"])


def hmac256(key, message):
    return hmac.digest(key, message, hashlib.sha256)


def xor(one, other):
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


class Key:
    """A key of version 2, as doc/PROTOCOL.md defines it."""

    def __init__(self, server_id, secret):
        self.server_id, self.secret = server_id, secret
        self.id, self.tag, self.mask = (
            hmac256(secret, f"pyknock 2 {name}".encode() + server_id) for name in ("id", "tag", "mask")
        )
        self.id_mask = hmac256(server_id, b"pyknock 2 id mask")
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        check = hmac256(secret, b"pyknock 2 key" + server_id)[:4]
        bits = int.from_bytes(server_id + secret + check, "big") << 4
        self.text = "pk2." + "".join(alphabet[bits >> 6 * place & 63] for place in reversed(range(70)))

    def seal(self, plain):
        tag = hmac256(self.tag, plain)
        return tag + xor(self.id[:8], hmac256(self.id_mask, tag)[:8]) + xor(plain, hmac256(self.mask, tag))

    def open(self, datagram):
        """The command, the time in microseconds, and the address of a request in which all else is zero."""
        assert len(datagram) == 72
        plain = xor(datagram[40:], hmac256(self.mask, datagram[:32]))
        assert self.seal(plain) == datagram
        assert plain[1:8] == bytes(7)
        return plain[0], int.from_bytes(plain[8:16], "little"), plain[16:]


KEYS = [Key(bytes.fromhex(key["S"]), bytes.fromhex(key["K"])) for key in VECTORS["keys"]]
KEY = KEYS[0]


def packed(address):
    address = ipaddress.ip_address(address)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def knock(*words, shell="dash", key=KEY.text, script=SCRIPT, **options):
    """Runs the script, which reads the key from its standard input if `words` say so."""
    return run([*SHELLS[shell], script, *words], stdin=(key + "\n").encode(), **options)


@pytest.fixture
def listener():
    """A function that binds a UDP socket."""
    with contextlib.ExitStack() as stack:

        def listen(host="127.0.0.1", port=0):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            receiver = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            receiver.bind((host, port))
            receiver.settimeout(TIMEOUT)
            return receiver

        yield listen


def port_of(receiver):
    return f"-p{receiver.getsockname()[1]}"


def received(receiver, key=KEY):
    """What is in the one datagram that came."""
    content = key.open(receiver.recv(100))
    receiver.setblocking(False)
    with pytest.raises(BlockingIOError):
        receiver.recv(100)
    receiver.settimeout(TIMEOUT)
    return content


@pytest.fixture
def edited(tmp_path):
    """A function that makes a copy of the script with other text in places that stand in it once."""

    def edit(*changes):
        text = SCRIPT.read_text()
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / "edited.sh"
        path.write_text(text)
        return path

    return edit


# Prints the datagram instead of sending it.
PRINTING = ("error=$(send 2>&1 >/dev/null)", "error=; emit_datagram | od -An -v -tx1")


def printed(*words, **options):
    """The datagram that an edited script prints."""
    result = knock(*words, **options)
    assert (result.code, result.stderr) == (0, ""), result
    return bytes.fromhex(result.stdout)


def test_the_reference_here_makes_the_vectors():
    for key, vectors in zip(KEYS, VECTORS["keys"], strict=True):
        assert key.text == vectors["text"]
        for good in vectors["good"]:
            assert key.seal(bytes.fromhex(good["P"])).hex() == good["datagram"]


@each_shell
def test_the_good_requests_of_the_vectors(edited, shell):
    script = edited(PRINTING, ('seal "$plain$result"', 'bytes "$PLAIN"; seal "$result"'))
    for key in VECTORS["keys"]:
        for good in key["good"]:
            environment = {**os.environ, "PLAIN": good["P"]}
            datagram = printed("open", "::1", "-k-", shell=shell, key=key["text"], script=script, env=environment)
            assert datagram.hex() == good["datagram"]


@each_shell
def test_random_keys_and_addresses(edited, shell):
    script = edited(PRINTING)
    source = random.Random(19)
    for number in range(12):
        key = Key(source.randbytes(16), source.randbytes(32))
        command, value = source.choice(["open", "close"]), 1 + source.getrandbits(127)
        address = ipaddress.IPv6Address(value) if number % 2 else ipaddress.IPv4Address(1 + value % 0xDFFFFFFF)
        start = time.time_ns() // 10**9 * 10**6
        datagram = printed(command, "::1", "-k-", f"-S{address}", shell=shell, key=key.text, script=script)
        number, micros, signed = key.open(datagram)
        assert (number, signed) == (["open", "close"].index(command) + 1, packed(str(address)))
        assert start <= micros <= time.time_ns() // 1000 + 10**6


ADDRESSES = [
    "0.0.0.1", "1.2.3.4", "10.0.0.255", "223.255.255.255", "240.0.0.1", "255.255.255.254", "::1", "::ffff:192.0.2.7",
    "1::", "::2:3", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::8", "2001:DB8::aBcD", "::192.0.2.7",
    "1:2:3:4:5:6:192.0.2.7", "64:ff9b::1.2.3.4", "fe80::1", "0:0:0:0:0:0:0:1", "0001::00ff",
]  # fmt: skip


@pytest.mark.slow
@each_shell
def test_addresses(edited, shell):
    script = edited(PRINTING)
    for address in ADDRESSES:
        datagram = printed("open", "::1", "-k-", "-S", address, shell=shell, script=script)
        assert KEY.open(datagram)[2] == packed(address), address
    for words in [], ["-S", "observed"]:
        assert KEY.open(printed("open", "::1", "-k-", *words, shell=shell, script=script))[2] == OBSERVED


NO_ADDRESSES = [
    "1.2.3", "1.2.3.4.5", "1.2.3.256", "1.2.3.04", "1.2.3.4444", "1.2.3.", ".1.2.3", "1..2.3", "1.2.3.-4", "0x1.2.3.4",
    "1.2.3.4 ", "127.1", "16909060", ":", ":::", "1:2", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", ":1::2",
    "1::2:", "1:2:3:4:5:6:7::8", "12345::", "g::", "1.2.3.4::", "::1.2.3.4:5", "::1.2.3", "::1.2.3.256",
    "1:2:3:4:5:6:7:1.2.3.4", "fe80::1%eth0", "[::1]", "::1/128", "0x1::", "::-1", "auto", "*", "localhost", "-",
]  # fmt: skip


@each_shell
def test_what_is_no_address(shell):
    for address in NO_ADDRESSES:
        result = knock("open", "::1", "-k-", "-S", address, shell=shell)
        message = f"knock.sh: -S/--sign-address: '{address}' is neither an address nor observed\n"
        assert (result.code, result.stdout, result.stderr) == (5, "", message)


@pytest.mark.parametrize(
    "address, kind",
    {
        "0.0.0.0": "unspecified", "::": "unspecified", "::ffff:0:0": "unspecified", "0::0.0.0.0": "unspecified",
        "255.255.255.255": "broadcast", "::ffff:255.255.255.255": "broadcast", "224.0.0.1": "multicast",
        "239.1.2.3": "multicast", "::ffff:e000:1": "multicast", "ff02::1": "multicast",
    }.items(),
)  # fmt: skip
def test_addresses_that_no_server_opens_for(address, kind):
    result = knock("open", "::1", "-k-", "-S", address)
    message = f"knock.sh: signed address: no server opens for this: {kind} address\n"
    assert (result.code, result.stdout, result.stderr) == (5, "", message)


BLANK = "there is a blank before or after the key; remove it"
QUOTE = "there is a quote before or after the key; remove it"
LETTERS = "the key begins with pk2. in small letters; its letters must stay as they were"
NO_KEY = "not a key of version 2, which begins with pk2."
CHARACTERS = "after pk2. the key has a character that is none of A-Z a-z 0-9 - _"
LAST = "the last character of the key is wrong"
CHECK = "the key is mistyped: its checksum is wrong"
KEY_FAULTS = {
    "blank": BLANK, "quotes": QUOTE, "case": LETTERS, "not a key of version 2": NO_KEY, "alphabet": CHARACTERS,
    "last bits": LAST, "check": CHECK,
    "byte-order mark": "it begins with a byte-order mark; save it as UTF-8 without one",
}  # fmt: skip
MORE_KEYS = {
    "": "the key is empty", KEY.text + "\r": None, KEY.text + "\nttl 30m": None, KEY.text + "\t": BLANK,
    "'" + KEY.text: QUOTE, "a key of version 1": NO_KEY, "Pk2." + KEY.text[4:]: LETTERS, KEY.text[:-1] + "k": LAST,
    "x" + KEY.text: NO_KEY, KEY.text[:-1] + "é": "the key has 75 characters, not 74", KEY.text[:-2] + "é": CHARACTERS,
    KEY.text[:-1] + "*": CHARACTERS, "pk2." + "A" * 70: CHECK,
}  # fmt: skip


def key_texts():
    for vector in VECTORS["key_texts"]:
        text, result = vector["text"], vector["result"]
        length = f"the key has {len(text.encode())} characters, not 74"
        yield text, None if result == "ok" else length if result == "length" else KEY_FAULTS[result]
    yield from MORE_KEYS.items()


@each_shell
def test_key_texts(edited, tmp_path, shell):
    script = edited(PRINTING)
    path = tmp_path / "a key"
    path.touch(0o600)
    for text, fault in key_texts():
        for source in path, "-":
            path.write_text(text)  # The last line has no end.
            result = knock("open", "::1", "-k", source, shell=shell, key=text, script=script)
            if fault:
                message = f"knock.sh: key file '{source}': {fault}\n"
                assert (result.code, result.stdout, result.stderr) == (1, "", message)
            else:
                assert (result.code, result.stderr) == (0, "")
                KEY.open(bytes.fromhex(result.stdout))


@each_shell
def test_modes_of_key_files(edited, tmp_path, shell):
    script = edited(PRINTING)
    path = tmp_path / "key"
    path.write_text(KEY.text + "\n")
    (tmp_path / "link").symlink_to(path)
    for name in "key", "link":
        source = f"key file '{tmp_path / name}':"
        for mode in 0o620, 0o602, 0o666:
            path.chmod(mode)
            result = knock("open", "::1", "-k", tmp_path / name, shell=shell, script=script)
            message = f"knock.sh: {source} others may write it; chmod 600 prevents that\n"
            assert (result.code, result.stdout, result.stderr) == (1, "", message)
        path.chmod(0o644)
        result = knock("open", "::1", "-k", tmp_path / name, shell=shell, script=script)
        message = f"knock.sh: warning: {source} others may read it; chmod 600 prevents that\n"
        assert (result.code, result.stderr) == (0, message)
        for mode in 0o600, 0o640, 0o400:
            path.chmod(mode)
            KEY.open(printed("open", "::1", "-k", tmp_path / name, shell=shell, script=script))


@each_shell
def test_key_files_that_cannot_be_read(tmp_path, shell):
    for path, name in {
        "missing": "(not shown, it may be the key itself)", KEY.text: "(not shown, it may be the key itself)",
        f"./{KEY.text}": "(not shown)", "./missing": "'./missing'", tmp_path: f"'{tmp_path}'",
        "./a\nb": "(not shown)", "-x": "(not shown, it may be the key itself)",
    }.items():  # fmt: skip
        result = knock("open", "::1", "-k", path, shell=shell, cwd=tmp_path)
        message = f"knock.sh: key file {name}: there is no such file, or it cannot be read\n"
        assert (result.code, result.stdout, result.stderr) == (1, "", message)


@pytest.fixture
def path_of(tmp_path):
    """A function that makes a PATH with only these programs."""

    def make(*names):
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in ("dash", "bash", "busybox", *names):
            (folder / name).symlink_to(shutil.which(name))
        return {**os.environ, "PATH": str(folder)}

    return make


TOOLS = ["sha256sum", "dd", "date", "ls"]
TRANSPORTS = [
    ("dash", "socat"), ("busybox", "socat"), pytest.param("dash", "nc", marks=pytest.mark.slow), ("bash", None),
]  # fmt: skip


@pytest.mark.parametrize("shell, transport", TRANSPORTS)
def test_each_shell_and_program_sends_one_datagram(listener, edited, path_of, shell, transport):
    environment = path_of(*TOOLS, *filter(None, [transport]))
    for address, host in ("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::1", "[::1]"), ("127.0.0.1", "localhost"):
        receiver = listener(address)
        result = knock("close", host, "-k-", port_of(receiver), shell=shell, env=environment)
        assert (result.code, result.stdout, result.stderr) == (0, "", "")
        assert received(receiver)[::2] == (2, OBSERVED)

    # The shell must not write the lines of a datagram one by one.
    plain = next(
        plain for micros in range(1000)
        if KEY.seal(plain := b"\1" + bytes(7) + micros.to_bytes(8, "little") + OBSERVED).count(b"\n") > 2
    )  # fmt: skip
    script = edited(('seal "$plain$result"', f'bytes {plain.hex()}; seal "$result"'))
    receiver = listener()
    result = knock("open", "127.0.0.1", "-k-", port_of(receiver), shell=shell, script=script, env=environment)
    assert (result.code, result.stdout, result.stderr) == (0, "", "")
    assert received(receiver)[0] == 1


@each_shell
def test_the_server_takes_its_knocks(server, shell):
    ours = server("--allow-observed-source", key=KEY.text)
    for command, words, address in (
        ("open", [], "127.0.0.1"), ("close", ["-Sobserved"], "127.0.0.1"), ("open", ["-S192.0.2.7"], "192.0.2.7"),
        ("close", ["-S2001:db8::7"], "2001:db8::7"),
    ):  # fmt: skip
        result = knock(command, "127.0.0.1", "-k-", f"-p{ours.port}", *words, shell=shell)
        assert (result.code, result.stdout, result.stderr) == (0, "", "")
        ours.log.wait_for(f"accepted {command} {address} from 127.0.0.1:")


def test_two_knocks_in_a_second_differ(listener):
    receiver = listener()
    for _ in range(2):
        assert knock("open", "127.0.0.1", "-k-", port_of(receiver)).code == 0
    one, other = (KEY.open(receiver.recv(100))[1] for _ in range(2))
    assert one != other


@pytest.mark.parametrize(
    "shell, transport, unreachable, unknown",
    [
        ("dash", "socat", r"20.* Network is unreachable", r"20.* getaddrinfo\(\"host.invalid\".*"),
        ("dash", "nc", "no reason given", r"nc: .*host.invalid.*"),
        ("bash", None, ".*: connect: Network is unreachable", ".*: host.invalid: .*"),
    ],
)
def test_an_error_of_the_program_that_sends_is_one_line(path_of, shell, transport, unreachable, unknown):
    environment = path_of(*TOOLS, *filter(None, [transport]))
    # The network of the tests has no routes and no names.
    for host, reason in ("192.0.2.1", unreachable), ("host.invalid", unknown):
        result = knock("open", host, "-k-", shell=shell, env=environment)
        assert (result.code, result.stdout) == (1, ""), result
        assert re.fullmatch(f"knock.sh: nothing was sent to '{host}': {reason}\n", result.stderr)


def test_a_port_that_answers_with_an_error_is_no_reason_to_fail(listener):
    receiver = listener()
    port = port_of(receiver)
    receiver.close()
    for shell in SHELLS:
        result = knock("open", "127.0.0.1", "-k-", port, shell=shell)
        assert (result.code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("missing", TOOLS)
@pytest.mark.parametrize("shell", ["dash", slow_bash])
def test_what_is_missing_is_named(path_of, shell, missing):
    environment = path_of(*(tool for tool in TOOLS if tool != missing))
    result = knock("open", "::1", "-k-", shell=shell, env=environment)
    assert (result.code, result.stdout, result.stderr) == (1, "", f"knock.sh: {missing} is missing\n")


def test_busybox_has_all_but_a_program_that_sends(path_of):
    # Its nc has no UDP on Debian.
    result = knock("open", "::1", "-k-", shell="busybox", env=path_of())
    assert (result.code, result.stdout) == (1, "")
    assert result.lines == ["knock.sh: nothing was sent to '::1': nc: invalid option -- 'u'"]


STRANGE_PROGRAMS = {
    "date": ("echo %s", "date does not tell the seconds since 1970"),
    "ls": ("exit 1", "ls does not tell who may write it"),
    "dd": ("exit 1", "/dev/urandom cannot be read"),
}


@pytest.mark.parametrize("name", STRANGE_PROGRAMS)
def test_a_program_that_does_not_do_what_it_must(path_of, key_file, name):
    key_file.write_text(KEY.text)
    environment = path_of(*(tool for tool in TOOLS if tool != name), "socat")
    text, message = STRANGE_PROGRAMS[name]
    program = Path(environment["PATH"]) / name
    program.write_text(f"#!/usr/bin/env dash\n{text}\n")
    program.chmod(0o755)
    result = knock("open", "::1", "-k", key_file, env=environment)
    assert (result.code, result.stdout) == (1, "")
    assert re.fullmatch(f"knock.sh: (key file '.*': )?{message}\n", result.stderr)


def test_it_ends_if_somebody_goes_on_sending(path_of, edited, process):
    script = edited(("sleep 10", "sleep 3"))
    words = ["dash", script, "open", "127.0.0.1", "-k-"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.settimeout(TIMEOUT)
        environment = path_of(*TOOLS, "nc", "sleep")
        ours = process([*words, port_of(other)], stdin=KEY.text.encode() + b"\n", env=environment)
        _, place = other.recvfrom(100)
        end = time.monotonic() + TIMEOUT
        while ours.popen.poll() is None:
            assert time.monotonic() < end
            with contextlib.suppress(OSError):
                other.sendto(b"more", place)
            time.sleep(0.2)
    assert ours.exit_code() == 1
    message = "knock.sh: nc did not end for ten seconds; it may have sent the knock to '127.0.0.1'"
    assert (ours.output.wait_for_end(), ours.log.wait_for_end()) == ([], [message])


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_sha256sum_that_fails_is_no_mistyped_key(path_of, shell):
    environment = path_of("dd", "date", "ls", "nc", "false")
    folder = Path(environment["PATH"])
    (folder / "false").rename(folder / "sha256sum")
    result = knock("open", "::1", "-k-", shell=shell, env=environment)
    assert (result.code, result.stdout, result.stderr) == (1, "", "knock.sh: sha256sum has failed\n")


def test_a_shell_without_a_printf_gets_no_key():
    words = ["bash", "-c", f"enable -n printf; . {SCRIPT}", "sh", "open", "::1", "-k-"]
    result = run(words, stdin=KEY.text.encode())
    assert (result.code, result.stdout) == (1, "")
    assert result.lines == [
        "knock.sh: this shell has no printf of its own, so ps would show the key; try dash, bash or busybox sh"
    ]


# The operand may be the key of version 1 that somebody has used with another client.
TOO_MANY = "one operand too many (not shown, it may be a key)"
MISTAKES = {
    "": "open or close is missing",
    "open": "HOST is missing",
    "open ''": "HOST is missing",
    "check ::1": "'check' is neither open nor close",
    "OPEN ::1": "'OPEN' is neither open nor close",
    "open ::1": "no key: give -k FILE",
    "open ::1 -k": "-k needs a value",
    "open ::1 --port": "--port needs a value",
    "open ::1 x": TOO_MANY,
    "open ::1 -x": "unknown option '-x'",
    "open ::1 --": "unknown option '--'",
    "open ::1 --psk=x": "unknown option '--psk'",
    "open me@box": "HOST: 'me@box' is neither a name nor an address",
    "open box:22": "HOST: 'box:22' is not a host alone: name the port with -p",
    "open [::1]:22": "HOST: '[::1]:22' is neither a name nor an address",
    "open -- ::1": "unknown option '--'",
    "open ' '": "HOST: ' ' is neither a name nor an address",
    "open '*'": "HOST: '*' is neither a name nor an address",
    "open 'box,bind=:1'": "HOST: 'box,bind=:1' is neither a name nor an address",
    "open ../../etc": "HOST: '../../etc' is neither a name nor an address",
    "open '$(touch x)'": "HOST: '$(touch x)' is neither a name nor an address",
    "open 'a;touch x'": "HOST: 'a;touch x' is neither a name nor an address",
    "open '`touch x`'": "HOST: '`touch x`' is neither a name nor an address",
    "open 'a\nb'": "HOST: (not shown) is neither a name nor an address",
    "open '\033[2J'": "HOST: (not shown) is neither a name nor an address",
    "open é": "HOST: (not shown) is neither a name nor an address",
    f"open ::1 {KEY.text}": TOO_MANY,
    f"{KEY.text.upper()} ::1": "(not shown) is neither open nor close",
    f"open ::1 -x{KEY.text}": "unknown option (not shown)",
    f"open ::1 -{KEY.text}": "-p/--port: (not shown) is not a port: 1 to 65535",
    f"open {KEY.text[4:]}@": "HOST: (not shown) is neither a name nor an address",
    f"open ::1 -p{KEY.text}": "-p/--port: (not shown) is not a port: 1 to 65535",
    **{f"open ::1 -k- -p '{port}'": f"-p/--port: '{port}' is not a port: 1 to 65535" for port in [
        "", "0", "00", "080", "65536", "99999", "100000", "9" * 30, "-1", "+1", "0x50", "1 ", "a[$(touch x)]", "ssh",
    ]},
}  # fmt: skip


@each_shell
def test_mistakes_in_the_command_line(tmp_path, shell):
    for words, message in MISTAKES.items():
        result = knock(*shlex.split(words), shell=shell, cwd=tmp_path)
        assert (result.code, result.stdout, result.lines) == (2, "", [f"knock.sh: {message}", USAGE])
    assert not list(tmp_path.iterdir())


def test_a_file_whose_name_is_hostile_is_only_a_file(listener, tmp_path):
    for name in "-n", "$(touch x)", "a b", "*", "a\nb":
        (tmp_path / name).write_text(KEY.text)
        (tmp_path / name).chmod(0o600)
        receiver = listener()
        result = knock("open", "127.0.0.1", "-k", name, port_of(receiver), cwd=tmp_path)
        assert (result.code, result.stdout, result.stderr) == (0, "", "")
        assert received(receiver)[0] == 1
    assert not (tmp_path / "x").exists()


@each_shell
def test_options_in_all_their_forms(listener, key_file, shell):
    key_file.write_text(KEY.text)
    receiver = listener()
    port = str(receiver.getsockname()[1])
    for words in (
        ["-k", key_file, "-p", port, "-S", "192.0.2.7", "close", "127.0.0.1"],
        ["close", f"-k{key_file}", "127.0.0.1", f"-p{port}", "-S192.0.2.7"],
        ["--key-file", key_file, "close", "--port", port, "--sign-address", "192.0.2.7", "127.0.0.1"],
        ["close", "127.0.0.1", f"--key-file={key_file}", f"--port={port}", "--sign-address=192.0.2.7"],
    ):
        result = knock(*words, shell=shell)
        assert (result.code, result.stdout, result.stderr) == (0, "", "")
        assert received(receiver)[::2] == (2, packed("192.0.2.7"))


@each_shell
def test_help(shell):
    for option in "-h", "--help":
        result = knock("open", option, shell=shell)
        assert (result.code, result.stderr) == (0, "")
        assert result.stdout.startswith(USAGE + "\n\n")
        assert all(len(line) <= 80 for line in result.stdout.splitlines())


PROMPT = b"key (not shown): "


@each_shell
def test_a_terminal_is_asked_for_the_key_and_hides_it(listener, shell):
    receiver = listener()
    words = [*SHELLS[shell], SCRIPT, "open", "127.0.0.1", "-k-", port_of(receiver)]
    with contextlib.closing(TerminalProcess(*words)) as ours:
        ours.wait_for(PROMPT)
        assert not ours.echoes()
        ours.type(KEY.text.encode() + b"\n")
        assert received(receiver)[0] == 1
        assert ours.popen.wait(TIMEOUT) == 0
        assert ours.echoes()
        assert ours.text == PROMPT + b"\r\n"


@each_shell
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_terminal_shows_again_what_is_typed_after_a_signal(shell, number):
    words = [*SHELLS[shell], SCRIPT, "open", "127.0.0.1", "-k-"]
    with contextlib.closing(TerminalProcess(*words)) as ours:
        ours.wait_for(PROMPT)
        assert not ours.echoes()

        def ends():
            os.kill(ours.popen.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                ours.popen.wait(1)
            return ours.popen.returncode is not None

        # A shell that is about to read runs its trap only after the next signal, as after a second Ctrl-C.
        until(ends, "it ends")
        assert ours.echoes()


@each_shell
def test_a_terminal_shows_again_what_is_typed_before_the_knock_is_sent(edited, shell):
    script = edited(("error=$(send 2>&1 >/dev/null)", "stty -a; exit"))
    with contextlib.closing(TerminalProcess(*SHELLS[shell], script, "open", "127.0.0.1", "-k-")) as ours:
        ours.wait_for(PROMPT)
        ours.type(KEY.text.encode() + b"\n")
        ours.wait_for(b" echo ")


def test_without_stty_nobody_is_asked_for_the_key(path_of):
    environment = path_of(*TOOLS, "socat", "env")
    words = ["env", f"PATH={environment['PATH']}", "dash", SCRIPT, "open", "127.0.0.1", "-k-"]
    with contextlib.closing(TerminalProcess(*words)) as ours:
        ours.wait_for(b"\n")
        assert ours.popen.wait(TIMEOUT) == 1
        assert ours.text == (
            b"knock.sh: key file '-': stty is missing, so the key would be shown; give -k FILE\r\n"
        )


@each_shell
def test_control_z_does_not_stop_it_while_it_asks(shell):
    """After `fg`, the terminal would show the key."""
    with contextlib.closing(TerminalProcess(*SHELLS[shell], SCRIPT, "open", "127.0.0.1", "-k-")) as ours:
        ours.wait_for(PROMPT)
        assert ours.ignores(signal.SIGTSTP)


@each_shell
def test_there_is_no_core_dump(shell):
    with contextlib.closing(TerminalProcess(*SHELLS[shell], SCRIPT, "open", "127.0.0.1", "-k-")) as ours:
        ours.wait_for(PROMPT)
        limits = Path(f"/proc/{ours.popen.pid}/limits").read_text()
    assert ["Max", "core", "file", "size", "0", "0", "bytes"] in map(str.split, limits.splitlines())


def test_the_commands_of_its_page(listener, tmp_path):
    page = (ROOT / "contrib/SHELL.md").read_text()
    copy, use = (textwrap.dedent(text) for text in re.findall(r"^ *```sh\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL))
    receiver = listener("127.0.0.1", 60120)
    (tmp_path / "keys").write_text(KEY.text + "\nttl 30m\n")
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\n[ $# = 1 ] || head -n 1 "{tmp_path}/keys"\n')
    ssh.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    text = (copy + use).replace("server.example.org", "127.0.0.1").replace("sh knock.sh", f"sh {SCRIPT}")
    result = run(["sh", "-ec", text], cwd=tmp_path, env=environment)
    assert (result.code, result.stdout, result.stderr) == (0, "", "")
    assert [KEY.open(receiver.recv(100))[::2] for _ in range(2)] == [(1, OBSERVED), (2, OBSERVED)]


def secrets(key):
    """What must not be seen: the key and what is made of it, in each form that the script has it in."""
    forms = {key.text, key.text[4:24], key.text[-24:]}
    values = [key.server_id, key.secret, key.tag, key.mask, key.id_mask]
    for value in [*values, xor(key.secret, b"\x36" * 32), xor(key.secret, b"\x5c" * 32)]:
        value = value[:12]
        octal = "".join(f"\\0{byte >> 6}{byte >> 3 & 7}{byte & 7}" for byte in value)
        forms |= {value.decode("latin-1"), value.hex(), " ".join(map(str, value)), octal}
    return forms


def executed(trace):
    """The arguments and the environment of each program that strace saw."""
    for line in trace.read_text().splitlines():
        if "execve(" in line:
            yield re.sub(r"\\x(..)", lambda found: chr(int(found[1], 16)), line)


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_no_program_gets_the_key(listener, tmp_path, shell):
    key = Key(random.Random(7).randbytes(16), random.Random(8).randbytes(32))
    trace = tmp_path / "trace"
    # The worst environment: all variables of the script are exported before it begins.
    names = set(re.findall(r"\b([A-Za-z_0-9]+)=", SCRIPT.read_text())) - {"LC_ALL"}
    assert {"text", "K", "S", "inner", "escapes", "result"} <= names
    environment = {**os.environ, **dict.fromkeys(names, "x"), "SHELLOPTS": "allexport:xtrace"}

    strace = ["strace", "-f", "-v", "-xx", "-s1000000", "-etrace=execve", "-o", trace]

    def leaks(script):
        """The programs that got the key, and what is written."""
        receiver = listener()
        words = [*strace, *SHELLS[shell], script, "open", "127.0.0.1", "-k-", port_of(receiver)]
        result = run(words, stdin=key.text.encode(), env=environment)
        assert (result.code, result.stdout) == (0, "")
        assert received(receiver, key)[0] == 1
        programs = list(executed(trace))
        # busybox is its own sha256sum.
        assert len(programs) >= (2 if shell == "busybox" else 20)
        return [text for text in [*programs, result.stderr] for secret in secrets(key) if secret in text]

    assert leaks(SCRIPT) == []
    # The same test finds the key once the script does not care.
    text = re.sub("^(unset|set) .*", "", SCRIPT.read_text(), flags=re.MULTILINE)
    careless = tmp_path / "careless.sh"
    careless.write_text(text)
    assert leaks(careless) != []
