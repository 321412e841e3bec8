"""Fixtures for the clients in contrib/."""

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys

import pytest
from support.programs import EMULATED, ROOT, TIMEOUT, Result, run

# Set before pyknock is imported: its folder belongs to the project.
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "contrib"))

SCRIPT = ROOT / "contrib/pyknock.py"
# Runs the client after some changes to it or to the system.
CHANGED = "import pyknock, sys\n{}\nsys.exit(pyknock.main())"


# The first is that of the system. `make test-quick` leaves out the others.
FIRST, *OTHERS = os.environ.get("PYKNOCK_PYTHONS", "/usr/bin/python3 pypy3").split()


@pytest.fixture(params=[FIRST, *(pytest.param(other, marks=pytest.mark.slow) for other in OTHERS)])
def python(request):
    if EMULATED:
        pytest.skip("Python runs the client, not the program under test")
    if not shutil.which(request.param):
        pytest.skip(f"no {request.param}")
    return request.param


class Forker:
    """A Python that runs the client many times. To start one for each run would take most of the time of the tests."""

    def __init__(self, python, folder):
        self.words = [python, "-B", ROOT / "Tests/EndToEnd/support/forker.py", SCRIPT]
        self.streams = [folder / name for name in ("stdin", "stdout", "stderr")]
        # What the forker itself writes, before it becomes the client.
        self.errors = folder / "errors"
        self.start()

    def start(self):
        with self.errors.open("wb") as errors:
            self.popen = subprocess.Popen(
                self.words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )

    def restart(self):
        self.close()
        self.start()

    def run(self, arguments, environment, program, stdin=b"", cwd="."):
        for stream, content in zip(self.streams, (stdin, b"", b""), strict=True):
            stream.write_bytes(content)
        run = {
            "arguments": [os.fspath(word) for word in arguments], "environment": environment, "program": program,
            "folder": os.path.abspath(cwd), "streams": [str(stream) for stream in self.streams],
        }  # fmt: skip
        # If it has died, that shows when its answer is read.
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.write(json.dumps(run).encode() + b"\n")
            self.popen.stdin.flush()
        if not select.select([self.popen.stdout], [], [], TIMEOUT)[0]:
            self.restart()
            raise AssertionError(f"{arguments}: does not end")
        if not (code := self.popen.stdout.readline()):
            errors = self.errors.read_text(errors="replace")
            self.restart()
            raise AssertionError(f"{arguments}: the forker has died: {errors}")
        contents = [path.read_bytes() for path in self.streams[1:]]
        return Result(subprocess.CompletedProcess(arguments, int(code), *contents))

    def close(self):
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.communicate()


@pytest.fixture(scope="session")
def forkers(tmp_path_factory):
    """A function that finds the forker of a Python."""
    with contextlib.ExitStack() as stack:

        @functools.lru_cache
        def forker(python):
            return stack.enter_context(contextlib.closing(Forker(python, tmp_path_factory.mktemp("streams"))))

        yield forker


class PythonClient:
    def __init__(self, python, home, process, forker):
        self.python, self.home, self.process, self.forker = python, home, process, forker
        self.configuration = home / ".config/pyknock/client.conf"

    def write(self, text, mode=0o600):
        self.configuration.parent.mkdir(parents=True, exist_ok=True)
        self.configuration.write_bytes(text.encode() if isinstance(text, str) else text)
        self.configuration.chmod(mode)

    def words(self, *arguments, change=None, network=None):
        script = [SCRIPT]
        if change:
            script = ["-c", f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r})\n{CHANGED.format(change)}"]
        return [*(network.prefix if network else []), self.python, "-B", *script, *arguments]

    def environment(self, more=None):
        environment = {**os.environ, "HOME": str(self.home), "TZ": "UTC", **(more or {})}
        if "XDG_CONFIG_HOME" not in (more or {}):
            environment.pop("XDG_CONFIG_HOME", None)
        return environment

    def run(self, *arguments, environment=None, change=None, network=None, **options):
        environment = self.environment(environment)
        if network is None and options.keys() <= {"stdin", "cwd"}:
            return self.forker.run(arguments, environment, change and CHANGED.format(change), **options)
        return run(self.words(*arguments, change=change, network=network), env=environment, **options)

    def start(self, *arguments, change=None, network=None):
        """Starts a client that the test goes on beside."""
        return self.process(self.words(*arguments, change=change, network=network), env=self.environment())


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def client(python, home, process, forkers):
    """The client, with a home directory of its own."""
    return PythonClient(python, home, process, forkers(python))
