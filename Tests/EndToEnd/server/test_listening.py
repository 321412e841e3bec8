"""What the server binds to."""

import errno
import re
import socket

import pytest
from support.datagrams import packet
from support.processes import install_filter
from support.programs import program, run
from support.servers import client


@pytest.mark.slow
def test_a_port_in_use_is_one_line_and_exit_1(server, key_file):
    taken = server()
    result = run([*program("server"), "-k", key_file, f"-p{taken.port}", "o", "c"])
    assert (result.code, result.stdout, len(result.lines)) == (1, "", 1)
    assert re.fullmatch(
        # The C library of the static file has other words.
        rf"pyknock server: cannot bind to \[::\]:{taken.port}: Address (already )?in use: another program may hold"
        " it, see ss -ulpn; net.ipv4.ip_local_reserved_ports keeps a port from programs that take any",
        result.lines[0],
    )


@pytest.mark.parametrize("address, other", [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_a_bound_server_leaves_the_other_addresses_free(server, address, other):
    ours = server("-b", address)
    ours.log.wait_for(rf"listening on \[?{address}\]?:{ours.port}, ")
    with socket.socket(
        socket.AF_INET6 if ":" in other else socket.AF_INET, socket.SOCK_DGRAM
    ) as free:
        free.bind((other, ours.port))
    assert client("open", address, f"-p{ours.port}").code == 0
    ours.output.wait_for(f"open {address}")


@pytest.mark.parametrize("address", ["127.1", "0177.0.0.1", "2130706433"])
def test_an_old_form_of_an_address_is_taken_with_a_warning(server, address):
    ours = server("-b", address)
    assert ours.log.lines[0] == (
        f"pyknock server: warning: bind address '{address}' is read as 127.0.0.1"
    )
    ours.log.wait_for(rf"listening on 127\.0\.0\.1:{ours.port}, ")


@pytest.mark.parametrize("address", ["localhost", "127.0.0.999", "::1::", "127.0.0.1:60120", "-5"])
def test_an_address_that_is_not_numeric_is_exit_1(key_file, address):
    result = run([*program("server"), "-k", key_file, "-b", address, "o", "c"])
    assert (result.code, result.stdout) == (1, "")
    assert result.lines == [
        f"pyknock server: bind address: '{address}' is not a numeric IPv4 or IPv6 address"
    ]


@pytest.mark.parametrize(
    "address, error",
    [
        ("fe80::1", "cannot bind to [fe80::1]:60119: a link-local address needs its interface, as in fe80::1%eth0"),
        ("ff02::1", "cannot bind to [ff02::1]:60119: a link-local address needs its interface, as in fe80::1%eth0"),
        ("fe80::1%none", "bind address: 'fe80::1%none' is no link-local address, or its interface is not there"),
        ("::1%lo", "bind address: '::1%lo' is no link-local address, or its interface is not there"),
    ],
)
def test_an_address_without_its_interface_is_exit_1(key_file, address, error):
    result = run([*program("server"), "-n", "-k", key_file, "-p60119", "-b", address, "o", "c"])
    assert (result.code, result.stdout) == (1, "")
    assert result.lines == [f"pyknock server: {error}"]


@pytest.mark.parametrize(
    "address, shown", [("203.0.113.7", "203.0.113.7"), ("2001:DB8:0::7", "[2001:db8::7]")]
)
def test_an_address_may_come_after_the_start(server, namespace, address, shown):
    """At boot, the address of an interface may come later, or not yet be usable (IPv6: RFC 4862)."""
    ours = server("-b", address, network=namespace)
    warning = "warning: no interface has the address of"
    told = f"pyknock server: {warning} {shown}:{ours.port} yet; knocks arrive once one has"
    assert ours.log.lines[0] == told
    namespace.add_address(address, "lo")
    ours.send(packet(), host=address)
    ours.output.wait_for("^open 192.0.2.1")
    ours.stop()
    ours = server("-b", address, network=namespace)
    assert not ours.log.matching("warning")
    namespace.run(f"ip address delete {address} dev lo")


def test_the_check_warns_of_an_address_that_no_interface_has(key_file):
    result = run([*program("server"), "-n", "-k", key_file, "-p60119", "-b", "203.0.113.7", "o", "c"])
    assert (result.code, result.stdout, len(result.lines)) == (0, "configuration OK\n", 1)
    assert "no interface has the address of 203.0.113.7:60119" in result.stderr


def test_the_default_address_takes_both_families_whatever_the_system_says(server, namespace):
    script = "echo 1 > /proc/sys/net/ipv6/bindv6only"
    assert run([*namespace.prefix, "sh", "-c", script]).code == 0
    ours = server(network=namespace)
    for host in ("127.0.0.1", "::1"):
        ours.send(packet(), host=host)
    ours.wait_for_counters(accepted=2)


def without_ipv6():
    """Makes socket(AF_INET6) fail with EAFNOSUPPORT, as a kernel without IPv6 does, with a seccomp filter.

    Source: seccomp(2), linux/filter.h, linux/audit.h.
    """
    load, equal, give, allow = 0x20, 0x15, 0x06, 0x7FFF0000
    # The number of socket() on x86_64, i386, aarch64 and mipsel.
    numbers = {0xC000003E: 41, 0x40000003: 359, 0xC00000B7: 198, 0x40000008: 4183}
    code = []
    for architecture, number in numbers.items():
        code += [
            (load, 0, 0, 4), (equal, 0, 5, architecture),
            (load, 0, 0, 0), (equal, 0, 3, number),
            (load, 0, 0, 16), (equal, 0, 1, socket.AF_INET6),
            (give, 0, 0, 0x00050000 | errno.EAFNOSUPPORT),
        ]  # fmt: skip
    code.append((give, 0, 0, allow))
    install_filter(code)


def test_a_kernel_without_ipv6_is_served_by_ipv4(server):
    ours = server(preexec_fn=without_ipv6)
    ours.log.wait_for(rf"listening on 0\.0\.0\.0:{ours.port}, ")
    assert not ours.log.matching("::")
    ours.knock()
    ours.output.wait_for("open 192.0.2.1")


def test_a_kernel_without_ipv6_cannot_bind_to_an_ipv6_address(key_file):
    words = [*program("server"), "-k", key_file, "-b", "::1", "-p60119", "o", "c"]
    result = run(words, preexec_fn=without_ipv6)
    assert (result.code, len(result.lines)) == (1, 1)
    assert result.stderr.startswith("pyknock server: cannot bind to [::1]:60119: Address family ")
