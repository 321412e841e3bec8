"""A client behind a router that translates addresses, with coturn as its STUN server."""

import contextlib
import socket
import struct

import pytest
from support.firewall import only_nft
from support.networks import CLIENT, SERVER
from support.processes import Process
from support.programs import TIMEOUT
from support.servers import client
from support.waiting import until

# Of each STUN message: RFC 8489, section 5.
COOKIE = 0x2112A442


@pytest.fixture
def coturn(firewall):
    words = "turnserver -n --stun-only --no-cli --no-tls --no-dtls --log-file=stdout --simple-log"
    listening = [f"--listening-ip={address}" for address in SERVER.values()]
    pid_file = f"--pidfile={firewall.hosts.parent}/turn.pid"
    with contextlib.closing(Process([*firewall.prefix, *words.split(), *listening, pid_file])):
        for family, address in SERVER.items():
            with firewall.socket(family) as asking:
                asking.settimeout(0.1)

                def answers():
                    asking.sendto(struct.pack(">HHI12x", 1, 0, COOKIE), (address, 3478))
                    with contextlib.suppress(TimeoutError):
                        return asking.recv(1000)

                until(answers, f"the STUN server answers at {address}")
        yield


@pytest.mark.slow
@only_nft
@pytest.mark.parametrize("how", ["auto", "observed"])
def test_behind_nat_it_opens_for_the_translated_address(start, firewall, home, coturn, key_file, how):
    firewall.load_example()
    firewall.nft("insert rule inet pyknock input udp dport 3478 accept")
    service = firewall.socket(socket.AF_INET6, socket.SOCK_STREAM)
    service.bind(("::", 22))
    service.listen()
    ours = start("--allow-observed-source", "--ttl=1h", "-p60120", port=60120)
    hosts = ",".join(SERVER.values())
    words = ["-k", key_file, "--wait-port=22", f"--wait={TIMEOUT}"]
    stun = [f"--stun={address}" for address in SERVER.values()] if how == "auto" else []
    result = client("open", hosts, *words, "-S", how, *stun, network=home, key=None)
    assert (result.code, result.stderr) == (0, "")
    for family, name in ((socket.AF_INET, "knock4"), (socket.AF_INET6, "knock6")):
        assert list(firewall.elements(name)) == [CLIENT[family]]
    # Without -S, the server opens for a private address, which does not help.
    firewall.nft("flush set inet pyknock knock4")
    words[-1] = "--wait=1"
    result = client("open", SERVER[socket.AF_INET], *words, network=home, key=None)
    assert result.code == 1
    assert list(firewall.elements()) == ["10.0.0.2"]
    ours.wait_for_counters(bad_mac=0)
    service.close()
