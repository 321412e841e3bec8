"""Helpers for the tests of .deb, .rpm and the release."""

import os
import shutil
import subprocess
from pathlib import Path

import machine
from machine import ROOT

DATE = "1700000000"


def run(*words, env=(), **options):
    return machine.run(*words, **{"cwd": ROOT, "env": {**os.environ, "LC_ALL": "C", **dict(env)}, **options})


def shown(*words):
    """A variable of cross/settings.sh."""
    return run("cross/show", *words).strip()


VERSION = shown("version")
ARCHITECTURES = shown("architectures").split()
# The names that Debian and RPM have for each.
DEBIAN = {arch: shown("debian", arch).split() for arch in ARCHITECTURES}
RPM = {arch: shown("rpm", arch) for arch in ARCHITECTURES}


def program(arch):
    return ROOT / f"dist/pyknock-{VERSION}-linux-{arch}"


# The architectures that cross/build made a file for.
BUILT = [arch for arch in ARCHITECTURES if program(arch).exists()]


def runs(arch, path):
    """The version that the program prints, in an emulator if this machine cannot run it."""
    return run(*shown("emulator", arch).split(), path, "--version")


def checkout(folder):
    """A copy of this checkout, as a repository of one commit."""
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    present = "\0".join(name for name in names if name and (ROOT / name).exists())
    subprocess.run(["xargs", "-0", "cp", "--parents", "-t", folder], input=present, text=True, check=True, cwd=ROOT)
    commit(folder, "--quiet", "--message=All")
    run("git", "tag", "start", cwd=folder)
    return folder


def commit(folder, *options):
    if not (folder / ".git").exists():
        run("git", "init", "--quiet", cwd=folder)
    run("git", "add", "--all", cwd=folder)
    who = ["-c", "user.name=Tester", "-c", "user.email=tester@invalid"]
    dates = {"GIT_AUTHOR_DATE": f"{DATE} +0000", "GIT_COMMITTER_DATE": f"{DATE} +0000"}
    run("git", *who, "commit", *options, cwd=folder, env=dates)


def built_twice(folder, form, suffix, zone=()):
    """The packages that two other checkouts give, each as bytes by name. Their umasks differ, and the time zone."""
    builds = []
    for name, mask, env in ("one", 0o022, ()), ("two", 0o077, zone):
        copy = folder / name
        copy.mkdir()
        checkout(copy)
        shutil.copytree(ROOT / "dist", copy / "dist", ignore=shutil.ignore_patterns(f"*.{suffix}"))
        run(f"packaging/{form}/build", *BUILT, cwd=copy, umask=mask, env=env)
        builds.append({path.name: path.read_bytes() for path in (copy / "dist").glob(f"*.{suffix}")})
    return builds


# Directories that are on no disk, and the data of package managers.
_OMITTED = {"dev", "proc", "run", "sys", "tmp", "var/cache", "var/lib/apt", "var/lib/dpkg", "var/lib/rpm", "var/log"}


def files(root):
    """All files of a system, each with its mode and owner, and with its content if it is in /etc."""
    found = {}
    for folder, folders, names in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if str(here / name) not in _OMITTED]
        for name in folders + names:
            path = Path(folder, name)
            status = path.lstat()
            text = None
            if path.is_symlink():
                text = os.readlink(path)
            # passwd- and similar files are backups of the last change.
            elif here.parts[:1] == ("etc",) and path.is_file() and not name.endswith("-"):
                text = path.read_bytes()
            found[str(here / name)] = (oct(status.st_mode), status.st_uid, status.st_gid, text)
    return found


UNITS = ["pyknock.service", "pyknock.socket"]


def states(booted, question="is-active"):
    """What systemctl of a machine says about our two units."""
    return booted.run("systemctl", question, *UNITS, check=False).stdout.split()


def process(booted):
    return booted.run("systemctl", "show", "--property=MainPID", "pyknock")
