"""Fixtures: state directories."""

import pytest
from support.state import Journal, Remembered


@pytest.fixture
def state(server, tmp_path):
    return Remembered(server, tmp_path / "state")


@pytest.fixture
def journal(server, tmp_path):
    return Journal(server, tmp_path)
