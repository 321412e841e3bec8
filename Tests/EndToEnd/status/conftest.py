"""Fixtures: what the status is of."""

import json
import tempfile
from pathlib import Path

import pytest
from support.programs import program, run
from support.state import Journal


@pytest.fixture
def journal(server, tmp_path):
    return Journal(server, tmp_path)


@pytest.fixture
def public():
    """A folder that every user can look into."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def status(firewall, tmp_path):
    """Prints the status in the network of the firewall: the code, and the lines of both outputs."""

    def status(*options, prefix=(), **more):
        words = [*firewall.prefix, *prefix, *program("status"), *options]
        result = run(words, **more)
        if "--json" in options:
            return result.code, json.loads(result.stdout), result.lines
        return result.code, result.stdout.splitlines(), result.lines

    return status
