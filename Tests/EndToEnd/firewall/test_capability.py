"""The capability that sets need."""

import re
from pathlib import Path

import pytest
from support.datagrams import CLOSE


@pytest.mark.parametrize("ends", [True, False], ids=["check", "server"])
def test_without_the_capability_the_server_says_so(firewall, start, ends):
    firewall.load_example()
    nobody = ["setpriv", "--reuid=65534", "--clear-groups"]
    ours = start("--ttl=1h", *(["--check"] if ends else []), prefix=[*nobody], wait=False)
    assert ours.exit_code() == 1
    what = "set knock{} of table inet pyknock" if firewall.kind == "nft" else "ipset knock{}"
    problem = "Operation not permitted (the capability CAP_NET_ADMIN is needed)"
    last = ours.log.wait_for_end()[-2:]
    assert last == [
        f"pyknock server: --{firewall.kind}: {what.format(number)}: {problem}" for number in (4, 6)
    ]


def test_the_capability_alone_is_enough(firewall, start):
    firewall.load_example()
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    nobody += ["--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin"]
    ours = start("--ttl=1h", "-v", prefix=[*nobody, "--bounding-set=-all,+net_admin"])
    ours.knock()
    ours.log.wait_for("set changed: open")
    assert list(firewall.elements()) == ["192.0.2.1"]


def test_the_executor_keeps_one_capability_and_may_be_another_user(firewall, start):
    firewall.load_example()
    ours = start("--user=65534", "--chroot=/usr", "--ttl=1h", "-v")
    ours.log.wait_for("^pyknock server: the executor has no capability but CAP_NET_ADMIN$")
    status = Path(f"/proc/{ours.pid}/status").read_text()
    shown = dict(re.findall(r"^(\w+):\t(.*)$", status, re.MULTILINE))
    one, none = "0000000000001000", "0000000000000000"
    assert [shown[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [
        none, one, one, one, none
    ]  # fmt: skip
    assert (shown["Uid"].split(), shown["NoNewPrivs"]) == (["65534"] * 4, "1")
    ours.knock("192.0.2.9")
    ours.log.wait_for("set changed: open 192.0.2.9")
    assert list(firewall.elements()) == ["192.0.2.9"]
    ours.knock("192.0.2.9", CLOSE)
    ours.log.wait_for("set changed: close 192.0.2.9")
    assert list(firewall.elements()) == []
