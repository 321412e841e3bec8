"""contrib/pyknock.py and the answers of a server: what it prints, its exit codes, and when it asks again."""

import re
import signal
import socket
import time

import pytest
from support.programs import program, run
from support.version2 import KEY2, OTHER_KEY2, ServerKey

OPEN, CLOSE, CHECK = 1, 2, 3
SERVER = ServerKey(KEY2)
QUICK = "pyknock.ASK_INTERVAL = 0.1"
TIME = 1_764_103_971_123_456
NO_ANSWER = "no answer; does the server run with --answer? If so, check the clocks, the key, and the port (-p)"


def answering(result=0, seconds=0, address="198.51.100.7", time=TIME):
    """Answers each request."""
    return lambda requests: [SERVER.answer(requests[-1].tag, address, result, seconds, time)]


def options(responder, key_file):
    return ["-k", key_file, f"-p{responder.port}"]


# The answer's seconds, and what is printed, with the time of day left out.
OPENED = {
    0: "open for 198.51.100.7 until it is closed",
    1: "open for 198.51.100.7 until TIME (1 s)",
    90: "open for 198.51.100.7 until TIME (1 min 30 s)",
    900: "open for 198.51.100.7 until TIME (15 min)",
    3600: "open for 198.51.100.7 until TIME (1 h)",
    5400: "open for 198.51.100.7 until TIME (1 h 30 min)",
    86399: "open for 198.51.100.7 until TIME (23 h 59 min)",
    86400: "open for 198.51.100.7 until DATE TIME (1 d)",
    90061: "open for 198.51.100.7 until DATE TIME (1 d 1 h)",
    2**32 - 1: "open for 198.51.100.7 until DATE TIME (49710 d 6 h)",
}


@pytest.mark.parametrize("seconds", OPENED)
def test_open_says_until_when(client, responder, key2_file, seconds):
    server = responder(answering(seconds=seconds))
    result = client.run("open", "127.0.0.1", "--answer", *options(server, key2_file))
    shown = re.sub(r"\b\d\d:\d\d\b", "TIME", re.sub(r"\b\d{4}-\d\d-\d\d\b", "DATE", result.stdout))
    assert (result.code, shown, result.stderr) == (0, OPENED[seconds] + "\n", "")
    [request] = server.requests
    assert (request.command, request.flags, request.door, request.reserved, request.seconds) == (OPEN, 1, 0, 0, 0)
    assert str(request.address) == "127.0.0.1"


def test_the_time_of_day_is_that_of_the_client(client, responder, key2_file):
    server = responder(answering(seconds=3600))
    noon = "import time; time.time = lambda: 1764068700.0"
    arguments = ["open", "127.0.0.1", "--answer", *options(server, key2_file)]
    result = client.run(*arguments, change=noon)
    assert result.stdout == "open for 198.51.100.7 until 12:05 (1 h)\n"
    result = client.run(*arguments, change=noon, environment={"TZ": "UTC-2"})
    assert result.stdout == "open for 198.51.100.7 until 14:05 (1 h)\n"


def test_a_system_without_such_late_times_says_how_long(client, responder, key2_file):
    server = responder(answering(seconds=2**32 - 1))
    change = "import time\ndef localtime(_): raise OverflowError\ntime.localtime = localtime"
    result = client.run("open", "127.0.0.1", "--answer", *options(server, key2_file), change=change)
    assert (result.code, result.stdout) == (0, "open for 198.51.100.7 for 49710 d 6 h\n")


def test_close_says_for_whom(client, responder, key2_file):
    server = responder(answering(address="2001:db8::7"))
    result = client.run("close", "127.0.0.1", "--answer", *options(server, key2_file))
    assert (result.code, result.stdout, result.stderr) == (0, "closed for 2001:db8::7\n", "")
    assert server.requests[0].command == CLOSE


