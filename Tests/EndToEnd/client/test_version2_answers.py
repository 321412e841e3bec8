"""The client with a key of version 2: its requests, the answers, what it prints, and how it ends."""

import os
import re
import signal
import socket

import pytest
from support.datagrams import KEY, OPEN, signed
from support.networks import listener
from support.programs import program, run, socket_error
from support.version2 import KEY2, OTHER_KEY2, ServerKey

CLOSE, CHECK = 2, 3
SERVER = ServerKey(KEY2)
ADDRESS = "198.51.100.7"
NO_ANSWER = "no answer; does the server run with --answer? If so, check the clocks, the key, and the port (-p)"
UNLIMITED = f"open for {ADDRESS} until it is closed"
FAILURES = {
    1: (8, f"failed for {ADDRESS}: the log of the server says why"),
    2: (7, f"not allowed for {ADDRESS}: the server or the limits of the key forbid it"),
    3: (8, f"no room for {ADDRESS}: the server is busy; try again"),
    4: (8, f"failed for {ADDRESS} (4): the log of the server says why"),
    255: (8, f"failed for {ADDRESS} (255): the log of the server says why"),
}
# Noon, at 2025-11-25 UTC.
NOON = 1_764_072_000


def answering(result=0, seconds=0, address=ADDRESS, time=0, from_request=1):
    """Answers the request with this number and all that follow."""

    def reply(requests):
        request = requests[-1]
        answer = SERVER.answer(request.tag, address, result, seconds, time or request.time)
        return [answer] if len(requests) >= from_request else []

    return reply


def silent(requests):
    return []


@pytest.fixture
def configuration(tmp_path):
    """Writes client.conf. Returns the environment in which it counts."""

    def write(text):
        path = tmp_path / "pyknock" / "client.conf"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
        return {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}

    return write


@pytest.fixture
def words(key2_file):
    return lambda server, *arguments: [*program("client"), "-k", key2_file, f"-p{server.port}", *arguments]


def answers(server):
    server.wait_for(1)
    return [(r.command, r.flags, r.door, r.reserved, r.seconds, str(r.address)) for r in server.requests]


# Requests


def test_a_request_for_each_command(responder, words):
    server = responder(silent)
    for count, (word, number) in enumerate([("open", OPEN), ("close", CLOSE)], 1):
        result = run(words(server, word, "127.0.0.1", "-v"))
        assert (result.code, result.stdout) == (0, "")
        assert result.lines == [f"pyknock client: sent {word} 127.0.0.1 to 127.0.0.1:{server.port}"]
        server.wait_for(count)
        assert answers(server)[-1] == (number, 0, 0, 0, 0, "127.0.0.1")
    assert [len(datagram) for datagram in server.datagrams] == [72, 72]


def test_where_the_key_comes_from(responder, key2_file, configuration):
    """Whatever has the key decides on the version. Version 1 is never tried."""
    server = responder(silent)
    port = f"-p{server.port}"
    environment = configuration(f"Host gate\nHostName 127.0.0.1\nPort {server.port}\nKeyFile {key2_file}\n")
    forms = [f"open 127.0.0.1 {KEY2} {port}", f"open 127.0.0.1 -k- {port}", "open gate", "open -c gate"]
    for count, arguments in enumerate(forms, 1):
        result = run([*program("client"), *arguments.split()], stdin=KEY2.encode(), env=environment)
        assert result.code == 0 and KEY2 not in result.stderr
        server.wait_for(count)
        assert len(server.requests) == count
    assert {len(datagram) for datagram in server.datagrams} == {72}


def test_no_two_requests_have_the_same_time(responder, words, namespace):
    """Two addresses, and three knocks on each. With -S, datagrams of version 1 would all be one."""
    namespace.hosts.write_text("127.0.0.1 two.test\n127.0.0.2 two.test\n")
    servers = [responder(silent, address=a, port=7001, network=namespace) for a in ("127.0.0.1", "127.0.0.2")]
    command = words(servers[0], "open", "two.test", "-S", "192.0.2.7", "--repeat=2", "--interval=1")
    assert run([*namespace.prefix, *command]).code == 0
    for server in servers:
        server.wait_for(2)
    requests = [request for server in servers for request in server.requests]
    assert len({r.time for r in requests}) == len({r.tag for r in requests}) == len(requests) == 4
    assert {str(r.address) for r in requests} == {"192.0.2.7"}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_observed_source_is_16_zeros(responder, words, address):
    server = responder(silent, address=address)
    assert run(words(server, "open", address, "-S", "observed")).code == 0
    server.wait_for(1)
    assert int(server.requests[0].address) == 0


