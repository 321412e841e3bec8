"""The .deb of each architecture that was built: what is in it, and what it does to a Debian."""

import io
import os
import re
import shutil
import subprocess
import tarfile

import machine
import packed
import pytest
from packed import BUILT, DEBIAN, ROOT, VERSION, run

DEBS = [(arch, name) for arch in BUILT for name in DEBIAN[arch]]
EACH = pytest.mark.parametrize("arch, debian", DEBS, ids=[name for _, name in DEBS])

# All files of the package except directories: the mode of a file, the target of a link.
FILES = {
    "etc/pyknock/server.conf": 0o644,
    "usr/bin/pyknock": 0o755,
    "usr/bin/pyknock-client": "pyknock",
    "usr/bin/pyknock-keygen": "pyknock",
    "usr/bin/pyknock-server": "pyknock",
    "usr/bin/pyknock-status": "pyknock",
    "usr/lib/sysctl.d/10-pyknock.conf": 0o644,
    "usr/lib/systemd/system/pyknock.service": 0o644,
    "usr/lib/systemd/system/pyknock.socket": 0o644,
    "usr/lib/sysusers.d/pyknock.conf": 0o644,
    "usr/share/bash-completion/completions/pyknock": 0o644,
    "usr/share/bash-completion/completions/pyknock-client": "pyknock",
    "usr/share/bash-completion/completions/pyknock-keygen": "pyknock",
    "usr/share/bash-completion/completions/pyknock-server": "pyknock",
    "usr/share/bash-completion/completions/pyknock-status": "pyknock",
    "usr/share/doc/pyknock/README.md": 0o644,
    "usr/share/doc/pyknock/changelog.gz": 0o644,
    "usr/share/doc/pyknock/copyright": 0o644,
    "usr/share/doc/pyknock/examples/commands.conf": 0o644,
    "usr/share/fish/vendor_completions.d/pyknock-client.fish": "pyknock.fish",
    "usr/share/fish/vendor_completions.d/pyknock-keygen.fish": "pyknock.fish",
    "usr/share/fish/vendor_completions.d/pyknock-server.fish": "pyknock.fish",
    "usr/share/fish/vendor_completions.d/pyknock-status.fish": "pyknock.fish",
    "usr/share/fish/vendor_completions.d/pyknock.fish": 0o644,
    "usr/share/lintian/overrides/pyknock": 0o644,
    "usr/share/man/man1/pyknock-client.1.gz": 0o644,
    "usr/share/man/man1/pyknock-keygen.1.gz": 0o644,
    "usr/share/man/man1/pyknock.1.gz": 0o644,
    "usr/share/man/man5/pyknock-users.5.gz": 0o644,
    "usr/share/man/man5/pyknock.conf.5.gz": 0o644,
    "usr/share/man/man8/pyknock-server.8.gz": 0o644,
    "usr/share/man/man8/pyknock-status.8.gz": 0o644,
    "usr/share/zsh/vendor-completions/_pyknock": 0o644,
}


@pytest.fixture(scope="module", autouse=True)
def build():
    run("packaging/debian/build", *BUILT)


def deb(debian):
    return ROOT / f"dist/pyknock_{VERSION}_{debian}.deb"


@EACH
def test_lintian(arch, debian):
    options = ["--allow-root", "--fail-on=error,warning", "--display-level=>=warning"]
    assert run("lintian", *options, deb(debian)) == ""


@EACH
def test_contents(arch, debian):
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb(debian)], capture_output=True, check=True).stdout
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for entry in tar:
            assert (entry.uid, entry.gid, entry.uname, entry.gname) == (0, 0, "root", "root")
            name = entry.name.removeprefix("./")
            if entry.isdir():
                assert entry.mode == 0o755, name
            else:
                found[name] = entry.linkname if entry.issym() else entry.mode
        assert tar.extractfile("./usr/bin/pyknock").read() == packed.program(arch).read_bytes()
    assert found == FILES