def test_check_says_what_an_open_would_get_and_who_the_server_sees(client, responder, key2_file):
    server = responder(answering(seconds=3600, time=TIME + 2_500_000))
    now = f"import time; time.time = lambda: {TIME / 1e6}"
    result = client.run("check", "127.0.0.1", *options(server, key2_file), change=now)
    assert (result.code, result.stdout) == (
        0, "good: would open for 198.51.100.7 until 21:52 (1 h); the clocks differ by 2 s\n"
    )  # fmt: skip
    assert result.lines == [
        "pyknock.py: warning: this machine has another address than 198.51.100.7:"
        " open needs -S 198.51.100.7, or -S observed"
    ]
    [request] = server.requests
    assert (request.command, request.flags, request.seconds, int(request.address)) == (CHECK, 1, 0, 0)


def test_a_small_difference_of_the_clocks_is_not_told(client, responder, key2_file):
    server = responder(answering(address="127.0.0.1", time=TIME - 1_900_000))
    now = f"import time; time.time = lambda: {TIME / 1e6}"
    result = client.run("check", "127.0.0.1", *options(server, key2_file), change=now)
    assert (result.stdout, result.stderr) == ("good: would open for 127.0.0.1 until it is closed\n", "")


def test_check_of_an_address(client, responder, key2_file):
    server = responder(answering(address="192.0.2.9"))
    result = client.run("check", "127.0.0.1", "-S", "192.0.2.9", *options(server, key2_file))
    assert (result.code, result.stderr) == (0, "")
    assert str(server.requests[0].address) == "192.0.2.9"


FAILURES = {
    1: (8, "failed for 198.51.100.7: the log of the server says why"),
    2: (7, "not allowed for 198.51.100.7: the server or the limits of the key forbid it"),
    3: (8, "no room for 198.51.100.7: the server is busy; try again"),
    4: (8, "failed for 198.51.100.7 (4): the log of the server says why"),
    255: (8, "failed for 198.51.100.7 (255): the log of the server says why"),
}


@pytest.mark.parametrize("command", ["open", "close", "check"])
@pytest.mark.parametrize("number", FAILURES)
def test_what_failed(client, responder, key2_file, command, number):
    server = responder(answering(number))
    result = client.run(command, "127.0.0.1", "--answer", *options(server, key2_file))
    code, text = FAILURES[number]
    assert (result.code, result.stdout, result.lines) == (code, "", [f"pyknock.py: '127.0.0.1': {text}"])
    assert len(server.requests) == 1


def test_without_an_answer_it_asks_ten_times_and_never_with_version_1(client, responder, key2_file):
    server = responder(lambda requests: [])
    arguments = ["open", "127.0.0.1", "--answer", *options(server, key2_file)]
    result = client.run(*arguments, change=QUICK)
    assert (result.code, result.stdout, result.lines) == (9, "", [f"pyknock.py: '127.0.0.1': {NO_ANSWER}"])
    server.wait_for(10)
    assert [len(datagram) for datagram in server.datagrams] == [72] * 10
    assert len({request.tag for request in server.requests}) == 10
    times = [request.time for request in server.requests]
    assert times == sorted(set(times))


@pytest.mark.slow
def test_it_asks_again_after_a_second(client, responder, key2_file):
    server = responder(lambda requests: answering()(requests) if len(requests) == 2 else [])
    assert client.run("open", "127.0.0.1", "--answer", *options(server, key2_file)).code == 0
    first, second = server.requests
    assert 1_000_000 <= second.time - first.time < 2_000_000


def test_without_answer_it_sends_once_and_wants_none(client, responder, key2_file):
    server = responder(answering())
    result = client.run("open", "127.0.0.1", *options(server, key2_file))
    assert (result.code, result.stdout, result.stderr) == (0, "", "")
    server.wait_for(1)
    [request] = server.requests
    assert request.flags == 0


