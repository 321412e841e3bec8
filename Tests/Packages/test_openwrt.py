"""The package for OpenWrt in a router made of busybox, with a network and an nftables of its own.

PYKNOCK names the static program for this machine in dist/. The program, the shell, nft and the packets
are real. procd is a stand-in (procd.sh). So is fw4: it has tables of the same shape, and changes them as
the real one does.
"""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from packed import ARCHITECTURES, BUILT, VERSION, shown
from support.datagrams import KEY, knocks_of_all_forms, nearly_knocks, packet
from support.networks import CLIENT, SERVER, Namespace, connect, listener
from support.processes import Process
from support.programs import ROOT, TIMEOUT, run
from support.servers import client
from support.waiting import until

PACKAGING = ROOT / "packaging/openwrt"
MACHINE = os.uname().machine
STATIC = Path(os.environ["PYKNOCK"]).resolve()
IPK = ROOT / f"dist/pyknock_{VERSION}_openwrt_{MACHINE}.ipk"

FAMILIES = [socket.AF_INET, socket.AF_INET6]
# Seconds after which something counts as dropped.
PATIENCE = 0.3
PORT = 60120

# The shape of fw4's table: a chain for each zone, and one for its policy. "flush table" removes rules
# and keeps sets.
RULESET = """
table inet fw4
flush table inet fw4
table inet fw4 {
	include "/usr/share/nftables.d/table-pre/pyknock.nft"
	chain input {
		type filter hook input priority filter; policy drop;
		iif "lo" accept
		ct state vmap { established : accept, related : accept }
		tcp flags & (fin | syn | rst | ack) == syn jump syn_flood
		iifname "wan" jump input_wan
	}
	chain syn_flood {
		limit rate 25/second burst 50 packets return
		drop
	}
	chain handle_reject {
		meta l4proto tcp reject with tcp reset
		reject with icmpx type port-unreachable
	}
	chain input_wan {
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		jump reject_from_wan
	}
	chain reject_from_wan {
		iifname "wan" counter jump handle_reject
	}
}
"""

FW4 = """#!/bin/sh
[ "$1" = -q ] && shift
echo "$*" >>/fw4.log
case $1 in
reload) nft -f /etc/fw4.nft ;;
restart) nft delete table inet fw4 && nft -f /etc/fw4.nft ;;
zone) [ "$2" = wan ] ;;
esac
"""

# The functions that scripts of opkg call, as far as this package needs them.
FUNCTIONS = """
default_postinst() { /etc/init.d/pyknock enable; /etc/init.d/pyknock start; }
default_prerm() { /etc/init.d/pyknock disable; /etc/init.d/pyknock stop; }
"""

# A stand-in for ujail: a root directory with only these mounts, new namespaces, and one capability.
# `r PATH` and `w PATH` before `--` are the mounts.
JAIL = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
def must(result):
    assert result == 0, os.strerror(ctypes.get_errno())
def mount(source, target, kind, flags):
    must(libc.mount(source.encode(), target.encode(), kind, flags, None))
RDONLY, REMOUNT, BIND, REC, PRIVATE = 1, 32, 4096, 16384, 1 << 18
end = sys.argv.index("--")
root, *mounts = sys.argv[1:end]
command = sys.argv[end + 1:]
must(libc.unshare(0x20000000 | 0x00020000))  # CLONE_NEWPID, CLONE_NEWNS
child = os.fork()
if child:
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os.kill(child, number))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
mount("none", "/", None, REC | PRIVATE)
jail = root + "/tmp/jail"
os.makedirs(jail)
mount("none", jail, b"tmpfs", 0)
for word in sorted([*mounts, "w/dev/log", "r" + command[0]], key=lambda word: word[1:]):
    source, target = root + word[1:], jail + word[1:]
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "w").close()
    mount(source, target, None, BIND)
    mount(source, target, None, BIND | REMOUNT | (RDONLY if word[0] == "r" else 0))
os.mknod(jail + "/dev/null", 0o20666, os.makedev(1, 3))
os.chroot(jail)
os.chdir("/")
bounding = json_bounding
for capability in range(64):
    if capability not in bounding and libc.prctl(23, capability, 0, 0, 0) == 1:
        must(libc.prctl(24, capability, 0, 0, 0))