@EACH
def test_control(arch, debian):
    lines = run("dpkg-deb", "--field", deb(debian)).splitlines()
    fields = dict(line.split(": ", 1) for line in lines if line[0] != " ")
    assert (fields["Package"], fields["Version"], fields["Architecture"]) == ("pyknock", VERSION, debian)
    assert not {"Depends", "Pre-Depends"} & set(fields)
    assert run("dpkg-deb", "--info", deb(debian), "conffiles") == "/etc/pyknock/server.conf\n"


@EACH
def test_the_program_runs(arch, debian, tmp_path):
    run("dpkg-deb", "--extract", deb(debian), tmp_path)
    assert packed.runs(arch, tmp_path / "usr/bin/pyknock") == f"pyknock {VERSION}\n"


def test_the_same_bytes_elsewhere(tmp_path):
    builds = packed.built_twice(tmp_path, "debian", "deb", {"TZ": "Asia/Tokyo"})
    assert len(builds[0]) == len(DEBS)
    assert builds[0] == builds[1]


@pytest.fixture
def chroot(tmp_path):
    """Runs a command in a new system, which has our .deb as /pyknock.deb."""
    root = tmp_path / "root"
    # This system has no systemd.
    run("cp", "--archive", machine.system([]), root)
    shutil.copy(deb(DEBIAN[os.uname().machine][0]), root / "pyknock.deb")

    def chroot(*words, **options):
        return run("chroot", root, *words, env={"DEBIAN_FRONTEND": "noninteractive"}, **options)

    chroot.root = root
    return chroot


def test_without_systemd(chroot):
    before = packed.files(chroot.root)
    chroot("apt-get", "--quiet=2", "--no-install-recommends", "install", "/pyknock.deb")
    assert set(FILES) <= set(packed.files(chroot.root))
    assert chroot("pyknock-client", "--version") == f"pyknock {VERSION}\n"
    assert chroot("id", "pyknock", check=False).returncode == 1
    assert (chroot.root / "etc/pyknock/keys").stat().st_mode == 0o40750
    assert list((chroot.root / "etc/pyknock/keys").iterdir()) == []
    chroot("apt-get", "--quiet=2", "purge", "pyknock")
    assert packed.files(chroot.root) == before


def test_removed_and_purged(chroot):
    chroot("dpkg", "--install", "/pyknock.deb")
    chroot("pyknock", "keygen", "--keys", "/etc/pyknock/keys", "alice")
    made = packed.files(chroot.root)
    chroot("dpkg", "--remove", "pyknock")
    left = packed.files(chroot.root)
    assert {name for name in left if "pyknock" in name} == {
        "pyknock.deb",
        "etc/pyknock",
        "etc/pyknock/keys",
        "etc/pyknock/keys/alice",
        "etc/pyknock/server.conf",
    }
    assert left["etc/pyknock/keys/alice"] == made["etc/pyknock/keys/alice"]
    chroot("dpkg", "--purge", "pyknock")
    assert {name for name in packed.files(chroot.root) if "pyknock" in name} == {"pyknock.deb"}


def test_systemd_comes_later(chroot):
    chroot("dpkg", "--install", "/pyknock.deb")
    chroot("pyknock", "keygen", "--keys", "/etc/pyknock/keys", "alice")
    chroot("apt-get", "--quiet=2", "update")
    chroot("apt-get", "--quiet=2", "--yes", "--no-install-recommends", "install", "systemd", timeout=300)
    assert chroot("getent", "passwd", "pyknock").endswith(":/usr/sbin/nologin\n")
    shown = chroot("stat", "-c", "%A %U:%G %n", "/etc/pyknock/keys", "/etc/pyknock/keys/alice")
    assert shown == "drwxr-x--- root:pyknock /etc/pyknock/keys\n-rw-r----- root:pyknock /etc/pyknock/keys/alice\n"
    chroot("dpkg", "--purge", "pyknock")
    assert chroot("getent", "passwd", "pyknock", check=False).returncode == 2
    assert chroot("getent", "group", "pyknock", check=False).returncode == 2