def forged(requests):
    """Datagrams that are nearly the answer, before it."""
    tag = requests[-1].tag
    answer = SERVER.answer(tag, "198.51.100.7")
    for place in range(64):
        yield answer[:place] + bytes([answer[place] ^ 1 << place % 8]) + answer[place + 1 :]
    yield from (answer[:63], answer + b"\0", b"x", bytes(64), bytes(1400), answer * 40)
    yield ServerKey(OTHER_KEY2).answer(tag, "192.0.2.66")
    yield SERVER.answer(bytes(32), "192.0.2.66")
    yield answer


# Which datagrams come after each request. The last one settles it.
CASES = {
    "lost": lambda requests: answering()(requests) if len(requests) == 3 else [],
    "late": lambda requests: [SERVER.answer(requests[0].tag, "198.51.100.7")] if len(requests) == 3 else [],
    "duplicated": lambda requests: answering()(requests) * 3,
    "forged": forged,
    "of two the first": lambda requests: answering()(requests) + answering(1)(requests),
}


@pytest.mark.parametrize("case", CASES)
def test_the_first_right_answer_counts(client, responder, key2_file, case):
    server = responder(CASES[case])
    asks_again = case in ("lost", "late")
    change = QUICK if asks_again else None
    result = client.run("open", "127.0.0.1", "--answer", *options(server, key2_file), change=change)
    assert (result.code, result.stdout, result.stderr) == (0, "open for 198.51.100.7 until it is closed\n", "")
    assert len(server.requests) == (3 if asks_again else 1)


def test_an_answer_to_another_run_does_not_count(client, responder, key2_file):
    seen = []
    server = responder(lambda requests: [SERVER.answer(tag, "198.51.100.7") for tag in seen])
    arguments = ["open", "127.0.0.1", "--answer", *options(server, key2_file)]
    change = "pyknock.ASK_INTERVAL, pyknock.ASKS = 0.1, 2"
    assert client.run(*arguments, change=change).code == 9
    seen += [request.tag for request in server.requests]
    assert client.run(*arguments, change=change).code == 9


def test_only_the_server_can_answer(client, responder, key2_file):
    """The kernel keeps out what comes from another address or port."""
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.2", 0))

        def reply(requests):
            other.sendto(SERVER.answer(requests[-1].tag, "192.0.2.66"), server.sender)
            return answering()(requests)

        server = responder(reply)
        result = client.run("open", "127.0.0.1", "--answer", *options(server, key2_file))
    assert (result.code, result.stdout) == (0, "open for 198.51.100.7 until it is closed\n")


def test_icmp_errors_end_nothing(client, responder, key2_file):
    """Nobody has the port at first, so the kernel says that it is closed."""
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ours = client.start("open", "127.0.0.1", "--answer", "-v", f"-p{port}", "-k", key2_file, change=QUICK)
    ours.log.wait_for("sent open", 2)
    server = responder(answering(), port=port)
    assert ours.output.wait_for_end() == ["open for 198.51.100.7 until it is closed"]
    assert ours.exit_code() == 0
    assert {line.partition(" 127.0.0.1")[0] for line in ours.log.wait_for_end()} == {"pyknock.py: sent open"}
    assert len(server.requests) == 1


def test_a_client_that_was_stopped_does_not_ask_again(client, responder, key2_file):
    """A server would run the command a second time."""
    server = responder(lambda requests: [])
    change = "pyknock.ASK_INTERVAL, pyknock.REPEAT_LIMIT = 0.5, 0.6"
    ours = client.start("open", "127.0.0.1", "--answer", *options(server, key2_file), change=change)
    server.wait_for(1)
    ours.signal(signal.SIGSTOP)
    with pytest.raises(Exception, match="timed out"):
        ours.popen.wait(0.7)
    ours.signal(signal.SIGCONT)
    assert ours.exit_code() == 9
    assert len(server.requests) == 1


def test_a_step_of_the_clock_does_not_end_the_wait(client, responder, key2_file):
    server = responder(lambda requests: answering()(requests) if len(requests) == 2 else [])
    for step in 3600, -3600:
        server.requests.clear()
        change = f"{QUICK}\nimport itertools, time\nnow, steps = time.time, itertools.count(0, {step})\n"
        change += "time.time = lambda: now() + next(steps)"
        assert client.run("open", "127.0.0.1", "--answer", *options(server, key2_file), change=change).code == 0


