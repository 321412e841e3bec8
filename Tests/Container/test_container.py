"""A real container with nothing in it except our file, run by podman and runc."""

import subprocess
from pathlib import Path

import pytest
from containers import (
    IN_INSIDE,
    INSIDE,
    INSIDE_ADDRESS,
    OUTSIDE,
    OUTSIDE_ADDRESS,
    PYKNOCK,
    call,
    connects,
    knock,
    podman,
    wait_for_log,
    wait_until,
)  # fmt: skip

WITNESS = "/witness '$ip' $af $cmd"


@pytest.fixture(scope="module")
def image(image, tmp_path_factory):
    """The image that users get, and the program that its commands run."""
    folder = tmp_path_factory.mktemp("image")
    call("cc", "-static", "-o", folder / "witness", Path(__file__).with_name("witness.c"))
    (folder / "Dockerfile").write_text(f"FROM localhost/{image}\nCOPY witness /\n")
    podman("build", "-t", "pyknock-test-witness", folder)
    yield "pyknock-test-witness"
    podman("rmi", "-f", "pyknock-test-witness")


@pytest.fixture
def key(key):
    """A key that all users may read, like a container secret: the user in the container is nobody."""
    key.chmod(0o444)
    return key


@pytest.fixture
def container(image, networks, key):
    """Runs the image with as few privileges as possible, and returns the name of the container."""
    name = "pyknock-test-server"
    podman("rm", "-f", name, check=False)

    def run(*words, options=()):
        podman(
            "run", "--detach", "--name", name, f"--network=ns:/run/netns/{INSIDE}", "--read-only",
            "--cap-drop=all", "--security-opt=no-new-privileges", *options,
            f"--volume={key}:/key:ro", image, *words,
        )  # fmt: skip
        return name

    yield run
    podman("rm", "-f", name, check=False)


def test_a_knock_from_outside_runs_a_program_in_the_container(container, key):
    name = container("server", "-k", "/key", "--no-shell", WITNESS, WITNESS)
    wait_for_log(name, "listening on")
    knock("open", key)
    wait_for_log(name, rf"^witness: {OUTSIDE_ADDRESS} inet open as 65534, {OUTSIDE_ADDRESS}$")
    knock("close", key)
    wait_for_log(name, rf"^witness: {OUTSIDE_ADDRESS} inet close as 65534, {OUTSIDE_ADDRESS}$")


@pytest.fixture(params=["nft", "ipset"])
def rules(request, service):
    """The rules of the example hide the service. Returns the option for the server."""
    example = call(PYKNOCK, "server", "--example", request.param).stdout
    load = ["nft", "-f", "-"] if request.param == "nft" else ["sh"]
    call(*IN_INSIDE, *load, input=example)
    return "--nft=inet/pyknock/knock4,knock6" if request.param == "nft" else "--ipset=knock4,knock6"


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
    # After a kill, nothing stays open.
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


# A name server that knows one name and its IPv4 address.
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
    """The smallest container has no other file, no library and no shell."""
    (tmp_path / "resolv.conf").write_text(f"nameserver {INSIDE_ADDRESS}\n")
    (tmp_path / "resolv.conf").chmod(0o444)
    inside = [*IN_INSIDE, "python3", "-c", NAME_SERVER]
    options = [
        "run", "--rm", f"--network=ns:/run/netns/{OUTSIDE}", "--read-only", "--cap-drop=all",
        "--no-hosts", f"--volume={key}:/key:ro",
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
        options = ["--rm", "--network=none", f"--entrypoint=/pyknock-{applet}"]
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