KEYS = "/etc/pyknock/keys"
KEY = "the old key, which is long enough for a key\n"
OLD_START = r"""ExecStart=/usr/bin/pyknock server -f /etc/pyknock/server.conf \
  -k ${CREDENTIALS_DIRECTORY}/key --state %S/pyknock
LoadCredential=key:/etc/pyknock/key"""
OLD = "nft inet/pyknock/knock4,knock6\nttl 1h\n"
UNITS = "etc/systemd/system"
MOVED = "pyknock: /etc/pyknock/key is now the key of the user shared, in /etc/pyknock/keys\n"
STAYS = "pyknock: /etc/systemd/system has an ExecStart of your own, so the key stays in /etc/pyknock/key\n"


@pytest.fixture
def old_deb(tmp_path):
    """The package before users, as far as the upgrade sees it."""
    folder, package = tmp_path / "old", tmp_path / "old.deb"
    run("dpkg-deb", "--raw-extract", deb(DEBIAN[os.uname().machine][0]), folder)
    control = folder / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {VERSION}", "Version: 1.1.9"))
    (folder / "etc/pyknock/server.conf").write_text(OLD)
    (folder / "DEBIAN/postinst").write_text("#!/bin/sh\n! command -v systemd-sysusers || systemd-sysusers\n")
    unit = folder / "usr/lib/systemd/system/pyknock.service"
    text, found = re.subn("^ExecStart=.*", OLD_START, unit.read_text(), flags=re.M)
    assert found == 1
    unit.write_text(text)
    run("dpkg-deb", "--build", folder, package)
    return package


@pytest.fixture
def old(chroot, old_deb):
    """A system with the old package and a key."""
    shutil.copy(old_deb, chroot.root)
    chroot("dpkg", "--install", "/old.deb")
    chroot.etc = chroot.root / "etc/pyknock"
    (chroot.etc / "key").write_text(KEY)
    (chroot.etc / "key").chmod(0o600)

    def upgrade():
        return chroot("dpkg", "--force-confold", "--install", "/pyknock.deb")

    chroot.upgrade = upgrade
    return chroot


def assert_moved(chroot):
    assert sorted(path.name for path in (chroot.etc / "keys").iterdir()) == ["shared"]
    made = chroot.etc / "keys/shared"
    assert (made.read_text(), made.stat().st_mode, made.stat().st_uid) == (KEY, 0o100640, 0)
    # What uses the old name still finds the key.
    assert os.readlink(chroot.etc / "key") == "keys/shared"


def test_an_upgrade_moves_the_key_once(old):
    assert MOVED in old.upgrade()
    assert_moved(old)
    assert old("dpkg", "--verify", "pyknock") == ""
    assert {path.name for path in old.etc.iterdir()} == {"key", "keys", "server.conf"}
    # A key that comes later is nobody's.
    (old.etc / "key").unlink()
    (old.etc / "keys/shared").unlink()
    (old.etc / "key").write_text("another key")
    assert "shared" not in old("/var/lib/dpkg/info/pyknock.postinst", "configure", "1.2.0")
    assert list((old.etc / "keys").iterdir()) == []


@pytest.mark.parametrize("calls", range(1, 11))
def test_an_upgrade_that_was_interrupted_goes_on(old, calls):
    """It is killed before its n-th program, such as mv."""
    conf = old.etc / "server.conf"
    conf.write_text(OLD + "verbose yes\n")
    # Counts the programs that could change something.
    stubs = old.root / "stubs"
    stubs.mkdir()
    for name in ("chown", "chmod", "sync", "mv", "cp", "ln"):
        (stubs / name).write_text(
            "#!/bin/sh\necho >>/count\n"
            f'[ "$(wc -l </count)" != {calls} ] || kill -KILL $PPID\nPATH=/usr/bin:/bin exec {name} "$@"\n'
        )
        (stubs / name).chmod(0o755)
    words = ["env", "PATH=/stubs:/usr/sbin:/usr/bin:/sbin:/bin", "dpkg", "--force-confold", "--install"]
    assert old(*words, "/pyknock.deb", check=False).returncode == 1
    # The key is complete, in one place or in both.
    found = [path.read_text() for path in (old.etc / "key", old.etc / "keys/shared") if path.exists()]
    assert found and set(found) == {KEY}
    old("dpkg", "--configure", "pyknock")
    assert_moved(old)
    assert conf.read_text() == OLD + "verbose yes\n" + APPENDED


APPENDED = """
# These were in the command line of pyknock.service before.
keys /etc/pyknock/keys
state /var/lib/pyknock
"""