def test_after_a_sleep_of_the_machine_it_does_not_ask_again(client, responder, key2_file):
    server = responder(lambda requests: [])
    change = f"{QUICK}\nimport itertools, time\nclocks = {{time.CLOCK_BOOTTIME: itertools.count(0, 2)}}\n"
    change += "time.clock_gettime = lambda number: next(clocks[number])"
    assert client.run("open", "127.0.0.1", "--answer", *options(server, key2_file), change=change).code == 9
    server.wait_for(1)
    assert len(server.requests) == 1


def test_an_answer_that_came_meanwhile_counts_whatever_came_before_it(client, responder, key2_file):
    server = responder(lambda requests: [])
    change = "pyknock.ASK_INTERVAL, pyknock.REPEAT_LIMIT = 0.5, 0.6"
    ours = client.start("open", "127.0.0.1", "--answer", *options(server, key2_file), change=change)
    server.wait_for(1)
    time.sleep(0.2)  # It waits by now.
    ours.signal(signal.SIGSTOP)
    answer = server.key.answer(server.requests[0].tag, "198.51.100.7")
    for datagram in b"noise", bytes(64), answer:
        server.socket.sendto(datagram, server.sender)
    with pytest.raises(Exception, match="timed out"):
        ours.popen.wait(0.7)
    ours.signal(signal.SIGCONT)
    assert ours.exit_code() == 0
    assert ours.output.wait_for_end() == ["open for 198.51.100.7 until it is closed"]
    assert len(server.requests) == 1


def test_ipv6(client, responder, key2_file):
    server = responder(answering(address="2001:db8::5"), address="::1")
    result = client.run("open", "[::1]", "--answer", *options(server, key2_file))
    assert (result.code, result.stdout) == (0, "open for 2001:db8::5 until it is closed\n")
    assert str(server.requests[0].address) == "::1"


def test_each_address_gets_requests_of_its_own(client, responder, key2_file, namespace):
    namespace.hosts.write_text("127.0.0.1 all.test\n127.0.0.2 all.test\n::1 all.test\n")
    addresses = ["127.0.0.1", "127.0.0.2", "::1"]
    servers = [responder(lambda requests: [], address=a, port=7009, network=namespace) for a in addresses[:2]]
    third = lambda requests: answering()(requests) if len(requests) == 2 else []  # noqa: E731
    servers.append(responder(third, address="::1", port=7009, network=namespace))
    arguments = ["all.test", "--answer", "-p7009", "-k", key2_file]
    result = client.run("open", *arguments, change=QUICK, network=namespace)
    assert (result.code, result.stdout) == (0, "open for 198.51.100.7 until it is closed\n")
    for server in servers:
        server.wait_for(2)
    requests = [request for server in servers for request in server.requests]
    assert len(requests) == len({r.tag for r in requests}) == len({r.time for r in requests}) == 6
    assert {str(r.address) for r in requests} == {"127.0.0.1", "::1"}
    # With an address to open for, only those of its family, and each with a request of its own.
    result = client.run("open", "-S192.0.2.7", *arguments, change=QUICK, network=namespace)
    assert result.code == 9
    for server in servers[:2]:
        server.wait_for(12)
    assert len(servers[2].requests) == 2
    tags = {r.tag for server in servers[:2] for r in server.requests[2:]}
    assert len(tags) == 20


