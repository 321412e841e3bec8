"""ssh and scp with `pyknock client connect` as their ProxyCommand. sshd becomes another user."""

import contextlib
import os
import re
import socket
import subprocess
import time

import pytest
from support.firewall import only_nft
from support.networks import SERVER
from support.processes import Process
from support.programs import TIMEOUT, program, run
from support.servers import CHECK

SSHD = SERVER[socket.AF_INET]


@pytest.fixture
def ssh(firewall, outside, start, tmp_path, key_file):
    """sshd behind the rules of the example, a server, and the words that start ssh outside."""
    firewall.load_example()
    for name in ("host_key", "user_key"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name])
    config = tmp_path / "sshd_config"
    config.write_text(
        f"HostKey {tmp_path}/host_key\nAuthorizedKeysFile {tmp_path}/user_key.pub\n"
        "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n"
        "Subsystem sftp internal-sftp\n"
    )
    # sshd refuses root if its account is locked, and complains about a home that it may not enter.
    users = [f"root:x:0:0:root:{tmp_path}:/bin/sh", "sshd:x:102:65534::/run/sshd:/usr/sbin/nologin"]
    (tmp_path / "passwd").write_text("\n".join(users) + "\n")
    (tmp_path / "shadow").write_text("root:*:20000::::::\n")
    for name in ("passwd", "shadow"):
        firewall.run(f"mount --bind {tmp_path / name} /etc/{name}")
    firewall.run("mount -t tmpfs -o mode=755 none /run")
    firewall.run("mkdir /run/sshd")

    class SSH:
        server = start("--ttl=1h", "-p60120", port=60120)
        proxy = " ".join(
            [*program("client"), "connect", f"-k{key_file}", f"-p{server.port}", "%h", "%p"]
        )

        def words(self, program="ssh", proxy=None):
            options = ["BatchMode=yes", "StrictHostKeyChecking=no", f"IdentityFile={tmp_path}/user_key"]
            options += ["UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=10"]
            options.append(f"ProxyCommand={proxy or self.proxy}")
            return [*outside.prefix, program, *(f"-o{option}" for option in options)]

    words = [*firewall.prefix, "/usr/sbin/sshd", "-D", "-e", "-f", config]
    with contextlib.closing(Process(words)) as sshd:
        sshd.log.wait_for("Server listening on 0.0.0.0 port 22")
        yield SSH()


@pytest.mark.slow
@only_nft
@pytest.mark.other_users
def test_ssh_logs_in_with_the_proxy_command_and_not_without(ssh):
    without = ssh.words(proxy="none")
    without[-2] = "-oConnectTimeout=1"
    assert run([*without, SSHD, "echo", "in"]).code == 255
    result = run([*ssh.words(), SSHD, "echo", "in; exit 9"])
    assert (result.code, result.stdout, result.stderr) == (9, "in\n", "")


@pytest.mark.slow
@only_nft
@pytest.mark.other_users
def test_scp_of_200_mb_arrives_whole(ssh, tmp_path):
    piece = os.urandom(1 << 20)
    there, back = tmp_path / "there", tmp_path / "back"
    (tmp_path / "data").write_bytes(piece * 200)
    for source, target in [(tmp_path / "data", f"{SSHD}:{there}"), (f"{SSHD}:{there}", back)]:
        result = subprocess.run([*ssh.words("scp"), source, target], timeout=5 * TIMEOUT)
        assert result.returncode == 0
    assert back.read_bytes() == piece * 200


@pytest.mark.slow
@only_nft
def test_a_dead_server_is_told_of_within_the_time(ssh):
    ssh.server.stop()
    start = time.monotonic()
    result = run([*ssh.words(proxy=f"{ssh.proxy} --wait 2"), SSHD, "echo"])
    assert result.code == 255
    assert time.monotonic() - start < 5
    # The reason is in the words of the C library.
    assert re.fullmatch(
        rf"pyknock client: port 22 of '{SSHD}' did not open within 2 s: (Connection|Operation) timed out"
        + re.escape(CHECK),
        result.lines[0],
    )


@pytest.mark.slow
@only_nft
@pytest.mark.other_users
def test_a_lost_knock_is_made_good(ssh, firewall):
    firewall.nft(
        "table inet loss { chain in { type filter hook prerouting priority 0;"
        f" udp dport {ssh.server.port} quota until 100 bytes counter drop; }}\n }}"
    )
    result = run([*ssh.words(), SSHD, "echo", "in"])
    assert (result.code, result.stdout, result.stderr) == (0, "in\n", "")
    assert "packets 1 " in firewall.output("nft", "list", "table", "inet", "loss")