def test_an_upgrade_keeps_what_the_old_settings_did(old):
    """The old unit overrode both of these. Without the mark they would now count."""
    conf = old.etc / "server.conf"
    conf.write_text(f"key-file /etc/pyknock/key\n{OLD} state = /elsewhere\n#keys none\n")
    conf.chmod(0o640)
    real = old.etc / "managed/server.conf"
    real.parent.mkdir()
    conf.rename(real)
    conf.symlink_to("managed/server.conf")
    old.upgrade()
    assert_moved(old)
    assert os.readlink(conf) == "managed/server.conf"
    assert conf.read_text() == f"# key-file /etc/pyknock/key\n{OLD}#  state = /elsewhere\n#keys none\n{APPENDED}"
    assert conf.stat().st_mode == 0o100640
    assert [path.name for path in real.parent.iterdir()] == ["server.conf"]


def test_an_upgrade_leaves_settings_with_users_alone(old):
    text = f"{OLD}keys /srv/keys\nstate /srv/state\nkey-file /srv/key\n"
    (old.etc / "server.conf").write_text(text)
    old.upgrade()
    assert (old.etc / "server.conf").read_text() == text


def test_an_upgrade_leaves_a_user_named_shared_alone(old):
    (old.etc / "keys").mkdir(mode=0o750)
    (old.etc / "keys/shared").write_text("another key")
    assert MOVED not in old.upgrade()
    assert (old.etc / "keys/shared").read_text() == "another key"
    assert (old.etc / "key").read_text() == KEY


def test_an_upgrade_takes_the_first_line_of_what_a_link_shows(old):
    (old.etc / "key").rename(old.root / "root/secret")
    (old.root / "root/secret").write_text(KEY + " \n\n")
    (old.etc / "key").symlink_to("/root/secret")
    assert MOVED in old.upgrade()
    assert (old.etc / "keys/shared").read_text() == KEY
    assert os.readlink(old.etc / "key") == "/root/secret"


def test_an_upgrade_without_a_key(old):
    (old.etc / "key").unlink()
    assert "shared" not in old.upgrade()
    assert list((old.etc / "keys").iterdir()) == []


@pytest.mark.parametrize("mine", [False, True])
def test_an_upgrade_of_a_server_that_runs(old_deb, tmp_path, mine):
    """Everybody can still knock. With a command line of the administrator as well."""
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o600)

    def knock():
        booted.run("nft", "flush", "set", "inet", "pyknock", "knock4")
        booted.outside(packed.program(os.uname().machine), "client", "-k", key, "open", machine.MACHINE)
        element = ["nft", "get", "element", "inet", "pyknock", "knock4", "{", machine.OUTSIDE, "}"]
        machine.until(lambda: booted.run(*element, check=False).returncode == 0, "no knock in the set")

    with machine.Machine() as booted:
        shutil.copy(old_deb, booted.path("/root/old.deb"))
        shutil.copy(deb(DEBIAN[os.uname().machine][0]), booted.path("/root/pyknock.deb"))
        booted.run("dpkg", "--install", "/root/old.deb")
        booted.run("sh", "-ec", "pyknock server --example nft | nft -f -")
        booted.path("/etc/pyknock/key").write_text(KEY)
        if mine:
            unit = booted.path("/etc/systemd/system/pyknock.service.d/mine.conf")
            unit.parent.mkdir()
            line = OLD_START.splitlines()[:2]
            unit.write_text("[Service]\nExecStart=\n" + "\n".join(line) + " --verbose\n")
        booted.run("systemctl", "enable", "--now", "pyknock")
        knock()
        process = packed.process(booted)
        told = booted.run("dpkg", "--install", "/root/pyknock.deb")
        assert (STAYS if mine else MOVED) in told
        assert packed.states(booted) == ["active", "active"]
        assert packed.process(booted) != process
        knock()
        who = "" if mine else "by shared "
        assert booted.wait_for("pyknock.service", f"accepted open {machine.OUTSIDE} {who}from")
        booted.run("systemctl", "restart", "pyknock")
        knock()


