"""The .rpm of each architecture that was built: what is in it, and what it does to a system."""

import os
import shutil

import machine
import packed
import pytest
from packed import BUILT, ROOT, RPM, VERSION, run

RPMS = [(arch, RPM[arch]) for arch in BUILT]
EACH = pytest.mark.parametrize("arch, name", RPMS, ids=[name for _, name in RPMS])

# Mode, flags, path, and the target of a link. c: configuration file, n: keep a changed one, d: documentation.
FILES = """
drwxr-xr-x . /etc/pyknock
-rw-r--r-- cn. /etc/pyknock/server.conf
-rwxr-xr-x . /usr/bin/pyknock
lrwxrwxrwx . /usr/bin/pyknock-client pyknock
lrwxrwxrwx . /usr/bin/pyknock-keygen pyknock
lrwxrwxrwx . /usr/bin/pyknock-server pyknock
lrwxrwxrwx . /usr/bin/pyknock-status pyknock
-rw-r--r-- . /usr/lib/sysctl.d/10-pyknock.conf
-rw-r--r-- . /usr/lib/systemd/system/pyknock.service
-rw-r--r-- . /usr/lib/systemd/system/pyknock.socket
-rw-r--r-- . /usr/lib/sysusers.d/pyknock.conf
drwxr-xr-x . /usr/share/bash-completion
drwxr-xr-x . /usr/share/bash-completion/completions
-rw-r--r-- . /usr/share/bash-completion/completions/pyknock
lrwxrwxrwx . /usr/share/bash-completion/completions/pyknock-client pyknock
lrwxrwxrwx . /usr/share/bash-completion/completions/pyknock-keygen pyknock
lrwxrwxrwx . /usr/share/bash-completion/completions/pyknock-server pyknock
lrwxrwxrwx . /usr/share/bash-completion/completions/pyknock-status pyknock
drwxr-xr-x . /usr/share/doc/pyknock
-rw-r--r-- d. /usr/share/doc/pyknock/CHANGELOG.md
-rw-r--r-- d. /usr/share/doc/pyknock/README.md
-rw-r--r-- d. /usr/share/doc/pyknock/copyright
drwxr-xr-x . /usr/share/doc/pyknock/examples
-rw-r--r-- d. /usr/share/doc/pyknock/examples/commands.conf
drwxr-xr-x . /usr/share/fish
drwxr-xr-x . /usr/share/fish/vendor_completions.d
lrwxrwxrwx . /usr/share/fish/vendor_completions.d/pyknock-client.fish pyknock.fish
lrwxrwxrwx . /usr/share/fish/vendor_completions.d/pyknock-keygen.fish pyknock.fish
lrwxrwxrwx . /usr/share/fish/vendor_completions.d/pyknock-server.fish pyknock.fish
lrwxrwxrwx . /usr/share/fish/vendor_completions.d/pyknock-status.fish pyknock.fish
-rw-r--r-- . /usr/share/fish/vendor_completions.d/pyknock.fish
-rw-r--r-- d. /usr/share/man/man1/pyknock-client.1.gz
-rw-r--r-- d. /usr/share/man/man1/pyknock-keygen.1.gz
-rw-r--r-- d. /usr/share/man/man1/pyknock.1.gz
-rw-r--r-- d. /usr/share/man/man5/pyknock-users.5.gz
-rw-r--r-- d. /usr/share/man/man5/pyknock.conf.5.gz
-rw-r--r-- d. /usr/share/man/man8/pyknock-server.8.gz
-rw-r--r-- d. /usr/share/man/man8/pyknock-status.8.gz
drwxr-xr-x . /usr/share/zsh
drwxr-xr-x . /usr/share/zsh/site-functions
-rw-r--r-- . /usr/share/zsh/site-functions/_pyknock
"""


@pytest.fixture(scope="module", autouse=True)
def build():
    run("packaging/rpm/build", *BUILT)


def rpm(name):
    return ROOT / f"dist/pyknock-{VERSION}-1.{name}.rpm"


def ask(name, form):
    return run("rpm", "--query", "--package", "--queryformat", form, rpm(name))


@EACH
def test_contents(arch, name):
    form = "[%{FILEMODES:perms} %{FILEFLAGS:fflags}. %{FILENAMES} %{FILELINKTOS}|%{FILEUSERNAME} %{FILEGROUPNAME}\n]"
    lines, owners = zip(*(line.split("|") for line in ask(name, form).splitlines()), strict=True)
    assert set(owners) == {"root root"}
    assert [line.strip() for line in lines] == FILES.strip().splitlines()


@EACH
def test_header(arch, name):
    header = ask(name, "%{NAME} %{VERSION} %{ARCH} %{OS} %{BUILDHOST}")
    assert header == f"pyknock {VERSION} {name} linux pyknock.invalid"
    needed = run("rpm", "--query", "--package", "--requires", rpm(name)).splitlines()
    assert {line for line in needed if not line.startswith("rpmlib(")} == {"/bin/sh"}


@EACH
def test_the_program(arch, name, tmp_path):
    # rpm2archive writes a file beside its input.
    shutil.copy(rpm(name), tmp_path / "rpm")
    run("rpm2archive", tmp_path / "rpm")
    run("tar", "--extract", "--file", tmp_path / "rpm.tgz", cwd=tmp_path)
    path = tmp_path / "usr/bin/pyknock"
    assert path.read_bytes() == packed.program(arch).read_bytes()
    assert packed.runs(arch, path) == f"pyknock {VERSION}\n"


