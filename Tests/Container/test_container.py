"""A real container with nothing in it but our file: podman and runc, from scratch.

PYKNOCK names the static program, which stands in dist/ and runs on this machine.
"""

import os
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYKNOCK = Path(os.environ["PYKNOCK"]).resolve()
PODMAN = shlex.split(
    os.environ.get("PODMAN", "podman --runtime runc --storage-driver=vfs --cgroup-manager=cgroupfs")
)
# Within what the test machine itself may have.
LIMITS = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
# An outsider, and the network that the container is in.
OUTSIDE, INSIDE = "pyknock-outside", "pyknock-inside"
OUTSIDE_ADDRESS, INSIDE_ADDRESS = "192.0.2.2", "192.0.2.1"
WITNESS = "/witness '$ip' $af $cmd"


def call(*words, check=True, **options):
    completed = subprocess.run(
        words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, **options
    )
    assert not check or completed.returncode == 0, completed.stdout
    return completed


def podman(*words, **options):
    return call(*PODMAN, *words, **options)


@pytest.fixture(scope="module")
def networks():
    for name in (OUTSIDE, INSIDE):
        call("ip", "netns", "delete", name, check=False)
        call("ip", "netns", "add", name)
        call("ip", "-n", name, "link", "set", "lo", "up")
    call("ip", "link", "add", "out", "netns", OUTSIDE, "type", "veth", "peer", "in", "netns", INSIDE)
    ends = ((OUTSIDE, "out", OUTSIDE_ADDRESS), (INSIDE, "in", INSIDE_ADDRESS))
    for name, device, address in ends:
        call("ip", "-n", name, "address", "add", f"{address}/24", "dev", device)
        call("ip", "-n", name, "link", "set", device, "up")
    yield
    for name in (OUTSIDE, INSIDE):
        call("ip", "netns", "delete", name)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The image that users get, and on top of it the one program that its commands run."""
    folder = tmp_path_factory.mktemp("image")
    environment = {**os.environ, "PODMAN": shlex.join(PODMAN)}
    architecture = PYKNOCK.name.rpartition("-")[2]
    call(ROOT / "cross/image", architecture, "pyknock-test", env=environment)
    call("cc", "-static", "-o", folder / "witness", Path(__file__).with_name("witness.c"))
    (folder / "Dockerfile").write_text("FROM localhost/pyknock-test\nCOPY witness /\n")
    podman("build", "-t", "pyknock-test-witness", folder)
    yield "pyknock-test-witness"
    podman("rmi", "-f", "pyknock-test-witness", "pyknock-test")


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    call(PYKNOCK, "keygen", "-o", path)
    # As container secrets are: the user in the container is nobody.
    path.chmod(0o444)
    return path


@pytest.fixture
def container(image, networks, key):
    """Runs the image, as confined as can be; gives its name."""
    name = "pyknock-test-server"
    podman("rm", "-f", name, check=False)

    def run(*words, options=()):
        podman(
            "run", "--detach", "--name", name, f"--network=ns:/run/netns/{INSIDE}", "--read-only",
            "--cap-drop=all", "--security-opt=no-new-privileges", *LIMITS, *options,
            f"--volume={key}:/key:ro", image, *words,
        )  # fmt: skip
        return name

    yield run
    podman("rm", "-f", name, check=False)


def wait_for_log(name, pattern):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        log = podman("logs", name).stdout
        if found := re.search(pattern, log, re.MULTILINE):
            return found
        time.sleep(0.05)
    raise AssertionError(f"no {pattern!r} in the log:\n{log}")


def knock(command, key):
    words = ["client", command, INSIDE_ADDRESS, "-k", str(key)]
    return call("ip", "netns", "exec", OUTSIDE, PYKNOCK, *words)


def test_a_knock_from_outside_runs_a_program_in_the_container(container, key):
    name = container("server", "-k", "/key", "--no-shell", WITNESS, WITNESS)
    wait_for_log(name, "listening on")
    knock("open", key)
    wait_for_log(name, rf"^witness: {OUTSIDE_ADDRESS} inet open as 65534, {OUTSIDE_ADDRESS}$")
    knock("close", key)
    wait_for_log(name, rf"^witness: {OUTSIDE_ADDRESS} inet close as 65534, {OUTSIDE_ADDRESS}$")


def connects():
    """Whether the outsider can reach port 22; if not, then for want of any answer."""
    script = (
        "import socket\n"
        f"try: socket.create_connection(({INSIDE_ADDRESS!r}, 22), timeout=0.3)\n"
        "except TimeoutError: print('no')\n"
        "else: print('yes')"
    )
    return call("ip", "netns", "exec", OUTSIDE, "python3", "-c", script).stdout == "yes\n"


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end


@pytest.fixture(params=["nft", "ipset"])
def rules(request, networks):
    """The rules of the example, and a service behind them; gives the option for the server."""
    inside = ["ip", "netns", "exec", INSIDE]
    example = call(PYKNOCK, "server", "--example", request.param).stdout
    load = ["nft", "-f", "-"] if request.param == "nft" else ["sh"]
    call(*inside, *load, input=example)
    script = (
        "import socket\n"
        "service = socket.create_server(('', 22))\n"
        "print('listening', flush=True)\n"
        "while True: service.accept()"
    )
    service = subprocess.Popen([*inside, "python3", "-c", script], stdout=subprocess.PIPE)
    assert service.stdout.readline() == b"listening\n"
    yield "--nft=inet/pyknock/knock4,knock6" if request.param == "nft" else "--ipset=knock4,knock6"
    service.kill()
    service.wait()
    call(*inside, "nft", "flush", "ruleset")
    call(*inside, "ipset", "destroy")


@pytest.mark.parametrize("user", [[], ["--user=0"]], ids=["nobody", "root"])
def test_with_one_capability_the_container_is_a_gatekeeper(container, key, rules, user):
    if user:
        key.chmod(0o400)
    name = container(
        "server", "-v", "-k", "/key", rules, "--ttl=2s", options=["--cap-add=NET_ADMIN", *user]
    )
    wait_for_log(name, "listening on")
    assert not connects()
    knock("open", key)
    wait_for_log(name, f"^pyknock server: set changed: open {OUTSIDE_ADDRESS}$")
    wait_until(connects)
    wait_until(lambda: not connects())
    # Killed, it leaves nothing open for good.
    knock("open", key)
    wait_for_log(name, rf"(set changed: open {OUTSIDE_ADDRESS}[\s\S]*){{2}}")
    podman("kill", "--signal=KILL", name)
    wait_until(lambda: not connects())


def test_without_the_capability_the_log_says_so(container, rules):
    name = container("server", "-k", "/key", rules, "--ttl=1h")
    assert podman("wait", name).stdout.strip() == "1"
    wait_for_log(name, r"Operation not permitted \(the capability CAP_NET_ADMIN is needed\)$")


def test_the_health_check_needs_no_shell(container):
    name = container("server", "-k", "/key", "--no-shell", WITNESS, WITNESS)
    wait_for_log(name, "listening on")
    check = ["/pyknock", "server", "--check", "-k", "/key", "--no-shell", WITNESS, WITNESS]
    healthy = podman("exec", name, *check)
    assert "configuration OK" in healthy.stdout.splitlines()
    check[4] = "/missing"
    unhealthy = podman("exec", name, *check, check=False)
    assert unhealthy.returncode == 1


# A name server that knows one name, and answers each question for another type with nothing.
NAME_SERVER = f"""
import socket
server = socket.socket(type=socket.SOCK_DGRAM)
server.bind(("{INSIDE_ADDRESS}", 53))
print("listening", flush=True)
while True:
    question, client = server.recvfrom(512)
    end = 12 + question[12:].index(0) + 5
    name, kind = question[12 : end - 4], question[end - 4 : end - 2]
    found = name == b"\\4gate\\4test\\0" and kind == b"\\0\\1"
    header = question[:2] + bytes([0x81, 0x80, 0, 1, 0, found, 0, 0, 0, 0])
    answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4" + socket.inet_aton("{INSIDE_ADDRESS}")
    server.sendto(header + question[12:end] + answer * found, client)