START = "ExecStart=\nExecStart=/usr/bin/pyknock server -f /etc/pyknock/server.conf"


@pytest.mark.parametrize(
    ("name", "text", "added"),
    [
        ("pyknock.service.d/my.conf", f"[Service]\n{START} -k /etc/pyknock/key\n", False),
        ("pyknock.service.d/my.conf", f"[Service]\n{START} -k ${{CREDENTIALS_DIRECTORY}}/key\n", True),
        (
            "pyknock.service",
            f"[Service]\n{START} -k ${{CREDENTIALS_DIRECTORY}}/key\nLoadCredential=key:/etc/pyknock/key\n",
            False,
        ),
    ],
)
def test_an_upgrade_leaves_the_key_to_a_command_line_of_the_administrator(old, name, text, added):
    unit = old.root / UNITS / name
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text(text)
    conf = old.etc / "server.conf"
    conf.write_text(OLD + "key-file /etc/pyknock/key\n")
    assert STAYS in old.upgrade()
    assert (old.etc / "key").read_text() == KEY
    assert list((old.etc / "keys").iterdir()) == []
    assert conf.read_text() == OLD + "key-file /etc/pyknock/key\n"
    drop_in = old.root / UNITS / "pyknock.service.d/50-key.conf"
    assert drop_in.exists() == added
    assert not added or drop_in.read_text() == "[Service]\nLoadCredential=key:/etc/pyknock/key\n"


def test_from_a_file_to_a_knock_to_nothing(tmp_path):
    with machine.Machine() as booted:
        shutil.copy(deb(DEBIAN[os.uname().machine][0]), booted.path("/root/pyknock.deb"))
        before = packed.files(booted.path("/"))

        install = ["apt-get", "--quiet=2", "--yes", "install", "/root/pyknock.deb"]
        booted.run(*install, env={"DEBIAN_FRONTEND": "noninteractive"})
        assert packed.states(booted) == ["inactive", "inactive"]
        assert packed.states(booted, "is-enabled") == ["disabled", "disabled"]
        assert booted.run("stat", "--format=%A %U:%G", KEYS) == "drwxr-x--- root:pyknock\n"
        assert list(booted.path(KEYS).iterdir()) == []

        booted.run("pyknock", "keygen", "--keys", KEYS, "alice")
        rules = "pyknock server --example nft >/etc/pyknock/knock.nft && nft -f /etc/pyknock/knock.nft"
        booted.run("sh", "-ec", rules)
        booted.run("systemctl", "enable", "--now", "pyknock")
        # Without a reboot.
        assert booted.run("cat", "/proc/sys/net/ipv4/ip_local_reserved_ports") == "60120\n"
        assert packed.states(booted) == ["active", "active"]

        # An upgrade restarts the service and keeps a changed file.
        process = packed.process(booted)
        with booted.path("/etc/pyknock/server.conf").open("a") as configuration:
            configuration.write("# mine\n")
        booted.run("dpkg", "--install", "/root/pyknock.deb")
        assert packed.states(booted) == ["active", "active"]
        assert packed.process(booted) != process
        assert booted.path("/etc/pyknock/server.conf").read_text().endswith("# mine\n")

        key = tmp_path / "key"
        key.write_bytes(booted.path(f"{KEYS}/alice").read_bytes())
        key.chmod(0o600)
        booted.outside(packed.program(os.uname().machine), "client", "-k", key, "open", machine.MACHINE)
        element = ["nft", "get", "element", "inet", "pyknock", "knock4", "{", machine.OUTSIDE, "}"]
        machine.until(lambda: booted.run(*element, check=False).returncode == 0, "no knock in the set")

        drop_in = "/etc/systemd/system/pyknock.service.d/commands.conf"
        booted.run("install", "-D", "/usr/share/doc/pyknock/examples/commands.conf", drop_in)
        booted.run("apt-get", "--quiet=2", "--yes", "purge", "pyknock")
        assert packed.states(booted) == ["inactive", "inactive"]
        assert booted.run("sh", "-c", "cat /proc/[0-9]*/comm | grep pyknock", check=False).stdout == ""
        after = packed.files(booted.path("/"))
        assert {name for name in before | after if before.get(name) != after.get(name)} == set()