@pytest.mark.parametrize("address", ["::", "0.0.0.0", "::ffff:0.0.0.0", "0::0"])
def test_no_other_word_stands_for_the_observed_source(responder, words, address):
    server = responder(silent)
    result = run(words(server, "open", "127.0.0.1", "-S", address))
    assert (result.code, result.stdout) == (5, "")
    assert result.lines == ["pyknock client: signed address: no server opens for this: unspecified address"]
    assert server.datagrams == []


def test_seconds(responder, words, configuration, key2_file):
    server = responder(silent)
    texts = {"90": 90, "15m": 900, "2h": 7200, "366d": 366 * 86400}
    for count, (text, seconds) in enumerate(texts.items(), 1):
        assert run(words(server, "open", "127.0.0.1", "--ttl", text)).code == 0
        server.wait_for(count)
        assert server.requests[-1].seconds == seconds
    # Of client.conf, the first counts, and none with --ttl or close.
    environment = configuration(f"KeyFile {key2_file}\nTtl 5m\nTtl 6m\n")
    command = [*program("client"), f"-p{server.port}"]
    for words_after, seconds in (["open"], 300), (["open", "--ttl=7"], 7), (["close"], 0):
        count = len(server.requests)
        assert run([*command, *words_after, "127.0.0.1"], env=environment).code == 0
        server.wait_for(count + 1)
        assert server.requests[-1].seconds == seconds


DURATIONS = "a duration such as 90, 15m, 2h or 1d, at most 366 days"
BAD_DURATIONS = ["0", "-1", "", "1w", "367d", "1.5h", "99999999999999999999", "4294967296", " 1", "1h30m"]


@pytest.mark.parametrize("value", BAD_DURATIONS)
def test_bad_durations(responder, words, configuration, value):
    server = responder(silent)
    result = run(words(server, "open", "127.0.0.1", f"--ttl={value}"))
    assert (result.code, result.stdout) == (2, "")
    assert result.lines[0] == f"pyknock client: --ttl: '{value}' is not {DURATIONS}"
    result = run([*program("client"), "open", "h"], env=configuration(f'Ttl "{value}x"\n'))
    assert result.code == 1 and result.stderr.endswith(f":1: Ttl: the value is not {DURATIONS}\n")
    assert server.datagrams == []


def test_bad_answer_in_the_configuration(configuration):
    environment = configuration("Answer Yes\n")
    result = run([*program("client"), "open", "h"], env=environment)
    file = f"'{environment['XDG_CONFIG_HOME']}/pyknock/client.conf'"
    assert (result.code, result.lines) == (1, [f"pyknock client: {file}:1: Answer: the value is not yes or no"])


MISUSES = {
    "close h --ttl 5": "--ttl needs open or connect",
    "check h --ttl 5": "--ttl needs open or connect",
    "close h --wait-port 22": "--wait-port needs open",
    "check h --wait-port 22": "--wait-port needs open",
    "open h --answer --repeat 2": "--repeat is no use with --answer, which asks again",
    "open h --answer=yes": "--answer takes no value",
    "open h --ttl": "--ttl needs a value: DURATION",
    "check h -- x": "COMMAND: 'check' is not open, the only one that runs a command",
    "check": "write check HOST, and -k FILE for the key; operands given: 1",
    "": "write open HOST, close HOST, check HOST, connect HOST PORT, list, or import; operands given: 0",
    "chekc h": "COMMAND: 'chekc' is not open, close, check, connect, list or import",
}


@pytest.mark.parametrize("text", MISUSES)
def test_mistakes(key2_file, text):
    result = run([*program("client"), "-k", key2_file, *text.split()])
    assert (result.code, result.stdout, result.lines[0]) == (2, "", f"pyknock client: {MISUSES[text]}")
    assert result.lines[1].startswith("usage: pyknock client")