def test_the_same_bytes_elsewhere(tmp_path):
    builds = packed.built_twice(tmp_path, "rpm", "rpm")
    assert len(builds[0]) == len(RPMS)
    assert builds[0] == builds[1]


@pytest.fixture
def booted(monkeypatch):
    """A Debian with rpm. No .rpm is made for it, but it has systemd and an empty package database."""
    monkeypatch.setattr(machine, "PACKAGES", [*machine.PACKAGES, "rpm"])
    with machine.Machine() as booted:
        shutil.copy(rpm(os.uname().machine), booted.path("/root/pyknock.rpm"))
        yield booted


RPM = ["rpm", "--dbpath=/var/lib/rpm"]
KEYS = "/etc/pyknock/keys"


def user(booted):
    return booted.run("getent", "passwd", "pyknock", check=False).stdout


def test_installed_renewed_and_erased(booted):
    before = packed.files(booted.path("/"))
    booted.run(*RPM, "--install", "--nodeps", "/root/pyknock.rpm")
    assert booted.run(*RPM, "--verify", "--nodeps", "pyknock") == ""
    assert user(booted).endswith(":/usr/sbin/nologin\n")
    assert packed.states(booted) == ["inactive", "inactive"]
    assert packed.states(booted, "is-enabled") == ["disabled", "disabled"]
    assert booted.run("stat", "--format=%A %U:%G", KEYS) == "drwxr-x--- root:pyknock\n"
    assert list(booted.path(KEYS).iterdir()) == []

    booted.run("pyknock", "keygen", "--keys", KEYS, "alice")
    owner = booted.run("stat", "--format=%A %U:%G", f"{KEYS}/alice")
    assert owner == "-rw-r----- root:pyknock\n"
    booted.run("sh", "-ec", "pyknock server --example nft | nft -f -")
    booted.run("systemctl", "enable", "--now", "pyknock")
    # Without a reboot.
    assert booted.run("cat", "/proc/sys/net/ipv4/ip_local_reserved_ports") == "60120\n"
    process = packed.process(booted)
    configuration = booted.path("/etc/pyknock/server.conf")
    mine = configuration.read_text() + "# mine\n"
    configuration.write_text(mine)
    booted.run(*RPM, "--upgrade", "--force", "--nodeps", "/root/pyknock.rpm")
    assert packed.states(booted) == ["active", "active"]
    assert packed.process(booted) != process
    assert configuration.read_text() == mine

    # Only the files that the administrator made are left.
    booted.run(*RPM, "--erase", "pyknock")
    assert packed.states(booted) == ["inactive", "inactive"]
    assert user(booted) == ""
    after = packed.files(booted.path("/"))
    assert {name for name in before | after if before.get(name) != after.get(name)} == {
        "etc/pyknock",
        "etc/pyknock/keys",
        "etc/pyknock/keys/alice",
        "etc/pyknock/server.conf.rpmsave",
    }
    # A user that systemd-sysusers makes later may get another number.
    booted.run("groupadd", "--gid=4321", "other")
    booted.run("chgrp", "-R", "4322", KEYS)
    booted.run(*RPM, "--install", "--nodeps", "/root/pyknock.rpm")
    assert booted.run("stat", "--format=%A %U:%G", f"{KEYS}/alice") == owner
    assert configuration.with_name("server.conf.rpmsave").read_text() == mine


def test_an_upgrade_moves_the_key(booted, tmp_path):
    """From the package before users, as far as the upgrade sees it."""
    spec = tmp_path / "old.spec"
    spec.write_text(OLD)
    run("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {tmp_path}", spec)
    shutil.copy(next((tmp_path / "RPMS").rglob("*.rpm")), booted.path("/root/old.rpm"))
    booted.run(*RPM, "--install", "--nodeps", "/root/old.rpm")
    key = "the old key, which is long enough for a key\n"
    booted.path("/etc/pyknock/key").write_text(key)
    configuration = booted.path("/etc/pyknock/server.conf")
    configuration.write_text("nft inet/pyknock/knock4\n# mine\n")
    told = booted.run(*RPM, "--upgrade", "--nodeps", "/root/pyknock.rpm")
    assert "pyknock: /etc/pyknock/key is now the key of the user shared, in /etc/pyknock/keys\n" in told
    assert booted.path(f"{KEYS}/shared").read_text() == key
    assert booted.run("stat", "--format=%A %U:%G", f"{KEYS}/shared") == "-rw-r----- root:pyknock\n"
    assert booted.run("readlink", "/etc/pyknock/key") == "keys/shared\n"
    assert configuration.read_text() == (
        "nft inet/pyknock/knock4\n# mine\n\n# These were in the command line of pyknock.service before.\n"
        "keys /etc/pyknock/keys\nstate /var/lib/pyknock\n"
    )
    # The service was restarted only after that.
    assert booted.path("/root/restarted").read_text() == "shared\n"


OLD = """
Name: pyknock
Version: 1.1.9
Release: 1
Summary: old
License: none
AutoReqProv: no
%description
%install
mkdir -p %{buildroot}/etc/pyknock
echo 'ttl 1h' >%{buildroot}/etc/pyknock/server.conf
%postun
ls /etc/pyknock/keys >/root/restarted
%files
%config(noreplace) /etc/pyknock/server.conf
"""


def test_erased_without_a_trace(booted):
    before = packed.files(booted.path("/"))
    booted.run(*RPM, "--install", "--nodeps", "/root/pyknock.rpm")
    booted.run(*RPM, "--erase", "pyknock")
    assert packed.files(booted.path("/")) == before