must(libc.prctl(38, 1, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS
os.execv(command[0], command)
"""
CAPABILITIES = {"CAP_NET_ADMIN": 12}


@pytest.fixture(scope="module")
def ipk():
    subprocess.run([PACKAGING / "build", MACHINE], check=True, stdout=subprocess.DEVNULL)
    return IPK


def member(ipk, name):
    """An archive inside the package."""
    with tarfile.open(ipk) as package:
        return tarfile.open(fileobj=io.BytesIO(package.extractfile(f"./{name}").read()))


def control(ipk, name):
    with member(ipk, "control.tar.gz") as archive:
        return archive.extractfile(f"./{name}").read().decode()


def section(head, options):
    """A section of UCI. A Python list becomes a list of UCI."""
    lines = [f"config {head}"]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            kind = "list" if isinstance(value, list) else "option"
            lines.append(f"\t{kind} {name} '{one}'")
    return "\n".join(lines) + "\n"


class Router(Namespace):
    """A network and the root directory of a router, with the files of the package."""

    def __init__(self, folder, ipk):
        super().__init__(folder)
        self.root = folder / "root"
        self.build(ipk)
        self.run(f"mount --bind /proc/sys {self.root}/proc/sys")
        self.prefix += ["chroot", self.root, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        self.instance = None

    def build(self, ipk):
        for path in ("bin", "dev", "etc/rc.d", "lib", "proc/sys", "sbin", "tmp/run", "usr/sbin", "usr/share"):
            (self.root / path).mkdir(parents=True)
        (self.root / "var").symlink_to("tmp")
        (self.root / "dev/null").touch()
        shutil.copy("/bin/busybox", self.root / "bin")
        applets = subprocess.check_output(["busybox", "--list"], text=True).split()
        for applet in applets:
            with contextlib.suppress(FileExistsError):
                (self.root / "bin" / applet).symlink_to("busybox")
        nft = shutil.which("nft")
        libraries = re.findall(r"(/\S+) \(", subprocess.check_output(["ldd", nft], text=True))
        for path in libraries:
            (self.root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, self.root / path[1:])
        shutil.copy(nft, self.root / "usr/sbin")
        self.write("etc/rc.common", Path(__file__).with_name("procd.sh").read_text(), 0o755)
        self.write("lib/functions.sh", FUNCTIONS)
        self.write("sbin/fw4", FW4, 0o755)
        self.write("etc/fw4.nft", RULESET)
        for log in ("fw4.log", "procd.log"):
            self.write(log, "")
        with member(ipk, "data.tar.gz") as archive:
            archive.extractall(self.root)
        self.server = (self.root / "etc/config/pyknock").read_text()
        self.users = {}

    def write(self, path, text, mode=0o644):
        (self.root / path).write_text(text)
        (self.root / path).chmod(mode)

    def output(self, *words, **options):
        result = run([*self.prefix, *words], **options)
        assert result.code == 0, result
        return result.stdout

    def service(self, action):
        return run([*self.prefix, "/etc/init.d/pyknock", action])

    def calls(self, log="procd"):
        """The calls since the last time, as lists of words."""
        lines = (self.root / f"{log}.log").read_text().splitlines()
        self.write(f"{log}.log", "")
        return [line.split("\t") for line in lines]

    def set(self, **options):
        """Writes the section of the server."""
        self.server = section("server 'server'", options)
        self.write_users()

    def write_users(self):
        users = [section("user", {"name": name, **options}) for name, options in self.users.items()]
        self.write("etc/config/pyknock", "".join([self.server, *users]))

    def make_user(self, name="alice", key=KEY, **options):
        """Writes the section of a user, and a key."""
        if key:
            self.write("etc/pyknock/keys/new", key + "\n", 0o600)
            (self.root / "etc/pyknock/keys/new").rename(self.root / "etc/pyknock/keys" / name)
        self.users[name] = options
        self.write_users()

    def files(self):
        """The files that the server reads."""
        folder = self.root / "var/run/pyknock/keys"
        if not folder.exists():
            return {}
        assert folder.stat().st_mode & 0o777 == 0o700
        for path in folder.iterdir():
            assert path.stat().st_mode & 0o777 == 0o600
        # Nothing else with a key is left.
        assert {path.name for path in folder.parent.iterdir()} <= {"keys", "fw4.nft"}
        return {path.name: path.read_text() for path in folder.iterdir()}

    def rules(self):
        path = self.root / "var/run/pyknock/fw4.nft"
        return path.read_text() if path.exists() else ""

    def elements(self, name):
        listed = json.loads(self.output("nft", "-j", "list", "set", "inet", "fw4", name))
        (held,) = [item["set"] for item in listed["nftables"] if "set" in item]
        return held.get("elem", [])


@pytest.fixture
def router(tmp_path, ipk):
    folder = tmp_path / "router"
    folder.mkdir()
    with contextlib.closing(Router(folder, ipk)) as router:
        router.output("fw4", "reload")  # Loads the rules, as at boot.
        router.calls("fw4")
        yield router


@pytest.fixture
def outside(tmp_path, router):
    folder = tmp_path / "outside"
    folder.mkdir()
    with contextlib.closing(Namespace(folder)) as outside:
        connect("wan", (outside, CLIENT), (plain(router), SERVER))
        # Otherwise the kernel limits the ICMP errors per second, for all ports together.
        for path in ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"):
            words = ["sh", "-c", f"echo 0 >/proc/sys/net/{path}"]
            subprocess.run([*plain(router).prefix, *words], check=True)
        for family in FAMILIES:  # From here on, only the firewall can be the reason for no answer.
            until(lambda: attempt(outside, family) == "rejected", "a cable")
        yield outside


def plain(router):
    """The network of the router without its root directory."""
    network = Namespace.__new__(Namespace)  # There is nothing to make.
    network.holder = router.holder
    network.prefix = router.prefix[: router.prefix.index("--") + 1]
    return network


@pytest.fixture
def syslog(router):
    """The socket of logd. Returns the lines that came."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(router.root / "dev/log"))
        log.settimeout(TIMEOUT)

        lines = []

        def wait_for(pattern):
            while not lines or not re.search(pattern, lines[-1]):
                try:
                    lines.append(log.recv(4096).decode())
                except TimeoutError:
                    raise AssertionError(f"no {pattern!r} in {lines}") from None

        yield wait_for


@pytest.fixture
def procd(router):
    """Runs the command that the init script told procd."""
    with contextlib.ExitStack() as stack:

        def run(words=None):
            words = words or command(router.calls())
            process = Process([*router.prefix, *words])
            stack.enter_context(contextlib.closing(process))
            return process

        yield run


@pytest.fixture
def service(router):
    """The service to hide: listeners at ports 22 and 8022."""
    with contextlib.ExitStack() as stack:
        for port in (22, 8022):
            listening = stack.enter_context(router.socket(socket.AF_INET6, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("::", port))
            listening.listen()
        yield


def command(calls):
    """The command line of the only instance that procd was told."""
    (words,) = [call[2:] for call in calls if call[:2] == ["procd_set_param", "command"]]
    for call in calls:
        if call[:2] == ["procd_append_param", "command"]:
            words += call[2:]
    return words


def attempt(outside, family, port=22):
    """What happens to a connection attempt."""
    with outside.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect((SERVER[family], port))
        except TimeoutError:
            return "silence"
        except ConnectionRefusedError:
            return "rejected"
        return "open"


def probe(outside, family, port, payload):
    """What happens to a datagram."""
    with outside.socket(family) as sender:
        sender.settimeout(PATIENCE)
        sender.connect((SERVER[family], port))
        sender.send(payload)
        try:
            return sender.recv(100)
        except TimeoutError:
            return "silence"
        except ConnectionRefusedError:
            return "rejected"


def knock(outside, family, action="open", port=PORT, key=KEY):
    result = client(action, SERVER[family], f"-p{port}", network=outside, key=key)
    assert result.code == 0, result


def connections(router):
    """The number of connections that the kernel tracks."""
    words = ["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]
    return int(subprocess.check_output([*plain(router).prefix, *words]))


# The package


def test_the_package_installs_these_files_and_no_others(ipk):
    with member(ipk, "data.tar.gz") as archive:
        assert all((entry.uid, entry.gid) == (0, 0) for entry in archive)
        files = {
            entry.name: entry.linkname or f"{entry.mode:o}" for entry in archive if not entry.isdir()
        }
        assert archive.getmember("./etc/pyknock/keys").mode == 0o755
        assert archive.extractfile("./usr/bin/pyknock").read() == STATIC.read_bytes()
        # sysupgrade keeps files that are not in the package, such as the key, only if this file names them.
        assert archive.extractfile("./lib/upgrade/keep.d/pyknock").read() == b"/etc/pyknock/\n"
    assert files == {
        "./etc/capabilities/pyknock.json": "644",
        "./etc/config/pyknock": "644",
        "./etc/init.d/pyknock": "755",
        "./lib/upgrade/keep.d/pyknock": "644",
        "./usr/bin/pyknock": "755",
        "./usr/bin/pyknock-client": "pyknock",
        "./usr/bin/pyknock-keygen": "pyknock",
        "./usr/bin/pyknock-server": "pyknock",
        "./usr/bin/pyknock-status": "pyknock",
        "./usr/share/nftables.d/table-pre/pyknock.nft": "644",
    }
    assert control(ipk, "conffiles") == "/etc/config/pyknock\n"
    fields = dict(line.split(": ", 1) for line in control(ipk, "control").splitlines())
    assert fields["Package"] == "pyknock"
    assert fields["Version"] == f"{VERSION}-1"
    assert fields["Depends"] == "firewall4"
    with tarfile.open(ipk) as package:
        assert package.getnames()[0] == "./debian-binary"
        assert package.extractfile("./debian-binary").read() == b"2.0\n"


def test_the_package_has_the_same_bytes_each_time(ipk):
    before = ipk.read_bytes()
    ipk.unlink()
    subprocess.run([PACKAGING / "build"], check=True, umask=0o002, stdout=subprocess.DEVNULL)
    assert ipk.read_bytes() == before


@pytest.mark.skipif(MACHINE != "x86_64", reason="only there the kernel can name another machine")
def test_the_package_is_refused_by_another_architecture(ipk, tmp_path):
    script = tmp_path / "preinst"
    script.write_text(control(ipk, "preinst"))
    assert run(["busybox", "sh", script]).code == 0
    other = run(["setarch", "i686", "busybox", "sh", script])
    assert other.code == 1
    assert other.stderr == "pyknock: this package is for x86_64, and this is i686, little-endian\n"
    # The image builder runs the script on another machine.
    assert run(["setarch", "i686", "busybox", "sh", script], env={"IPKG_INSTROOT": "/x"}).code == 0


@pytest.mark.parametrize(("arch", "order", "other"), [("mipsel", 1, "big"), ("mips", 2, "little")])
def test_a_package_for_mips_is_refused_where_the_byte_order_is_the_other(arch, order, other, tmp_path):
    if arch not in BUILT:
        pytest.skip(f"there is no file for {arch}")
    subprocess.run([PACKAGING / "build", arch], check=True, stdout=subprocess.DEVNULL)
    script = tmp_path / "preinst"
    script.write_text(control(ROOT / f"dist/pyknock_{VERSION}_openwrt_{arch}.ipk", "preinst"))
    uname, dd = tmp_path / "uname", tmp_path / "dd"
    uname.write_text("#!/bin/sh\necho mips\n")
    uname.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for number, code, error in (
        (order, 0, ""),
        (3 - order, 1, f"pyknock: this package is for {arch}, and this is mips, {other}-endian\n"),
    ):
        dd.write_text(f"#!/bin/sh\nprintf '\\{number}'\n")
        dd.chmod(0o755)
        result = run(["sh", script], env=path)
        assert (result.code, result.stderr) == (code, error)


RULES_MK = """
INCLUDE_DIR:=$(TOPDIR)
INSTALL_DIR:=install -d -m 755
INSTALL_BIN:=install -m 755
CP:=cp -fpR
LN:=ln -sf
PKG_BUILD_DIR:=$(TOPDIR)/build
"""
PACKAGE_MK = """
define BuildPackage
all:
	$(Build/Prepare)
	$(Build/Compile)
	$(call Package/$(1)/install,$(TOPDIR)/installed)
version:
	@echo $(PKG_VERSION)
symbols:
	@echo '$(symbols)'
endef
"""


@pytest.fixture
def sdk(tmp_path):
    """The package directory in the part of OpenWrt's build system that it needs, with released files."""
    package = tmp_path / "package/pyknock"
    shutil.copytree(PACKAGING, package)
    shutil.copy(ROOT / "cross/architectures", package)
    (tmp_path / "rules.mk").write_text(RULES_MK)
    (tmp_path / "package.mk").write_text(PACKAGE_MK)
    names = [f"pyknock-{VERSION}-linux-{arch}" for arch in ARCHITECTURES]
    for name in names:
        (package / name).write_text(name)
    sums = subprocess.check_output(["sha256sum", *names], cwd=package)
    (package / "SHA256SUMS").write_bytes(sums)

    def make(arch, *goals):
        words = ["make", "--no-print-directory", "-C", package, f"TOPDIR={tmp_path}", f"ARCH={arch}", *goals]
        return run(words, env={"PATH": os.environ["PATH"]})

    make.installed, make.package = tmp_path / "installed", package
    return make


@pytest.mark.parametrize(
    ("theirs", "ours"), [(shown("openwrt", arch), arch) for arch in ARCHITECTURES]
)
def test_the_makefile_takes_the_file_for_the_target(sdk, theirs, ours):
    assert sdk(theirs, "version").stdout == VERSION + "\n"
    assert sdk(theirs).code == 0
    assert (sdk.installed / "usr/bin/pyknock").read_text() == f"pyknock-{VERSION}-linux-{ours}"


def test_the_makefile_is_for_all_targets_that_have_a_file(sdk):
    names = ":".join(shown("symbols", arch) for arch in ARCHITECTURES)
    assert sdk("x86_64", "symbols").stdout == names.replace(":", "||") + "\n"


def test_the_makefile_installs_what_the_package_has(sdk, ipk):
    assert sdk("x86_64").code == 0

    with member(ipk, "data.tar.gz") as archive:
        expected = {
            entry.name[2:]: entry.linkname or entry.mode for entry in archive if not entry.isdir()
        }
    installed = {
        str(path.relative_to(sdk.installed)): (
            os.readlink(path) if path.is_symlink() else path.stat().st_mode & 0o777
        )
        for path in sdk.installed.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    # The build system of OpenWrt writes this file from the list of conffiles.
    installed["lib/upgrade/keep.d/pyknock"] = 0o644
    assert installed == expected
    assert (sdk.installed / "etc/pyknock/keys").is_dir()


def test_the_makefile_refuses_a_file_with_another_hash(sdk):
    (sdk.package / f"pyknock-{VERSION}-linux-armv6").write_text("something else")
    assert sdk("arm").code != 0
    assert not sdk.installed.exists()
    assert sdk("x86_64").code == 0


def test_the_makefile_refuses_an_architecture_that_is_not_released(sdk):
    assert sdk("powerpc").code != 0
    assert not sdk.installed.exists()


# The init script


def start_words(*more, state="/etc/pyknock/state", **options):
    """The command line with these values instead of the defaults."""
    values = {"ttl": "1h", "port": PORT, "drift": "60", **options}
    return [
        "/usr/bin/pyknock",
        "server",
        *("--keys", "/var/run/pyknock/keys", "--nft", "inet/fw4/pyknock4,pyknock6", "--ttl", values["ttl"]),
        *("-p", str(values["port"]), "-t", values["drift"], "--state", state),
        *more,
        "--syslog",
    ]


def test_the_shell_parts_are_clean():
    paths = [PACKAGING / "root/etc/init.d/pyknock", Path(__file__).with_name("procd.sh")]
    result = run(["shellcheck", *paths])
    assert result.code == 0, result


def test_without_a_user_it_does_nothing_but_say_so(router):
    for action in ("start", "reload"):
        result = router.service(action)
        assert result.code == 0
        assert result.lines == [
            "pyknock: not started: no user in /etc/config/pyknock has a key"
        ]
        assert ["procd_open_instance"] not in router.calls()
    assert router.rules() == ""
    assert router.calls("fw4") == []


def test_what_procd_is_told(router):
    router.make_user()
    assert router.service("start").lines == []
    assert router.calls() == [
        ["open_service"],
        ["procd_open_instance"],
        ["procd_set_param", "command", *start_words()[:-1]],
        ["procd_append_param", "command", "--syslog"],
        ["procd_set_param", "stderr", "1"],
        ["procd_set_param", "respawn", "3600", "10", "0"],
        ["procd_set_param", "no_new_privs", "1"],
        ["procd_close_instance"],
        ["procd_add_reload_trigger", "pyknock"],
        ["close_service"],
    ]
    assert router.calls("fw4") == [["reload"], ["zone wan"]]
    assert (router.root / "etc/pyknock/state").stat().st_mode & 0o777 == 0o700


def test_the_jail_where_there_is_one(router):
    router.write("sbin/ujail", "", 0o755)
    router.make_user()
    assert router.service("start").lines == []
    calls = router.calls()
    assert calls[calls.index(["procd_set_param", "no_new_privs", "1"]) + 1 :][:4] == [
        ["procd_add_jail", "pyknock", "log"],
        ["procd_add_jail_mount", "/var/run/pyknock/keys"],
        ["procd_add_jail_mount_rw", "/etc/pyknock/state"],
        ["procd_set_param", "capabilities", "/etc/capabilities/pyknock.json"],
    ]
    sets = json.loads((router.root / "etc/capabilities/pyknock.json").read_text())
    assert sets == dict.fromkeys(
        ["bounding", "effective", "permitted", "inheritable", "ambient"], ["CAP_NET_ADMIN"]
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, start_words()),
        ({"port": "1024"}, start_words(port=1024)),
        ({"ttl": "15m"}, start_words(ttl="15m")),
        ({"time_drift": "2.5"}, start_words(drift="2.5")),
        ({"state": "/tmp/a/b"}, start_words(state="/tmp/a/b")),
        ({"grant_prefix4": "24"}, start_words("--grant-prefix4", "24")),
        ({"grant_prefix6": "64"}, start_words("--grant-prefix6", "64")),
        ({"allow_observed_source": "1"}, start_words("--allow-observed-source")),
        ({"verbose": "yes"}, start_words("-v")),
        ({"enabled": "on", "verbose": "0"}, start_words()),
    ],
)
def test_each_option_leads_to_its_command_line(router, options, expected):
    router.set(**options)
    router.make_user()
    assert router.service("start").lines == []
    words = command(router.calls())
    assert words == expected
    assert router.output(*words, "--check") == "configuration OK, users: 1\n"


def test_the_configuration_as_installed_has_the_defaults(router):
    router.make_user()
    router.service("start")
    installed, rules = command(router.calls()), router.rules()
    router.set()
    router.service("start")
    assert command(router.calls()) == installed
    assert router.rules() == rules
    assert router.calls("fw4").count(["reload"]) == 1  # Unchanged rules are not loaded again.


BAD = [
    ({"port": "22"}, "port: '22' is not from 1024 to 65535"),
    ({"port": "70000"}, "port: '70000' is not from 1024 to 65535"),
    ({"port": "60120 accept; udp dport 1-65535"}, "port: '60120 accept; udp dport 1-65535' is not from"),
    ({"port": "060120"}, "port: '060120' is not from 1024 to 65535"),
    ({"tcp_port": ["22", "ssh"]}, "tcp_port: 'ssh' is not from 1 to 65535"),
    ({"tcp_port": ["0"]}, "tcp_port: '0' is not from 1 to 65535"),
    ({"tcp_port": ["*"]}, "tcp_port: 'bin' is not from 1 to 65535"),
    ({"tcp_port": ["99999999999999999999"]}, "tcp_port: '99999999999999999999' is not from 1 to"),
    ({"zone": "wan { accept; }"}, "zone: 'wan { accept; }' is not the name of a zone"),
    ({"state": "state"}, "state: 'state' is not a path of letters, digits and ._/-"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_what_cannot_stand_in_rules_is_refused(router, options, message):
    router.make_user()
    router.service("start")
    rules = router.rules()
    router.calls(), router.calls("fw4")
    router.set(**options)
    for action in ("start", "reload"):
        result = router.service(action)
        assert result.code == 1
        assert len(result.lines) == 1
        assert result.lines[0].startswith(f"pyknock: /etc/config/pyknock: {message}")
        # procd was told nothing, so that the running server goes on.
        assert router.calls() in ([["open_service"]], [])
    assert router.rules() == rules
    assert router.calls("fw4") == []


def test_a_reload_leaves_a_server_alone_that_would_not_start(router):
    router.make_user()
    router.service("start")
    router.calls(), router.calls("fw4")
    router.set(ttl="forever")
    result = router.service("reload")
    assert result.code == 1
    assert result.lines[0].startswith(
        "pyknock: not reloaded, going on as before: pyknock server: --ttl: the value (not shown,"
    )
    assert router.calls() == []
    assert router.calls("fw4") == []


def test_a_reload_signals_first_and_tells_procd_then(router):
    router.make_user()
    router.service("start")
    router.calls()
    router.set(ttl="2h")
    assert router.service("reload").lines == []
    calls = router.calls()
    assert calls[:2] == [["procd_send_signal", "pyknock", "*", "HUP"], ["open_service"]]
    assert command(calls) == start_words(ttl="2h")


def test_a_reload_starts_what_was_stopped(router):
    router.make_user()
    router.service("start")
    router.service("stop")
    router.output("fw4", "restart")  # This removes the sets.
    router.calls()
    assert router.service("reload").lines == []
    assert command(router.calls()) == start_words()
    assert "pyknock4" in router.output("nft", "list", "chain", "inet", "fw4", "input_wan")


@pytest.mark.parametrize("how", ["stop", "disabled", "no user"])
def test_nothing_is_left_in_the_firewall_when_it_is_off(router, how):
    router.make_user()
    router.service("start")
    assert "pyknock4" in router.output("nft", "list", "chain", "inet", "fw4", "input_wan")
    router.calls()
    if how == "disabled":
        router.set(enabled="0")
    elif how == "no user":
        router.users = {}
        router.write_users()
    assert router.service("stop" if how == "stop" else "reload").code == 0
    assert ["procd_open_instance"] not in router.calls()
    assert "pyknock4" not in router.output("nft", "list", "chain", "inet", "fw4", "input_wan")
    assert "notrack" not in router.output("nft", "list", "ruleset")
    assert router.files() == {}


def test_a_zone_that_is_not_there_is_told(router):
    router.set(zone="wan2")
    router.make_user()
    assert router.service("start").lines == [
        f"pyknock: the firewall has no zone 'wan2': nothing gets through to {PORT}"
    ]
    assert command(router.calls()) == start_words()


# Users

LIMITS = {
    "commands": "open",
    "ttl": "30m",
    "addresses": ["192.0.2.0/24", "2001:db8::/32"],
    "expires": "2027-01-31",
    "nft": "inet/fw4/pyknock4,pyknock6",
    "grant_prefix4": "24",
    "grant_prefix6": "64",
}
LINES = """commands open
ttl 30m
addresses 192.0.2.0/24 2001:db8::/32
expires 2027-01-31
nft inet/fw4/pyknock4,pyknock6
grant-prefix4 24
grant-prefix6 64
"""


def test_the_file_of_a_user_has_the_key_and_the_limits(router):
    router.make_user("alice@laptop", f"{KEY}\nttl 1d", **LIMITS)
    assert router.service("start").lines == []
    assert router.files() == {"alice@laptop": f"{KEY}\n{LINES}"}


def test_keys_can_be_elsewhere(router):
    router.make_user(key=None, key_file="/etc/my keys")
    router.write("etc/my keys", KEY)
    assert router.service("start").lines == []
    assert router.files() == {"alice": KEY + "\n"}


def test_the_one_key_of_older_versions_is_that_of_the_user_shared(router):
    router.set(key_file="/etc/pyknock/key")
    router.write("etc/pyknock/key", KEY + "\n", 0o600)
    assert router.service("start").lines == []
    assert router.files() == {"shared": KEY + "\n"}
    router.make_user("bob", "the key of bob, which is long enough")
    (router.root / "etc/pyknock/key").unlink()
    assert router.service("reload").lines == []
    assert list(router.files()) == ["bob"]


OTHER = "the key of bob, which is long enough"
# The section of bob, and what is said of it.
MISTAKES = [
    ({"ttl": "forever"}, "'bob':2: .*ttl: .* is not a duration such as .*"),
    ({"ttl": "1h\nexpires 2027-01-31"}, "'bob':2: .*ttl: .* is not a duration such as .*"),
    ({"expire": "2027-01-31"}, "there is no option 'expire'"),
    ({"addresse": ["192.0.2.0/24"]}, "there is no option 'addresse'"),
    ({"key_file": "/etc/pyknock/keys/alice"}, "'(bob':1: .* the same key as alice|alice':1: .* the same key as bob)"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_a_mistake_of_a_user_is_no_one_elses(router, options, message):
    """At the start the user is out. While the server runs, the user stays as before."""
    router.make_user()
    router.make_user("bob", OTHER, **options)
    started = router.service("start")
    assert (started.code, len(started.lines)) == (0, 1)
    assert re.fullmatch(f"pyknock: user 'bob' is out: {message}", started.lines[0])
    assert router.files() == {"alice": KEY + "\n"}
    assert command(router.calls()) == start_words()

    router.make_user("bob", OTHER, ttl="20m")
    router.make_user("carol", "the key of carol, which is long enough")
    assert (router.service("reload").code, sorted(router.files())) == (0, ["alice", "bob", "carol"])
    router.make_user("bob", OTHER, **options)
    router.make_user(ttl="40m")
    del router.users["carol"]
    router.write_users()
    router.calls()
    reloaded = router.service("reload")
    assert (reloaded.code, len(reloaded.lines)) == (1, 1)
    assert re.fullmatch(f"pyknock: user 'bob' stays as before: {message}", reloaded.lines[0])
    assert router.files() == {"alice": f"{KEY}\nttl 40m\n", "bob": f"{OTHER}\nttl 20m\n"}
    # The server reads them all the same.
    assert router.calls()[0] == ["procd_send_signal", "pyknock", "*", "HUP"]


def test_a_user_without_a_key_is_out(router):
    for name in ("alice", "bob"):
        router.make_user(name, f"the key of {name}, which is long enough")
    assert router.service("start").lines == []
    (router.root / "etc/pyknock/keys/bob").unlink()
    result = router.service("reload")
    assert (result.code, result.lines) == (1, ["pyknock: user 'bob' is out: no key in /etc/pyknock/keys/bob"])
    assert list(router.files()) == ["alice"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Bob", "'Bob' is not a name of at most 32 characters from a-z 0-9 _ @ - . that begins with a letter or digit"),
        ("", "'' is not a name of at most 32 characters from a-z 0-9 _ @ - . that begins with a letter or digit"),
        ("../bob", "'../bob' is not a name of at most 32 characters from a-z 0-9 _ @ - . that begins with a letter"),
        ("bob.bak", "'bob.bak' is not a user: the server skips such a file as a backup"),
    ],
)
def test_a_section_needs_a_name(router, name, message):
    router.make_user()
    router.make_user(name, key=None, key_file="/etc/pyknock/keys/alice")
    result = router.service("start")
    assert result.code == 0
    assert len(result.lines) == 1
    assert result.lines[0].startswith(f"pyknock: a section without effect: {message}")
    assert list(router.files()) == ["alice"]


def test_of_two_sections_for_a_user_the_first_counts(router):
    router.make_user(ttl="30m")
    text = router.server + section("user", {"name": "alice", "ttl": "30m"}) + section("user", {"name": "alice"})
    router.write("etc/config/pyknock", text)
    result = router.service("start")
    assert result.lines == ["pyknock: a section without effect: there are two sections for user 'alice'"]
    assert router.files() == {"alice": f"{KEY}\nttl 30m\n"}


def test_limits_that_no_longer_fit_are_not_kept(router):
    """The prefix of the server is shorter now. With the old file, no server would start."""
    router.make_user()
    router.make_user("bob", OTHER, addresses="192.0.2.1")
    assert router.service("start").lines == []
    router.set(grant_prefix4="24")
    result = router.service("reload")
    assert result.code == 1
    assert result.lines[0].startswith("pyknock: user 'bob' stays as before: 'bob':2: it has a prefix within the one")
    assert result.lines[1:] == ["pyknock: user 'bob' is out: their old file has a mistake now, too"]
    assert list(router.files()) == ["alice"]


def test_a_configuration_that_cannot_be_read_changes_nothing(router):
    router.make_user()
    router.service("start")
    router.calls()
    (router.root / "etc/config/pyknock").unlink()
    for action in ("start", "reload"):
        result = router.service(action)
        assert (result.code, result.lines) == (1, ["pyknock: /etc/config/pyknock: it cannot be read"])
    assert list(router.files()) == ["alice"]


# For real


@pytest.mark.parametrize("policy", ["reject", "drop"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("service", "syslog")
def test_from_the_package_to_the_first_knock(router, outside, procd, ipk, family, policy):
    if policy == "drop":
        router.write("etc/fw4.nft", RULESET.replace("counter jump handle_reject", "counter drop"))
        router.output("fw4", "reload")
    closed = "silence" if policy == "drop" else "rejected"
    for script in ("preinst", "postinst"):
        router.write(f"tmp/{script}", control(ipk, script))
        router.output("sh", f"/tmp/{script}")
    assert os.readlink(router.root / "etc/rc.d/S95pyknock") == "../init.d/pyknock"
    router.calls()

    router.output("pyknock", "keygen", "--keys", "/etc/pyknock/keys", "alice")
    key = (router.root / "etc/pyknock/keys/alice").read_text().strip()
    router.make_user(key=None)
    router.set(ttl="8")
    router.output("/etc/init.d/pyknock", "start")
    process = procd()
    until(lambda: listens(process), "the server listens")

    assert attempt(outside, family) == closed
    knock(outside, family, key=key)
    until(lambda: attempt(outside, family) == "open", "a connection")
    # Only the configured port is open, and only for the address that knocked.
    assert attempt(outside, family, 8022) == closed
    assert attempt(outside, FAMILIES[1 - FAMILIES.index(family)]) == closed
    # When an interface comes up, fw4 makes its rules again.
    router.output("fw4", "reload")
    assert attempt(outside, family) == "open"
    until(lambda: attempt(outside, family) == closed, "the end of the time")


# A stand-in for opkg, as far as our package needs it.
OPKG = r"""#!/bin/sh -e
[ "$1" = install ]
mkdir /tmp/opkg
tar -xzOf "$2" ./control.tar.gz | tar -xz -C /tmp/opkg
sh /tmp/opkg/preinst
tar -xzOf "$2" ./data.tar.gz | tar -xz -C /
sh /tmp/opkg/postinst
"""


@pytest.mark.parametrize("manager", ["opkg", "by hand"])
@pytest.mark.usefixtures("service", "syslog")
def test_the_commands_of_the_document_take_minutes_to_the_first_knock(
    router, outside, procd, ipk, manager, capsys
):
    [commands] = re.findall("```sh\n(.*?)```", (ROOT / "doc/OPENWRT.md").read_text(), re.DOTALL)
    [by_hand] = re.findall("^#    (tar .*)$", commands, re.MULTILINE)
    _, install, *start = (line for line in commands.splitlines() if line and line[0] != "#")
    # The fixture has unpacked the package. Remove it first.
    with member(ipk, "data.tar.gz") as archive:
        for entry in archive:
            if not entry.isdir():
                (router.root / entry.name).unlink()
    router.write("bin/opkg", OPKG, 0o755)
    shutil.copy(ipk, router.root / "tmp")  # For scp.
    begin = time.monotonic()
    router.output("sh", "-ec", install if manager == "opkg" else by_hand)
    assert os.readlink(router.root / "etc/rc.d/S95pyknock") == "../init.d/pyknock"
    router.calls()
    router.output("sh", "-ec", "\n".join(start))
    process = procd()
    until(lambda: listens(process), "the server listens")
    key = (router.root / "etc/pyknock/keys/alice").read_text().strip()
    assert attempt(outside, socket.AF_INET) == "rejected"
    knock(outside, socket.AF_INET, key=key)
    until(lambda: attempt(outside, socket.AF_INET) == "open", "a connection")
    seconds = time.monotonic() - begin
    with capsys.disabled():
        print(f"\nOpenWrt as doc/OPENWRT.md has it, {manager}, from the file to the first knock: {seconds:.1f} s")
    assert seconds < 300


def test_rules_that_cannot_be_loaded_leave_the_firewall_as_it_was(router):
    router.make_user()
    router.set(zone=300 * "z")
    result = router.service("start")
    assert result.code != 0
    assert "fw4 cannot load the rules for it" in "\n".join(result.lines)
    # A restart of fw4 still works.
    router.output("fw4", "restart")
    assert "chain input_wan" in router.output("nft", "list", "table", "inet", "fw4")


def listens(process):
    return f":{PORT:04X} " in Path(f"/proc/{process.pid}/net/udp6").read_text()


@pytest.fixture
def running(router, procd, syslog):
    router.make_user()
    assert router.service("start").lines == []
    process = procd()
    syslog("listening on ")
    return process


@pytest.mark.usefixtures("service")
def test_grants_outlive_reloads_and_end_with_a_restart_of_the_firewall(router, outside, running, syslog):
    knock(outside, socket.AF_INET)
    until(lambda: attempt(outside, socket.AF_INET) == "open", "a connection")
    for _ in range(3):
        router.output("fw4", "reload")
        assert attempt(outside, socket.AF_INET) == "open"
    (element,) = router.elements("pyknock4")
    assert element["elem"]["val"] == CLIENT[socket.AF_INET]
    assert 3500 < element["elem"]["expires"] <= 3600
    router.output("fw4", "restart")
    assert attempt(outside, socket.AF_INET) == "rejected"
    # The server uses the new sets.
    knock(outside, socket.AF_INET)
    until(lambda: attempt(outside, socket.AF_INET) == "open", "a connection")
    assert running.popen.poll() is None


@pytest.mark.parametrize("policy", ["reject", "drop"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("running")
def test_the_knock_port_looks_like_its_neighbours(router, outside, family, policy):
    if policy == "drop":
        router.write("etc/fw4.nft", RULESET.replace("counter jump handle_reject", "counter drop"))
        router.output("fw4", "reload")
    usual = "silence" if policy == "drop" else "rejected"
    right = packet(CLIENT[family], key="another key than that of the server")
    odd = bytearray(right)
    odd[32] = 3  # There is no such command.
    for payload in (b"", b"\0", bytes(len(right)), os.urandom(48), bytes(odd), right[:-1], right + b"\0"):
        assert probe(outside, family, PORT + 1, payload) == usual
        assert probe(outside, family, PORT, payload) == usual
    # The limit of this test: a datagram in the form of a knock is let in, and so not rejected.
    assert probe(outside, family, PORT, right) == "silence"


@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_what_has_the_form_of_a_knock_arrives(router, outside, family):
    router.make_user()
    router.service("start")
    with listener(router, family, SERVER[family], PORT) as receiver, outside.socket(family) as sender:
        knocks = [*knocks_of_all_forms(), bytes(72), bytes([255]) * 72]
        for datagram in [*nearly_knocks(), bytes(71), bytes(73), *knocks]:
            sender.sendto(datagram, (SERVER[family], PORT))
        assert [receiver.recv(4096) for _ in knocks] == knocks


def test_no_limit_shuts_out_knocks(router):
    router.make_user()
    router.service("start")
    assert "limit" not in router.rules()


def test_the_port_is_reserved_beside_those_of_others(router):
    path = "/proc/sys/net/ipv4/ip_local_reserved_ports"
    router.output("sh", "-c", f"echo 8080,9000-9010 >{path}")
    router.make_user()
    for _ in range(2):
        assert router.service("start").lines == []
        assert router.output("cat", path) == f"8080,9000-9010,{PORT}\n"


@pytest.mark.usefixtures("running", "service")
def test_knocks_take_no_place_in_the_table_of_connections(router, outside):
    for number in range(50):
        with outside.socket() as sender:
            sender.sendto(packet(key=f"a wrong key of some length {number}"), (SERVER[socket.AF_INET], PORT))
    assert connections(router) == 0
    knock(outside, socket.AF_INET)
    until(lambda: attempt(outside, socket.AF_INET) == "open", "a connection")
    assert connections(router) == 1  # This is the connection of that knock.


def test_a_knock_that_goes_elsewhere_is_tracked(router, outside):
    """An untracked knock would not be translated. Clients behind this router must be able to knock elsewhere."""
    network = plain(router)
    for command in (
        "ip link add br-lan type bridge",
        "ip address add 198.51.100.1/24 dev br-lan",
        "ip link set br-lan up",
        "ip neighbor add 198.51.100.2 lladdr 02:00:00:00:00:02 dev br-lan",
        "sysctl -q net.ipv4.ip_forward=1",
    ):
        network.run(command)
    outside.run(f"ip route add 198.51.100.0/24 via {SERVER[socket.AF_INET]}")
    router.make_user()
    router.service("start")
    before = connections(router)
    with outside.socket() as sender:
        sender.sendto(packet(), ("198.51.100.2", PORT))
    until(lambda: connections(router) == before + 1, "a connection that is tracked")


@pytest.mark.usefixtures("service")
def test_a_prefix_opens_for_the_neighbours(router, outside, procd, syslog):
    router.set(grant_prefix4="24", grant_prefix6="64", tcp_port=["8022", "22"])
    router.make_user()
    router.service("start")
    procd()
    syslog("listening on ")
    for family in FAMILIES:
        knock(outside, family)
        for port in (22, 8022):
            until(lambda: attempt(outside, family, port) == "open", "a connection")
    assert router.elements("pyknock4")[0]["elem"]["val"]["prefix"] == {"addr": "192.0.2.0", "len": 24}
    assert router.elements("pyknock6")[0]["elem"]["val"]["prefix"] == {"addr": "2001:db8::", "len": 64}


@pytest.mark.usefixtures("service")
def test_the_jail_gives_what_the_server_needs(router, outside, procd, syslog):
    router.write("sbin/ujail", "", 0o755)
    router.make_user()
    router.service("start")
    calls = router.calls()
    mounts = [
        kind + path
        for kind, name in (("r", "procd_add_jail_mount"), ("w", "procd_add_jail_mount_rw"))
        for call in calls
        if call[0] == name
        for path in call[1:]
    ]
    names = json.loads((router.root / "etc/capabilities/pyknock.json").read_text())["bounding"]
    script = JAIL.replace("json_bounding", repr([CAPABILITIES[name] for name in names]))
    words = [*plain(router).prefix, "python3", "-c", script, router.root, *mounts, "--", *command(calls)]
    process = Process(words)
    with contextlib.closing(process):
        syslog("listening on ")
        knock(outside, socket.AF_INET)
        until(lambda: attempt(outside, socket.AF_INET) == "open", "a connection")
        other = "the next key, which is long enough, too"
        router.make_user(key=other)
        assert router.service("reload").lines == []
        process.signal(signal.SIGHUP)
        syslog("reloaded ")
        knock(outside, socket.AF_INET, "close", key=other)
        until(lambda: attempt(outside, socket.AF_INET) == "rejected", "the service closed")
        process.signal(signal.SIGTERM)
        assert process.exit_code() == 0
    assert (router.root / "etc/pyknock/state/replay").stat().st_size > 0


def test_removed_it_leaves_no_rules(router, ipk):
    router.make_user()
    router.write("tmp/prerm", control(ipk, "prerm"))
    router.output("/etc/init.d/pyknock", "enable")
    router.output("/etc/init.d/pyknock", "start")
    router.output("sh", "/tmp/prerm")
    assert not (router.root / "etc/rc.d/S95pyknock").is_symlink()
    assert router.rules().strip() == ""
    assert "pyknock4" not in router.output("nft", "list", "chain", "inet", "fw4", "input_wan")
    # The file of the package is gone, and fw4 must load without it.
    router.write("etc/fw4.nft", re.sub(r"\tinclude .*\n", "", RULESET))
    router.output("fw4", "restart")
    assert "pyknock" not in router.output("nft", "list", "ruleset")
