"""The capability that sets need."""

import pytest
from support.datagrams import CLOSE
from support.processes import NOBODY, as_nobody, capabilities_of, status_of

pytestmark = pytest.mark.other_users


@pytest.mark.parametrize("ends", [True, False], ids=["check", "server"])
def test_without_the_capability_the_server_says_so(firewall, start, ends):
    firewall.load_example()
    ours = start("--ttl=1h", *(["--check"] if ends else []), prefix=as_nobody(), wait=False)
    assert ours.exit_code() == 1
    what = "set knock{} of table inet pyknock" if firewall.kind == "nft" else "ipset knock{}"
    problem = "Operation not permitted (the capability CAP_NET_ADMIN is needed)"
    last = ours.log.wait_for_end()[-2:]
    assert last == [
        f"pyknock server: --{firewall.kind}: {what.format(number)}: {problem}" for number in (4, 6)
    ]


def test_the_capability_alone_is_enough(firewall, start):
    firewall.load_example()
    sets = [f"--{name}=-all,+net_admin" for name in ("inh-caps", "ambient-caps", "bounding-set")]
    ours = start("--ttl=1h", "-v", prefix=as_nobody(*sets))
    ours.knock()
    ours.log.wait_for("set changed: open")
    assert list(firewall.elements()) == ["192.0.2.1"]


def test_the_executor_keeps_one_capability_and_may_be_another_user(firewall, start, tmp_path):
    firewall.load_example()
    ours = start(f"--user={NOBODY}", f"--chroot={tmp_path}", "--ttl=1h", "-v")
    ours.log.wait_for("^pyknock server: the executor has no capability except CAP_NET_ADMIN$")
    net_admin = 1 << 12
    assert capabilities_of(ours.pid) == [0, net_admin, net_admin, net_admin, 0]
    shown = status_of(ours.pid)
    assert (shown["Uid"].split(), shown["NoNewPrivs"]) == ([str(NOBODY)] * 4, "1")
    ours.knock("192.0.2.9")
    ours.log.wait_for("set changed: open 192.0.2.9")
    assert list(firewall.elements()) == ["192.0.2.9"]
    ours.knock("192.0.2.9", CLOSE)
    ours.log.wait_for("set changed: close 192.0.2.9")
    assert list(firewall.elements()) == []
