"""The client beyond the knock: it waits for a port, connects to it, and runs a command."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
from support.datagrams import CLOSE, OPEN
from support.networks import SERVER, listener
from support.processes import Process
from support.programs import TIMEOUT, program, run
from support.waiting import until

CHECK = (
    "; check that the clocks agree, the key, the server's port (-p), and behind NAT the outside "
    "address (-S)"
)


@pytest.fixture
def words(key_file):
    """The words that start the client with its key; nobody hears its knocks."""
    return lambda *arguments: [*program("client"), "-k", key_file, "-p9", *arguments]


@pytest.fixture
def service():
    """A TCP port; `serve` has a function take the next connection."""

    class Service:
        def __init__(self):
            self.socket = socket.create_server(("127.0.0.1", 0))
            self.socket.settimeout(TIMEOUT)
            self.port = self.socket.getsockname()[1]

        def serve(self, body):
            def take():
                connection, _ = self.socket.accept()
                with connection:
                    body(connection)

            threading.Thread(target=take, daemon=True).start()

    service = Service()
    with service.socket:
        yield service


def begin(command):
    """Starts a program with a pipe at each of its streams."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)


def read_all(connection):
    """What comes until the other side says that this is all."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.fixture
def closed():
    """A socket at whose port nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield closed


@pytest.fixture
def closed_port(closed):
    return closed.getsockname()[1]


# connect


def test_both_ways_and_each_end_is_passed_on(words, service):
    service.serve(lambda connection: connection.sendall(read_all(connection)[::-1]))
    result = run(words("connect", "127.0.0.1", str(service.port)), stdin=b"hello")
    assert (result.code, result.stdout, result.stderr) == (0, "olleh", "")


def test_the_end_of_the_connection_is_passed_on_first(words, service):
    received = []

    def bye(connection):
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        received.append(read_all(connection))

    service.serve(bye)
    popen = subprocess.Popen(
        words("connect", "127.0.0.1", str(service.port)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert popen.stdout.read() == b"bye"
    popen.stdin.write(b"one more thing")
    popen.stdin.close()
    assert popen.wait(TIMEOUT) == 0
    until(lambda: received == [b"one more thing"], "the rest has arrived")


@pytest.mark.parametrize("kind", ["pipes", "a socket"])
def test_much_at_once_in_both_directions(words, service, kind):
    """More than all buffers hold, by a reader that begins late: nothing may wait for itself."""
    data = os.urandom(1 << 20) * 20
    received = []

    def serve(connection):
        sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(1)))
        sender.start()
        received.append(read_all(connection))
        sender.join()

    service.serve(serve)
    command = words("connect", "127.0.0.1", str(service.port))
    if kind == "pipes":
        popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        out, _ = popen.communicate(data, timeout=TIMEOUT)
    else:
        ours, theirs = socket.socketpair()
        popen = subprocess.Popen(command, stdin=theirs, stdout=theirs)
        theirs.close()
        sender = threading.Thread(target=lambda: (ours.sendall(data), ours.shutdown(1)))
        sender.start()
        out = read_all(ours)
        sender.join()
    assert popen.wait(TIMEOUT) == 0
    assert out == data
    until(lambda: received == [data], "the service has all")


def test_a_connection_that_breaks(words, service):
    def break_off(connection):
        connection.recv(5)
        linger = (1).to_bytes(4, "little") + bytes(4)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    service.serve(break_off)
    popen = begin(words("connect", "127.0.0.1", str(service.port)))
    popen.stdin.write(b"hello")
    popen.stdin.flush()
    assert popen.wait(TIMEOUT) == 6
    assert popen.stderr.read() == b"pyknock client: connection: Connection reset by peer\n"


def test_whoever_reads_the_output_may_go(words, service):
    def send(connection):
        with contextlib.suppress(OSError):
            connection.sendall(bytes(1 << 20))

    service.serve(send)
    popen = begin(words("connect", "127.0.0.1", str(service.port)))
    popen.stdout.close()
    assert popen.wait(TIMEOUT) == 6
    assert popen.stderr.read() == b"pyknock client: connection: Broken pipe\n"


# Waiting for the port


def test_a_port_that_is_open(words, service):
    result = run(words("open", "127.0.0.1", f"--wait-port={service.port}"))
    assert (result.code, result.stderr) == (0, "")


def test_a_port_that_opens_late(words, closed, closed_port):
    """A server that takes its time, or a firewall that does."""
    with listener() as receiver:
        knock_port = receiver.getsockname()[1]
        waiting = subprocess.Popen(
            words(f"-p{knock_port}", "open", "127.0.0.1", f"--wait-port={closed_port}")
        )
        # The second one comes after attempts in vain.
        receiver.recv(100)
        receiver.recv(100)
        closed.listen()
        assert waiting.wait(TIMEOUT) == 0


