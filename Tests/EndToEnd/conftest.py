"""Fixtures: each one ends what it started."""

import os
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

import knocking


def pytest_sessionstart():
    if os.geteuid() != 0:
        pytest.exit("the tests make network namespaces: run them as root", 1)
    for path in (knocking.PYKNOCK[-1], knocking.ORIGINAL / "pyknock-server"):
        if not os.access(path, os.X_OK):
            pytest.exit(f"{path} is missing: make test builds and installs what is needed", 1)


def opening(kind):
    """A fixture that gives the maker of a kind of process."""

    @pytest.fixture
    def maker():
        with ExitStack() as stack:
            yield lambda *words, **options: stack.enter_context(closing(kind(*words, **options)))

    return maker


process = opening(knocking.Process)
server = opening(knocking.Server)
original_server = opening(knocking.OriginalServer)


@pytest.fixture(scope="module")
def namespace(tmp_path_factory):
    """A network that is this module's own."""
    with closing(knocking.Namespace(tmp_path_factory.mktemp("namespace"))) as namespace:
        yield namespace


@pytest.fixture
def key_file(tmp_path):
    """A file with the key, as it should be."""
    path = tmp_path / "key"
    path.write_text(knocking.KEY + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def not_emulated():
    """For tests of what an emulator cannot show.

    Its /proc is its own, it has not all of sockets, and it makes a fork of CLONE_VM | CLONE_VFORK, so that nobody
    hears why the kernel does not start a program.
    """
    if knocking.EMULATED:
        pytest.skip("an emulator has its own /proc, not all of sockets, and no CLONE_VFORK")


@pytest.fixture(scope="session")
def intruder(tmp_path_factory):
    """What makes the program do what it would not; see intruder.c."""
    if knocking.EMULATED or b"ld-linux" not in Path(knocking.PYKNOCK[-1]).read_bytes():
        pytest.skip("nothing can be loaded into a static program")
    path = tmp_path_factory.mktemp("intruder") / "intruder.so"
    source = Path(__file__).parent / "intruder.c"
    subprocess.run(["clang", "-Wall", "-Werror", "-shared", "-fPIC", "-o", path, source], check=True)
    return path


@pytest.fixture(params=["nft", "ipset"])
def kind(request):
    return request.param


@pytest.fixture
def firewall(tmp_path, kind, not_emulated):
    folder = tmp_path / "firewall"
    folder.mkdir()
    with closing(knocking.Firewall(folder, kind)) as firewall:
        yield firewall


@pytest.fixture
def outside(tmp_path, firewall):
    """The network of the client, with a cable to the server's."""
    folder = tmp_path / "outside"
    folder.mkdir()
    with closing(knocking.Namespace(folder)) as outside:
        knocking.connect("cable", (outside, knocking.CLIENT), (firewall, knocking.SERVER))
        yield outside


@pytest.fixture
def start(server, firewall):
    """Starts a server that changes sets, without commands."""

    def start(*options, sets=None, **more):
        more = {"words": ["-k", "-"], "stdin": knocking.KEY.encode(), "network": firewall, **more}
        return server(sets or firewall.sets, *options, **more)

    return start
