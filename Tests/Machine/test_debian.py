"""End-to-end tests on Debian for mipsel, with its kernel. One machine runs them all.

They take ten minutes, so only `make test-mips-kernel` runs them. DEBIAN names a folder that the script `system` made
with the packages that they need. What they write is shown as it comes, with `pytest -s`.
"""

import os
import shlex
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from machine import PYKNOCK, ROOT, Machine

DEBIAN = Path(os.environ.get("DEBIAN", "/nonexistent")).resolve()
pytestmark = pytest.mark.skipif(not DEBIAN.exists(), reason="make test-mips-kernel runs it")

# Seconds for the tests of a folder.
LIMIT = 1800
# They send hundreds of knocks, whose commands do not all run in time here.
TOO_SLOW = [
    f"sandbox/test_two_processes.py::{name}"
    for name in (
        "test_while_the_executor_is_busy_the_receiver_waits_and_loses_nothing",
        "test_a_pause_of_the_executor_ends_nothing",
        "test_a_receiver_that_stands_still_is_ended_and_its_knocks_are_logged",
    )
]

# Does what the scripts of the packages would do, adds the tests, and makes a disk. $1 is the program, $2 ROOT.
COMPLETE = """
set -e
cat >etc/passwd <<END
root:x:0:0:root:/root:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
END
printf 'root:x:0:\\nnogroup:x:65534:\\n' >etc/group
echo '127.0.0.1 localhost' >etc/hosts
touch etc/resolv.conf
for tool in iptables ip6tables iptables-save ip6tables-save iptables-restore ip6tables-restore; do
  ln -sf xtables-nft-multi usr/sbin/$tool
done
ln -sf nc.openbsd bin/nc
ln -sf mawk usr/bin/awk

rm -rf lib/modules pyknock
cp -r ../lib/modules lib
rm -rf lib/modules/*/kernel/sound lib/modules/*/kernel/drivers/[!nb]*
mkdir -p pyknock/.build/embedded/release pyknock/.build/venv/bin
target=$PWD/pyknock
(cd "$2"; git ls-files -z | xargs -0 cp --parents -t "$target")
cp "$1" pyknock/.build/embedded/release/pyknock
ln -s /bin/false pyknock/.build/venv/bin/pyknock-server
# An emulated MIPS compiles slowly. Python's version here is the same.
/usr/bin/python3 -m compileall -q usr/lib/python3 usr/lib/python3.11 pyknock/Tests || true
truncate -s 1G ../disk
mke2fs -q -F -t ext4 -d . ../disk
"""
START = """
set -e
mkdir /debian
mount -t ext4 /dev/vda /debian
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for folder in dev dev/pts proc sys run; do mount --bind /$folder /debian/$folder; done
mount -t tmpfs -o size=100m,mode=1777 tmpfs /debian/tmp
# The kernel starts it to load a module.
rm -rf /lib/modules
ln -s /debian/lib/modules /lib/modules
echo /bin/modprobe >/proc/sys/kernel/modprobe
"""


@pytest.fixture(scope="module")
def debian(image, tmp_path_factory):
    subprocess.run(["sh", "-c", COMPLETE, "sh", PYKNOCK, ROOT], cwd=DEBIAN / "root", check=True)
    drive = ["-drive", f"if=none,id=disk,format=raw,file={DEBIAN}/disk", "-device", "virtio-blk-pci,drive=disk"]
    with closing(Machine(image, tmp_path_factory.mktemp("debian"), *drive)) as machine:
        machine.run(START)
        yield machine


@pytest.mark.parametrize("folder", ["sandbox", "firewall/test_capability.py"])
def test_end_to_end(debian, folder):
    words = [f"Tests/EndToEnd/{folder}", *(f"--deselect={test}" for test in TOO_SLOW)]
    tests = f"cd /pyknock; python3 -u -m pytest -q --tb=short -p no:cacheprovider {' '.join(words)}"
    # The tests need a root directory that is the one of their mount namespace.
    enter = f"cd /debian; mount --move . /; exec chroot . sh -c '{tests}'"
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    debian.run(f"""
        rm -f /run/code
        (PATH={path} unshare -m sh -c {shlex.quote(enter)} >/run/tests 2>&1 </dev/null; echo $? >/run/code) &
    """)
    end = time.monotonic() + LIMIT
    shown = 0
    code = ""
    while not code:
        assert time.monotonic() < end, "not in time"
        time.sleep(1)
        _, code = debian.attempt("cat /run/code 2>/dev/null")
        new = debian.run(f"tail -c +{shown + 1} /run/tests")
        shown += len(new.encode())
        print(new, end="", flush=True)
    assert code == "0\n"