# Keys of version 1


@pytest.mark.parametrize("name", ["check", "--ttl", "--answer"])
def test_a_key_of_version_1_cannot_do_this(key_file, name):
    with listener() as receiver:
        words = {"check": ["check"], "--ttl": ["open", "--ttl=5"], "--answer": ["open", "--answer"]}[name]
        port = f"-p{receiver.getsockname()[1]}"
        result = run([*program("client"), *words, "127.0.0.1", port, "-k", key_file])
        assert (result.code, result.stdout) == (2, "")
        message = f"{name} needs a key of version 2, and that for '127.0.0.1' is of version 1"
        assert result.lines[0] == f"pyknock client: {message}"
        assert result.lines[1].startswith("usage: ")
        # Also without sending anything, and if HOST and the key are exchanged.
        assert run([*program("client"), *words, "127.0.0.1", port, "-n", "-k", key_file]).code == 2
        result = run([*program("client"), *words, KEY2, "127.0.0.1", port])
        assert result.code == 2 and KEY2[4:] not in result.stderr
        receiver.setblocking(False)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)


def test_the_configuration_does_not_count_for_a_key_of_version_1(configuration, key_file):
    with listener() as receiver:
        environment = configuration("Ttl 5m\nAnswer yes\n")
        command = [*program("client"), "open", "127.0.0.1", f"-p{receiver.getsockname()[1]}", "-k", key_file]
        result = run(command, env=environment)
        assert (result.code, result.stdout, result.stderr) == (0, "", "")
        datagram = receiver.recv(100)
        assert datagram == signed(datagram[32:])
        lines = run([*command, "-v"], env=environment).lines
        message = "'127.0.0.1': Ttl and Answer do not count, since the key is of version 1"
        assert lines[0] == f"pyknock client: {message}"


# Answers

OPENED = {
    0: UNLIMITED,
    1: f"open for {ADDRESS} until TIME (1 s)",
    90: f"open for {ADDRESS} until TIME (1 min 30 s)",
    900: f"open for {ADDRESS} until TIME (15 min)",
    3600: f"open for {ADDRESS} until TIME (1 h)",
    5400: f"open for {ADDRESS} until TIME (1 h 30 min)",
    86399: f"open for {ADDRESS} until TIME (23 h 59 min)",
    86400: f"open for {ADDRESS} until DATE TIME (1 d)",
    86460: f"open for {ADDRESS} until DATE TIME (1 d 1 min)",
    90061: f"open for {ADDRESS} until DATE TIME (1 d 1 h)",
    2**32 - 1: f"open for {ADDRESS} until DATE TIME (49710 d 6 h)",
}


@pytest.mark.parametrize("seconds", OPENED)
def test_open_says_until_when(responder, words, seconds):
    server = responder(answering(seconds=seconds))
    result = run(words(server, "open", "127.0.0.1", "--answer"))
    shown = re.sub(r"\b\d\d:\d\d\b", "TIME", re.sub(r"\b\d{4}-\d\d-\d\d\b", "DATE", result.stdout))
    assert (result.code, shown, result.stderr) == (0, OPENED[seconds] + "\n", "")
    assert answers(server) == [(OPEN, 1, 0, 0, 0, "127.0.0.1")]


def local_minutes(text):
    hours, minutes = re.search(r"(\d\d):(\d\d)", text).groups()
    return int(hours) * 60 + int(minutes)


def test_the_time_of_day_is_that_of_the_client(responder, words):
    server = responder(answering(seconds=3600))
    command = words(server, "open", "127.0.0.1", "--answer")
    utc, east = (run(command, env={**os.environ, "TZ": zone}).stdout for zone in ("UTC", "EAST-2:30"))
    sent = server.requests[0].time // 60_000_000
    assert (local_minutes(utc) - sent) % 1440 in (60, 61)
    assert (local_minutes(east) - local_minutes(utc)) % 1440 in (150, 151)


def test_close_says_for_whom(responder, words):
    server = responder(answering(address="2001:db8::7"))
    result = run(words(server, "close", "127.0.0.1", "--answer"))
    assert (result.code, result.stdout, result.stderr) == (0, "closed for 2001:db8::7\n", "")
    assert answers(server) == [(CLOSE, 1, 0, 0, 0, "127.0.0.1")]


