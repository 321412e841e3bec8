"""Helpers for the tests of containers: podman, two networks, and a client outside that knocks.

PYKNOCK names the static program for this machine in dist/.
"""

import os
import re
import shlex
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYKNOCK = Path(os.environ["PYKNOCK"]).resolve()
PODMAN = shlex.split(
    os.environ.get("PODMAN", "podman --runtime runc --storage-driver=vfs --cgroup-manager=cgroupfs")
)
IMAGE = "pyknock-test"
# The network of the client, and the network of the container.
OUTSIDE, INSIDE = "pyknock-outside", "pyknock-inside"
OUTSIDE_ADDRESS, INSIDE_ADDRESS = "192.0.2.2", "192.0.2.1"
IN_OUTSIDE = ["ip", "netns", "exec", OUTSIDE]
IN_INSIDE = ["ip", "netns", "exec", INSIDE]


def call(*words, check=True, **options):
    completed = subprocess.run(
        words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, **options
    )
    assert not check or completed.returncode == 0, completed.stdout
    return completed


def podman(*words, **options):
    return call(*PODMAN, *words, **options)


def make_image():
    environment = {**os.environ, "PODMAN": shlex.join(PODMAN)}
    call(ROOT / "cross/image", PYKNOCK.name.rpartition("-")[2], IMAGE, env=environment)


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
    return call(*IN_OUTSIDE, PYKNOCK, *words)


def connects(port=22):
    """Whether the client can reach the port. If it cannot, nothing must answer."""
    script = (
        "import socket\n"
        f"try: socket.create_connection(({INSIDE_ADDRESS!r}, {port}), timeout=0.3)\n"
        "except TimeoutError: print('no')\n"
        "else: print('yes')"
    )
    return call(*IN_OUTSIDE, "python3", "-c", script).stdout == "yes\n"


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
