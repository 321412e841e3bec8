"""Fixtures for the clients in contrib/."""

import os
import shutil
import sys

import pytest
from support.programs import EMULATED, ROOT, run

# Set before pyknock is imported: its folder belongs to the project.
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "contrib"))

SCRIPT = ROOT / "contrib/pyknock.py"
# Runs the client after some changes to it or to the system.
CHANGED = "import sys; sys.path.insert(0, sys.argv.pop(1)); import pyknock\n{}\nsys.exit(pyknock.main())"


# The first is that of the system. `make test-quick` leaves out the others.
FIRST, *OTHERS = os.environ.get("PYKNOCK_PYTHONS", "/usr/bin/python3 pypy3").split()


@pytest.fixture(params=[FIRST, *(pytest.param(other, marks=pytest.mark.slow) for other in OTHERS)])
def python(request):
    if EMULATED:
        pytest.skip("Python runs the client, not the program under test")
    if not shutil.which(request.param):
        pytest.skip(f"no {request.param}")
    return request.param


class PythonClient:
    def __init__(self, python, home, process):
        self.python, self.home, self.process = python, home, process
        self.configuration = home / ".config/pyknock/client.conf"

    def write(self, text, mode=0o600):
        self.configuration.parent.mkdir(parents=True, exist_ok=True)
        self.configuration.write_bytes(text.encode() if isinstance(text, str) else text)
        self.configuration.chmod(mode)

    def words(self, *arguments, change=None, network=None):
        script = ["-c", CHANGED.format(change), SCRIPT.parent] if change else [SCRIPT]
        return [*(network.prefix if network else []), self.python, "-B", *script, *arguments]

    def environment(self, more=None):
        environment = {**os.environ, "HOME": str(self.home), "TZ": "UTC", **(more or {})}
        if "XDG_CONFIG_HOME" not in (more or {}):
            environment.pop("XDG_CONFIG_HOME", None)
        return environment

    def run(self, *arguments, environment=None, change=None, network=None, **options):
        words = self.words(*arguments, change=change, network=network)
        return run(words, env=self.environment(environment), **options)

    def start(self, *arguments, change=None, network=None):
        """Starts a client that the test goes on beside."""
        return self.process(self.words(*arguments, change=change, network=network), env=self.environment())


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def client(python, home, process):
    """The client, with a home directory of its own."""
    return PythonClient(python, home, process)