def test_of_two_datagrams_at_once_the_answer_counts(client, responder, key2_file, namespace):
    """Both are there when the client looks."""
    namespace.hosts.write_text("127.0.0.1 two.test\n127.0.0.2 two.test\n")
    addresses = ["127.0.0.1", "127.0.0.2"]
    servers = [responder(lambda requests: [], address=a, port=7010, network=namespace) for a in addresses]
    for right in servers:
        for server in servers:
            server.requests.clear()
            server.datagrams.clear()
        ours = client.start("open", "two.test", "--answer", "-p7010", "-k", key2_file, network=namespace)
        for server in servers:
            server.wait_for(1)
        ours.signal(signal.SIGSTOP)
        for server in servers:
            answer = SERVER.answer(server.requests[0].tag, "198.51.100.7")
            server.socket.sendto(answer if server is right else b"junk", server.sender)
        ours.signal(signal.SIGCONT)
        assert ours.output.wait_for_end() == ["open for 198.51.100.7 until it is closed"]
        assert ours.exit_code() == 0


# Says when an answer is kept.
TELLS = """
take = pyknock.Target.take
def tell(self, *datagram):
    take(self, *datagram)
    if self.result:
        print("taken", file=sys.stderr, flush=True)
pyknock.Target.take = tell
"""


@pytest.fixture
def both(responder, namespace):
    """Silent servers on both addresses of both.test."""
    namespace.hosts.write_text("127.0.0.1 both.test\n::1 both.test\n")
    return [responder(lambda requests: [], address=a, port=7012, network=namespace) for a in ("::1", "127.0.0.1")]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["IPv6 first", "IPv4 first"])
@pytest.mark.parametrize(
    "results, code, text",
    [((2, 0), 0, "open for 198.51.100.7 until it is closed"), ((0, 2), 0, "open for 192.0.2.7 until it is closed"),
     ((2, 1), 8, "'both.test': " + FAILURES[1][1]),
     ((2, 2), 7, "'both.test': " + FAILURES[2][1].replace("198.51.100.7", "192.0.2.7")),
     ((1, 0), 8, "'both.test': " + FAILURES[1][1].replace("198.51.100.7", "192.0.2.7"))],
)  # fmt: skip
def test_of_two_addresses_one_that_allows_it_counts(client, both, namespace, key2_file, order, results, code, text):
    change = TELLS + "pyknock.OTHERS_PATIENCE = 60"
    ours = client.start(
        "open", "both.test", "--answer", "-p7012", "-k", key2_file, network=namespace, change=change
    )  # fmt: skip
    for server in both:
        server.wait_for(1)
    for place, result, address in zip(order, results, ("192.0.2.7", "198.51.100.7"), strict=True):
        if address == "192.0.2.7" or results[0] == 2:
            server = both[place]
            server.socket.sendto(SERVER.answer(server.requests[0].tag, address, result), server.sender)
            ours.log.wait_for("taken")
    assert ours.exit_code() == code
    log = [line.removeprefix("pyknock.py: ") for line in ours.log.wait_for_end() if line != "taken"]
    assert ours.output.wait_for_end() + log == [text]
    assert [len(server.requests) for server in both] == [1, 1]


@pytest.mark.parametrize("interval", [0.1, 1000])
def test_after_an_answer_it_asks_nobody_again_and_waits_a_moment(client, both, namespace, key2_file, interval):
    both[1].reply = lambda requests: answering(2)(requests) + answering()(requests)
    change = f"pyknock.ASK_INTERVAL, pyknock.OTHERS_PATIENCE = {interval}, 0.3"
    arguments = ["both.test", "--answer", "-p7012", "-k", key2_file]
    result = client.run("open", *arguments, change=change, network=namespace)
    assert (result.code, result.lines) == (7, [f"pyknock.py: 'both.test': {FAILURES[2][1]}"])
    both[0].wait_for(1)
    assert [len(server.requests) for server in both] == [1, 1]


