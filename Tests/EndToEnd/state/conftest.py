"""Fixtures: state directories."""

import pytest
from support.state import Journal


@pytest.fixture
def journal(server, tmp_path):
    return Journal(server, tmp_path)
