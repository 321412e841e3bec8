"""A system that has no /bin/sh."""

import os
import shutil
from pathlib import Path

import pytest
from support.programs import PYKNOCK, program, run


@pytest.fixture
def root_without_shell(tmp_path):
    """The words that run a program in a file system without /bin."""
    links, mounts = [], [Path("/dev"), Path("/proc"), tmp_path]
    for name in ("lib", "lib32", "lib64", "libx32"):
        place = Path("/", name)
        (links if place.is_symlink() else mounts if place.exists() else []).append(place)
    mounts += [Path("/usr", name) for name in ("lib", "lib32", "lib64", "libx32")]
    mounts += [Path(PYKNOCK[-1])] + [Path(shutil.which(word)) for word in PYKNOCK[:-1][:1]]
    root = tmp_path / "root"
    root.mkdir()
    script = ["mount -t tmpfs none " + str(root)]
    for place in filter(Path.exists, mounts):
        target = f"{root}{place}"
        make = (
            f"mkdir -p {target}"
            if place.is_dir()
            else f"mkdir -p {Path(target).parent}; : > {target}"
        )
        script.append(f"{make}; mount --rbind {place} {target}")
    script += [f"ln -s {os.readlink(link)} {root}{link}" for link in links]
    script.append(f'exec chroot {root} "$@"')
    return ["unshare", "--mount", "sh", "-ec", "; ".join(script), "sh"]


def test_without_a_shell_the_server_says_so_at_start(root_without_shell, key_file):
    result = run([*root_without_shell, *program("server"), "-k", key_file, "echo", "echo"])
    assert result.code == 1, result
    assert result.lines == [
        "pyknock server: OPEN_CMD: cannot run '/bin/sh': No such file or directory;"
        " --no-shell runs the commands without it"
    ]


def test_without_a_shell_the_server_works_with_no_shell(server, root_without_shell):
    ours = server("--no-shell", prefix=root_without_shell, on_open=f"{PYKNOCK[-1]} version")
    if len(PYKNOCK) == 1:
        ours.knock()
        ours.output.wait_for(r"^pyknock \d")
    assert ours.stop() == 0


def test_without_a_shell_empty_commands_are_no_error(server, root_without_shell):
    ours = server("-v", prefix=root_without_shell, on_open="")
    ours.knock()
    ours.log.wait_for("accepted open")
