"""ssh and scp with `pyknock client connect` as their ProxyCommand. sshd becomes another user."""

import contextlib
import os
import re
import shlex
import socket
import subprocess
import textwrap
import time

import pytest
from support.firewall import only_nft
from support.networks import SERVER
from support.processes import Process
from support.programs import PYKNOCK, ROOT, TIMEOUT, program, run
from support.servers import CHECK

SSHD = SERVER[socket.AF_INET]


@pytest.fixture
def sshd(firewall, tmp_path):
    """sshd, and the users for it."""
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
    words = [*firewall.prefix, "/usr/sbin/sshd", "-D", "-e", "-f", config]
    with contextlib.closing(Process(words)) as sshd:
        sshd.log.wait_for("Server listening on 0.0.0.0 port 22")
        yield sshd


@pytest.fixture
def ssh(sshd, firewall, outside, start, tmp_path, key_file):
    """sshd behind the rules of the example, a server, and the words that start ssh outside."""
    firewall.load_example()

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

    return SSH()


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


# systemd-run and systemctl only note what they were told to do.
STUBS = {
    "pyknock": f'exec {shlex.join(PYKNOCK)} "$@"',
    "systemd-run": 'echo "$@" >>"$HOME/timers"',
    "systemctl": 'echo "$@" >>"$HOME/timers"',
}


@pytest.mark.slow
@only_nft
@pytest.mark.other_users
@pytest.mark.parametrize("place", ["outside", "home"])
def test_the_five_steps_of_the_readme_and_its_two_files(sshd, firewall, place, request, tmp_path):
    client = request.getfixturevalue(place)
    client.run(f"mount --bind {tmp_path / 'passwd'} /etc/passwd")
    readme = (ROOT / "README.md").read_text()
    [status] = re.findall("`(pyknock status .*?)`", readme)
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", readme, re.MULTILINE | re.DOTALL)
    steps = [textwrap.dedent(text) for kind, text in blocks if kind == "sh"]
    client_conf, ssh_config = [text for kind, text in blocks if not kind and "Host home\n" in text]
    client.hosts.write_text(f"{SSHD} server.example.org\n")
    for name, text in STUBS.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh -e\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / ".ssh").mkdir()
    known = (
        f"BatchMode yes\nStrictHostKeyChecking no\nIdentityFile {tmp_path}/user_key\n"
        "UserKnownHostsFile /dev/null\nLogLevel ERROR\n"
    )
    (tmp_path / ".ssh/config").write_text(known)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    environment.pop("XDG_CONFIG_HOME", None)

    def words(network, text):
        for place, folder in {"/etc/pyknock": "etc", "/var/lib/pyknock": "state"}.items():
            text = text.replace(place, f"{tmp_path}/{folder}")
        return [*network.prefix, "sh", "-ec", text]

    def do(network, text, stdin=b""):
        result = run(words(network, text), env=environment, stdin=stdin)
        assert (result.code, result.stderr) == (0, ""), result
        return result.stdout

    key, copy, rules, knock, stop = steps
    do(client, copy, do(firewall, key).encode())
    shown, client_conf = client_conf, (tmp_path / ".config/pyknock/client.conf").read_text()
    assert client_conf == "# The key of alice\n" + shown.replace(
        "pk2.…\n", (tmp_path / "etc/keys/alice").read_text()
    )
    if place == "home":  # Behind NAT.
        address = do(client, "ssh root@server.example.org 'echo $SSH_CLIENT'").split()[0]
        knock = knock.replace("connect ", f"connect -S {address} ")
        client_conf += f"    Sign {address}\n"
    # Without the timer, nothing is hidden.
    assert run(words(firewall, "set +e\n" + rules.replace("systemd-run", "false")), env=environment).code == 1
    assert "table inet pyknock" not in firewall.output("nft", "list", "tables")
    without = "! ssh -o ConnectTimeout=1 root@server.example.org true 2>&1"
    with contextlib.closing(Process(words(firewall, rules), env=environment)) as server:
        server.log.wait_for("^pyknock server: version .* listening on ")
        assert "timed out" in do(client, without)
        assert do(client, knock, b"echo in\n") == "in\n"
        assert (tmp_path / "state/replay").exists()
        assert re.search(r"^192\.0\.2\.\d+ +alice ", do(firewall, status), re.MULTILINE)
        do(firewall, stop)
        # The two files alone let in, too.
        firewall.nft("flush set inet pyknock knock4")
        (tmp_path / ".config/pyknock/client.conf").write_text(client_conf)
        (tmp_path / ".ssh/config").write_text(known + ssh_config)
        assert do(client, "ssh home echo in") == "in\n"
        # What the timer does takes the rules back.
        firewall.nft("flush set inet pyknock knock4")
        start, end = (tmp_path / "timers").read_text().splitlines()
        begin, command = start.split("10min ")
        assert (begin, end) == ("--collect --unit=undo-knock --on-active=", "stop undo-knock.timer")
        firewall.run(command)
        assert do(client, "ssh root@server.example.org echo in") == "in\n"