def test_check_says_what_an_open_would_get(responder, words):
    server = responder(answering(seconds=90))
    result = run(words(server, "check", "127.0.0.1"))
    assert result.code == 0
    assert re.fullmatch(rf"good: would open for {ADDRESS} until \d\d:\d\d \(1 min 30 s\)\n", result.stdout)
    hint = f"this machine has another address than {ADDRESS}: open needs -S {ADDRESS}, or -S observed"
    assert result.lines == [f"pyknock client: warning: {hint}"]
    assert answers(server) == [(CHECK, 1, 0, 0, 0, "::")]


def test_check_without_nat_and_with_a_known_address(responder, words):
    server = responder(answering(address="127.0.0.1"))
    result = run(words(server, "check", "127.0.0.1"))
    assert (result.code, result.stdout, result.stderr) == (
        0, "good: would open for 127.0.0.1 until it is closed\n", ""
    )  # fmt: skip
    server.reply = answering()
    for sign in ADDRESS, "observed":
        result = run(words(server, "check", "127.0.0.1", "-S", sign))
        assert (result.code, result.stdout, result.stderr) == (0, f"good: would {UNLIMITED}\n", "")
    assert [str(request.address) for request in server.requests] == ["::", ADDRESS, "::"]


@pytest.mark.parametrize("difference", [-3700, 3700])
def test_check_tells_of_clocks_that_differ(responder, words, difference):
    server = responder(
        lambda requests: answering(address="127.0.0.1", time=requests[-1].time + difference * 1_000_000)(requests)
    )
    result = run(words(server, "check", "127.0.0.1"))
    shown = re.sub(r"3699|3700|3701", "N", result.stdout)
    assert shown == "good: would open for 127.0.0.1 until it is closed; the clocks differ by N s\n"


def test_times_out_of_range(responder, words):
    server = responder(answering(address="127.0.0.1", time=2**64 - 1))
    result = run(words(server, "check", "127.0.0.1"))
    assert result.code == 0
    assert re.fullmatch(r"good: would .* closed; the clocks differ by \d{13} s\n", result.stdout)


@pytest.mark.parametrize("word", ["open", "close", "check"])
@pytest.mark.parametrize("number", FAILURES)
def test_what_failed(responder, words, word, number):
    server = responder(answering(number))
    result = run(words(server, word, "127.0.0.1", "--answer"))
    code, text = FAILURES[number]
    assert (result.code, result.stdout, result.lines) == (code, "", [f"pyknock client: '127.0.0.1': {text}"])
    assert len(server.requests) == 1


def test_an_answer_without_an_address(responder, words):
    server = responder(answering(address="::"))
    assert run(words(server, "open", "127.0.0.1", "--answer")).stdout == "open for :: until it is closed\n"


def test_n_sends_nothing(responder, words):
    server = responder(answering())
    for word, shown in ("open", "127.0.0.1"), ("close", "127.0.0.1"), ("check", "0.0.0.0"):
        result = run(words(server, word, "127.0.0.1", "-n", "--answer"))
        assert (result.code, result.stderr) == (0, "")
        assert result.stdout == f"{word} {shown} to 127.0.0.1:{server.port}\n"
    assert server.datagrams == []


def test_the_configuration_asks_for_an_answer(responder, configuration, key2_file):
    server = responder(answering())
    command = [*program("client"), "open", "127.0.0.1", f"-p{server.port}"]
    result = run(command, env=configuration(f"KeyFile {key2_file}\nAnswer yes\nAnswer no\n"))
    assert (result.code, result.stdout) == (0, UNLIMITED + "\n")
    environment = configuration(f"KeyFile {key2_file}\nAnswer no\nAnswer yes\n")
    assert run(command, env=environment).stdout == ""
    assert run([*command, "--answer"], env=environment).stdout == UNLIMITED + "\n"


def forged(requests):
    """Datagrams that are nearly the answer, before it."""
    tag = requests[-1].tag
    answer = SERVER.answer(tag, ADDRESS)
    for place in range(64):
        yield answer[:place] + bytes([answer[place] ^ 1 << place % 8]) + answer[place + 1 :]
    yield from (answer[:63], answer + b"\0", b"x", b"", bytes(64), bytes(1400), answer * 40)
    yield ServerKey(OTHER_KEY2).answer(tag, "192.0.2.66")
    yield SERVER.answer(bytes(32), "192.0.2.66")
    yield answer


