"""The .deb of each architecture that was built: what is in it, and what it does to a Debian."""

import io
import os
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
    assert not (chroot.root / "etc/pyknock/key").exists()
    chroot("apt-get", "--quiet=2", "purge", "pyknock")
    assert packed.files(chroot.root) == before


def test_removed_and_purged(chroot):
    chroot("dpkg", "--install", "/pyknock.deb")
    chroot("pyknock", "keygen", "-o", "/etc/pyknock/key")
    made = packed.files(chroot.root)
    chroot("dpkg", "--remove", "pyknock")
    left = packed.files(chroot.root)
    assert {name for name in left if "pyknock" in name} == {
        "pyknock.deb",
        "etc/pyknock",
        "etc/pyknock/key",
        "etc/pyknock/server.conf",
    }
    assert left["etc/pyknock/key"] == made["etc/pyknock/key"]
    chroot("dpkg", "--purge", "pyknock")
    assert {name for name in packed.files(chroot.root) if "pyknock" in name} == {"pyknock.deb"}


def test_systemd_comes_later(chroot):
    chroot("dpkg", "--install", "/pyknock.deb")
    chroot("apt-get", "--quiet=2", "update")
    chroot("apt-get", "--quiet=2", "--yes", "--no-install-recommends", "install", "systemd", timeout=300)
    assert chroot("getent", "passwd", "pyknock").endswith(":/usr/sbin/nologin\n")
    chroot("dpkg", "--purge", "pyknock")
    assert chroot("getent", "passwd", "pyknock", check=False).returncode == 2
    assert chroot("getent", "group", "pyknock", check=False).returncode == 2


def test_from_a_file_to_a_knock_to_nothing(tmp_path):
    with machine.Machine() as booted:
        shutil.copy(deb(DEBIAN[os.uname().machine][0]), booted.path("/root/pyknock.deb"))
        before = packed.files(booted.path("/"))

        install = ["apt-get", "--quiet=2", "--yes", "install", "/root/pyknock.deb"]
        booted.run(*install, env={"DEBIAN_FRONTEND": "noninteractive"})
        assert packed.states(booted) == ["inactive", "inactive"]
        assert packed.states(booted, "is-enabled") == ["disabled", "disabled"]
        assert [path.name for path in booted.path("/etc/pyknock").iterdir()] == ["server.conf"]

        booted.run("pyknock", "keygen", "-o", "/etc/pyknock/key")
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
        key.write_bytes(booted.path("/etc/pyknock/key").read_bytes())
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
