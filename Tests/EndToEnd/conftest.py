"""Fixtures: each one ends what it started."""

import os
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from support import session
from support.datagrams import KEY
from support.firewall import Firewall
from support.networks import CLIENT, SERVER, Namespace, connect
from support.processes import Process
from support.programs import EMULATED, ORIGINAL, PYKNOCK
from support.servers import OriginalServer, Server
from support.state import Remembered
from support.version2 import KEY2, Responder


def pytest_configure():
    session.find_system_programs()
    for path in (PYKNOCK[-1], ORIGINAL / "pyknock-server"):
        if not os.access(path, os.X_OK):
            pytest.exit(f"{path} is missing: make test builds and installs what is needed", 1)
    if problem := session.become_root() or session.leave_the_network():
        pytest.exit(problem, 1)


def pytest_runtest_setup(item):
    if item.get_closest_marker("other_users") and not session.has_other_users():
        pytest.skip("needs more than one user: root, or newuidmap and a range in /etc/subuid and /etc/subgid")
    if item.get_closest_marker("system_root") and not session.is_root_of_the_system():
        pytest.skip("needs root of the system: the kernel refuses this to root of a user namespace")


def opening(kind):
    """A fixture: a function that starts processes of a kind. They are closed after the test."""

    @pytest.fixture
    def maker():
        with ExitStack() as stack:
            yield lambda *words, **options: stack.enter_context(closing(kind(*words, **options)))

    return maker


process = opening(Process)
server = opening(Server)
original_server = opening(OriginalServer)


@pytest.fixture
def state(server, tmp_path):
    return Remembered(server, tmp_path / "state")


@pytest.fixture(scope="module")
def namespace(tmp_path_factory):
    """A network that the tests of a module share."""
    with closing(Namespace(tmp_path_factory.mktemp("namespace"))) as namespace:
        yield namespace


@pytest.fixture
def key_file(tmp_path):
    """A file with the key that only its owner may read."""
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def key2_file(tmp_path):
    path = tmp_path / "key2"
    path.write_text(KEY2 + "\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def journal(tmp_path):
    """A file that programs take for the journal: JOURNAL_STREAM has its device and inode number."""
    path = tmp_path / "journal"
    file = open(path, "wb")
    status = os.fstat(file.fileno())
    with file:
        yield file, {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


@pytest.fixture
def not_emulated():
    """Skips tests of what an emulator does not do as the kernel does.

    It has its own /proc, lacks some socket options, and turns CLONE_VM | CLONE_VFORK into a fork, so that the
    reason why a program cannot be started is lost.
    """
    if EMULATED:
        pytest.skip("an emulator has its own /proc, not all of sockets, and no CLONE_VFORK")


def preloaded(name):
    """A fixture: a library of support/, to be loaded into the program."""

    @pytest.fixture(scope="session")
    def path(tmp_path_factory):
        if EMULATED or b"ld-linux" not in Path(PYKNOCK[-1]).read_bytes():
            pytest.skip("nothing can be loaded into a static program")
        path = tmp_path_factory.mktemp(name) / f"{name}.so"
        source = Path(__file__).parent / f"support/{name}.c"
        subprocess.run(["clang", "-Wall", "-Werror", "-shared", "-fPIC", "-o", path, source], check=True)
        return path

    return path


intruder = preloaded("intruder")
broken_disk = preloaded("broken_disk")
killed = preloaded("killed")
slow_mac = preloaded("slow_mac")
netlink = preloaded("netlink")
unlisted = preloaded("unlisted")


@pytest.fixture(params=["nft", "ipset"])
def kind(request):
    return request.param


@pytest.fixture
def firewall(tmp_path, kind, not_emulated):
    folder = tmp_path / "firewall"
    folder.mkdir()
    with closing(Firewall(folder, kind)) as firewall:
        yield firewall


@pytest.fixture
def outside(tmp_path, firewall):
    """The network of the client, with a cable to the server's."""
    folder = tmp_path / "outside"
    folder.mkdir()
    with closing(Namespace(folder)) as outside:
        connect("cable", (outside, CLIENT), (firewall, SERVER))
        yield outside


@pytest.fixture
def start(server, firewall):
    """Starts a server that changes sets, without commands."""

    def start(*options, sets=None, **more):
        more = {"words": ["-k", "-"], "stdin": KEY.encode(), "network": firewall, **more}
        return server(sets or firewall.sets, *options, **more)

    return start


@pytest.fixture
def responder():
    """Starts sockets that answer requests."""
    started = []

    def start(reply, **options):
        started.append(Responder(reply, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()