# Which datagrams come after each request. The last one settles it.
CASES = {
    "lost": answering(from_request=2),
    "late": lambda requests: [SERVER.answer(requests[0].tag, ADDRESS)] if len(requests) == 2 else [],
    "duplicated": lambda requests: answering()(requests) * 3,
    "forged": forged,
    "of two the first": lambda requests: answering()(requests) + answering(1)(requests),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_first_right_answer_counts(responder, words, case):
    server = responder(CASES[case])
    result = run(words(server, "open", "127.0.0.1", "--answer"))
    assert (result.code, result.stdout, result.stderr) == (0, UNLIMITED + "\n", "")
    requests = server.requests
    assert len(requests) == (2 if case in ("lost", "late") else 1)
    if len(requests) == 2:
        assert 1_000_000 <= requests[1].time - requests[0].time < 2_000_000


def test_only_the_server_can_answer(responder, words):
    """The kernel keeps out what comes from another address or port."""
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))

        def reply(requests):
            other.sendto(SERVER.answer(requests[-1].tag, "192.0.2.66"), server.sender)
            return answering()(requests)

        server = responder(reply)
        result = run(words(server, "open", "127.0.0.1", "--answer"))
    assert (result.code, result.stdout) == (0, UNLIMITED + "\n")


@pytest.mark.slow
def test_icmp_errors_end_nothing(process, responder, key2_file):
    """Nobody has the port at first, so the kernel says that it is closed."""
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ours = process([*program("client"), "open", "127.0.0.1", "--answer", "-v", f"-p{port}", "-k", key2_file])
    ours.log.wait_for("sent open", 2)
    server = responder(answering(), port=port)
    assert ours.output.wait_for_end() == [UNLIMITED]
    assert ours.exit_code() == 0
    assert {line.partition(" 127.0.0.1")[0] for line in ours.log.wait_for_end()} == {"pyknock client: sent open"}
    assert len(server.requests) == 1


@pytest.mark.slow
def test_without_an_answer_it_asks_ten_times(responder, words):
    server = responder(silent)
    result = run(words(server, "open", "127.0.0.1", "--answer"))
    assert (result.code, result.stdout, result.lines) == (9, "", [f"pyknock client: '127.0.0.1': {NO_ANSWER}"])
    server.wait_for(10)
    assert [len(datagram) for datagram in server.datagrams] == [72] * 10
    times = [request.time for request in server.requests]
    assert times == sorted(set(times))


class Stopped:
    """A client that is stopped for so long that it asks no more, so that it has no answer before ten seconds."""

    def __init__(self, process, servers, words, **options):
        self.client = process(words, **options)
        for server in servers:
            server.wait_for(1)
        self.client.signal(signal.SIGSTOP)
        with pytest.raises(Exception, match="timed out"):
            self.client.popen.wait(2.1)
        self.client.signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_client_that_was_stopped_does_not_ask_again(process, responder, words):
    """A server would run the command a second time."""
    server = responder(silent)
    ours = Stopped(process, [server], words(server, "check", "127.0.0.1")).client
    assert ours.exit_code() == 9
    assert ours.log.wait_for_end() == [f"pyknock client: '127.0.0.1': {NO_ANSWER}"]
    assert len(server.requests) == 1


@pytest.mark.slow
def test_an_answer_to_another_run_does_not_count(process, responder, words):
    seen = []
    server = responder(lambda requests: [SERVER.answer(tag, ADDRESS) for tag in seen])
    for _ in range(2):
        assert Stopped(process, [server], words(server, "open", "127.0.0.1", "--answer")).client.exit_code() == 9
        seen += [request.tag for request in server.requests]
        server.requests.clear()
        server.datagrams.clear()


