"""A state directory of one architecture is read on another, whose byte order may differ.

PYKNOCK runs in an emulator then, and the other program is the one that `make` builds for this machine.
"""

import os

import pytest
from support.datagrams import CLOSE
from support.programs import EMULATED, PYKNOCK, ROOT, run

NATIVE = [str(ROOT / ".build/embedded/release/pyknock")]


@pytest.mark.skipif(not EMULATED, reason="needs programs for two architectures: scripts/test-static runs them")
@pytest.mark.parametrize("first, second", [(NATIVE, PYKNOCK), (PYKNOCK, NATIVE)], ids=["to", "from"])
def test_a_state_directory_moves_to_another_architecture(journal, first, second):
    if not os.access(NATIVE[0], os.X_OK):
        pytest.skip("needs the program that `make` builds")
    ours = journal.start(seconds=3600, applet=[*first, "server"])
    old = [ours.knock(address) for address in ("192.0.2.1", "2001:db8::1")]
    ours.wait_for_counters(accepted=2, open=2)
    journal.wait_for("open 192.0.2.1", "open 2001:db8::1")
    assert ours.stop() == 0

    # Both print the same: the addresses, the times and the rest.
    texts = [run([*words, "status", "--state", journal.path]).stdout for words in (first, second)]
    assert texts[0] == texts[1]
    assert [line.split()[0] for line in texts[1].splitlines()[3:]] == ["192.0.2.1", "2001:db8::1"]

    ours = journal.start(seconds=3600, applet=[*second, "server"])
    ours.log.wait_for("^pyknock server: 2 knocks remembered$")
    ours.send(*old)
    ours.wait_for_counters(replayed=2, accepted=0, open=2)
    ours.knock("192.0.2.1", CLOSE)
    ours.wait_for_counters(accepted=1, open=1)
    journal.wait_for("open 192.0.2.1", "open 2001:db8::1", "close 192.0.2.1")