"""


def test_names_are_resolved_with_nothing_but_resolv_conf(image, networks, key, tmp_path):
    """No other file, no library, no shell: as in the smallest of containers."""
    (tmp_path / "resolv.conf").write_text(f"nameserver {INSIDE_ADDRESS}\n")
    (tmp_path / "resolv.conf").chmod(0o444)
    inside = ["ip", "netns", "exec", INSIDE, "python3", "-c", NAME_SERVER]
    options = [
        "run", "--rm", f"--network=ns:/run/netns/{OUTSIDE}", "--read-only", "--cap-drop=all",
        "--no-hosts", *LIMITS, f"--volume={key}:/key:ro",
        f"--volume={tmp_path}/resolv.conf:/etc/resolv.conf:ro", image,
    ]  # fmt: skip
    with subprocess.Popen(inside, stdout=subprocess.PIPE) as name_server:
        assert name_server.stdout.readline() == b"listening\n"
        knocked = podman(*options, "client", "open", "gate.test", "-v", "-k", "/key")
        unknown = podman(*options, "client", "open", "other.test", "-k", "/key", check=False)
        name_server.kill()
    sent = f"pyknock client: sent open {OUTSIDE_ADDRESS} to {INSIDE_ADDRESS}:60120\n"
    assert knocked.stdout.endswith(sent)
    assert unknown.returncode == 3
    assert "pyknock client: cannot resolve 'other.test': " in unknown.stdout


def test_the_links_are_the_applets(container, image):
    for applet in ("server", "client", "keygen"):
        options = ["--rm", "--network=none", f"--entrypoint=/pyknock-{applet}", *LIMITS]
        shown = podman("run", *options, image, "-h")
        assert shown.stdout.startswith(f"usage: pyknock {applet} ")


def test_a_command_for_a_shell_is_an_error_at_start(container):
    name = container("server", "-k", "/key", "echo $ip", "")
    assert podman("wait", name).stdout.strip() == "1"
    last = podman("logs", name).stdout.splitlines()[-1]
    assert last == (
        "pyknock server: OPEN_CMD: cannot run '/bin/sh': No such file or directory;"
        " --no-shell runs the commands without it"
    )


def test_stopping_the_container_ends_the_server_at_once(container):
    name = container("server", "-k", "/key", "--no-shell", WITNESS, WITNESS)
    wait_for_log(name, "listening on")
    podman("stop", "--time=20", name)
    wait_for_log(name, "^pyknock server: stopped$")
    state = podman("inspect", "--format={{.State.ExitCode}}", name)
    assert state.stdout.strip() == "0"