@pytest.mark.slow
def test_an_answer_that_came_while_the_client_was_stopped_counts(process, responder, words):
    server = responder(lambda requests: [b"junk"] * 50 + answering()(requests))
    server.reply, reply = silent, server.reply
    ours = process(words(server, "open", "127.0.0.1", "--answer"))
    server.wait_for(1)
    ours.signal(signal.SIGSTOP)
    for datagram in reply(server.requests):
        server.socket.sendto(datagram, server.sender)
    with pytest.raises(Exception, match="timed out"):
        ours.popen.wait(2.1)
    ours.signal(signal.SIGCONT)
    assert ours.output.wait_for_end() == [UNLIMITED]
    assert ours.exit_code() == 0


def test_ipv6(responder, words):
    server = responder(answering(address="2001:db8::5"), address="::1")
    result = run(words(server, "open", "[::1]", "--answer"))
    assert (result.code, result.stdout) == (0, "open for 2001:db8::5 until it is closed\n")
    assert str(server.requests[0].address) == "::1"


# Several addresses and hosts


@pytest.mark.slow
def test_each_address_gets_requests_of_its_own(responder, words, namespace):
    namespace.hosts.write_text("127.0.0.1 all.test\n127.0.0.2 all.test\n::1 all.test\n")
    servers = [responder(silent, address=a, port=7009, network=namespace) for a in ("127.0.0.1", "127.0.0.2")]
    servers.append(responder(answering(from_request=2), address="::1", port=7009, network=namespace))
    result = run([*namespace.prefix, *words(servers[0], "open", "all.test", "--answer")])
    assert (result.code, result.stdout) == (0, UNLIMITED + "\n")
    for server in servers:
        server.wait_for(2)
    requests = [request for server in servers for request in server.requests]
    assert len(requests) == len({r.tag for r in requests}) == len({r.time for r in requests}) == 6
    assert {str(r.address) for r in requests} == {"127.0.0.1", "::1"}


def test_an_answer_may_come_to_any_request_of_the_run(responder, words, namespace):
    """A server with two addresses may take the second request for a repeat of the first."""
    namespace.hosts.write_text("127.0.0.1 any.test\n127.0.0.2 any.test\n")
    first = responder(silent, address="127.0.0.1", port=7011, network=namespace)

    def reply(requests):
        first.wait_for(1)
        return [SERVER.answer(first.requests[0].tag, ADDRESS)]

    responder(reply, address="127.0.0.2", port=7011, network=namespace)
    result = run([*namespace.prefix, *words(first, "open", "any.test", "--answer")])
    assert (result.code, result.stdout) == (0, UNLIMITED + "\n")


# Of 127.0.0.1 and ::1, whose answers have come when the client looks.
PAIRS = {(2, 0): 0, (0, 2): 0, (2, 1): 8, (1, 2): 8, (2, 2): 7}


@pytest.mark.parametrize("results", PAIRS, ids=str)
def test_allowed_at_one_address_counts_more_than_refused_at_another(responder, words, namespace, process, results):
    """A user with a limit on IPv4 is refused through IPv6."""
    namespace.hosts.write_text("127.0.0.1 dual.test\n::1 dual.test\n")
    servers = [responder(silent, address=a, port=7013, network=namespace) for a in ("127.0.0.1", "::1")]
    ours = process([*namespace.prefix, *words(servers[0], "open", "dual.test", "--answer")])
    for server in servers:
        server.wait_for(1)
    ours.signal(signal.SIGSTOP)
    for server, result in zip(servers, results, strict=True):
        server.socket.sendto(SERVER.answer(server.requests[0].tag, ADDRESS, result), server.sender)
    ours.signal(signal.SIGCONT)
    code = PAIRS[results]
    assert (ours.output.wait_for_end(), ours.exit_code()) == ([UNLIMITED] if code == 0 else [], code)


@pytest.mark.slow
def test_refused_at_one_address_counts_if_no_other_one_answers(responder, words, namespace):
    namespace.hosts.write_text("127.0.0.1 dual.test\n::1 dual.test\n")
    servers = [responder(silent, address="127.0.0.1", port=7013, network=namespace)]
    servers.append(responder(answering(2), address="::1", port=7013, network=namespace))
    result = run([*namespace.prefix, *words(servers[0], "open", "dual.test", "--answer")])
    assert (result.code, result.lines) == (7, [f"pyknock client: 'dual.test': {FAILURES[2][1]}"])
    assert [len(server.requests) for server in servers] == [1, 1]