@pytest.mark.parametrize("what", ["wait-port", "connect"])
def test_a_port_that_never_opens(words, closed_port, what):
    start = time.monotonic()
    arguments = ["connect", "localhost", str(closed_port)]
    if what == "wait-port":
        arguments = ["open", "localhost", f"--wait-port={closed_port}"]
    result = run(words(*arguments, "--wait=1s", "-4"))
    assert result.code == 1
    assert 0.9 < time.monotonic() - start < 1 + TIMEOUT / 4
    assert result.stderr == (
        f"pyknock client: port {closed_port} of 'localhost' did not open within 1 s: "
        f"Connection refused{CHECK}\n"
    )


def test_it_knocks_again_and_each_knock_is_a_new_one(key_file, closed_port):
    with listener() as receiver:
        port = receiver.getsockname()[1]
        for options in ([], ["-S", "192.0.2.1"]):
            arguments = ["open", "127.0.0.1", "-k", key_file, f"-p{port}", *options]
            result = run(
                [*program("client"), *arguments, f"--wait-port={closed_port}", "--wait=2"]
            )
            assert result.code == 1
            receiver.setblocking(False)
            knocks = set()
            with contextlib.suppress(BlockingIOError):
                while True:
                    knocks.add(receiver.recv(100))
            # At the start, after 0.7 and after 1.5 seconds.
            assert len(knocks) == 3


# A command


@pytest.fixture
def knocks(words):
    """What a server hears from a client: the commands, in their order."""
    with listener() as receiver:
        port = receiver.getsockname()[1]

        def heard(count):
            receiver.settimeout(TIMEOUT)
            return [receiver.recv(100)[32] for _ in range(count)]

        heard.words = lambda *arguments: words(f"-p{port}", *arguments)
        yield heard


def test_its_streams_and_status_are_those_of_the_command(knocks):
    command = ["sh", "-c", "cat; echo error >&2; exit 7"]
    result = run(knocks.words("open", "127.0.0.1", "--", *command), stdin=b"in")
    assert (result.code, result.stdout, result.stderr) == (7, "in", "error\n")
    assert knocks(1) == [OPEN]


@pytest.mark.parametrize(
    ("command", "code"),
    [(["true"], 0), (["sh", "-c", "exit 3"], 3), (["sh", "-c", "kill -9 $$"], 137)],
)
def test_close_comes_afterwards_whatever_happened(knocks, command, code):
    result = run(knocks.words("open", "127.0.0.1", "--close", "--", *command))
    assert (result.code, result.stderr) == (code, "")
    assert knocks(2) == [OPEN, CLOSE]


@pytest.mark.parametrize(
    ("command", "code", "why"),
    [("nosuchcommand", 127, "No such file or directory"), ("/etc/passwd", 126, "Permission denied")],
)
def test_a_command_that_cannot_run(knocks, command, code, why):
    result = run(knocks.words("open", "127.0.0.1", "--close", "--", command))
    assert (result.code, result.stderr) == (code, f"pyknock client: cannot run '{command}': {why}\n")
    assert knocks(2) == [OPEN, CLOSE]