def test_after_the_last_request_another_address_may_still_answer(client, both, namespace, key2_file):
    both[1].reply = answering(2)
    change = """
unsettled = pyknock.unsettled
def tell(*targets):
    print("waits", file=sys.stderr, flush=True)
    return unsettled(*targets)
pyknock.unsettled, pyknock.ASKS, pyknock.ASK_INTERVAL, pyknock.OTHERS_PATIENCE = tell, 1, 0.4, 60
"""
    arguments = ["open", "both.test", "--answer", "-p7012", "-k", key2_file]
    ours = client.start(*arguments, change=change, network=namespace)
    ours.log.wait_for("waits", 2)
    both[0].wait_for(1)
    both[0].socket.sendto(SERVER.answer(both[0].requests[0].tag, "2001:db8::7"), both[0].sender)
    assert ours.output.wait_for_end() == ["open for 2001:db8::7 until it is closed"]
    assert ours.exit_code() == 0


def test_an_address_that_could_not_be_asked_is_not_waited_for(client, responder, namespace, key2_file):
    namespace.hosts.write_text("127.0.0.1 half.test\n2001:db8::1 half.test\n")
    responder(answering(2), port=7013, network=namespace)
    arguments = ["open", "half.test", "--answer", "-p7013", "-k", key2_file]
    change = "pyknock.OTHERS_PATIENCE = 1000"
    assert client.run(*arguments, change=change, network=namespace).code == 7


def test_an_address_that_could_be_asked_only_before_is_not_waited_for(client, both, namespace, key2_file):
    both[1].reply = lambda requests: answering(2)(requests) if len(requests) == 2 else []
    change = f"""{QUICK}
import socket
class Socket(socket.socket):
    calls = 0
    def send(self, data):
        Socket.calls += self.family == socket.AF_INET6
        if self.family == socket.AF_INET6 and Socket.calls > 1:
            raise OSError(101, "Network is unreachable")
        return super().send(data)
socket.socket, pyknock.OTHERS_PATIENCE = Socket, 1000
"""
    result = client.run(
        "open", "both.test", "--answer", "-p7012", "-k", key2_file, change=change, network=namespace
    )  # fmt: skip
    both[0].wait_for(1)
    assert (result.code, [len(server.requests) for server in both]) == (7, [1, 2])


def test_more_sockets_than_can_be_waited_for(client, both, namespace, key2_file):
    """The one that is not waited for gets the answer, once the client waits."""
    change = """
import select
wait = select.select
def tell(*sockets):
    print("waits", file=sys.stderr, flush=True)
    return wait(*sockets)
select.select, pyknock.SELECT_LIMIT, pyknock.ASK_INTERVAL = tell, 1, 1000
"""
    arguments = ["open", "both.test", "--answer", "-p7012", "-k", key2_file]
    ours = client.start(*arguments, change=change, network=namespace)
    ours.log.wait_for("waits")
    both[1].wait_for(1)
    both[1].socket.sendto(SERVER.answer(both[1].requests[0].tag, "198.51.100.7"), both[1].sender)
    assert ours.exit_code() == 0


def test_an_address_of_the_other_family_is_asked_if_there_is_no_other(client, responder, key2_file):
    server = responder(answering(), address="::1")
    result = client.run("open", "::1", "-S192.0.2.7", "--answer", *options(server, key2_file))
    assert result.code == 0
    assert str(server.requests[0].address) == "192.0.2.7"


def test_of_several_hosts_the_greatest_code_counts(client, responder, key2_file):
    first = responder(answering(seconds=60))
    responder(answering(2), address="127.0.0.2", port=first.port)
    third = responder(answering(1), address="::1", port=first.port)
    result = client.run("open", "127.0.0.1,127.0.0.2", "--answer", *options(first, key2_file))
    assert result.code == 7
    assert re.fullmatch(r"127.0.0.1: open for 198.51.100.7 until \d\d:\d\d \(1 min\)\n", result.stdout)
    assert result.lines == [f"pyknock.py: '127.0.0.2': {FAILURES[2][1]}"]
    result = client.run("open", "127.0.0.2,::1,127.0.0.1,nobody.invalid", "--answer", *options(first, key2_file))
    assert result.code == 8 and len(third.requests) == 1