def test_an_address_of_the_other_family_is_asked_if_there_is_no_other(responder, words):
    server = responder(answering(), address="::1")
    assert run(words(server, "open", "::1", "-S192.0.2.7", "--answer")).code == 0
    assert str(server.requests[0].address) == "192.0.2.7"


def test_of_several_hosts_the_greatest_code_counts(responder, words):
    first = responder(answering(seconds=60))
    responder(answering(2), address="127.0.0.2", port=first.port)
    third = responder(answering(1), address="::1", port=first.port)
    result = run(words(first, "open", "127.0.0.1,127.0.0.2", "--answer"))
    assert result.code == 7
    assert re.fullmatch(rf"127.0.0.1: open for {ADDRESS} until \d\d:\d\d \(1 min\)\n", result.stdout)
    assert result.lines == [f"pyknock client: '127.0.0.2': {FAILURES[2][1]}"]
    result = run(words(first, "open", "127.0.0.2,::1,127.0.0.1,nobody.invalid", "--answer"))
    assert result.code == 8 and len(third.requests) == 1
    # A host that cannot be knocked on, too.
    result = run(words(first, "open", "nobody.invalid,127.0.0.1", "--answer"))
    assert (result.code, result.stdout[:21]) == (3, "127.0.0.1: open for 1")


@pytest.mark.slow
def test_no_answer_counts_if_the_port_of_another_host_stays_closed(responder, configuration, key_file, key2_file):
    server = responder(lambda _: [])
    environment = configuration(
        f"Port {server.port}\nHost 127.0.0.1\nKeyFile {key2_file}\nAnswer yes\n"
        f"Host 127.0.0.2\nKeyFile {key_file}\nWaitPort 1\n"
    )
    result = run([*program("client"), "open", "127.0.0.1,127.0.0.2", "--wait=1s"], env=environment)
    assert result.code == 9
    assert [line.split(";")[0] for line in result.lines] == [
        "pyknock client: '127.0.0.1': no answer",
        f"pyknock client: port 1 of '127.0.0.2' did not open within 1 s: {socket_error('Connection refused')}",
    ]


@pytest.mark.slow
def test_no_answer_counts_if_the_port_is_not_tried(responder, configuration, key2_file):
    """Other hosts have failed, so nobody connects."""
    server = responder(silent)
    responder(answering(2), address="127.0.0.3", port=server.port)
    environment = configuration(
        f"Port {server.port}\nAnswer yes\nHost nokey\nKeyFile /nowhere/key\n"
        f"Host *\nKeyFile {key2_file}\nWaitPort 1\n"
    )
    result = run([*program("client"), "open", "127.0.0.1,127.0.0.3,nobody.invalid,nokey"], env=environment)
    assert result.code == 9
    assert f"pyknock client: '127.0.0.1': {NO_ANSWER}" in result.lines
    assert "did not open" not in result.stderr


def test_a_host_that_has_no_key_is_one_of_several(responder, configuration, key2_file):
    server = responder(answering())
    environment = configuration(f"Port {server.port}\nHost box\nHostName 127.0.0.1\nKeyFile {key2_file}\nAnswer yes\n")
    result = run([*program("client"), "open", "box,nokey"], env=environment)
    assert (result.code, result.stdout) == (2, f"box: {UNLIMITED}\n")


def test_one_host_of_each_version(responder, configuration, key_file, key2_file):
    server = responder(answering())
    with listener(address="127.0.0.2", port=server.port) as receiver:
        environment = configuration(
            f"Answer yes\nPort {server.port}\nHost 127.0.0.1\nKeyFile {key2_file}\nHost 127.0.0.2\nKeyFile {key_file}\n"
        )
        result = run([*program("client"), "open", "127.0.0.2,127.0.0.1", "--repeat=2"], env=environment)
        assert (result.code, result.stdout) == (0, f"127.0.0.1: {UNLIMITED}\n")
        for _ in range(2):
            datagram = receiver.recv(100)
            assert datagram == signed(datagram[32:], KEY)
    assert len(server.requests) == 1