def test_a_command_that_the_kernel_does_not_know(knocks, tmp_path, not_emulated):
    # A shell would run it; so many arguments must not be copied anywhere.
    command = tmp_path / "command"
    command.write_text("echo never\n")
    command.chmod(0o755)
    result = run(knocks.words("open", "127.0.0.1", "--close", "--", command, *["x"] * 9000))
    expected = f"pyknock client: cannot run '{command}': Exec format error\n"
    assert (result.code, result.stdout, result.stderr) == (126, "", expected)
    assert knocks(2) == [OPEN, CLOSE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_goes_to_the_command_and_close_comes_all_the_same(knocks, number):
    command = ["sh", "-c", "trap 'echo caught; exit 5' TERM HUP; echo ready; while :; do sleep 0.01; done"]
    process = Process(knocks.words("open", "127.0.0.1", "--close", "--", *command))
    with contextlib.closing(process):
        process.output.wait_for("ready")
        process.signal(number)
        assert process.exit_code() == 5
        assert process.output.wait_for_end() == ["ready", "caught"]
    assert knocks(2) == [OPEN, CLOSE]


def test_an_interrupt_from_the_terminal_reaches_both(knocks):
    command = ["sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.01; done"]
    process = Process(knocks.words("open", "127.0.0.1", "--close", "--", *command))
    with contextlib.closing(process):
        process.output.wait_for("ready")
        os.killpg(process.pid, signal.SIGINT)
        assert process.exit_code() == 5
    assert knocks(2) == [OPEN, CLOSE]


def test_the_command_waits_for_the_port(knocks, service, closed_port):
    open_port = ["open", "127.0.0.1", f"--wait-port={service.port}"]
    assert run(knocks.words(*open_port, "--", "echo", "there")).stdout == "there\n"
    assert knocks(1) == [OPEN]
    shut = ["open", "127.0.0.1", f"--wait-port={closed_port}", "--wait=1", "--close"]
    result = run(knocks.words(*shut, "--", "echo", "there"))
    assert (result.code, result.stdout) == (1, "")
    assert knocks(3) == [OPEN, OPEN, CLOSE]


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["connect", "::1"], "operands: open|close HOST, or connect HOST PORT (3) needed, 2 given"),
        (["connect", "::1", "0"], "PORT: '0' is not a port number from 1 to 65535"),
        (["connect", "::1", "ssh"], "PORT: 'ssh' is not a port number from 1 to 65535"),
        (["konnect", "::1"], "COMMAND: 'konnect' is not open, close, connect or list"),
        (["open", "::1", "--close"], "--close needs a COMMAND behind --"),
        (["close", "::1", "--", "true"], "COMMAND: 'close' is not open, which alone runs a command"),
        (["open", "::1", "--wait=0"], "--wait: '0' is not a duration such as 90, 15m, 2h or 1d, at most 366 days"),
        (["open", "::1", "--wait-port=0"], "--wait-port: '0' is not a port number from 1 to 65535"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_misuse(words, arguments, problem):
    result = run(words(*arguments))
    assert (result.code, result.lines[0]) == (2, f"pyknock client: {problem}")


# With the real ssh, through the real firewall

only_nft = pytest.mark.parametrize("kind", ["nft"], indirect=True)
SSHD = SERVER[socket.AF_INET]


@pytest.fixture
def ssh(firewall, outside, start, tmp_path, key_file):
    """sshd behind the example's rules, a server beside it, and the words of a client outside."""
    firewall.load_example()
    for name in ("host_key", "user_key"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name])
    config = tmp_path / "sshd_config"
    config.write_text(
        f"HostKey {tmp_path}/host_key\nAuthorizedKeysFile {tmp_path}/user_key.pub\n"
        "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n"
        "Subsystem sftp internal-sftp\n"
    )
    os.makedirs("/run/sshd", exist_ok=True)

    class SSH:
        server = start("--ttl=1h", "-p60120", port=60120)
        proxy = " ".join(
            [*program("client"), "connect", f"-k{key_file}", f"-p{server.port}", "%h", "%p"]
        )

        def words(self, program="ssh", proxy=None):
            options = ["BatchMode=yes", "StrictHostKeyChecking=no", f"IdentityFile={tmp_path}/user_key"]
            options += ["UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=10"]
            options.append(f"ProxyCommand={proxy or self.proxy}")
            return [*outside.prefix, program, *(f"-o{option}" for option in options)]

    words = [*firewall.prefix, "/usr/sbin/sshd", "-D", "-e", "-f", config]
    with contextlib.closing(Process(words)) as sshd:
        sshd.log.wait_for("Server listening on 0.0.0.0 port 22")
        yield SSH()


@only_nft
def test_ssh_logs_in_with_the_proxy_command_and_not_without(ssh):
    without = ssh.words(proxy="none")
    without[-2] = "-oConnectTimeout=1"
    assert run([*without, SSHD, "echo", "in"]).code == 255
    result = run([*ssh.words(), SSHD, "echo", "in; exit 9"])
    assert (result.code, result.stdout, result.stderr) == (9, "in\n", "")


@only_nft
def test_scp_of_200_mb_arrives_whole(ssh, tmp_path):
    piece = os.urandom(1 << 20)
    there, back = tmp_path / "there", tmp_path / "back"
    (tmp_path / "data").write_bytes(piece * 200)
    for source, target in [(tmp_path / "data", f"{SSHD}:{there}"), (f"{SSHD}:{there}", back)]:
        result = subprocess.run([*ssh.words("scp"), source, target], timeout=5 * TIMEOUT)
        assert result.returncode == 0
    assert back.read_bytes() == piece * 200


@only_nft
def test_a_dead_server_is_told_of_within_the_time(ssh):
    ssh.server.stop()
    start = time.monotonic()
    result = run([*ssh.words(proxy=f"{ssh.proxy} --wait 2"), SSHD, "echo"])
    assert result.code == 255
    assert time.monotonic() - start < 5
    # In the words of the C library.
    assert re.fullmatch(
        rf"pyknock client: port 22 of '{SSHD}' did not open within 2 s: (Connection|Operation) timed out"
        + re.escape(CHECK),
        result.lines[0],
    )


@only_nft
def test_a_lost_knock_is_made_good(ssh, firewall):
    firewall.nft(
        "table inet loss { chain in { type filter hook prerouting priority 0;"
        f" udp dport {ssh.server.port} quota until 100 bytes counter drop; }}\n }}"
    )
    result = run([*ssh.words(), SSHD, "echo", "in"])
    assert (result.code, result.stdout, result.stderr) == (0, "in\n", "")
    assert "packets 1 " in firewall.output("nft", "list", "table", "inet", "loss")