def test_seconds(client, responder, key2_file):
    server = responder(answering(seconds=60))
    for text, seconds in {"90": 90, "15m": 900, "2h": 7200, "366d": 366 * 86400}.items():
        assert client.run("open", "127.0.0.1", "--answer", f"--ttl={text}", *options(server, key2_file)).code == 0
        assert server.requests[-1].seconds == seconds


def test_the_observed_source(client, responder, key2_file):
    server = responder(answering())
    assert client.run("open", "127.0.0.1", "-S", "observed", "--answer", *options(server, key2_file)).code == 0
    assert int(server.requests[0].address) == 0


def test_n_sends_nothing(client, responder, key2_file):
    server = responder(answering())
    for word, shown in ("open", "127.0.0.1"), ("close", "127.0.0.1"), ("check", "0.0.0.0"):
        result = client.run(word, "127.0.0.1", "-n", "--answer", *options(server, key2_file))
        assert (result.code, result.stderr) == (0, "")
        assert result.stdout == f"{word} {shown} to 127.0.0.1:{server.port}\n"
    assert server.datagrams == []


@pytest.mark.parametrize("place", [["-k", "-"], ["KEY"], ["Key"], ["KeyFile"]], ids=lambda place: place[-1])
def test_where_the_key_comes_from(client, responder, key2_file, place):
    server = responder(answering())
    lines = {"Key": f"Key {KEY2}\n", "KeyFile": f"KeyFile {key2_file}\n"}
    client.write(f"Host 127.0.0.1\nPort {server.port}\nAnswer yes\nTtl 5m\n{lines.get(place[0], '')}")
    words = [KEY2 if word == "KEY" else word for word in place if word not in lines]
    if words == [KEY2]:  # Then client.conf does not count.
        words += ["--answer", "--ttl=5m", f"-p{server.port}"]
    result = client.run("open", "127.0.0.1", *words, stdin=KEY2.encode() + b"\r\n")
    assert (result.code, result.stdout) == (0, "open for 198.51.100.7 until it is closed\n")
    assert server.requests[0].seconds == 300
    assert KEY2 not in result.stderr
    # Close has no seconds, also if client.conf has.
    assert client.run("close", "127.0.0.1", *[w for w in words if "ttl" not in w], stdin=KEY2.encode()).code == 0
    assert server.requests[1].seconds == 0


# The end of an answer: result, seconds, and how far the server's clock is off.
ANSWERS = [
    (0, 0, 0), (0, 1, 0), (0, 61, 0), (0, 3600, 0), (0, 86399, 0), (0, 86461, -1), (0, 2**32 - 1, 0), (0, 60, 4000),
    (0, 60, -4000), (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 5, 0), (255, 0, 0),
]  # fmt: skip

# An address of IPv4 with each of them. IPv6, our own address and none do not depend on the seconds.
ADDRESSED = [("198.51.100.7", answer) for answer in ANSWERS] + [
    (address, answer) for address in ("2001:db8::7", "127.0.0.1", "::") for answer in ((0, 61, -4000), (2, 0, 0))
]


@pytest.mark.slow
@pytest.mark.parametrize("address, answer", ADDRESSED)
@pytest.mark.parametrize("word", ["open", "close", "check"])
def test_both_clients_say_the_same(client, responder, key2_file, word, address, answer):
    def reply(requests):
        result, seconds, difference = answer
        time = requests[-1].time + difference * 1_000_000 + 500_000
        return [SERVER.answer(requests[-1].tag, address, result, seconds, time)]

    server = responder(reply)
    for host in "127.0.0.1", "127.0.0.1,127.0.0.1":
        words = [word, host, "--answer", *options(server, key2_file)]
        ours, theirs = client.run(*words), run([*program("client"), *words], env=client.environment())
        assert ours.code == theirs.code
        # A minute may begin between them.
        shown = [re.sub(r"\d\d:\d\d", "TIME", text.stdout) for text in (ours, theirs)]
        assert shown[0] == shown[1]
        assert ours.stderr.replace("pyknock.py: ", "") == theirs.stderr.replace("pyknock client: ", "")