def test_a_name_of_the_configuration_stands_before_its_answer(responder, configuration, key2_file):
    server = responder(answering(2))
    environment = configuration(f"KeyFile {key2_file}\nPort {server.port}\nHost home\nHostName 127.0.0.1\n")
    result = run([*program("client"), "open", "home", "--answer"], env=environment)
    assert result.lines == [f"pyknock client: 'home': {FAILURES[2][1]}"]


# What comes after an open


def test_a_command_runs_after_an_answer(responder, words):
    server = responder(answering())
    result = run(words(server, "open", "127.0.0.1", "--answer", "--", "sh", "-c", "echo out; exit 3"))
    # The standard output is that of COMMAND alone.
    assert (result.code, result.stdout, result.stderr) == (3, "out\n", "")


@pytest.mark.parametrize("number", [1, 2, 3, 200])
@pytest.mark.parametrize("close", [False, True])
def test_no_command_runs_after_a_refusal(responder, words, number, close):
    server = responder(answering(number))
    options = ["--close"] if close else []
    result = run(words(server, "open", "127.0.0.1", "--answer", *options, "--", "echo", "out"))
    assert (result.code, result.stdout, len(result.lines)) == (7 if number == 2 else 8, "", 1)
    if close:
        server.wait_for(2)
        assert (server.requests[1].command, server.requests[1].flags) == (CLOSE, 0)


def test_close_after_a_command(responder, words):
    server = responder(answering())
    result = run(words(server, "open", "127.0.0.1", "--answer", "--ttl=60", "--close", "--", "echo", "out"))
    assert (result.code, result.stdout, result.stderr) == (0, "out\n", "")
    server.wait_for(2)
    first, second = server.requests
    assert (first.command, first.flags, first.seconds) == (OPEN, 1, 60)
    assert (second.command, second.flags, second.seconds) == (CLOSE, 0, 0)
    assert first.time < second.time


@pytest.mark.slow
def test_a_command_runs_without_an_answer(process, responder, words):
    server = responder(silent)
    ours = Stopped(process, [server], words(server, "open", "127.0.0.1", "--answer", "--", "echo", "out")).client
    assert ours.output.wait_for_end() == ["out"]
    assert ours.exit_code() == 0
    assert ours.log.wait_for_end() == [f"pyknock client: '127.0.0.1': {NO_ANSWER}"]


@pytest.mark.slow
def test_no_command_runs_if_one_host_refuses_and_another_is_silent(process, responder, words):
    servers = [responder(answering(2))]
    servers.append(responder(silent, address="127.0.0.2", port=servers[0].port))
    hosts = "127.0.0.1,127.0.0.2"
    ours = Stopped(process, servers, words(servers[0], "open", hosts, "--answer", "--", "echo", "out")).client
    assert ours.output.wait_for_end() == []
    assert ours.exit_code() == 9
    assert ours.log.wait_for_end() == [
        f"pyknock client: '127.0.0.1': {FAILURES[2][1]}",
        f"pyknock client: '127.0.0.2': {NO_ANSWER}",
    ]


def test_connect_after_an_answer(responder, words, service):
    server = responder(answering())
    service.serve(lambda connection: connection.sendall(b"hello\n"))
    result = run(words(server, "connect", "127.0.0.1", str(service.port), "--answer"))
    assert (result.code, result.stdout, result.stderr) == (0, "hello\n", "")
    assert server.requests[0].flags == 1


def test_connect_does_not_connect_after_a_refusal(responder, words, service):
    server = responder(answering(2))
    service.socket.setblocking(False)
    result = run(words(server, "connect", "127.0.0.1", str(service.port), "--answer"))
    assert (result.code, result.stdout) == (7, "")
    with pytest.raises(BlockingIOError):
        service.socket.accept()


@pytest.mark.slow
@pytest.mark.parametrize("word", ["connect", "open"])
def test_the_port_tells_more_than_no_answer(process, responder, words, service, word):
    server = responder(silent)
    service.serve(lambda connection: None)
    port = str(service.port)
    arguments = ["connect", "127.0.0.1", port] if word == "connect" else ["open", "127.0.0.1", "--wait-port", port]
    ours = Stopped(process, [server], words(server, *arguments, "--answer")).client
    assert ours.exit_code() == 0
    assert ours.log.wait_for_end() == [f"pyknock client: '127.0.0.1': {NO_ANSWER}"]
