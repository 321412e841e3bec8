import os
import subprocess

import pytest
from containers import (
    IMAGE,
    IN_INSIDE,
    INSIDE,
    INSIDE_ADDRESS,
    OUTSIDE,
    OUTSIDE_ADDRESS,
    PYKNOCK,
    call,
    make_image,
    podman,
)  # fmt: skip


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session", autouse=True)
def limits(tmp_path_factory):
    """Sets limits of containers below those of the test machine."""
    configuration = tmp_path_factory.mktemp("podman") / "containers.conf"
    limits = '["nofile=1024:1024", "nproc=1024:1024"]'
    configuration.write_text(f"[containers]\ndefault_ulimits = {limits}\n")
    os.environ["CONTAINERS_CONF"] = str(configuration)
    yield
    del os.environ["CONTAINERS_CONF"]


@pytest.fixture(scope="session")
def image():
    """The image that users get."""
    make_image()
    yield IMAGE
    podman("rmi", "-f", IMAGE)


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    call(PYKNOCK, "keygen", "-o", path)
    return path


@pytest.fixture
def keys(tmp_path):
    """A directory of users: alice."""
    path = tmp_path / "keys"
    path.mkdir(mode=0o700)
    call(PYKNOCK, "keygen", "--keys", path, "alice")
    return path


@pytest.fixture
def service(networks):
    """Listens on ports 22 and 8080 of INSIDE. All rules there are removed afterwards."""
    script = (
        "import socket\n"
        "service, other = (socket.create_server(('', port)) for port in (22, 8080))\n"
        "print('listening', flush=True)\n"
        "while True: service.accept()"
    )
    service = subprocess.Popen([*IN_INSIDE, "python3", "-c", script], stdout=subprocess.PIPE)
    assert service.stdout.readline() == b"listening\n"
    yield
    service.kill()
    service.wait()
    call(*IN_INSIDE, "nft", "flush", "ruleset")
    call(*IN_INSIDE, "ipset", "destroy")
